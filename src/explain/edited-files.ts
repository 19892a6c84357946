import { Files } from '../host/files.ts';
import type { Content, Encoding } from '../host/system-calls.ts';

/** More bytes than a configuration has that somebody writes. */
const textMaxBytes = 256 * 1024;

/** What an {@link EditedFiles} leaves out of what it reads. */
export interface Edits {
  /** Numbers of lines, from 1 on, that are read as empty, by path as it is opened. */
  readonly lines?: ReadonlyMap<string, ReadonlySet<number>>;
  /** Names that directories do not list, by path as it is opened. */
  readonly names?: ReadonlyMap<string, ReadonlySet<string>>;
}

/** What was read before, by path; shared by many readers of the same host. */
export type ReadCache = Map<string, Content>;

/**
 * The host's files, without lines or names that are left out. Lines keep their numbers, so that what
 * is said of the others stays right.
 */
export class EditedFiles extends Files {
  private readonly cache: ReadCache;
  private readonly edits: Edits;

  constructor(cache: ReadCache, edits: Edits = {}) {
    super();
    this.cache = cache;
    this.edits = edits;
  }

  override readSeen(path: string, maxBytes: number, encoding?: Encoding): Content {
    // What is read as bytes is a library, which nobody has written.
    if (encoding === 'bytes') return super.readSeen(path, maxBytes, encoding);
    const content = this.cache.get(path) ?? super.readSeen(path, maxBytes, encoding);
    this.cache.set(path, content);
    const hidden = this.edits.lines?.get(path);
    if (hidden === undefined) return content;
    const lines = content.text.split('\n').map((line, i) => (hidden.has(i + 1) ? '' : line));
    return { ...content, text: lines.join('\n') };
  }

  override list(path: string): string[] {
    const hidden = this.edits.names?.get(path);
    return super.list(path).filter((name) => hidden?.has(name) !== true);
  }

  override listUnsorted(path: string, wanted: (name: string) => boolean, max: number): string[] {
    const hidden = this.edits.names?.get(path);
    return super.listUnsorted(path, (name) => hidden?.has(name) !== true && wanted(name), max);
  }
}

/** A line that somebody wrote. */
export interface WrittenLine {
  /** As it is opened. */
  readonly path: string;
  readonly line: number;
  readonly text: string;
}

/** Lines of the text files among what was read that say something. */
export function writtenLines(cache: ReadCache, root: string): WrittenLine[] {
  return [...cache].flatMap(([path, { text, bytes }]) => {
    const isKernel = ['/proc/', '/sys/'].some((prefix) => path.startsWith(root + prefix));
    if (isKernel || bytes > textMaxBytes || text.includes('\0')) return [];
    return text
      .split('\n')
      .map((line, index) => ({ path, line: index + 1, text: line.trim() }))
      .filter((line) => !['', '#', ';'].includes(line.text.slice(0, 1)));
  });
}

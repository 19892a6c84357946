import { Files } from '../host/files.ts';

/** More bytes than a configuration has that somebody writes. */
const textMaxBytes = 256 * 1024;

/** What an {@link EditedFiles} leaves out of what it reads. */
export interface Edits {
  /** Numbers of lines, from 1 on, that are read as empty, by path as it is opened. */
  readonly lines?: ReadonlyMap<string, ReadonlySet<number>>;
  /** Names that directories do not list, by path as it is opened. */
  readonly names?: ReadonlyMap<string, ReadonlySet<string>>;
}

/** Bytes that were read before, by path; shared by many readers of the same host. */
export type ReadCache = Map<string, Buffer>;

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

  override read(path: string, maxBytes: number): Buffer {
    return this.edited(path, () => super.read(path, maxBytes));
  }

  override readSeen(path: string, maxBytes: number): Buffer {
    return this.edited(path, () => super.readSeen(path, maxBytes));
  }

  override listUnsorted(path: string, wanted: (name: string) => boolean, max: number): string[] {
    const hidden = this.edits.names?.get(path);
    return super.listUnsorted(path, (name) => hidden?.has(name) !== true && wanted(name), max);
  }

  private edited(path: string, read: () => Buffer): Buffer {
    let bytes = this.cache.get(path);
    if (bytes === undefined) {
      bytes = read();
      this.cache.set(path, bytes);
    }
    const hidden = this.edits.lines?.get(path);
    if (hidden === undefined) return bytes;
    const lines = bytes.toString('latin1').split('\n');
    return Buffer.from(
      lines.map((line, i) => (hidden.has(i + 1) ? '' : line)).join('\n'),
      'latin1',
    );
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
  return [...cache].flatMap(([path, bytes]) => {
    const isKernel = ['/proc/', '/sys/'].some((prefix) => path.startsWith(root + prefix));
    if (isKernel || bytes.length > textMaxBytes || bytes.includes(0)) return [];
    return bytes
      .toString('utf8')
      .split('\n')
      .map((text, index) => ({ path, line: index + 1, text: text.trim() }))
      .filter(({ text }) => text !== '' && !text.startsWith('#') && !text.startsWith(';'));
  });
}

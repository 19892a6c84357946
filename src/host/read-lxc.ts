import { withoutTrailingSlashes } from '../model/path.ts';
import { codeOf } from '../model/errno.ts';
import { isUtf8 } from '../model/utf8.ts';
import { Files, TooLargeError } from './files.ts';
import { includeTarget, splitLxcText } from './grammar.ts';
import { HungError } from './mounts.ts';
import type { LxcFile, LxcInclude, LxcSource, ReadProblem } from './lxc-source.ts';
import type { Status } from './system-calls.ts';
import { isNullDevice, typeOf } from './system-calls.ts';

/** A container's configuration has some kilobytes; what is larger was not written by hand. */
const MAX_BYTES = 1024 * 1024;
const MAX_DEPTH = 32;
/** Of all files of a container that no other container has read. */
const MAX_TOTAL_BYTES = 8 * 1024 * 1024;
/** Limits the work for files that include one another many times over. */
const MAX_FILES = 4096;

/** Reads configurations and remembers the files they include, which most containers share. */
export interface LxcReader {
  /** Never throws: what cannot be read is described in the result. */
  read(path: string): LxcSource;
}

/** One file on its way: identities and paths of the files that include it, the outermost first. */
interface Chain {
  readonly id: string;
  readonly path: string;
  readonly parent: Chain | undefined;
  readonly depth: number;
}

interface Found {
  readonly file: LxcFile;
  /** False when the result depends on the files around it: a loop, or a limit was reached. */
  readonly shareable: boolean;
}

interface Included {
  readonly include: LxcInclude;
  readonly shareable: boolean;
}

/**
 * Creates a reader for the host whose files lie below `root`: '' for this host, or a directory
 * that include paths and symbolic links then cannot leave. Included files are read once.
 */
export function createLxcReader(root: string, files = new Files()): LxcReader {
  const shared = new Map<string, Included>();
  return {
    read(path) {
      const { file } = new Reading(root, files, shared).load(path, undefined);
      return { file, paths: pathsOf(file) };
    },
  };
}

class Reading {
  readonly #root: string;
  readonly #disk: Files;
  /** By the target as it is written, made absolute. */
  readonly #shared: Map<string, Included>;
  #files = 0;
  #bytes = 0;

  constructor(root: string, disk: Files, shared: Map<string, Included>) {
    this.#root = root;
    this.#disk = disk;
    this.#shared = shared;
  }

  load(path: string, parent: Chain | undefined): Found {
    if (this.#files++ >= MAX_FILES) {
      return unread(path, limit(`more than ${MAX_FILES} files are included`), false);
    }
    const depth = (parent?.depth ?? 0) + 1;
    if (depth > MAX_DEPTH) {
      return unread(path, limit(`files include each other more than ${MAX_DEPTH} deep`), false);
    }
    let content: Content | ReadProblem;
    try {
      content = this.#readText(this.#disk.locate(this.#root, path));
    } catch (error) {
      return unread(
        path,
        codeOf(error) === 'ENOENT' && this.#isDangling(path) ? DANGLING : explain(error),
        true,
      );
    }
    if ('reason' in content) return unread(path, content, true);
    if (this.#bytes > MAX_TOTAL_BYTES) {
      const reason = `with the files before it, it has more than ${MAX_TOTAL_BYTES >> 20} MiB`;
      return unread(path, limit(reason), false);
    }
    const { decoded, badLines, id } = content;
    const chain: Chain = { id, path, parent, depth };
    if (isIn(id, parent)) {
      return unread(
        path,
        { reason: `files include each other: ${describe(chain)}`, remedy: 'break the loop' },
        false,
      );
    }
    const text = splitLxcText(decoded, content.isPlain);
    const includes: LxcInclude[] = [];
    let shareable = true;
    // What the bytes of a program seem to include is not looked for.
    for (const line of text.control === undefined ? text.lines : []) {
      const target = includeTarget(line);
      if (target === undefined) continue;
      // LXC runs in its unit's working directory, which is the root directory.
      const absolute = target.startsWith('/') ? target : `/${target}`;
      if (badLines.has(line.line)) includes.push({ path: absolute, exists: false, files: [] });
      else {
        const included = this.#shared.get(absolute) ?? this.#include(absolute, chain);
        if (included.shareable) this.#shared.set(absolute, included);
        includes.push(included.include);
        shareable &&= included.shareable;
      }
    }
    return { file: { path, text, badLines, includes }, shareable };
  }

  #readText(path: string): Content | ReadProblem {
    // Opening a device can have effects, so we look first.
    const stats = this.#disk.stat(path);
    const unfit = whyUnfit(stats);
    if (unfit !== undefined) return unfit;
    const { text: decoded, bytes, isPlain = false } = this.#disk.readSeen(path, MAX_BYTES);
    this.#bytes += bytes;
    // Only the decoder's replacement character can stand for bad bytes, and hardly a file has one.
    const badLines =
      !isPlain && decoded.includes('\uFFFD')
        ? findBadLines(this.#disk.readSeen(path, MAX_BYTES, 'bytes').text)
        : NO_LINES;
    return { decoded, isPlain, badLines, id: `${stats.dev}:${stats.ino}` };
  }

  #isDangling(path: string): boolean {
    const slash = path.lastIndexOf('/');
    const link = `${this.#disk.locate(this.#root, path.slice(0, slash))}${path.slice(slash)}`;
    try {
      if (typeOf(this.#disk.lstat(link)) !== 'link') return false;
    } catch {
      return false;
    }
    try {
      this.#disk.stat(this.#disk.locate(this.#root, path));
      return false;
    } catch {
      return true;
    }
  }

  #isDirectory(path: string): boolean {
    try {
      return typeOf(this.#disk.stat(path)) === 'directory';
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '')) return false;
      throw error;
    }
  }

  /** In the order of the directory, as LXC takes them. */
  #confNames(path: string): string[] {
    const isConf = (name: string): boolean =>
      name.length > '.conf'.length && name.endsWith('.conf');
    return this.#disk.listUnsorted(path, isConf, MAX_FILES);
  }

  #include(target: string, chain: Chain): Included {
    const fail = (reason: ReadProblem, exists = false): Included => ({
      include: { path: target, exists, files: [], problem: atInclude(target, reason) },
      shareable: true,
    });
    let names: string[] | undefined;
    try {
      const where = this.#disk.locate(this.#root, target);
      if (target.endsWith('/') || this.#isDirectory(where)) names = this.#confNames(where);
    } catch (error) {
      // LXC takes a directory that is not there, when written with a slash, for an empty one.
      if (target.endsWith('/') && codeOf(error) === 'ENOENT') {
        return { include: { path: target, exists: false, files: [] }, shareable: true };
      }
      if (error instanceof TooLargeError) {
        return fail(limit(`it has more than ${MAX_FILES} files "*.conf"`), true);
      }
      return fail(explain(error));
    }
    if (names === undefined) {
      const found = this.load(target, chain);
      if (found.file.problem !== undefined) {
        const exists = isThere(found.file.problem);
        return { ...fail(found.file.problem, exists), shareable: found.shareable };
      }
      return {
        include: { path: target, exists: true, files: [found.file] },
        shareable: found.shareable,
      };
    }
    const stem = withoutTrailingSlashes(target);
    const all = names.map((name) =>
      name.includes('\uFFFD')
        ? unread(`${stem}/${name}`, { reason: 'its name is not UTF-8', remedy: 'rename it' }, true)
        : this.load(`${stem}/${name}`, chain),
    );
    return {
      include: { path: target, exists: true, files: all.map((found) => found.file) },
      shareable: all.every((found) => found.shareable),
    };
  }
}

const MISSING = 'no such file';
const DANGLING: ReadProblem = {
  reason: 'it is a symbolic link to a file that does not exist',
  remedy: 'create that file or correct the link',
};

function isThere(problem: ReadProblem | undefined): boolean {
  return problem?.reason !== MISSING && problem !== DANGLING;
}

interface Content {
  readonly decoded: string;
  readonly isPlain: boolean;
  readonly badLines: ReadonlySet<number>;
  /** The same for all names of a file. */
  readonly id: string;
}

function whyUnfit(status: Status): ReadProblem | undefined {
  const type = typeOf(status);
  if (type === 'file') return status.size > MAX_BYTES ? tooLarge() : undefined;
  // It reads as an empty file.
  if (isNullDevice(status)) return undefined;
  const kind = type === undefined || type.endsWith('device') ? 'device' : type;
  return { reason: `it is a ${kind}, not a file`, remedy: 'put a text file there' };
}

function tooLarge(): ReadProblem {
  return { reason: 'it is larger than 1 MiB', remedy: 'put a configuration file there' };
}

function limit(reason: string): ReadProblem {
  return { reason, remedy: 'include each file once' };
}

function explain(error: unknown): ReadProblem {
  if (error instanceof HungError) {
    return { reason: error.message, remedy: error.remedy, isHung: true };
  }
  if (error instanceof TooLargeError) return tooLarge();
  const code = codeOf(error);
  switch (code) {
    case 'ENOENT':
      return { reason: MISSING, remedy: 'create it or remove what names it' };
    case 'ENOTDIR':
      return { reason: 'part of its path is not a directory', remedy: 'correct the path' };
    case 'ELOOP':
      return { reason: 'its symbolic links go in circles', remedy: 'correct the links' };
    case 'ENAMETOOLONG':
      return { reason: 'its path is too long', remedy: 'shorten the path' };
    case 'EACCES':
    case 'EPERM':
      return { reason: `it may not be read (${code})`, remedy: 'let root read it' };
    default:
      return { reason: `reading it failed (${code ?? 'unknown error'})`, remedy: 'check the disk' };
  }
}

function atInclude(target: string, problem: ReadProblem): ReadProblem {
  return { ...problem, reason: `cannot include ${target}: ${problem.reason}` };
}

function unread(path: string, problem: ReadProblem, shareable: boolean): Found {
  const text = { lines: [], markHidesKey: false };
  return { file: { path, text, badLines: NO_LINES, includes: [], problem }, shareable };
}

function isIn(id: string, chain: Chain | undefined): boolean {
  for (let at = chain; at !== undefined; at = at.parent) if (at.id === id) return true;
  return false;
}

/** Names the files of a loop: `a -> b -> a`, without those that only lead to it. */
function describe(last: Chain): string {
  const names = [last.path];
  for (let at = last.parent; at !== undefined; at = at.parent) {
    names.unshift(at.path);
    if (at.id === last.id) break;
  }
  return names.join(' -> ');
}

const NO_LINES: ReadonlySet<number> = new Set();

function findBadLines(bytes: string): ReadonlySet<number> {
  const bad = new Set<number>();
  for (const [index, line] of bytes.split('\n').entries()) if (!isUtf8(line)) bad.add(index + 1);
  return bad;
}

function pathsOf(top: LxcFile): LxcSource['paths'] {
  const paths = new Map<string, boolean>();
  addPathsOf(top, paths, new Set());
  const found: { path: string; exists: boolean }[] = [];
  for (const [path, exists] of paths) if (!path.includes('\uFFFD')) found.push({ path, exists });
  return found;
}

/** Not a function inside the other: one that calls itself there is never freed by QuickJS alone. */
function addPathsOf(file: LxcFile, paths: Map<string, boolean>, seen: Set<LxcFile>): void {
  if (seen.has(file)) return;
  seen.add(file);
  paths.set(file.path, isThere(file.problem));
  for (const included of file.includes) {
    paths.set(included.path, included.exists);
    for (const child of included.files) addPathsOf(child, paths, seen);
  }
}

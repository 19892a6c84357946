/**
 * What the generator asks of the operating system. There is one implementation for each engine that
 * runs it: system.ts for Node, and system-quickjs.ts, which the build puts in its place for the
 * compiled program. A failed call throws an Error whose `code` is the name of its errno.
 */

/** What stat(2) tells. */
export interface Status {
  readonly mode: number;
  readonly size: number;
  readonly dev: number;
  readonly ino: number;
  readonly rdev: number;
}

/** What of a regular file was read; `bytes` is its length on the disk. */
export interface Content {
  readonly text: string;
  readonly bytes: number;
  /**
   * Known to have nothing but printable ASCII, tabs and newlines; absent where nobody has looked.
   * Each look at a text costs the compiled program as much as reading it.
   */
  readonly isPlain?: boolean;
}

/** How bytes become text: as UTF-8 with U+FFFD for what is none, or each byte as a character. */
export type Encoding = 'utf8' | 'bytes';

export interface WatchedRun {
  readonly args: readonly string[];
  /** Variables beside those of this process. */
  readonly environment: Readonly<Record<string, string>>;
  /** Where a file can be made that has no name. */
  readonly directory: string;
  /** How long one note may stand, unless it is the last one, {@link doneNote}. */
  readonly stallMs: number;
  readonly totalMs: number;
}

/** The exit status of a run, or its last note where it was given up; -1 where it did not begin. */
export type Watched = { readonly status: number } | { readonly note: string };

export const doneNote = 'done';

export interface System {
  readonly stat: (path: string) => Status;
  /** The same, and undefined where it fails: an exception costs more than the call. */
  readonly find: (path: string) => Status | undefined;
  readonly lstat: (path: string) => Status;
  /** Device and inode without loss of digits, as `DEVICE:INODE`. */
  readonly identity: (path: string) => string;
  readonly readlink: (path: string) => string;
  /** Where a symbolic link leads; null for anything else, undefined where nothing is. */
  readonly linkTarget: (path: string) => string | null | undefined;
  /** Names in a directory, in its own order, without `.` and `..`. */
  readonly names: (path: string) => string[];
  /**
   * Opens a directory; with `inside`, no symbolic link and nothing that waits.
   * @returns a file descriptor
   */
  readonly openDirectory: (path: string, inside: boolean) => number;
  readonly close: (fd: number) => void;
  /**
   * Reads a file to its end without waiting for another program. What is no regular file gives its
   * status instead, and what has more than `maxBytes` gives "too large".
   * @param inside of a directory that a guest may write in: a symbolic link is not followed
   */
  readonly read: (
    path: string,
    maxBytes: number,
    encoding: Encoding,
    inside?: boolean,
  ) => Content | Status | 'too large';

  /** Makes or empties a file and writes it. */
  readonly write: (path: string, text: string) => void;
  readonly makeDirectory: (path: string) => void;
  readonly symlink: (target: string, path: string) => void;
  /** Removes a file or link; what is not there is removed already. */
  readonly remove: (path: string) => void;
  /** Writes to standard output or error. */
  readonly print: (to: 'output' | 'error', text: string) => void;
  /** Opens something to write records to, never waiting; undefined where that fails. */
  readonly openRecords: (path: string) => number | undefined;
  /** Writes a record in a single call. */
  readonly writeRecord: (fd: number, bytes: readonly number[]) => void;

  /** Milliseconds since some time. */
  readonly now: () => number;
  /**
   * Runs this program once more and waits for it, but not for ever: whoever sleeps in the kernel
   * cannot even be killed. That run tells by {@link note} how far it is.
   */
  readonly runWatched: (run: WatchedRun) => Watched;
  /** Notes what is about to be read, in a run that is watched. */
  readonly note: (text: string) => void;
  /** What a program writes to its standard output; undefined where it cannot be run. */
  readonly outputOf: (command: readonly string[], maxSec: number) => string | undefined;
}

const typeMask = 0o170000;
const types = new Map<number, FileType>([
  [0o140000, 'socket'],
  [0o120000, 'link'],
  [0o100000, 'file'],
  [0o060000, 'block device'],
  [0o040000, 'directory'],
  [0o020000, 'character device'],
  [0o010000, 'FIFO'],
]);

type FileType =
  'socket' | 'link' | 'file' | 'block device' | 'directory' | 'character device' | 'FIFO';

export function typeOf({ mode }: Status): FileType | undefined {
  return types.get(mode & typeMask);
}

/** Whether it is /dev/null, to which a link is the usual way to switch a file off. */
export function isNullDevice(status: Status): boolean {
  return typeOf(status) === 'character device' && status.rdev === 0x103;
}

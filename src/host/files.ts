import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  opendirSync,
  readSync,
  readFileSync,
  readlinkSync,
  statSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { codeOf } from '../model/errno.ts';
import { followLinks } from './follow-links.ts';
import { MountGuard } from './mounts.ts';
import type { Probe } from './mounts.ts';

const directoryOnly = constants.O_RDONLY | constants.O_DIRECTORY;
/** A guest may put a symbolic link in the place of a directory at any time. */
const directoryInside = directoryOnly | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** More names than any directory of a host has that the generator lists. */
const maxNames = 1_000_000;

/** What is opened here never waits for another program and never becomes our terminal. */
const quietly = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/** A file whose size is beyond what its reader takes. */
export class TooLargeError extends Error {
  override readonly name = 'TooLargeError';
}

/** Something that is no regular file where one belongs. */
export class NoFileError extends Error {
  override readonly name = 'NoFileError';
}

/** A directory that is held open; see {@link Files.openDirectory}. */
export interface OpenDirectory {
  readonly fd: number;
}

/**
 * All that the generator's readers do with the file system, with limits: bytes of a file, names of
 * a directory, symbolic links of a path. No other module of this folder opens a file. A path on a
 * file system that does not answer is not touched: each call throws a HungError for it. Where no
 * mounted file system can hang, as on most hosts, that costs one look at the mount table.
 */
export class Files {
  private readonly probe: Probe | undefined;
  private readonly mountinfo: string | undefined;
  private known: MountGuard | undefined;
  /** Targets of symbolic links, and undefined for what is none, by clean path. */
  private readonly links = new Map<string, string | undefined>();
  /** The same of paths that exist, for {@link chase}. */
  private readonly seen = new Map<string, string | undefined>();

  constructor(mountinfo?: string, probe?: Probe) {
    this.mountinfo = mountinfo;
    this.probe = probe;
  }

  private get guard(): MountGuard {
    this.known ??= new MountGuard(this.mountinfo ?? readMountinfo(), this.probe);
    return this.known;
  }

  /** Throws a HungError when the path leads to a file system that does not answer. */
  private reach(path: string, followLast = true): void {
    if (this.guard.isNeeded) this.resolve(path, followLast);
  }

  /**
   * The path without symbolic links, as far as it exists. No part of it is touched before its file
   * system was seen to answer.
   */
  private resolve(path: string, followLast: boolean): string {
    return followLinks(path, (here, rest) => {
      this.guard.check(here);
      return followLast || rest.length > 0 ? this.linkAt(here) : undefined;
    });
  }

  private linkAt(path: string): string | undefined {
    if (this.links.has(path)) return this.links.get(path);
    let target: string | undefined;
    try {
      if (lstatSync(path).isSymbolicLink()) target = readlinkSync(path);
    } catch {
      // Whatever is wrong with the path shows when it is used.
    }
    this.links.set(path, target);
    return target;
  }

  /** A clean path to check what lies below it with {@link checkEntry}; undefined without need. */
  baseOf(path: string): string | undefined {
    return this.guard.isNeeded ? this.resolve(path, true) : undefined;
  }

  /** Throws a HungError for an entry of a directory that {@link baseOf} gave. */
  checkEntry(base: string | undefined, parts: readonly string[]): void {
    if (base !== undefined) this.guard.check(`${base}/${parts.join('/')}`);
  }

  stat(path: string): Stats {
    this.reach(path);
    return statSync(path);
  }

  /** Device and inode without loss of digits, as `DEVICE:INODE`. */
  identity(path: string): string {
    this.reach(path);
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  }

  lstat(path: string): Stats {
    this.reach(path, false);
    return lstatSync(path);
  }

  readlink(path: string): string {
    this.reach(path, false);
    return readlinkSync(path);
  }

  /**
   * Where a path of the host lies for us. Below a root directory every component is followed by
   * hand, because the kernel would follow an absolute link out of it.
   */
  locate(root: string, path: string): string {
    return root === '' ? path : root + this.chase(root, path);
  }

  /**
   * A path of the host with its symbolic links followed as far as it exists. Throws for links that
   * go in circles and for a part that is no directory.
   * @param isRead the path is read in any case; otherwise nothing is looked at that lies on a file
   *   system that may hang, and links there are not seen
   */
  chase(root: string, path: string, isRead = false): string {
    return followLinks(path, (here, rest) => {
      try {
        if (root === '' && isRead) this.guard.check(here);
        return this.linkBelow(root, here, isRead);
      } catch (error) {
        // Whatever is wrong with the path shows when it is opened, unless ".." is still to come.
        if (codeOf(error) !== 'ENOENT' || rest.includes('..')) throw error;
        return undefined;
      }
    });
  }

  /** Where the link at a clean path leads; undefined for what is none. */
  private linkBelow(root: string, here: string, isRead: boolean): string | undefined {
    if (root !== '') {
      return lstatSync(root + here).isSymbolicLink() ? readlinkSync(root + here) : undefined;
    }
    if (!isRead && this.guard.isRisky(here)) return undefined;
    if (this.seen.has(here)) return this.seen.get(here);
    const target = lstatSync(here).isSymbolicLink() ? readlinkSync(here) : undefined;
    this.seen.set(here, target);
    return target;
  }

  /** Looks for something that no idle automount needs to be mounted for. */
  withoutNoting<T>(look: () => T): T {
    this.guard.isNoted = false;
    try {
      return look();
    } finally {
      this.guard.isNoted = true;
    }
  }

  /** Mount points of automounts that were asked for while nothing was mounted there. */
  get idleAutomounts(): readonly string[] {
    return this.known?.idleAutomounts ?? [];
  }

  /**
   * The same for a directory entry itself: links on the way are followed, the last part is not, so
   * that lstat(2) and readlink(2) can ask about it.
   */
  locateEntry(root: string, path: string): string {
    if (root === '') return path;
    const slash = path.lastIndexOf('/');
    return `${this.locate(root, path.slice(0, slash))}${path.slice(slash)}`;
  }

  /** Names in a directory, sorted. */
  list(path: string): string[] {
    return this.listUnsorted(path, () => true, maxNames).sort();
  }

  /**
   * Opens a directory, to look into it whatever becomes of its path. The caller has asked
   * {@link baseOf} whether the path can be touched, and closes the directory.
   */
  openDirectory(path: string): OpenDirectory {
    return { fd: openSync(path, directoryOnly) };
  }

  /** Opens a directory inside an open one; throws for a symbolic link. */
  openDirectoryIn({ fd }: OpenDirectory, name: string): OpenDirectory {
    return { fd: openSync(`/proc/self/fd/${fd}/${name}`, directoryInside) };
  }

  /** Where a symbolic link in an open directory leads; "absent", or "no-link" for anything else. */
  linkIn({ fd }: OpenDirectory, name: string): 'absent' | 'no-link' | { readonly target: string } {
    const path = `/proc/self/fd/${fd}/${name}`;
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return 'absent';
    return stat.isSymbolicLink() ? { target: readlinkSync(path) } : 'no-link';
  }

  /**
   * Bytes of a regular file in an open directory, which may be a guest's: no symbolic link is
   * followed, and a FIFO or a device is not waited for. Throws as {@link read} does.
   */
  readIn({ fd }: OpenDirectory, name: string, maxBytes: number): Buffer {
    return this.#readAt(`/proc/self/fd/${fd}/${name}`, maxBytes, constants.O_NOFOLLOW);
  }

  /** What lstat(2) says of an entry of an open directory; undefined where there is none. */
  statIn({ fd }: OpenDirectory, name: string): Stats | undefined {
    return lstatSync(`/proc/self/fd/${fd}/${name}`, { throwIfNoEntry: false });
  }

  closeDirectory({ fd }: OpenDirectory): void {
    closeSync(fd);
  }

  /** The names that are wanted, in the order of the directory, and no more than `max` of them. */
  listUnsorted(path: string, wanted: (name: string) => boolean, max: number): string[] {
    this.reach(path);
    const names: string[] = [];
    const directory = opendirSync(path);
    try {
      for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
        if (!wanted(entry.name)) continue;
        if (names.length >= max) throw new TooLargeError(`more than ${max} names`);
        names.push(entry.name);
      }
    } finally {
      directory.closeSync();
    }
    return names;
  }

  /**
   * Bytes of a regular file. Throws a NoFileError or TooLargeError for what should not be read; a
   * FIFO or a device is not opened, and when one takes the file's place, nothing waits for it.
   */
  read(path: string, maxBytes: number): Buffer {
    this.reach(path);
    if (!statSync(path).isFile()) throw new NoFileError(path);
    return this.readSeen(path, maxBytes);
  }

  /** The same for a path that {@link stat} has just found fit to be opened. */
  readSeen(path: string, maxBytes: number): Buffer {
    return this.#readAt(path, maxBytes, 0);
  }

  #readAt(path: string, maxBytes: number, flags: number): Buffer {
    const fd = openSync(path, quietly | flags);
    try {
      const stats = fstatSync(fd);
      if (stats.isCharacterDevice()) return Buffer.alloc(0);
      if (!stats.isFile()) throw new NoFileError(path);
      if (stats.size > maxBytes) throw new TooLargeError(path);
      return readAll(fd, stats.size, maxBytes, path);
    } finally {
      closeSync(fd);
    }
  }
}

/** Reads to the end; a file may grow meanwhile, and those of the kernel do not tell their size. */
function readAll(fd: number, size: number, maxBytes: number, path: string): Buffer {
  let bytes = Buffer.allocUnsafe(size + 1);
  let length = 0;
  for (;;) {
    const read = readSync(fd, bytes, length, bytes.length - length, null);
    if (read === 0) return bytes.subarray(0, length);
    length += read;
    if (length > maxBytes) throw new TooLargeError(path);
    if (length === bytes.length) {
      const larger = Buffer.allocUnsafe(Math.min(maxBytes, length * 2 + 4096) + 1);
      bytes.copy(larger, 0, 0, length);
      bytes = larger;
    }
  }
}

function readMountinfo(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8');
  } catch (error) {
    // Without /proc nothing is known to hang.
    if (codeOf(error) === undefined) throw error;
    return '';
  }
}

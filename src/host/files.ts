import { codeOf } from '../model/errno.ts';
import { LinkFollower } from './follow-links.ts';
import { MountGuard } from './mounts.ts';
import type { Distrusted, Probe } from './mounts.ts';
import type { Content, Encoding, Status } from './system-calls.ts';
import { isNullDevice, typeOf } from './system-calls.ts';
import { system } from './system.ts';

/** More names than any directory of a host has that the generator lists. */
const maxNames = 1_000_000;

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

export interface HowToRead {
  readonly distrusted?: Distrusted;
  /** Hears of each path that is about to be touched. */
  readonly note?: (path: string) => void;
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
  private readonly how: HowToRead;
  private known: MountGuard | undefined;
  /** Targets of symbolic links, and undefined for what is none, by clean path. */
  private readonly links = new Map<string, string | undefined>();
  /** By root directory: for paths that are read in any case, and for others. */
  private readonly readers = new Map<string, LinkFollower>();
  private readonly seers = new Map<string, LinkFollower>();
  /** For {@link reach}: no part of a path is touched before its file system was seen to answer. */
  private readonly reached = new LinkFollower((here) => {
    this.guard.check(here);
    return this.linkAt(here);
  });

  constructor(mountinfo?: string, probe?: Probe, how: HowToRead = {}) {
    this.mountinfo = mountinfo;
    this.probe = probe;
    this.how = how;
  }

  /** Whether reading may have to wait for anything but the disk with the root directory. */
  get mayWait(): boolean {
    return this.guard.mayWait;
  }

  /** The mount point of the file system that may hang and that a path leads to, if it can be told. */
  riskBehind(path: string): string | undefined {
    return this.guard.riskAt(this.chase('', path));
  }

  private get guard(): MountGuard {
    this.known ??= new MountGuard(
      this.mountinfo ?? readMountinfo(),
      this.probe,
      this.how.distrusted,
    );
    return this.known;
  }

  /** Throws a HungError when the path leads to a file system that does not answer. */
  private reach(path: string, followLast = true): void {
    if (this.guard.isNeeded) this.resolve(path, followLast);
    this.how.note?.(path);
  }

  /**
   * The path without symbolic links, as far as it exists. No part of it is touched before its file
   * system was seen to answer.
   */
  private resolve(path: string, followLast: boolean): string {
    if (followLast) return this.reached.follow(path);
    const slash = path.lastIndexOf('/');
    const entry = `${this.reached.directory(path.slice(0, slash) || '/')}${path.slice(slash)}`;
    this.guard.check(entry);
    return entry;
  }

  private linkAt(path: string): string | undefined {
    if (this.links.has(path)) return this.links.get(path);
    let target: string | undefined;
    try {
      target = system.linkTarget(path) ?? undefined;
    } catch {
      // Whatever is wrong with the path shows when it is used.
    }
    this.links.set(path, target);
    return target;
  }

  /** A clean path to check what lies below it with {@link checkEntry}; undefined without need. */
  baseOf(path: string): string | undefined {
    this.how.note?.(path);
    return this.guard.isNeeded ? this.resolve(path, true) : undefined;
  }

  /** Throws a HungError for an entry of a directory that {@link baseOf} gave. */
  checkEntry(base: string | undefined, parts: readonly string[]): void {
    if (base !== undefined) this.guard.check(`${base}/${parts.join('/')}`);
  }

  stat(path: string): Status {
    this.reach(path);
    return system.stat(path);
  }

  /** What {@link stat} tells; undefined for what is not there or cannot be seen. */
  find(path: string): Status | undefined {
    this.reach(path);
    return system.find(path);
  }

  /** Device and inode without loss of digits, as `DEVICE:INODE`. */
  identity(path: string): string {
    this.reach(path);
    return system.identity(path);
  }

  lstat(path: string): Status {
    this.reach(path, false);
    return system.lstat(path);
  }

  readlink(path: string): string {
    this.reach(path, false);
    return system.readlink(path);
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
    return this.follower(root, isRead).follow(path);
  }

  private follower(root: string, isRead: boolean): LinkFollower {
    const followers = isRead ? this.readers : this.seers;
    let follower = followers.get(root);
    if (follower === undefined) {
      follower = new LinkFollower((here, rest) => {
        if (root === '' ? isRead : this.guard.isNeeded) this.guard.check(root + here);
        return this.linkBelow(root, here, isRead, rest);
      });
      followers.set(root, follower);
    }
    return follower;
  }

  /** Where the link at a clean path leads; undefined for what is none. */
  private linkBelow(
    root: string,
    here: string,
    isRead: boolean,
    rest: readonly string[],
  ): string | undefined {
    if (root === '' && !isRead && this.guard.riskAt(here) !== undefined) return undefined;
    this.how.note?.(root + here);
    const target = system.linkTarget(root + here);
    // Whatever is wrong with the path shows when it is opened, unless ".." is still to come.
    if (target === undefined && rest.includes('..')) throw absent;
    return target ?? undefined;
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
    const parent = this.follower(root, false).directory(path.slice(0, slash));
    return `${root}${parent}${path.slice(slash)}`;
  }

  /** Names in a directory, sorted. */
  list(path: string): string[] {
    this.reach(path);
    return inLimit(system.names(path), maxNames).sort();
  }

  /**
   * Opens a directory, to look into it whatever becomes of its path. The caller has asked
   * {@link baseOf} whether the path can be touched, and closes the directory.
   */
  openDirectory(path: string): OpenDirectory {
    return { fd: system.openDirectory(path, false) };
  }

  /** Opens a directory inside an open one; throws for a symbolic link. */
  openDirectoryIn({ fd }: OpenDirectory, name: string): OpenDirectory {
    return { fd: system.openDirectory(`/proc/self/fd/${fd}/${name}`, true) };
  }

  /** Where a symbolic link in an open directory leads; "absent", or "no-link" for anything else. */
  linkIn({ fd }: OpenDirectory, name: string): 'absent' | 'no-link' | { readonly target: string } {
    const target = system.linkTarget(`/proc/self/fd/${fd}/${name}`);
    if (target === undefined) return 'absent';
    return target === null ? 'no-link' : { target };
  }

  /**
   * Text of a regular file in an open directory, which may be a guest's: no symbolic link is
   * followed, and a FIFO or a device is not waited for. Throws as {@link read} does.
   */
  readIn({ fd }: OpenDirectory, name: string, maxBytes: number): string {
    const path = `/proc/self/fd/${fd}/${name}`;
    return textOf(system.read(path, maxBytes, 'utf8', true), path).text;
  }

  /** What lstat(2) says of an entry of an open directory. Throws where there is none. */
  statIn({ fd }: OpenDirectory, name: string): Status {
    return system.lstat(`/proc/self/fd/${fd}/${name}`);
  }

  closeDirectory({ fd }: OpenDirectory): void {
    system.close(fd);
  }

  /** The names that are wanted, in the order of the directory, and no more than `max` of them. */
  listUnsorted(path: string, wanted: (name: string) => boolean, max: number): string[] {
    this.reach(path);
    return inLimit(system.names(path).filter(wanted), max);
  }

  /**
   * Reads a regular file; a link to /dev/null, by which files are switched off, reads as an empty one.
   * Throws a NoFileError or TooLargeError for what should not be read; a FIFO or a device is not opened, and when one takes the file's place, nothing waits for it.
   */
  read(path: string, maxBytes: number, encoding: Encoding = 'utf8'): Content {
    this.reach(path);
    const status = system.stat(path);
    if (isNullDevice(status)) return { text: '', bytes: 0 };
    if (typeOf(status) !== 'file') throw new NoFileError(path);
    return this.readSeen(path, maxBytes, encoding);
  }

  /** The same for a path that {@link stat} has just found fit to be opened. */
  readSeen(path: string, maxBytes: number, encoding: Encoding = 'utf8'): Content {
    return textOf(system.read(path, maxBytes, encoding), path);
  }
}

function inLimit(names: string[], max: number): string[] {
  if (names.length > max) throw new TooLargeError(`more than ${max} names`);
  return names;
}

/** What was read of a regular file; a character device such as /dev/null counts as an empty one. */
function textOf(found: ReturnType<typeof system.read>, path: string): Content {
  if (found === 'too large') throw new TooLargeError(path);
  if ('text' in found) return found;
  if (typeOf(found) !== 'character device') throw new NoFileError(path);
  return { text: '', bytes: 0 };
}

/** One for all, as many paths are looked for in vain. */
const absent = Object.assign(new Error('there is no such file'), { code: 'ENOENT' });

/** More mounts than a host has. */
const mountTableMaxBytes = 64 * 1024 * 1024;

function readMountinfo(): string {
  try {
    const found = system.read('/proc/self/mountinfo', mountTableMaxBytes, 'utf8');
    return typeof found === 'object' && 'text' in found ? found.text : '';
  } catch (error) {
    // Without /proc nothing is known to hang.
    if (codeOf(error) === undefined) throw error;
    return '';
  }
}

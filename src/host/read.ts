import { parse as parseIni } from 'ini';
import { cleanAbsolutePath, defaultLxcpath } from '../model/path.ts';
import type { Problem } from '../model/problem.ts';
import { unescapePath } from '../model/unit-name.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';
import type { UnitLinks } from './boot-policy.ts';
import { Files, NoFileError, TooLargeError } from './files.ts';
import { findGuestInit } from './guest-init.ts';
import type { FoundInit } from './guest-init.ts';
import type { UnitFile } from './lockers.ts';
import type { Mount } from './mountinfo.ts';
import { parseMountinfo } from './mountinfo.ts';
import type { WatchedPath } from '../model/sight.ts';
import type { SettingsFile } from './settings.ts';
import { typeOf } from './system-calls.ts';
import { isAbsent, unreadable } from './unreadable.ts';

/** A container directory as it was found below the lxcpath. */
export interface FoundContainer {
  readonly name: string;
  readonly directory: string;
  readonly configFile: string;
}

/** What a text file was read as; an absent file is no problem. */
interface ReadText {
  readonly text?: string;
  readonly problem?: Problem;
}

/**
 * Where systemd looks for unit files, the first one winning. Other generators write at the same time
 * as ours; hooks/rescan sees to it that it looks again for what it has missed.
 */
export const unitDirectories = [
  '/run/systemd/generator.early',
  '/etc/systemd/system',
  '/run/systemd/system',
  '/run/systemd/generator',
  '/usr/local/lib/systemd/system',
  '/usr/lib/systemd/system',
  '/run/systemd/generator.late',
];

/** Those whose files are there at the next boot as well. */
const lastingUnitDirectories = unitDirectories.filter((path) => !path.startsWith('/run/'));

/** What the names of directories end in whose links pull in units. */
const wantingDirectories = ['.wants', '.requires', '.upholds'];

/** Files that admins write are small; more than this is a mistake or an attack. */
const textFileMaxBytes = 1024 * 1024;
const libraryMaxBytes = 16 * 1024 * 1024;
/** Some hundred thousand mounts. */
const mountTableMaxBytes = 16 * 1024 * 1024;

/** Reads the host's files, all of them below `root` (the empty string for the host itself). */
export class HostReader {
  private readonly root: string;
  private readonly files: Files;
  readonly problems: Problem[] = [];
  /** Names in directories of unit files: some hundreds, which several questions are about. */
  private readonly unitNames = new Map<string, readonly string[]>();

  constructor(root: string, files = new Files()) {
    this.root = root;
    this.files = files;
  }

  private at(path: string): string {
    return this.files.locate(this.root, path);
  }

  /** For what asks about a link itself. */
  private entryAt(path: string): string {
    return this.files.locateEntry(this.root, path);
  }

  /** Text of a file of the host, or why it has none; absent is neither. */
  readText(path: string): ReadText {
    const at = { file: path, line: 0, remedy: 'put a text file there' };
    try {
      return { text: this.files.read(this.at(path), textFileMaxBytes).text };
    } catch (error) {
      if (isAbsent(error)) return {};
      if (error instanceof NoFileError) return { problem: { ...at, reason: 'is not a file' } };
      if (error instanceof TooLargeError) {
        return { problem: { ...at, reason: 'is larger than 1 MiB' } };
      }
      return { problem: unreadable(path, 'read', error) };
    }
  }

  /** Text of a file of the host; problems are gathered, and the file then counts as absent. */
  text(path: string): string | undefined {
    const { text, problem } = this.readText(path);
    if (problem !== undefined) this.problems.push(problem);
    return text;
  }

  /** The same as {@link list} for one of `unitDirectories`, whose names are read once. */
  private listUnits(directory: string): readonly string[] {
    const names = this.unitNames.get(directory) ?? this.list(directory);
    this.unitNames.set(directory, names);
    return names;
  }

  /** Names in a directory; none where there is none. */
  list(path: string): string[] {
    try {
      return this.files.list(this.at(path));
    } catch (error) {
      if (!isAbsent(error)) {
        this.problems.push(unreadable(path, 'listed', error));
      }
      return [];
    }
  }

  /**
   * The first lxc.lxcpath of /etc/lxc/lxc.conf, read as LXC's initutils.c does; undefined when it
   * is there and no unit could name it.
   */
  lxcpath(): string | undefined {
    const file = '/etc/lxc/lxc.conf';
    for (const [index, line] of (this.text(file) ?? '').split('\n').entries()) {
      const value = /^[ \t]*lxc\.lxcpath[ \t]*=(.*)$/s.exec(line)?.[1]?.trim() ?? '';
      if (value === '') continue;
      const path = cleanAbsolutePath(value);
      if (path !== undefined && fitsUnitFile(path)) return path;
      this.problems.push({
        file,
        line: index + 1,
        reason: `lxc.lxcpath "${value}" is not an absolute path without ".." and control characters`,
        remedy: 'write such a path; until then no container is known',
      });
      return undefined;
    }
    return defaultLxcpath;
  }

  /** Directories with a `config` in them; names that begin with a dot are not containers. */
  containers(lxcpath: string): FoundContainer[] {
    return this.lookBelow(lxcpath).containers;
  }

  /** The same, and the paths of directories that are no containers, or not yet. */
  lookBelow(lxcpath: string): { containers: FoundContainer[]; others: string[] } {
    const containers: FoundContainer[] = [];
    const others: string[] = [];
    for (const name of this.list(lxcpath)) {
      if (name.startsWith('.')) continue;
      const directory = `${lxcpath}/${name}`;
      const configFile = `${directory}/config`;
      if (name.includes('\ufffd')) {
        // Bytes that are no text: the file cannot be opened by this name, but the admin must hear.
        containers.push({ name, directory, configFile });
        continue;
      }
      try {
        // lstat: a config that is a dangling link is a broken container, not none.
        this.files.lstat(this.entryAt(configFile));
        containers.push({ name, directory, configFile });
      } catch (error) {
        if (this.isDirectory(directory)) others.push(directory);
        // For all else the configuration's own reader will say what is wrong.
        if (!isAbsent(error)) containers.push({ name, directory, configFile });
      }
    }
    return { containers, others };
  }

  private isDirectory(path: string): boolean {
    try {
      return typeOf(this.files.lstat(this.entryAt(path))) === 'directory';
    } catch {
      // Gone while we looked.
      return false;
    }
  }

  private settingsFile(path: string): { file?: SettingsFile; problem?: Problem } {
    const { text, problem } = this.readText(path);
    if (problem !== undefined) return { problem };
    if (text === undefined) return {};
    return { file: { path, text, values: parseIni(text) } };
  }

  /** /etc/lockerd/lockerd.conf and its drop-ins, the last one winning. */
  hostSettings(): SettingsFile[] {
    const directory = '/etc/lockerd/lockerd.conf.d';
    const dropIns = this.list(directory)
      .filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
      .map((name) => `${directory}/${name}`);
    return ['/etc/lockerd/lockerd.conf', ...dropIns].flatMap((path) => {
      const { file, problem } = this.settingsFile(path);
      if (problem !== undefined) this.problems.push(problem);
      return file === undefined ? [] : [file];
    });
  }

  /** Containers that have a settings file of their own. */
  containersWithSettings(): ReadonlySet<string> {
    return new Set(
      this.list('/etc/lockerd/containers')
        .filter((name) => name.endsWith('.conf'))
        .map((name) => name.slice(0, -'.conf'.length)),
    );
  }

  containerSettings(name: string): { file?: SettingsFile; problem?: Problem } {
    return this.settingsFile(`/etc/lockerd/containers/${name}.conf`);
  }

  /** NAME of each /etc/init.d/lxc.NAME. */
  initScripts(): string[] {
    return this.list('/etc/init.d')
      .filter((name) => name.startsWith('lxc.') && name !== 'lxc.')
      .map((name) => name.slice('lxc.'.length));
  }

  /**
   * Whether the boot would have run lxc.service, whose work autostart is: it is not masked and,
   * where its unit is known, enabled.
   */
  lxcServiceStartsAtBoot(): boolean {
    const etc = '/etc/systemd/system';
    try {
      if (this.files.readlink(this.entryAt(`${etc}/lxc.service`)) === '/dev/null') return false;
    } catch {
      // No link, or no such file: not masked.
    }
    const directories = [etc, '/usr/lib/systemd/system', '/lib/systemd/system'];
    if (!directories.some((directory) => this.isThere(`${directory}/lxc.service`))) return true;
    return this.listUnits(etc)
      .filter((name) => name.endsWith('.wants') || name.endsWith('.requires'))
      .some((name) => this.isThere(`${etc}/${name}/lxc.service`));
  }

  /** Links that pull in or mask containers' units, at the next boot as well; asked by a unit's name. */
  unitLinks(): (unit: string) => UnitLinks {
    const wantedBy = new Map<string, string[]>();
    // By name: the first directory that has the file counts.
    const masked = new Map<string, boolean>();
    const isContainerUnit = (name: string): boolean =>
      name.startsWith('lxc@') && name.endsWith('.service');
    for (const directory of lastingUnitDirectories) {
      for (const name of this.listUnits(directory)) {
        // Hundreds of names, and few are of such units and directories.
        if (!name.endsWith('s') && !name.startsWith('lxc@')) continue;
        const path = `${directory}/${name}`;
        if (isContainerUnit(name) && !masked.has(name)) masked.set(name, this.isMasked(path));
        const dot = name.lastIndexOf('.');
        if (dot <= 0 || !wantingDirectories.includes(name.slice(dot))) continue;
        const wanting = name.slice(0, dot);
        for (const unit of this.list(path).filter(isContainerUnit)) {
          if (this.isMasked(`${path}/${unit}`)) continue;
          wantedBy.set(unit, [...(wantedBy.get(unit) ?? []), wanting]);
        }
      }
    }
    return (unit) => ({
      wantedBy: wantedBy.get(unit) ?? [],
      isMasked: masked.get(unit) ?? masked.get('lxc@.service') ?? false,
    });
  }

  /** Mount units below a path that are files or links, each from the directory that counts. */
  mountUnitFiles(prefix: string): UnitFile[] {
    const found = new Map<string, UnitFile>();
    for (const directory of unitDirectories) {
      for (const name of this.listUnits(directory)) {
        if (!name.startsWith(prefix) || !name.endsWith('.mount') || found.has(name)) continue;
        const path = `${directory}/${name}`;
        const isMasked = this.isMasked(path, directory.startsWith('/run/systemd/generator'));
        const options = isMasked ? [] : this.mountOptions(path);
        found.set(name, { name, path, isMasked, options });
      }
    }
    return [...found.values()];
  }

  /** Names of all that is in the directories of unit files. */
  unitFileNames(): ReadonlySet<string> {
    return new Set(unitDirectories.flatMap((directory) => this.listUnits(directory)));
  }

  /** Where mount units mount something, as far as they have files. */
  mountUnitPaths(): string[] {
    return [...this.unitFileNames()]
      .filter((name) => name.endsWith('.mount') && name !== '-.mount')
      .map((name) => unescapePath(name.slice(0, -'.mount'.length)))
      .filter((path) => path !== undefined);
  }

  /** MAJOR:MINOR of a block device; undefined for what is none. */
  blockDevice(path: string): string | undefined {
    try {
      const stat = this.files.find(this.at(path));
      if (stat === undefined || typeOf(stat) !== 'block device') return undefined;
      // As makedev(3) puts them together.
      const { rdev } = stat;
      return `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}`;
    } catch {
      return undefined;
    }
  }

  /** Options= of a mount unit's file; that of a drop-in is not looked for. */
  private mountOptions(path: string): string[] {
    const lines = (this.readText(path).text ?? '').matchAll(/^Options[ \t]*=[ \t]*(.*)$/gm);
    return ([...lines].at(-1)?.[1] ?? '').trim().split(',').filter(Boolean);
  }

  /** What is mounted on the host, whatever a sandbox around us shows. */
  hostMounts(): readonly Mount[] {
    const file = '/proc/1/mountinfo';
    try {
      return parseMountinfo(this.files.read(this.at(file), mountTableMaxBytes).text);
    } catch {
      // Without it, lockers are those of fstab and unit files.
      return [];
    }
  }

  /** Paths that something is mounted on now. */
  mountPoints(): ReadonlySet<string> {
    const file = '/proc/self/mountinfo';
    try {
      const text = this.files.read(this.at(file), mountTableMaxBytes).text;
      return new Set(parseMountinfo(text).map(({ mountPoint }) => mountPoint));
    } catch (error) {
      if (!isAbsent(error)) this.problems.push(unreadable(file, 'read', error));
      return new Set();
    }
  }

  /**
   * Whether mount(8) knows the option X-mount.idmap=, as it does since util-linux 2.39: then its
   * library has the name. No program is run, and an older one would ignore the option.
   */
  mountMapsIds(): boolean {
    return this.libraryDirectories().some(
      (directory) =>
        this.bytes(`${directory}/libmount.so.1`, libraryMaxBytes)?.includes('X-mount.idmap') ===
        true,
    );
  }

  /** Where the libraries of packages are. */
  libraryDirectories(): string[] {
    const multiarch = this.list('/usr/lib').filter((name) => name.includes('-linux-'));
    return ['/usr/lib64', '/usr/lib', ...multiarch.map((name) => `/usr/lib/${name}`)];
  }

  /** Bytes, as characters, of a file that nobody misses; undefined where it cannot be read. */
  bytes(path: string, maxBytes: number): string | undefined {
    try {
      return this.files.read(this.at(path), maxBytes, 'bytes').text;
    } catch {
      return undefined;
    }
  }

  /** Where a symbolic link leads; undefined for what is none. */
  linkTarget(path: string): string | undefined {
    try {
      return this.files.readlink(this.entryAt(path));
    } catch {
      return undefined;
    }
  }

  /**
   * systemd takes an empty file for a mask as well.
   * @param mayBeUnfinished another generator makes a file empty before it writes it
   */
  private isMasked(path: string, mayBeUnfinished = false): boolean {
    try {
      const entry = this.entryAt(path);
      const stat = this.files.lstat(entry);
      return typeOf(stat) === 'link'
        ? this.files.readlink(entry) === '/dev/null'
        : !mayBeUnfinished && stat.size === 0;
    } catch {
      // It went away meanwhile, or a part of the path cannot be read: systemd will say so.
      return false;
    }
  }

  /** Whether a path exists, also as a link that leads nowhere. */
  isThere(path: string): boolean {
    // lstat: an enabling link counts whether or not its target can be seen from here.
    try {
      this.files.lstat(this.entryAt(path));
      return true;
    } catch {
      // Also where a part of the path is no directory.
      return false;
    }
  }

  /**
   * A path with its symbolic links followed as far as it exists, and as it is where they cannot be
   * followed. That is how systemd-fstab-generator(8) finds what a line of fstab is mounted on.
   * @param isRead see {@link Files.chase}
   */
  realPath(path: string, isRead = false): string {
    try {
      return this.files.chase(this.root, path, isRead);
    } catch {
      return path;
    }
  }

  /** What a path is now, for the second look after local file systems are mounted. */
  identify(path: string): WatchedPath {
    try {
      return { path, identity: this.files.identity(this.at(path)) };
    } catch {
      // Whatever keeps us from it now, it will have an identity when that is gone.
      return { path, identity: '-' };
    }
  }

  /** What the guest's init is, in the trees of its root file system. */
  guestInit(trees: readonly string[], initCmd: string | undefined): FoundInit {
    try {
      // Where it stays unknown, the running guest is looked at.
      return this.files.withoutNoting(() =>
        findGuestInit(
          this.files,
          trees.map((tree) => this.at(tree)),
          initCmd,
        ),
      );
    } catch {
      // A tree of a root directory whose path cannot be followed.
      return { init: 'unknown' };
    }
  }
}

/** What would keep a container from running on this host, and what its admin should know. */
import { existsSync, lstatSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { Files } from '../host/files.ts';
import { locateLockers } from '../host/locate.ts';
import { lxcRelease } from '../host/lxc-release.ts';
import { parseLxcConfig } from '../host/parse-lxc.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import { HostReader } from '../host/read.ts';
import { parseSettings } from '../host/settings.ts';
import { writeNewFile } from '../host/write-file.ts';
import { codeOf } from '../model/errno.ts';
import { formatBytes } from '../model/memory-limit.ts';
import { containerUnit, unitNameFits } from '../model/unit-name.ts';
import { strayBelongings } from './belongings.ts';
import { makeRunDirectory } from './guard.ts';
import { runDirectory } from './record.ts';

/** What the source says of the container. */
export interface Asked {
  readonly id: string;
  readonly name: string;
  readonly config: string;
  readonly needs: readonly string[];
  readonly idmaps: readonly string[];
  readonly lockers: readonly string[];
  /** Bytes and files that it takes there. */
  readonly bytes: number;
  readonly files: number;
  /** Bytes and files that an earlier try has left here. */
  readonly leftBytes: number;
  readonly leftFiles: number;
}

export interface Checked {
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

export function isThere(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Whether a name can be one of a container here, and a part of a path. */
export function isName(name: string): boolean {
  return /^[^./][^/]*$/.test(name) && unitNameFits(containerUnit(name));
}

function checkName(name: string, lxcpath: string): string[] {
  const directory = `${lxcpath}/${name}`;
  if (isThere(directory)) return [`there is a container of this name already, ${directory}`];
  return strayBelongings(name);
}

/** What this host's LXC makes of the configuration, and interfaces that it names. */
function checkConfig({ id, config }: Asked, host: HostReader, files: Files): Checked {
  makeRunDirectory();
  const path = `${runDirectory}/${id}.config`;
  rmSync(path, { force: true });
  writeNewFile(path, config, undefined);
  try {
    const source = createLxcReader('', files).read(path);
    const { problems, nets } = parseLxcConfig(source, lxcRelease(host));
    const links = nets.flatMap(({ link }) => link?.value ?? []);
    const absent = links.filter(
      (link) => !/^[^/]+$/.test(link) || !existsSync(`/sys/class/net/${link}`),
    );
    return {
      problems: [
        ...problems.map(({ reason, remedy }) => `its configuration: ${reason}; ${remedy}`),
        ...[...new Set(absent)].map((link) => `there is no network interface ${link}`),
      ],
      warnings: [],
    };
  } finally {
    rmSync(path, { force: true });
  }
}

/** Ranges of ids that a process of this host can have: `[FIRST, COUNT]`. */
function idRanges(file: string): [number, number][] {
  return readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => {
      const [first = 0, , count = 0] = line.trim().split(/\s+/).map(Number);
      return [first, count];
    });
}

/** Users of this host that hand out ids of a range by subuid(5). */
function delegatedTo(file: string, first: number, count: number): string[] {
  const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [];
  return lines.flatMap((line) => {
    const [user = '', start = '', length = ''] = line.split(':');
    const overlaps = Number(start) < first + count && first < Number(start) + Number(length);
    return overlaps && !['', 'root', '0'].includes(user) ? [user] : [];
  });
}

function checkIds({ idmaps }: Asked): Checked {
  const problems: string[] = [];
  const warnings: string[] = [];
  for (const map of idmaps) {
    const [, kind = '', first = '', length = ''] =
      /^([ugb])\s+\d+\s+(\d+)\s+(\d+)$/.exec(map) ?? [];
    const [start, count] = [Number(first), Number(length)];
    for (const type of kind === 'b' ? ['u', 'g'] : [kind]) {
      const name = type === 'u' ? 'uid' : 'gid';
      const isWhole = idRanges(`/proc/self/${name}_map`).some(
        ([from, size]) => start >= from && start + count <= from + size,
      );
      const range = `${name}s ${start} to ${start + count - 1}`;
      if (!isWhole) problems.push(`this host does not have ${range}`);
      for (const user of delegatedTo(`/etc/sub${name}`, start, count)) {
        warnings.push(`${range} are also those of ${user}, by /etc/sub${name}`);
      }
    }
  }
  return { problems, warnings };
}

/** A file system never has all of its blocks for files. */
const spareFactor = 1.02;

function checkSpace(asked: Asked, lxcpath: string): string[] {
  const { bsize, bavail, ffree, files } = statfsSync(lxcpath);
  const bytes = Math.ceil((asked.bytes - asked.leftBytes) * spareFactor);
  const available = bsize * bavail;
  const problems: string[] = [];
  if (bytes > available) {
    const needed = formatBytes(BigInt(bytes));
    problems.push(`${lxcpath} has ${formatBytes(BigInt(available))} left, and it needs ${needed}`);
  }
  // Some file systems have no limit of files, and say 0.
  if (files > 0 && asked.files - asked.leftFiles > ffree) {
    problems.push(`${lxcpath} has room for ${ffree} files, and it has ${asked.files}`);
  }
  return problems;
}

/** Checks all, and changes nothing. */
export function checkTarget(asked: Asked, lxcpath: string): Checked {
  const files = new Files();
  const host = new HostReader('', files);
  const { lockers } = locateLockers(host, parseSettings(host.hostSettings()).host);
  const config = checkConfig(asked, host, files);
  const ids = checkIds(asked);
  return {
    problems: [
      ...checkName(asked.name, lxcpath),
      ...config.problems,
      ...ids.problems,
      ...asked.needs.filter((path) => !existsSync(path)).map((path) => `there is no ${path}`),
      ...asked.lockers
        .filter((locker) => !lockers.has(locker))
        .map((locker) => `there is no locker "${locker}"`),
      ...checkSpace(asked, lxcpath),
    ],
    warnings: [...config.warnings, ...ids.warnings],
  };
}

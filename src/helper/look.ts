/**
 * Looks at running guests: addresses, host name, operating system, memory. The guest is asked nothing and no
 * program of its is run. Each look is bounded in bytes and time, whatever the guest has made of itself.
 *
 * A guest's init is known by its control group and its monitor; see guests.ts. What is read of it is read
 * in the directory of that very process, so that no other one with the same pid is meant.
 */

import { spawn } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readSync, statSync } from 'node:fs';
import pMap from 'p-map';
import { lowestNow } from '../balloon/lowest.ts';
import { findGuestMemory } from '../cgroup/find-group.ts';
import { groupIn, hierarchies } from '../cgroup/hierarchy.ts';
import { Files } from '../host/files.ts';
import { GuestFiles } from '../host/guest-files.ts';
import { parseLxcConfig } from '../host/parse-lxc.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import { HostReader } from '../host/read.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { containerUnit } from '../model/unit-name.ts';
import { printable } from '../model/unit-syntax.ts';
import { guestAddresses, type GuestAddress } from './guest-addresses.ts';
import { Guests } from './guests.ts';
import { parseOsRelease, type OsRelease } from './os-release.ts';
import { lxcpathOf } from './view.ts';

/** What is seen of one guest. What could not be seen is missing. */
export interface GuestLook {
  readonly addresses?: readonly GuestAddress[];
  /** There are more than these. */
  readonly hasMoreAddresses?: boolean;
  /** Its network is the host's; then it has no addresses of its own. */
  readonly sharesNetwork?: boolean;
  readonly hostName?: string;
  readonly os?: OsRelease;
  /** Its root is another user on the host. */
  readonly isUnprivileged?: boolean;
  /** CLOCK_REALTIME, microseconds. */
  readonly startUsec?: number;
  /** Bytes: the lowest limit of memory that a balloon would not refuse at once; digits, which JSON keeps exact. */
  readonly lowestLimit?: string;
}

const maxAddresses = 64;
/** Some ten thousand addresses or routes. */
const networkFileMaxBytes = 1024 * 1024;
const smallFileMaxBytes = 64 * 1024;
const hostNameMs = 2_000;
/** HOST_NAME_MAX is 64. */
const hostNameMaxBytes = 256;
const parallelLooks = 4;

/** The first bytes of a file that the kernel makes. Throws where the process has gone. */
function head(path: string, maxBytes: number): { text: string; isWhole: boolean } {
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(maxBytes);
    let length = 0;
    while (length < maxBytes) {
      const got = readSync(file, buffer, length, maxBytes - length, null);
      if (got === 0) return { text: buffer.toString('utf8', 0, length), isWhole: true };
      length += got;
    }
    // The last line may be half a line.
    const text = buffer.toString('utf8', 0, length);
    return { text: text.slice(0, text.lastIndexOf('\n') + 1), isWhole: false };
  } finally {
    closeSync(file);
  }
}

function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    // It has gone meanwhile, or has no such thing, as a host without IPv6.
    return undefined;
  }
}

function namespaceOf(process: string, kind: 'net' | 'user'): string {
  const { dev, ino } = statSync(`${process}/ns/${kind}`, { bigint: true });
  return `${dev}:${ino}`;
}

function addressesOf(process: string): Partial<GuestLook> {
  const own = '/proc/self';
  const network = attempt(() => namespaceOf(process, 'net'));
  if (network === undefined) return {};
  if (network === namespaceOf(own, 'net')) return { sharesNetwork: true };
  const read = (name: string) =>
    attempt(() => head(`${process}/net/${name}`, networkFileMaxBytes)) ?? {
      text: '',
      isWhole: true,
    };
  const [trie, route, inet6] = [read('fib_trie'), read('route'), read('if_inet6')];
  const all = guestAddresses(trie.text, route.text, inet6.text);
  return {
    sharesNetwork: false,
    addresses: all.slice(0, maxAddresses),
    hasMoreAddresses: all.length > maxAddresses || !trie.isWhole || !inet6.isWhole,
  };
}

function isUnprivileged(process: string): boolean | undefined {
  const map = attempt(() => head(`${process}/uid_map`, smallFileMaxBytes).text);
  return map === undefined ? undefined : !/^\s*0\s+0\s+4294967295\s*$/.test(map);
}

/** USER_HZ, in which the kernel tells times on every machine. */
const ticksPerSecond = 100;

function startUsecOf(process: string): number | undefined {
  return attempt(() => {
    const stat = head(`${process}/stat`, smallFileMaxBytes).text;
    const ticks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
    const uptime = Number.parseFloat(readFileSync('/proc/uptime', 'utf8'));
    const startMs = Date.now() - (uptime - ticks / ticksPerSecond) * 1000;
    return Number.isFinite(startMs) ? Math.round(startMs) * 1000 : undefined;
  });
}

/** What uname(1) of the host says in the guest's UTS namespace; it sees nothing else of the guest. */
function hostNameOf(directory: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const args = ['--uts=/proc/self/fd/3/ns/uts', '--', 'uname', '-n'];
    const child = spawn('/usr/bin/nsenter', args, {
      stdio: ['ignore', 'pipe', 'ignore', directory],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
      timeout: hostNameMs,
      killSignal: 'SIGKILL',
    });
    const chunks: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.once('error', () => {
      resolve(undefined);
    });
    child.once('close', (status) => {
      const text = Buffer.concat(chunks).subarray(0, hostNameMaxBytes).toString('utf8');
      const name = printable(text.replace(/\n$/, ''));
      resolve(status === 0 && name !== '' && name !== '(none)' ? name : undefined);
    });
  });
}

/** Nothing of a guest outside its unit, where no limit holds. */
function lowestLimitOf(name: string, process: string): string | undefined {
  return attempt(() => {
    const text = head(`${process}/cgroup`, smallFileMaxBytes).text;
    const group = groupIn(text, hierarchies().systemdName) ?? '';
    const unit = `/${containerUnit(name)}`;
    const end = group.indexOf(`${unit}/`);
    const memory = end < 0 ? undefined : findGuestMemory(group.slice(0, end) + unit);
    return memory === undefined ? undefined : lowestNow(memory).toString();
  });
}

interface Found {
  readonly name: string;
  /** Trees of the root file system, as far as the host sees them. */
  readonly trees: () => readonly string[];
}

/** Known containers among the names. Throws Failed if it is unknown where containers are. */
function findContainers(names: readonly string[], files: Files, guests: Guests): Found[] {
  const host = new HostReader('', files);
  const wanted = new Set(names);
  const lxc = createLxcReader('', files);
  const lxcpath = lxcpathOf(host);
  const isOutside = [...guests.look(wanted).values()].some(({ leader }) => leader === 0);
  if (isOutside) guests.findOutside(lxcpath, wanted);
  return host
    .containers(lxcpath)
    .filter(({ name }) => wanted.has(name))
    .map(({ name, configFile }) => ({
      name,
      trees: () => {
        const { rootfsPath } = parseLxcConfig(lxc.read(configFile));
        const parsed = rootfsPath === undefined ? undefined : parseRootfs(rootfsPath.value);
        return parsed !== undefined && 'rootfs' in parsed ? parsed.rootfs.trees : [];
      },
    }));
}

/**
 * os-release as the host sees the guest's root file system: not by way of the guest's own mounts, which a
 * guest can make so that nobody comes back from them.
 */
function osOf({ trees }: Found, files: Files): OsRelease | undefined {
  return attempt(() => {
    const guest = new GuestFiles(files, trees());
    const text = guest.text('/etc/os-release') ?? guest.text('/usr/lib/os-release');
    return text === undefined ? undefined : parseOsRelease(text);
  });
}

async function lookAt(found: Found, guests: Guests, files: Files): Promise<GuestLook | undefined> {
  const leaderOf = () => guests.look([found.name]).get(found.name)?.leader ?? 0;
  const pid = leaderOf();
  if (pid === 0) return undefined;
  const flags = constants.O_RDONLY | constants.O_DIRECTORY;
  const directory = attempt(() => openSync(`/proc/${pid}`, flags));
  if (directory === undefined) return undefined;
  try {
    // If it is the leader still, it was when its directory was opened.
    if (leaderOf() !== pid) return undefined;
    const process = `/proc/self/fd/${directory}`;
    const hostName = await hostNameOf(directory);
    const unprivileged = isUnprivileged(process);
    const startUsec = startUsecOf(process);
    const os = osOf(found, files);
    const lowestLimit = lowestLimitOf(found.name, process);
    return {
      ...addressesOf(process),
      ...(hostName === undefined ? {} : { hostName }),
      ...(unprivileged === undefined ? {} : { isUnprivileged: unprivileged }),
      ...(startUsec === undefined ? {} : { startUsec }),
      ...(os === undefined ? {} : { os }),
      ...(lowestLimit === undefined ? {} : { lowestLimit }),
    };
  } finally {
    closeSync(directory);
  }
}

/**
 * Looks at guests and tells each as soon as it is seen. Nothing is told of a name without a container, nor
 * of a container that does not run.
 */
export async function look(
  names: readonly string[],
  tell: (container: string, seen: GuestLook) => void,
): Promise<void> {
  const files = new Files();
  const guests = new Guests();
  await pMap(
    findContainers(names, files, guests),
    async (found) => {
      const seen = await lookAt(found, guests, files);
      if (seen !== undefined) tell(found.name, seen);
    },
    { concurrency: parallelLooks },
  );
}

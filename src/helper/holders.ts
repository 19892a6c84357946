import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { printable } from '../model/unit-syntax.ts';
import type { Mount } from '../host/mountinfo.ts';
import { parseMountinfo } from '../host/mountinfo.ts';

/** A process that keeps an attachment from being unmounted. */
export interface Holder {
  readonly pid: number;
  /** The kernel's short name of it, see PR_SET_NAME in prctl(2). */
  readonly program: string;
  /** With its arguments. */
  readonly command: string;
  /** What it uses, as the container sees it. */
  readonly path: string;
}

/** As many as fit in an answer; there is no use in more. */
const holdersMax = 50;
const textMax = 300;

/** open(2)'s O_PATH, which Node does not name: it opens nothing, and no device acts on it. */
const O_PATH = 0o10000000;

/**
 * The attachment's copies in a mount namespace: mounts on `/LOCKER` of a mount of the wormhole.
 * Only the container's wormhole is on that device, whatever the guest did with its own mounts.
 */
export function copiesOf(
  mounts: readonly Mount[],
  wormholeDevice: string,
  locker: string,
): Mount[] {
  const wormholes = new Map(
    mounts
      .filter(({ device, root }) => device === wormholeDevice && root === '/')
      .map(({ id, mountPoint }) => [id, mountPoint === '/' ? '' : mountPoint]),
  );
  return mounts.filter(({ parent, mountPoint }) => {
    const wormhole = wormholes.get(parent);
    return wormhole !== undefined && mountPoint === `${wormhole}/${locker}`;
  });
}

function shorten(text: string): string {
  const shown = printable(text);
  return shown.length > textMax ? `${shown.slice(0, textMax)}...` : shown;
}

/** What may be gone at any time: a process, its files, its mounts. */
function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}

function programOf(pid: number): string {
  return shorten(attempt(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd()) ?? '?');
}

function commandOf(pid: number): string {
  const line = attempt(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '));
  // A kernel thread and a process that ends have no command line.
  if (line !== undefined && line.trim() !== '') return shorten(line.trim());
  return programOf(pid);
}

function holder(pid: number, path: string): Holder {
  return { pid, program: programOf(pid), command: commandOf(pid), path: shorten(path) };
}

/** The mount that a link of /proc leads into. */
function mountIdOf(link: string): number | undefined {
  const fd = attempt(() => openSync(link, O_PATH));
  if (fd === undefined) return undefined;
  try {
    const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
    return Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1]);
  } finally {
    closeSync(fd);
  }
}

/** Links of /proc that keep a mount busy, one at a time as most processes hold nothing. */
function* linksOf(pid: number): Generator<string> {
  const directory = `/proc/${pid}`;
  for (const name of ['cwd', 'root', 'exe']) yield `${directory}/${name}`;
  for (const list of ['fd', 'map_files']) {
    for (const name of attempt(() => readdirSync(`${directory}/${list}`)) ?? []) {
      yield `${directory}/${list}/${name}`;
    }
  }
}

/** The first thing on one of the mounts that a process uses. */
function usedBy(pid: number, ids: ReadonlySet<number>): string | undefined {
  for (const link of linksOf(pid)) {
    const id = mountIdOf(link);
    if (id !== undefined && ids.has(id)) return attempt(() => readlinkSync(link));
  }
  return undefined;
}

/** Host pids, the threads of a process counted once. */
function processes(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number);
}

/**
 * Processes that use an attachment, wherever they see it: the guest's through its own mounts, the
 * host's in the wormhole. A mount below the attachment counts for a process that sees it.
 */
export function findHolders(wormholeDevice: string, locker: string): Holder[] {
  const holders: Holder[] = [];
  const namespaces = new Map<string, { ids: ReadonlySet<number>; below: Mount | undefined }>();
  const told = new Set<string>();
  for (const pid of processes()) {
    if (holders.length >= holdersMax) break;
    const namespace = attempt(() => readlinkSync(`/proc/${pid}/ns/mnt`));
    if (namespace === undefined) continue;
    let seen = namespaces.get(namespace);
    if (seen === undefined) {
      const text = attempt(() => readFileSync(`/proc/${pid}/mountinfo`, 'utf8'));
      if (text === undefined || text === '') continue;
      const mounts = parseMountinfo(text);
      const ids = new Set(copiesOf(mounts, wormholeDevice, locker).map(({ id }) => id));
      seen = { ids, below: mounts.find(({ parent }) => ids.has(parent)) };
      namespaces.set(namespace, seen);
    }
    if (seen.ids.size === 0) continue;
    const path = usedBy(pid, seen.ids);
    if (path !== undefined) {
      holders.push(holder(pid, path));
    } else if (seen.below !== undefined && !told.has(namespace)) {
      told.add(namespace);
      holders.push(holder(pid, seen.below.mountPoint));
    }
  }
  return holders;
}

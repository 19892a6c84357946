/**
 * Finds the processes that keep an attachment busy, by the links in /proc that lead into its mounts. The
 * search has a time limit and runs in a process of its own, because a guest decides how many links there
 * are and can block a reader of its processes.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, opendirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { isAtOrBelow } from '../model/path.ts';
import { printable } from '../model/unit-syntax.ts';
import type { Mount } from '../host/mountinfo.ts';
import { parseMountinfo } from '../host/mountinfo.ts';

/** A process that keeps an attachment from being unmounted. */
export interface Holder {
  readonly pid: number;
  /** The kernel's short name of the process; see PR_SET_NAME in prctl(2). */
  readonly program: string;
  /** Command line with arguments. */
  readonly command: string;
  /** The path that it uses, as the container sees it. */
  readonly path: string;
}

/** The processes that hold an attachment, as far as the search got in time. */
export interface Holders {
  readonly holders: readonly Holder[];
  /** False if the search did not see everything. */
  readonly isComplete: boolean;
}

/** As many as fit in an answer; more would be of no use. */
const holdersMax = 50;
const textMax = 300;

/**
 * Bound for the search, because the guest decides how many processes, files and mounts there are and
 * how long reading from its processes takes.
 */
const searchMs = 3000;
/** For a search that is blocked before it can look at the clock. */
const killMs = 6000;
/** Links of one process that the first round looks at; the second round looks at all. */
const firstLinks = 64;
/** More than 5000 mounts. */
const mountinfoMaxBytes = 1024 * 1024;
const commandMaxBytes = 4096;

/** O_PATH of open(2), which Node does not name. It does not open the file, so no device reacts. */
const O_PATH = 0o10000000;

/** An attachment, as mount namespaces know it. */
export interface Sought {
  /** The device of all wormholes, whatever a guest did with its own mounts of it. */
  readonly device: string;
  readonly container: string;
  readonly locker: string;
}

/** The attachment's copies in a mount namespace: mounts on its place in a mount of wormholes or of one. */
export function copiesOf(mounts: readonly Mount[], { device, container, locker }: Sought): Mount[] {
  const place = `/${container}/${locker}`;
  const wormholes = new Map(
    mounts
      .filter((mount) => mount.device === device)
      .map(({ id, root, mountPoint }) => [id, { root, mountPoint }]),
  );
  return mounts.filter(({ parent, mountPoint }) => {
    const wormhole = wormholes.get(parent);
    if (wormhole === undefined || !isAtOrBelow(place, wormhole.root)) return false;
    const below = wormhole.root === '/' ? place : place.slice(wormhole.root.length);
    return mountPoint === `${wormhole.mountPoint === '/' ? '' : wormhole.mountPoint}${below}`;
  });
}

function shorten(text: string): string {
  const shown = printable(text);
  return shown.length > textMax ? `${shown.slice(0, textMax)}...` : shown;
}

/** Undefined if `action` throws: a process, its files and its mounts may go at any time. */
function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}

/** The first bytes of a file of /proc. */
function readHead(path: string, maxBytes: number): string {
  const fd = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(maxBytes);
    let length = 0;
    for (let got = 1; got > 0 && length < maxBytes; length += got) {
      got = readSync(fd, buffer, length, maxBytes - length, null);
    }
    return buffer.toString('utf8', 0, length);
  } finally {
    closeSync(fd);
  }
}

function programOf(pid: number): string {
  return shorten(attempt(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd()) ?? '?');
}

/** Empty for a kernel thread or a process that is ending. */
function commandOf(pid: number): string {
  const line = attempt(() => readHead(`/proc/${pid}/cmdline`, commandMaxBytes)) ?? '';
  return shorten(line.replaceAll('\0', ' ').trim());
}

/** Id of the mount that a link of /proc leads into. */
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

/** Names in a directory of /proc, one at a time because there may be a million. */
function* namesIn(path: string): Generator<string> {
  const directory = attempt(() => opendirSync(path, { bufferSize: 256 }));
  if (directory === undefined) return;
  try {
    for (;;) {
      const name = attempt(() => directory.readSync())?.name;
      if (name === undefined) return;
      yield name;
    }
  } finally {
    directory.closeSync();
  }
}

/** Links of /proc that keep a mount busy; the links that every process has come first. */
const kinds = [
  function* (pid: number): Generator<string> {
    for (const name of ['cwd', 'root', 'exe']) yield `/proc/${pid}/${name}`;
  },
  function* (pid: number): Generator<string> {
    for (const name of namesIn(`/proc/${pid}/fd`)) yield `/proc/${pid}/fd/${name}`;
  },
  // These come last, because a guest can block a process that reads them.
  function* (pid: number): Generator<string> {
    for (const name of namesIn(`/proc/${pid}/map_files`)) yield `/proc/${pid}/map_files/${name}`;
  },
] as const;

/** The attachment as the processes of one mount namespace see it. */
interface Namespace {
  readonly ids: ReadonlySet<number>;
  readonly below: Mount | undefined;
}

/** One search, which ends when its time is up. */
export class HolderSearch {
  readonly #sought: Sought;
  readonly #end: number;
  readonly #namespaces = new Map<string, Namespace | undefined>();
  isComplete = true;

  constructor(sought: Sought, timeMs = searchMs) {
    this.#sought = sought;
    this.#end = Date.now() + timeMs;
  }

  #isOver(): boolean {
    if (Date.now() < this.#end) return false;
    this.isComplete = false;
    return true;
  }

  #namespaceOf(pid: number): Namespace | undefined {
    const name = attempt(() => readlinkSync(`/proc/${pid}/ns/mnt`));
    if (name === undefined) return undefined;
    if (this.#namespaces.has(name)) return this.#namespaces.get(name);
    const text = attempt(() => readHead(`/proc/${pid}/mountinfo`, mountinfoMaxBytes)) ?? '';
    // The process is ending, but another process of the same namespace may not be.
    if (text === '') return undefined;
    if (text.length >= mountinfoMaxBytes) this.isComplete = false;
    const mounts = parseMountinfo(text);
    const ids = new Set(copiesOf(mounts, this.#sought).map(({ id }) => id));
    const below = mounts.find(({ parent }) => ids.has(parent));
    const namespace = ids.size === 0 ? undefined : { ids, below };
    this.#namespaces.set(name, namespace);
    return namespace;
  }

  /** The target of the first link that leads into one of the mounts. */
  #usedBy(links: Iterable<string>, { ids }: Namespace, max: number): string | undefined {
    let left = max;
    for (const link of links) {
      if (left-- <= 0 || this.#isOver()) return undefined;
      const id = mountIdOf(link);
      if (id !== undefined && ids.has(id)) return attempt(() => readlinkSync(link)) ?? link;
    }
    return undefined;
  }

  /**
   * Processes that use an attachment, wherever they see it: the guest's processes through its own
   * mounts, the host's in the wormhole. A mount below the attachment is reported once for each mount
   * namespace, with a process that sees it.
   */
  *run(): Generator<{ readonly pid: number; readonly path: string }> {
    const candidates = new Map<number, Namespace>();
    // /proc lists processes, not threads, so each process counts once.
    for (const name of namesIn('/proc')) {
      if (this.#isOver()) return;
      const pid = Number(name);
      const namespace = /^[0-9]+$/.test(name) ? this.#namespaceOf(pid) : undefined;
      if (namespace !== undefined) candidates.set(pid, namespace);
    }
    for (const max of [firstLinks, Infinity]) {
      for (const links of kinds) {
        for (const [pid, namespace] of candidates) {
          if (this.#isOver()) return;
          const path = this.#usedBy(links(pid), namespace, max);
          if (path === undefined) continue;
          candidates.delete(pid);
          yield { pid, path };
        }
      }
    }
    const told = new Set<Namespace>();
    for (const [pid, namespace] of candidates) {
      if (namespace.below === undefined || told.has(namespace)) continue;
      told.add(namespace);
      yield { pid, path: namespace.below.mountPoint };
    }
  }
}

/** Runs the program with `--holders`: writes the lines that findHolders() reads. */
export function printHolders(sought: Sought): number {
  const search = new HolderSearch(sought);
  const print = (line: object): void => {
    process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  let count = 0;
  for (const { pid, path } of search.run()) {
    const program = programOf(pid);
    const holder = { pid, program, command: program, path: shorten(path) };
    print(holder);
    // A second line, because the guest can block a process that asks for the arguments.
    const command = commandOf(pid);
    if (command !== '') print({ ...holder, command });
    if (++count >= holdersMax) break;
  }
  print({ isComplete: search.isComplete });
  return 0;
}

/** Searches in a separate process, which can be killed wherever it hangs. */
export async function findHolders(sought: Sought): Promise<Holders> {
  const program = process.argv[1] ?? '';
  const { device, container, locker } = sought;
  const child = spawn(process.execPath, [program, '--holders', device, container, locker], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {},
  });
  const holders = new Map<number, Holder>();
  let isComplete = false;
  const lines = createInterface(child.stdout);
  lines.on('line', (line) => {
    // A search that was killed may leave half a line.
    const value = attempt(() => JSON.parse(line) as Holder | { readonly isComplete: boolean });
    if (value === undefined) return;
    if ('pid' in value) holders.set(value.pid, value);
    else isComplete = value.isComplete;
  });
  const timer = setTimeout(() => {
    child.kill('SIGKILL');
    // Do not wait for a process that cannot even be killed.
    child.stdout.destroy();
    lines.close();
  }, killMs);
  await once(lines, 'close');
  clearTimeout(timer);
  child.unref();
  return { holders: [...holders.values()], isComplete };
}

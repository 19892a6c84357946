import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, opendirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';
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

/** Who holds an attachment, as far as could be seen in time. */
export interface Holders {
  readonly holders: readonly Holder[];
  /** False where not everything was looked at. */
  readonly isComplete: boolean;
}

/** As many as fit in an answer; there is no use in more. */
const holdersMax = 50;
const textMax = 300;

/**
 * How many processes, files and mounts there are is the guest's choice, and so is how long reading
 * from its processes takes.
 */
const searchMs = 3000;
/** For a search that does not get so far as to look at the clock. */
const killMs = 6000;
/** Links of one process that are looked at before those of the others. */
const firstLinks = 64;
/** More than 5000 mounts. */
const mountinfoMaxBytes = 1024 * 1024;
const commandMaxBytes = 4096;

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

/** Empty for a kernel thread and a process that ends. */
function commandOf(pid: number): string {
  const line = attempt(() => readHead(`/proc/${pid}/cmdline`, commandMaxBytes)) ?? '';
  return shorten(line.replaceAll('\0', ' ').trim());
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

/** Names in a directory of /proc, one after the other as there may be a million. */
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

/** Links of /proc that keep a mount busy, those first that every process has. */
const kinds = [
  function* (pid: number): Generator<string> {
    for (const name of ['cwd', 'root', 'exe']) yield `/proc/${pid}/${name}`;
  },
  function* (pid: number): Generator<string> {
    for (const name of namesIn(`/proc/${pid}/fd`)) yield `/proc/${pid}/fd/${name}`;
  },
  // The last ones, as a guest can keep whoever reads these waiting.
  function* (pid: number): Generator<string> {
    for (const name of namesIn(`/proc/${pid}/map_files`)) yield `/proc/${pid}/map_files/${name}`;
  },
] as const;

/** What processes of one mount namespace see of the attachment. */
interface Namespace {
  readonly ids: ReadonlySet<number>;
  readonly below: Mount | undefined;
}

/** One search, which ends with its time. */
export class HolderSearch {
  readonly #wormholeDevice: string;
  readonly #locker: string;
  readonly #end: number;
  readonly #namespaces = new Map<string, Namespace | undefined>();
  isComplete = true;

  constructor(wormholeDevice: string, locker: string, timeMs = searchMs) {
    this.#wormholeDevice = wormholeDevice;
    this.#locker = locker;
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
    // The process ends; another one of its namespace may not.
    if (text === '') return undefined;
    if (text.length >= mountinfoMaxBytes) this.isComplete = false;
    const mounts = parseMountinfo(text);
    const ids = new Set(copiesOf(mounts, this.#wormholeDevice, this.#locker).map(({ id }) => id));
    const below = mounts.find(({ parent }) => ids.has(parent));
    const namespace = ids.size === 0 ? undefined : { ids, below };
    this.#namespaces.set(name, namespace);
    return namespace;
  }

  /** The first of some links that leads to one of the mounts. */
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
   * Processes that use an attachment, wherever they see it: the guest's through its own mounts,
   * the host's in the wormhole. A mount below the attachment counts for a process that sees it.
   */
  *run(): Generator<{ readonly pid: number; readonly path: string }> {
    const candidates = new Map<number, Namespace>();
    // The threads of a process count once.
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

/** What the program does with `--holders`: writes what findHolders() reads. */
export function printHolders(wormholeDevice: string, locker: string): number {
  const search = new HolderSearch(wormholeDevice, locker);
  const print = (line: object): void => {
    process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  let count = 0;
  for (const { pid, path } of search.run()) {
    const program = programOf(pid);
    const holder = { pid, program, command: program, path: shorten(path) };
    print(holder);
    // Once more, for the guest can keep whoever asks for arguments waiting.
    const command = commandOf(pid);
    if (command !== '') print({ ...holder, command });
    if (++count >= holdersMax) break;
  }
  print({ isComplete: search.isComplete });
  return 0;
}

/** Looks in a process of its own, which can be ended wherever it hangs. */
export async function findHolders(wormholeDevice: string, locker: string): Promise<Holders> {
  const program = process.argv[1] ?? '';
  const child = spawn(process.execPath, [program, '--holders', wormholeDevice, locker], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {},
  });
  const holders = new Map<number, Holder>();
  let isComplete = false;
  const lines = createInterface(child.stdout);
  lines.on('line', (line) => {
    // One that was ended may leave half a line.
    const value = attempt(() => JSON.parse(line) as Holder | { readonly isComplete: boolean });
    if (value === undefined) return;
    if ('pid' in value) holders.set(value.pid, value);
    else isComplete = value.isComplete;
  });
  const timer = setTimeout(() => {
    child.kill('SIGKILL');
    // One that cannot even be killed is not waited for.
    child.stdout.destroy();
    lines.close();
  }, killMs);
  await once(lines, 'close');
  clearTimeout(timer);
  child.unref();
  return { holders: [...holders.values()], isComplete };
}

import { type FSWatcher, watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { KernelLimits, MemoryFigures, MemoryPort, Unwatch } from '../core/ports.ts';
import { parseKernelLimit } from '../model/memory-limit.ts';
import { counter, KillCounter } from './oom-kills.ts';

/**
 * On cgroup v1, where the kernel announces OOM kills to root only, see expectOomKills(): for limits
 * that a guest has set in itself, for a host that is short, and while there is no helper.
 */
const pollMs = 5000;
/** An announcement comes before the kill. */
const recountMs = [20, 100, 300, 700];
/** So many groups cost little to look through. */
const groupsFew = 100;
/** More of them are looked at more and more rarely while nothing is killed in them. */
const pollMaxMs = 60_000;
/** A guest at its limit has the kernel write memory.events all the time. */
const lookEveryMs = 250;

/** Memory figures from the control group file system; see cgroups(7). */
export class CgroupMemory implements MemoryPort {
  readonly #mountPoint: string;
  readonly #pollMs: number;
  readonly #killCounter = new KillCounter();
  /** By control group, on cgroup v1. */
  readonly #expect = new Map<string, () => void>();
  /** Kills in the groups that are watched, by directory, on cgroup v1. */
  readonly #kills = new Map<string, bigint>();

  constructor(mountPoint = '/sys/fs/cgroup', options: { readonly pollMs?: number } = {}) {
    this.#mountPoint = mountPoint;
    this.#pollMs = options.pollMs ?? pollMs;
  }

  /** The control group's directory, and by what rules; undefined when it is not there. */
  async #find(
    controlGroup: string,
  ): Promise<{ readonly directory: string; readonly version: 1 | 2 } | undefined> {
    if (!/^\/[^\0]+$/.test(controlGroup) || controlGroup.split('/').includes('..')) {
      return undefined;
    }
    const v2 = join(this.#mountPoint, controlGroup);
    if ((await readText(join(v2, 'memory.events'))) !== undefined) {
      return { directory: v2, version: 2 };
    }
    const v1 = join(this.#mountPoint, 'memory', controlGroup);
    if ((await readText(join(v1, 'memory.usage_in_bytes'))) !== undefined) {
      return { directory: v1, version: 1 };
    }
    return undefined;
  }

  async read(controlGroup: string): Promise<MemoryFigures> {
    const found = await this.#find(controlGroup);
    if (found === undefined) throw new Error(`no control group ${controlGroup}`);
    return found.version === 2 ? readV2(found.directory) : this.#readV1(found.directory);
  }

  async limits(controlGroup: string): Promise<KernelLimits | undefined> {
    const found = await this.#find(controlGroup);
    if (found === undefined) return undefined;
    const names =
      found.version === 2 ? ['memory.max', 'memory.swap.max'] : ['memory.limit_in_bytes'];
    const [memory, swap] = await Promise.all(
      names.map(async (name) => {
        const text = await readText(join(found.directory, name));
        return text === undefined ? undefined : parseKernelLimit(text);
      }),
    );
    return memory === undefined ? undefined : { memory, swap };
  }

  /** Tells when somebody writes a memory limit of the control group, also behind systemd's back. */
  async watchLimits(controlGroup: string, changed: () => void): Promise<Unwatch> {
    const found = await this.#find(controlGroup);
    if (found === undefined) return () => Promise.resolve();
    const names =
      found.version === 2
        ? ['memory.max', 'memory.swap.max']
        : ['memory.limit_in_bytes', 'memory.memsw.limit_in_bytes'];
    const stops = names.flatMap((name) => {
      try {
        return [watchFile(join(found.directory, name), changed)];
      } catch {
        // Without swap accounting there is no such file.
        return [];
      }
    });
    return () => {
      for (const stop of stops) stop();
      return Promise.resolve();
    };
  }

  async watchOomKills(controlGroup: string, changed: (kills: bigint) => void): Promise<Unwatch> {
    const found = await this.#find(controlGroup);
    if (found === undefined) throw new Error(`no control group ${controlGroup}`);
    const { directory, version } = found;
    return version === 2
      ? this.#watchKillsV2(directory, changed)
      : this.#watchKillsV1(controlGroup, directory, changed);
  }

  async #watchKillsV2(directory: string, changed: (kills: bigint) => void): Promise<Unwatch> {
    const file = join(directory, 'memory.events');
    let isOver = false;
    let last: bigint | undefined;
    let timer: NodeJS.Timeout | undefined;
    const look = async (): Promise<void> => {
      const kills = counter(await readText(file), 'oom_kill');
      // The control group goes with the container, and its count with it.
      if (isOver || kills === undefined || kills === last) return;
      last = kills;
      changed(kills);
    };
    const stop = watchFile(file, () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        void look();
      }, lookEveryMs);
    });
    await look();
    return () => {
      isOver = true;
      clearTimeout(timer);
      stop();
      return Promise.resolve();
    };
  }

  /** Looks now and then, and more often when kills are expected. */
  async #watchKillsV1(
    controlGroup: string,
    directory: string,
    changed: (kills: bigint) => void,
  ): Promise<Unwatch> {
    let isOver = false;
    let last: bigint | undefined;
    let waitMs = this.#pollMs;
    let next: NodeJS.Timeout | undefined;
    let recounts: NodeJS.Timeout[] = [];
    const look = async (): Promise<void> => {
      const { kills, groups } = await this.#killCounter.count(directory);
      if (isOver) return;
      const isQuiet = kills === undefined || kills === last;
      waitMs = isQuiet && groups > groupsFew ? Math.min(waitMs * 2, pollMaxMs) : this.#pollMs;
      if (isQuiet) return;
      last = kills;
      this.#kills.set(directory, kills);
      changed(kills);
    };
    const pollAgain = (): void => {
      if (isOver) return;
      next = setTimeout(() => void look().then(pollAgain), waitMs);
      next.unref();
    };
    const cancel = (): void => {
      for (const timer of recounts) clearTimeout(timer);
    };
    const expect = (): void => {
      cancel();
      recounts = recountMs.map((ms) => setTimeout(() => void look(), ms));
    };
    this.#expect.set(controlGroup, expect);
    await look();
    pollAgain();
    return () => {
      isOver = true;
      clearTimeout(next);
      cancel();
      if (this.#expect.get(controlGroup) === expect) {
        this.#expect.delete(controlGroup);
        this.#kills.delete(directory);
      }
      return Promise.resolve();
    };
  }

  expectOomKills(controlGroup: string): void {
    this.#expect.get(controlGroup)?.();
  }

  async #readV1(directory: string): Promise<MemoryFigures> {
    const [usage, max, both] = await Promise.all(
      ['usage_in_bytes', 'max_usage_in_bytes', 'memsw.usage_in_bytes'].map((name) =>
        readText(join(directory, `memory.${name}`)),
      ),
    );
    const current = numberIn(usage) ?? 0n;
    // Without swap accounting there is no such file.
    const withSwap = numberIn(both) ?? current;
    return {
      current,
      peak: numberIn(max) ?? current,
      swap: withSwap > current ? withSwap - current : 0n,
      pressure: 0,
      // Anybody may ask for figures, so that a watched group is not counted for each who does.
      oomKills:
        this.#kills.get(directory) ?? (await this.#killCounter.count(directory)).kills ?? 0n,
    };
  }
}

function watchFile(file: string, changed: () => void): () => void {
  let watcher: FSWatcher | undefined = watch(file, changed);
  // A file that is gone is no fault: so is the container.
  watcher.on('error', () => {
    watcher?.close();
    watcher = undefined;
  });
  return () => {
    watcher?.close();
    watcher = undefined;
  };
}

/** The kernel's files tell of an absent figure by being absent or by an error when read. */
async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch {
    return undefined;
  }
}

function numberIn(text: string | undefined): bigint | undefined {
  const digits = /^\d+$/.exec(text?.trim() ?? '')?.[0];
  return digits === undefined ? undefined : BigInt(digits);
}

/** `full avg10` of memory.pressure, per cent. */
function fullAvg10(text: string | undefined): number {
  return Number(/^full avg10=(\d+(?:\.\d+)?) /m.exec(text ?? '')?.[1] ?? 0);
}

async function readV2(directory: string): Promise<MemoryFigures> {
  const [current, peak, swap, pressure, events] = await Promise.all(
    ['current', 'peak', 'swap.current', 'pressure', 'events'].map((name) =>
      readText(join(directory, `memory.${name}`)),
    ),
  );
  const used = numberIn(current) ?? 0n;
  return {
    current: used,
    // Before Linux 5.19 nobody kept it.
    peak: numberIn(peak) ?? used,
    swap: numberIn(swap) ?? 0n,
    pressure: fullAvg10(pressure),
    oomKills: counter(events, 'oom_kill') ?? 0n,
  };
}

import { closeSync, constants, existsSync, openSync, readFileSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { subdirectories } from './subdirectories.ts';
import { codeOf } from '../model/errno.ts';
import type { Held } from './figures.ts';
import { heldV1, heldV2, parseFlatKeyed, parseMeminfo, parseStall } from './figures.ts';
import { parseKernelLimit, unlimited, wholePages } from '../model/memory-limit.ts';

/** Where control groups are mounted; the tests of the adapter have another tree. */
export const cgroupRoot = '/sys/fs/cgroup';

/**
 * A file and what it holds again when the balloon is over, however that ends; "MemoryMax" stands
 * for what that property of the unit is then.
 */
export interface Undo {
  readonly path: string;
  readonly value: string;
}

/** What is read again and again while a guest is watched; cheap. */
export interface Probe {
  /** Bytes charged to the guest. */
  readonly usage: bigint;
  /** Processes of the guest wait for memory that the kernel cannot find, or pass the brake. */
  readonly distressed: boolean;
  /** Microseconds, from an arbitrary start; undefined where the kernel does not count them. */
  readonly stallUsec: number | undefined;
}

export type Reclaimed = 'some' | 'nothing';

/**
 * The memory of a running container: its unit's control group, whose limit belongs to systemd, and
 * the guest's group below it, where a trial disturbs nobody else's bookkeeping.
 */
export interface GuestMemory {
  readonly version: 1 | 2;
  /** The limits that the unit's group has in the kernel. */
  unitLimit(): bigint;
  unitUsage(): bigint;
  /** The guest's own limit, such as an older start may have left it. */
  guestLimit(): bigint;
  /** Most that the guest ever used; undefined where the kernel does not say. */
  guestPeak(): bigint | undefined;
  held(swapLeft: bigint | undefined): Held;
  probe(): Probe;
  /** What a trial changes, to be written back by whoever ends it. */
  undo(): Undo[];
  /** The same for the limit of the unit's group, which becomes what systemd says that it is. */
  undoUnitLimit(): Undo;
  /** From here on the guest cannot be killed by what a trial does. */
  begin(): Promise<void>;
  /**
   * Takes back up to `step` bytes on the way down to `goal`. With `hold` the guest cannot take them
   * again, which slows it down where the kernel needs a brake for that.
   */
  reclaim(goal: bigint, step: bigint, hold: boolean): Promise<Reclaimed>;
  /** Lets the guest live with `goal` bytes, for the trial. */
  brake(goal: bigint): Promise<void>;
  /**
   * Brings the unit under a limit that the trial has shown to fit, in a moment when the guest
   * cannot grow. False when it has grown beyond, and nothing has changed then. `note` takes down
   * what else has to be undone from now on.
   */
  seal(limit: bigint, note: (changes: readonly Undo[]) => void): Promise<boolean>;
  /** Sets the limit of the unit's group behind systemd's back. */
  setUnitLimit(limit: bigint): Promise<void>;
  /** The same for swap, where it is a limit of its own. */
  setUnitSwapLimit(limit: bigint): Promise<void>;
  /** Bytes of swap that the unit may use; undefined where the kernel does not account for swap. */
  swapLimit(): bigint | undefined;
  swapUsed(): bigint;
  /**
   * Sets the sum of memory and swap, which cgroup v1 limits in place of swap and systemd does not
   * know: to be raised before memory's limit and lowered after it.
   */
  setSum(memory: bigint, swap: bigint, direction: 'raise' | 'lower'): Promise<void>;
  /** Takes a limit off the guest's group that is below the unit's. */
  clearGuestLimit(): Promise<void>;
}

export function read(path: string): string {
  return readFileSync(path, 'utf8');
}

function readOr(path: string, missing: string): string {
  try {
    return read(path);
  } catch {
    return missing;
  }
}

export async function write(path: string, value: string): Promise<void> {
  // Control group files take one write(2) each and must not be created. Some can only be written,
  // also by a root without capabilities.
  const file = await open(path, constants.O_WRONLY);
  try {
    await file.write(value);
  } finally {
    await file.close();
  }
}

function limitV1(limit: bigint): string {
  return limit === unlimited ? '-1' : limit.toString();
}

function limitV2(limit: bigint): string {
  return limit === unlimited ? 'max' : limit.toString();
}

/** More groups of a guest are not looked through for a process. */
const groupsMax = 4096;
/** LXC goes one deeper with each reboot of a guest's whose old group does not go. */
const pivotsMax = 16;

/** Whether a group or one below it has a process; undefined where there are too many to say. */
function isPopulated(directory: string): boolean | undefined {
  // On cgroup v2, and in the unified hierarchy beside v1, the kernel says it.
  const populated = parseFlatKeyed(readOr(join(directory, 'cgroup.events'), '')).get('populated');
  if (populated !== undefined) return populated !== 0n;
  const groups = [directory];
  for (let group = groups.shift(), seen = 1; group !== undefined; group = groups.shift()) {
    if (!isEmpty(join(group, 'cgroup.procs'))) return true;
    for (const below of subdirectories(group)) {
      if (++seen > groupsMax) return undefined;
      groups.push(below);
    }
  }
  return false;
}

/** Whether nothing can be read from a file, of which a byte is enough. */
function isEmpty(path: string): boolean {
  try {
    const file = openSync(path, 'r');
    try {
      return readSync(file, Buffer.alloc(1)) === 0;
    } finally {
      closeSync(file);
    }
  } catch {
    return true;
  }
}

/**
 * The guest's group below the unit's: LXC numbers it when an old one is in the way, and from the
 * guest's first reboot on it is in the group where LXC's monitor has waited for the old one's end.
 * One with more groups than can be looked through is the guest's, unless another has a process.
 */
function payloadBelow(unitDirectory: string): string | undefined {
  let likely: string | undefined;
  let parents = [unitDirectory];
  for (let depth = 0; depth < pivotsMax && parents.length > 0; depth++) {
    const groups = parents.flatMap((parent) => firstOf(subdirectories(parent), groupsMax));
    const startingWith = (prefix: string): string[] =>
      groups.filter((group) => basename(group).startsWith(prefix)).slice(0, pivotsMax);
    for (const group of startingWith('lxc.payload.')) {
      const populated = isPopulated(group);
      if (populated === true) return group;
      if (populated === undefined) likely ??= group;
    }
    parents = startingWith('lxc.pivot');
  }
  return likely;
}

function firstOf<T>(items: Iterable<T>, count: number): T[] {
  const first: T[] = [];
  for (const item of items) {
    if (first.push(item) >= count) break;
  }
  return first;
}

/** What the host's control groups can do, where there is no container to look at. */
export function controlGroups(root: string = cgroupRoot): {
  readonly version: 1 | 2;
  readonly swapIsAccounted: boolean;
} {
  if (!existsSync(join(root, 'cgroup.controllers'))) {
    const file = join(root, 'memory', 'memory.memsw.limit_in_bytes');
    return { version: 1, swapIsAccounted: existsSync(file) };
  }
  // The root has no limits. Every service below is in a group of this one.
  const services = join(root, 'system.slice');
  const isLimited = (name: string): boolean => existsSync(join(services, name));
  return {
    version: 2,
    swapIsAccounted: isLimited('memory.swap.max') || !isLimited('memory.max'),
  };
}

/** Finds the guest of a unit by its control group; undefined while it has no process. */
export function findGuestMemory(
  controlGroup: string,
  root: string = cgroupRoot,
): GuestMemory | undefined {
  const isV2 = existsSync(join(root, 'cgroup.controllers'));
  const unit = join(root, isV2 ? '' : 'memory', controlGroup);
  const guest = controlGroup === '' ? undefined : payloadBelow(unit);
  if (guest === undefined) return undefined;
  return isV2
    ? new MemoryV2(unit, guest)
    : new MemoryV1(unit, guest, join(root, 'unified', controlGroup, 'memory.pressure'));
}

export function swapLeftOnHost(): bigint {
  return parseMeminfo(read('/proc/meminfo'), 'SwapFree');
}

export function memoryOfHost(): bigint {
  return parseMeminfo(read('/proc/meminfo'), 'MemTotal');
}

function least(...amounts: readonly (bigint | undefined)[]): bigint {
  return amounts
    .filter((amount) => amount !== undefined)
    .reduce((a, b) => (a < b ? a : b), unlimited);
}

class MemoryV1 implements GuestMemory {
  readonly version = 1;
  readonly #unit: string;
  readonly #guest: string;
  readonly #pressure: string;

  constructor(unit: string, guest: string, pressure: string) {
    this.#unit = unit;
    this.#guest = guest;
    this.#pressure = pressure;
  }

  unitLimit(): bigint {
    return parseKernelLimit(read(`${this.#unit}/memory.limit_in_bytes`));
  }

  unitUsage(): bigint {
    return BigInt(read(`${this.#unit}/memory.usage_in_bytes`).trim());
  }

  guestLimit(): bigint {
    return parseKernelLimit(read(`${this.#guest}/memory.limit_in_bytes`));
  }

  guestPeak(): bigint {
    return BigInt(read(`${this.#guest}/memory.max_usage_in_bytes`).trim());
  }

  held(swapLeft: bigint | undefined): Held {
    const stat = parseFlatKeyed(read(`${this.#guest}/memory.stat`));
    const swappable = stat.get('swappiness') === 0n ? 0n : least(swapLeft, swapLeftOnHost());
    const kernel = BigInt(readOr(`${this.#guest}/memory.kmem.usage_in_bytes`, '0').trim());
    return heldV1(stat, swappable, kernel);
  }

  probe(): Probe {
    const control = parseFlatKeyed(read(`${this.#guest}/memory.oom_control`));
    return {
      usage: BigInt(read(`${this.#guest}/memory.usage_in_bytes`).trim()),
      distressed: control.get('under_oom') !== 0n,
      stallUsec: parseStall(readOr(this.#pressure, '')),
    };
  }

  undo(): Undo[] {
    const control = parseFlatKeyed(read(`${this.#guest}/memory.oom_control`));
    return [
      { path: `${this.#guest}/memory.limit_in_bytes`, value: limitV1(this.guestLimit()) },
      // After the limit: who waits for memory must get it, not be killed.
      {
        path: `${this.#guest}/memory.oom_control`,
        value: (control.get('oom_kill_disable') ?? 0n).toString(),
      },
    ];
  }

  undoUnitLimit(): Undo {
    return { path: `${this.#unit}/memory.limit_in_bytes`, value: 'MemoryMax' };
  }

  async begin(): Promise<void> {
    // A process that finds no memory in the guest's group waits from now on, until there is more.
    await write(`${this.#guest}/memory.oom_control`, '1');
  }

  async reclaim(goal: bigint, step: bigint): Promise<Reclaimed> {
    const { usage } = this.probe();
    const next = usage - step > goal ? usage - step : goal;
    try {
      await write(`${this.#guest}/memory.limit_in_bytes`, wholePages(next).toString());
      return 'some';
    } catch (error) {
      // EBUSY: the kernel found nothing more to take back, and has left the limit as it was.
      if (codeOf(error) === 'EBUSY') return 'nothing';
      throw error;
    }
  }

  brake(goal: bigint): Promise<void> {
    return write(`${this.#guest}/memory.limit_in_bytes`, wholePages(goal).toString());
  }

  seal(limit: bigint): Promise<boolean> {
    // The limit of the trial holds the guest until systemd has set the unit's.
    return Promise.resolve(this.unitUsage() <= limit);
  }

  setUnitLimit(limit: bigint): Promise<void> {
    return write(`${this.#unit}/memory.limit_in_bytes`, limitV1(limit));
  }

  async setUnitSwapLimit(): Promise<void> {
    // setSum() does it.
  }

  #sum(): bigint {
    return parseKernelLimit(read(`${this.#unit}/memory.memsw.limit_in_bytes`));
  }

  swapLimit(): bigint | undefined {
    if (!existsSync(`${this.#unit}/memory.memsw.limit_in_bytes`)) return undefined;
    const sum = this.#sum();
    const memory = this.unitLimit();
    return sum === unlimited || memory === unlimited ? unlimited : sum - memory;
  }

  swapUsed(): bigint {
    return parseFlatKeyed(read(`${this.#unit}/memory.stat`)).get('total_swap') ?? 0n;
  }

  async setSum(memory: bigint, swap: bigint, direction: 'raise' | 'lower'): Promise<void> {
    if (this.swapLimit() === undefined) return;
    const sum = memory === unlimited || swap === unlimited ? unlimited : memory + swap;
    if (direction === 'raise' ? sum <= this.#sum() : sum >= this.#sum()) return;
    await write(`${this.#unit}/memory.memsw.limit_in_bytes`, limitV1(sum));
  }

  async clearGuestLimit(): Promise<void> {
    const sum = `${this.#guest}/memory.memsw.limit_in_bytes`;
    if (existsSync(sum)) await write(sum, '-1');
    await write(`${this.#guest}/memory.limit_in_bytes`, '-1');
  }
}

const freezeTimeoutMs = 300;

class MemoryV2 implements GuestMemory {
  readonly version = 2;
  readonly #unit: string;
  readonly #guest: string;
  #goal = unlimited;

  constructor(unit: string, guest: string) {
    this.#unit = unit;
    this.#guest = guest;
  }

  unitLimit(): bigint {
    return parseKernelLimit(read(`${this.#unit}/memory.max`));
  }

  unitUsage(): bigint {
    return BigInt(read(`${this.#unit}/memory.current`).trim());
  }

  guestLimit(): bigint {
    return parseKernelLimit(read(`${this.#guest}/memory.max`));
  }

  guestPeak(): bigint | undefined {
    const peak = readOr(`${this.#guest}/memory.peak`, '').trim();
    return peak === '' ? undefined : BigInt(peak);
  }

  held(swapLeft: bigint | undefined): Held {
    const stat = parseFlatKeyed(read(`${this.#guest}/memory.stat`));
    return heldV2(stat, least(swapLeft, swapLeftOnHost()));
  }

  probe(): Probe {
    const usage = BigInt(read(`${this.#guest}/memory.current`).trim());
    return {
      usage,
      // The brake slows who passes it and does not stop him.
      distressed: usage > this.#goal && usage - this.#goal > this.#goal / 32n,
      stallUsec: parseStall(readOr(`${this.#guest}/memory.pressure`, '')),
    };
  }

  undo(): Undo[] {
    const file = `${this.#guest}/memory.high`;
    return [{ path: file, value: read(file).trim() }];
  }

  undoUnitLimit(): Undo {
    return { path: `${this.#unit}/memory.max`, value: 'MemoryMax' };
  }

  async begin(): Promise<void> {
    // Reclaim on request never kills.
  }

  async reclaim(goal: bigint, step: bigint, hold: boolean): Promise<Reclaimed> {
    const { usage } = this.probe();
    const excess = usage - goal;
    if (excess <= 0n) return 'some';
    if (hold) {
      const next = wholePages(excess < step ? goal : usage - step);
      await write(`${this.#guest}/memory.high`, next.toString());
      return 'some';
    }
    try {
      await write(`${this.#guest}/memory.reclaim`, (excess < step ? excess : step).toString());
      return 'some';
    } catch (error) {
      // EAGAIN: less than was asked for, maybe nothing.
      if (codeOf(error) === 'EAGAIN') return 'nothing';
      throw error;
    }
  }

  async brake(goal: bigint): Promise<void> {
    this.#goal = goal;
    await write(`${this.#guest}/memory.high`, wholePages(goal).toString());
  }

  async seal(limit: bigint, note: (changes: readonly Undo[]) => void): Promise<boolean> {
    // The unit's own, so that a freeze of the guest by lxc-freeze(1) is neither used nor lost.
    const file = `${this.#unit}/cgroup.freeze`;
    const before = read(file).trim();
    note([{ path: file, value: before }, this.undoUnitLimit()]);
    await write(file, '1');
    try {
      const end = Date.now() + freezeTimeoutMs;
      // A process in the middle of a disk access freezes later; the brake holds it meanwhile.
      while (!/^frozen 1$/m.test(read(`${this.#unit}/cgroup.events`)) && Date.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      if (this.unitUsage() > limit) return false;
      // Not by way of systemd: its answer may take longer than a guest should stand still.
      await this.setUnitLimit(limit);
      return true;
    } finally {
      await write(file, before);
    }
  }

  setUnitLimit(limit: bigint): Promise<void> {
    return write(`${this.#unit}/memory.max`, limitV2(limit));
  }

  async setUnitSwapLimit(limit: bigint): Promise<void> {
    if (this.swapLimit() === undefined) return;
    await write(`${this.#unit}/memory.swap.max`, limitV2(limit));
  }

  swapLimit(): bigint | undefined {
    const limit = readOr(`${this.#unit}/memory.swap.max`, '');
    return limit === '' ? undefined : parseKernelLimit(limit);
  }

  swapUsed(): bigint {
    return BigInt(readOr(`${this.#unit}/memory.swap.current`, '0').trim());
  }

  async setSum(): Promise<void> {
    // MemorySwapMax= does it.
  }

  clearGuestLimit(): Promise<void> {
    return write(`${this.#guest}/memory.max`, 'max');
  }
}

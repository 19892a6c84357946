import type { KeyedLine } from '../model/lxc-config.ts';
import type { MemorySize } from '../model/memory-size.ts';
import { parseMemorySize } from '../model/memory-size.ts';
import { unlimited } from '../model/memory-limit.ts';
import type { SetLimit } from '../host/set-limits.ts';
import type { Located, Problem } from '../model/problem.ts';
import { printable } from '../model/unit-syntax.ts';

/** Limits of a unit by systemd's names; see systemd.resource-control(5). */
type LimitName = 'MemoryMin' | 'MemoryLow' | 'MemoryHigh' | 'MemoryMax' | 'MemorySwapMax';

export interface Limit {
  readonly name: LimitName;
  readonly size: MemorySize;
}

interface HeldLimit extends Limit {
  /** The unit file that says less; undefined where the configuration does. */
  readonly lowered: SetLimit | undefined;
}

/** Which drop-in has the limits of the configuration. */
const ownDropIn = '40-limits.conf';

/** The memory limits of a container, taken over from LXC by its unit. */
export interface MemoryLimits {
  readonly limits: readonly Limit[];
  /** Higher limits that a running container keeps until it stops. */
  readonly held: readonly HeldLimit[];
  /** The keys that LXC must not apply as well: a second limit would hide the unit's. */
  readonly taken: readonly string[];
  readonly warnings: readonly Problem[];
}

const unified = 'lxc.cgroup2.memory.';
const legacy = 'lxc.cgroup.memory.';

interface Source {
  readonly key: string;
  readonly unlimitedWord: 'max' | '-1';
  /** systemd refuses a limit of nothing. */
  readonly zero?: true;
  /** Beside the unit's, because systemd has no such limit on cgroup v1. */
  readonly shared?: true;
  /** Whoever has no such limit is not protected, and not protected from everything. */
  readonly unlimitedIsNone?: true;
}

/** Where each limit comes from, the best source first. */
const sources: readonly { readonly name: LimitName; readonly keys: readonly Source[] }[] = [
  { name: 'MemoryMin', keys: [{ key: `${unified}min`, unlimitedWord: 'max', zero: true }] },
  {
    name: 'MemoryLow',
    keys: [
      { key: `${unified}low`, unlimitedWord: 'max', zero: true },
      // memory.low is what the kernel has in its place.
      {
        key: `${legacy}soft_limit_in_bytes`,
        unlimitedWord: '-1',
        zero: true,
        shared: true,
        unlimitedIsNone: true,
      },
    ],
  },
  { name: 'MemoryHigh', keys: [{ key: `${unified}high`, unlimitedWord: 'max' }] },
  {
    name: 'MemoryMax',
    keys: [
      { key: `${unified}max`, unlimitedWord: 'max' },
      { key: `${legacy}limit_in_bytes`, unlimitedWord: '-1' },
    ],
  },
];

const swapKey = `${unified}swap.max`;
const bothKey = `${legacy}memsw.limit_in_bytes`;

interface Value {
  readonly size: MemorySize;
  readonly located: Located<string>;
}

export interface MemoryFacts {
  readonly entries: readonly KeyedLine[];
  /** The ceiling of an automatic balloon, which has no other limit than MemoryMax=. */
  readonly ceiling?: bigint | undefined;
  /** The limits with which the container runs, by their names, in bytes; 2^64-1 for none. */
  readonly running: Readonly<Record<string, bigint>>;
  /** What other unit files set, in systemd's order. */
  readonly setElsewhere: readonly SetLimit[];
}

/** Decides the limits of a container's unit; pure. */
export function decideMemory({ entries, ceiling, ...now }: MemoryFacts): MemoryLimits {
  if (entries.length === 0 && ceiling === undefined && now.setElsewhere.length === 0)
    return noLimits;
  const decision = new Decision(entries);
  for (const { name, keys } of sources) decision.take(name, keys);
  decision.takeSwap();
  if (ceiling !== undefined) decision.cap(ceiling);
  decision.hold(now);
  return decision;
}

/** Of most containers. */
const noLimits: MemoryLimits = { limits: [], held: [], taken: [], warnings: [] };

class Decision implements MemoryLimits {
  readonly limits: { name: LimitName; size: MemorySize }[] = [];
  readonly held: HeldLimit[] = [];
  readonly taken: string[] = [];
  readonly warnings: Problem[] = [];
  readonly #entries: readonly KeyedLine[];

  constructor(entries: readonly KeyedLine[]) {
    this.#entries = entries;
  }

  /** LXC writes all of them, so the last one holds. */
  #last(key: string): Located<string> | undefined {
    return this.#entries.filter((entry) => entry.key === key).at(-1)?.located;
  }

  #read({ key, unlimitedWord, zero, unlimitedIsNone }: Source): Value | undefined {
    const located = this.#last(key);
    if (located === undefined) return undefined;
    const size = parseMemorySize(located.value, unlimitedWord);
    if (size === undefined) {
      const reason = `${key}: the kernel does not take "${printable(located.value.slice(0, 80))}"`;
      this.#warn(located, reason, `write a number of bytes such as 512M, or ${unlimitedWord}`);
      return undefined;
    }
    if (size === 0n && zero !== true) {
      this.#warn(located, `${key}: no container can run in less than a page`, 'write more');
      return undefined;
    }
    return { size: size === 'unlimited' && unlimitedIsNone === true ? 0n : size, located };
  }

  #warn({ file, line }: Located<string>, reason: string, remedy: string): void {
    this.warnings.push({ file, line, reason, remedy });
  }

  take(name: LimitName, keys: readonly Source[]): void {
    let first: { readonly key: string; readonly value: Value } | undefined;
    for (const source of keys) {
      const value = this.#read(source);
      if (value === undefined) continue;
      if (source.shared !== true) this.taken.push(source.key);
      if (first === undefined) {
        first = { key: source.key, value };
        this.limits.push({ name, size: value.size });
      } else if (first.value.size !== value.size) {
        const reason = `${source.key} has no effect, because ${first.key} says something else`;
        this.#warn(value.located, reason, 'remove one of the two lines');
      }
    }
  }

  cap(ceiling: bigint): void {
    const limit = this.limits.find(({ name }) => name === 'MemoryMax');
    if (limit === undefined) this.limits.push({ name: 'MemoryMax', size: ceiling });
    else if (limit.size === 'unlimited' || limit.size > ceiling) limit.size = ceiling;
    const high = this.#last(`${unified}high`);
    if (high === undefined) return;
    const reason = `${unified}high has no effect while "autoballoon" moves this limit`;
    this.#warn(high, reason, 'remove the line, or set autoballoon = no');
  }

  /**
   * A reload must not take memory from a guest that uses it: the kernel would kill. Whoever wants that
   * has commands which work at once.
   */
  hold({ running, setElsewhere }: Pick<MemoryFacts, 'running' | 'setElsewhere'>): void {
    for (const name of ['MemoryHigh', 'MemoryMax', 'MemorySwapMax'] as const) {
      const now = running[name];
      const own = this.limits.find((limit) => limit.name === name);
      const lowered = setElsewhere.filter(({ limit }) => limit === name).at(-1);
      const isLast = lowered !== undefined && (own === undefined || lowered.dropIn >= ownDropIn);
      const size = isLast ? lowered.size : own?.size;
      if (now === undefined || size === undefined || size === 'unlimited' || size >= now) continue;
      this.held.push({
        name,
        size: now === unlimited ? 'unlimited' : now,
        lowered: isLast ? lowered : undefined,
      });
    }
  }

  /** cgroup v1 limits the sum of memory and swap, v2 and systemd swap alone. */
  takeSwap(): void {
    const swap = this.#read({ key: swapKey, unlimitedWord: 'max', zero: true });
    const both = this.#read({ key: bothKey, unlimitedWord: '-1' });
    if (swap !== undefined) {
      this.taken.push(swapKey);
      this.limits.push({ name: 'MemorySwapMax', size: swap.size });
    }
    if (both === undefined) return;
    const memory = this.limits.find(({ name }) => name === 'MemoryMax')?.size;
    if (both.size !== 'unlimited' && (memory === undefined || memory === 'unlimited')) {
      const reason = `${bothKey} means nothing without ${legacy}limit_in_bytes`;
      this.#warn(both.located, reason, 'limit memory as well');
      return;
    }
    this.taken.push(bothKey);
    if (swap !== undefined) return;
    if (both.size === 'unlimited' || memory === undefined || memory === 'unlimited') {
      this.limits.push({ name: 'MemorySwapMax', size: 'unlimited' });
    } else if (both.size < memory) {
      this.#warn(both.located, `${bothKey} is less than the memory limit alone`, 'write more');
    } else {
      this.limits.push({ name: 'MemorySwapMax', size: both.size - memory });
    }
  }
}

/** Judges how a guest reacts to less memory; pure. */
import type { Probe } from '../cgroup/guest-memory.ts';

/** Why a trial ended early. */
export type Trouble = 'out-of-memory' | 'pinned' | 'stalled' | 'growing';

/** A guest that is stalled on memory for most of this window is of no use any more. */
const stallWindowMs = 2000;
const stallShareMax = 0.75;

interface Moment {
  readonly ms: number;
  readonly stallUsec: number;
}

/** Judges a guest under trial, probe by probe. */
export class Watch {
  #moments: Moment[] = [];

  judge(nowMs: number, probe: Probe): Trouble | undefined {
    if (probe.distressed) return 'out-of-memory';
    return probe.stallUsec !== undefined && this.#isStalled(nowMs, probe.stallUsec)
      ? 'stalled'
      : undefined;
  }

  #isStalled(ms: number, stallUsec: number): boolean {
    // Keep one moment older than the window, so that the window is always covered.
    while ((this.#moments[1]?.ms ?? Infinity) <= ms - stallWindowMs) this.#moments.shift();
    this.#moments.push({ ms, stallUsec });
    const [first] = this.#moments;
    if (first === undefined || ms - first.ms < stallWindowMs) return false;
    return (stallUsec - first.stallUsec) / 1000 > (ms - first.ms) * stallShareMax;
  }
}

/** A guest that would pass its new limit within this time is still growing. */
const horizonMs = 30_000;

/** The minimum, the maximum and the mean of some amounts. */
function extremes(amounts: readonly bigint[]): readonly [bigint, bigint, bigint] {
  return [
    amounts.reduce((a, b) => (a < b ? a : b)),
    amounts.reduce((a, b) => (a > b ? a : b)),
    amounts.reduce((a, b) => a + b) / BigInt(amounts.length),
  ];
}

/**
 * How fast a guest's memory grows. Compares the two halves of the time: the growth is the smallest of
 * the growths of minimum, maximum and mean, so that a guest that only fluctuates has no trend.
 */
export class Trend {
  readonly #points: { readonly ms: number; readonly pinned: bigint }[] = [];

  add(ms: number, pinned: bigint): void {
    this.#points.push({ ms, pinned });
  }

  /** Bytes that the guest will hold at the end of the horizon if it grows on at this rate. */
  get expected(): bigint {
    const [first] = this.#points;
    const last = this.#points.at(-1);
    if (first === undefined || last === undefined || last.ms === first.ms) return 0n;
    const middle = (first.ms + last.ms) / 2;
    const half = (isIn: (ms: number) => boolean): bigint[] =>
      this.#points.filter(({ ms }) => isIn(ms)).map(({ pinned }) => pinned);
    const before = extremes(half((ms) => ms <= middle));
    const after = extremes(half((ms) => ms >= middle));
    const [growth] = extremes(after.map((amount, index) => amount - (before[index] ?? 0n)));
    const most = before[1] > after[1] ? before[1] : after[1];
    if (growth <= 0n) return most;
    return most + BigInt(Math.round(Number(growth) * (horizonMs / ((last.ms - first.ms) / 2))));
  }
}

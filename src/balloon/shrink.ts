import { setTimeout as sleep } from 'node:timers/promises';
import { LockerdError } from '../model/errors.ts';
import type { GuestMemory } from '../cgroup/guest-memory.ts';
import { formatLimit, lowestLimit, marginOf, mebibyte } from '../model/memory-limit.ts';
import type { Trouble } from './trial.ts';
import { Trend, Watch } from './trial.ts';

/** Words for the job's phase. */
export type Phase = 'checking' | 'reclaiming' | 'watching' | 'setting';

export interface ShrinkRequest {
  readonly container: string;
  /** Bytes that the unit's group shall be limited to. */
  readonly target: bigint;
  /** Bytes of swap that the guest may still take; undefined for as much as the host has. */
  readonly swapLeft: bigint | undefined;
  readonly signal: AbortSignal;
  readonly report: (phase: Phase, fraction: number) => void;
}

/** Why a shrink cannot be, and the lowest limit in bytes that could. */
export class ShrinkRefused extends Error {
  override readonly name = 'ShrinkRefused';
  readonly lowest: bigint;

  constructor(reason: string, lowest: bigint) {
    super(reason);
    this.lowest = lowest;
  }
}

/** Larger steps would keep the kernel busy, and so the guest, for too long at a time. */
const stepBytes = 32n * mebibyte;
const pollMs = 10;
/** memory.stat costs the kernel much more than the other figures. */
const heldEveryMs = 100;
/** Long enough for what guests do every few seconds. */
const watchMs = 5000;
/** How long reclaim may get nowhere; dirty pages need the disk. */
const stuckMs = 1500;
const reclaimDeadlineMs = 120_000;
/** After a refusal a guest that was held back shows what it really wants. */
const lookBackMs = 500;

const reasons: Readonly<Record<Trouble, string>> = {
  'out-of-memory': 'it needs more',
  pinned: 'it needs more',
  growing: 'it keeps growing',
  stalled: 'it would stand still for want of memory',
};

/** One shrink of a running guest; everything that it changes is in GuestMemory.undo(). */
export class Shrink {
  readonly #memory: GuestMemory;
  readonly #request: ShrinkRequest;
  /** What the guest's own group may hold during the trial. */
  readonly #goal: bigint;
  /** Held by the unit outside the guest: LXC's monitor. */
  readonly #beside: bigint;
  /** Held by the guest at first. */
  readonly #start: bigint;
  readonly #watch = new Watch();

  constructor(memory: GuestMemory, request: ShrinkRequest) {
    this.#memory = memory;
    this.#request = request;
    this.#start = memory.probe().usage;
    const beside = memory.unitUsage() - this.#start;
    this.#beside = beside > mebibyte ? beside : mebibyte;
    this.#goal = request.target - marginOf(request.target) - this.#beside;
  }

  /** The guest has never held even half of what it would get. */
  get isHarmless(): boolean {
    const peak = this.#memory.guestPeak();
    return peak !== undefined && peak * 2n <= this.#goal;
  }

  #refuse(reason: string, held: bigint): ShrinkRefused {
    return new ShrinkRefused(reason, lowestLimit(held + this.#beside + mebibyte));
  }

  /** Refuses what no reclaim can reach, before anything is touched. */
  check(): void {
    this.#request.report('checking', 0);
    const { pinned, maybe } = this.#memory.held(this.#request.swapLeft);
    if (pinned > this.#goal) {
      const reason = `${formatLimit(pinned)} of its memory cannot be taken back`;
      throw this.#refuse(reason, pinned + maybe);
    }
  }

  #interrupted(): void {
    if (this.#request.signal.aborted) {
      throw new LockerdError(
        'Cancelled',
        `changing the memory of container "${this.#request.container}" was cancelled`,
      );
    }
  }

  /** Takes memory back in steps until the guest is at the goal, then lets it live there a while. */
  async try(): Promise<void> {
    await this.#reclaim();
    await this.#memory.brake(this.#goal);
    await this.#live();
  }

  async #reclaim(): Promise<void> {
    const start = this.#memory.probe().usage;
    const begun = Date.now();
    let lowest = start;
    let progressAt = begun;
    let tookSome = false;
    let hold = false;
    for (;;) {
      this.#interrupted();
      const probe = this.#memory.probe();
      if (probe.usage <= this.#goal) return;
      const trouble = this.#judge(Date.now());
      if (trouble !== undefined) throw await this.#troubled(trouble);
      if (probe.usage < lowest) {
        // A page or two is no progress.
        if (lowest - probe.usage >= mebibyte / 4n) {
          progressAt = Date.now();
          tookSome = false;
        }
        lowest = probe.usage;
      }
      const now = Date.now();
      if (now - progressAt > stuckMs && tookSome && !hold) {
        // A guest that reads files takes again as fast as it is taken from.
        hold = true;
        progressAt = now;
      }
      if (now - progressAt > stuckMs || now - begun > reclaimDeadlineMs) {
        throw this.#refuse(
          `no more than ${formatLimit(start > lowest ? start - lowest : 0n)} of its memory could be taken back`,
          probe.usage,
        );
      }
      const done = start - probe.usage;
      const all = start - this.#goal;
      this.#request.report('reclaiming', done > 0n ? Number((done * 100n) / all) / 100 : 0);
      const reclaimed = await this.#memory.reclaim(this.#goal, stepBytes, hold);
      if (reclaimed === 'nothing') await sleep(pollMs);
      else tookSome = true;
    }
  }

  async #live(): Promise<void> {
    const begun = Date.now();
    const trend = new Trend();
    let heldAt = 0;
    for (;;) {
      this.#interrupted();
      const now = Date.now();
      const spent = now - begun;
      this.#request.report('watching', Math.min(1, spent / watchMs));
      let trouble = this.#judge(now);
      if (now - heldAt >= heldEveryMs) {
        heldAt = now;
        const { pinned } = this.#memory.held(this.#request.swapLeft);
        trend.add(now, pinned);
        if (pinned > this.#goal) trouble ??= 'pinned';
      }
      if (spent >= watchMs && trend.expected > this.#goal) trouble ??= 'growing';
      if (trouble !== undefined) {
        throw await this.#troubled(trouble, trouble === 'growing' ? trend.expected : 0n);
      }
      if (spent >= watchMs) return;
      await sleep(pollMs);
    }
  }

  /** Lets the guest go and looks what it takes. */
  async #troubled(trouble: Trouble, expected = 0n): Promise<ShrinkRefused> {
    await this.release();
    if (trouble === 'out-of-memory') this.heldUpMs += Date.now() - this.#calmAt;
    const end = Date.now() + lookBackMs;
    // What it held before is known to be enough.
    const enough = trouble === 'stalled' ? this.#start : expected;
    let most = enough > this.#goal ? enough : this.#goal;
    do {
      const { pinned, maybe } = this.#memory.held(this.#request.swapLeft);
      if (pinned + maybe > most) most = pinned + maybe;
      await sleep(pollMs);
    } while (Date.now() < end);
    return this.#refuse(reasons[trouble], most);
  }

  /** For a guest that was fine until the moment when the limit was to be set. */
  outgrown(): Promise<ShrinkRefused> {
    return this.#troubled('pinned');
  }

  /** The last moment at which no process of the guest was out of memory. */
  #calmAt = Date.now();

  #judge(now: number): Trouble | undefined {
    const trouble = this.#watch.judge(now, this.#memory.probe());
    if (trouble !== 'out-of-memory') this.#calmAt = now;
    return trouble;
  }

  /** How long processes waited for memory that was not there, which no pressure file counts. */
  heldUpMs = 0;

  /** Set by who keeps the undo list. */
  release: () => Promise<void> = () => Promise.resolve();
}

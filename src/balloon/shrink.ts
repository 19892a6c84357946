/**
 * One shrink of a running guest. check() refuses what cannot work, try() reclaims memory in steps down to
 * the goal and then lets the guest live there for a while, and a trial that goes wrong ends in a refusal
 * that names the lowest limit that would have worked. balloon.ts sets the limit and undoes the trial.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { LockerdError } from '../model/errors.ts';
import type { GuestMemory } from '../cgroup/guest-memory.ts';
import { formatLimit, marginOf, mebibyte } from '../model/memory-limit.ts';
import { besideOf, lowestFor } from './lowest.ts';
import type { Trouble } from './trial.ts';
import { Trend, Watch } from './trial.ts';

/** The phases of a shrink, as its job reports them. */
export type Phase = 'checking' | 'reclaiming' | 'watching' | 'setting';

export interface ShrinkRequest {
  readonly container: string;
  /** The new limit of the unit's group, in bytes. */
  readonly target: bigint;
  /** Bytes of swap that the guest may still use; undefined for as much as the host has. */
  readonly swapLeft: bigint | undefined;
  readonly signal: AbortSignal;
  readonly report: (phase: Phase, fraction: number) => void;
}

/** The reason why a shrink cannot work, and the lowest limit in bytes that would. */
export class ShrinkRefused extends Error {
  override readonly name = 'ShrinkRefused';
  readonly lowest: bigint;

  constructor(reason: string, lowest: bigint) {
    super(reason);
    this.lowest = lowest;
  }
}

/** Larger steps would keep the kernel, and so the guest, busy for too long at a time. */
const stepBytes = 32n * mebibyte;
const pollMs = 10;
/** How often memory.stat is read, which costs the kernel much more than the other figures. */
const heldEveryMs = 100;
/** Long enough to see work that guests do every few seconds. */
const watchMs = 5000;
/** How long reclaim may make no progress, because dirty pages must be written to disk first. */
const stuckMs = 1500;
const reclaimDeadlineMs = 120_000;
/** How long to watch after a refusal: a guest that was held back now shows what it needs. */
const lookBackMs = 500;

const reasons: Readonly<Record<Trouble, string>> = {
  'out-of-memory': 'it needs more',
  pinned: 'it needs more',
  growing: 'it keeps growing',
  stalled: 'it would stand still for want of memory',
};

/** One shrink of a running guest; GuestMemory.undo() lists everything that it changes. */
export class Shrink {
  readonly #memory: GuestMemory;
  readonly #request: ShrinkRequest;
  /** Bytes that the guest's own group may hold during the trial. */
  readonly #goal: bigint;
  /** Bytes that the unit holds outside the guest, for LXC's monitor. */
  readonly #beside: bigint;
  /** Bytes that the guest held at the start. */
  readonly #start: bigint;
  readonly #watch = new Watch();

  constructor(memory: GuestMemory, request: ShrinkRequest) {
    this.#memory = memory;
    this.#request = request;
    this.#start = memory.probe().usage;
    this.#beside = besideOf(memory);
    this.#goal = request.target - marginOf(request.target) - this.#beside;
  }

  /** Whether the guest has never held more than half of what it would get. */
  get isHarmless(): boolean {
    const peak = this.#memory.guestPeak();
    return peak !== undefined && peak * 2n <= this.#goal;
  }

  #refuse(reason: string, held: bigint): ShrinkRefused {
    return new ShrinkRefused(reason, lowestFor(held, this.#beside));
  }

  /** Throws ShrinkRefused if no reclaim can reach the goal, before anything is changed. */
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

  /**
   * Reclaims memory in steps until the guest is at the goal, then lets it live there for a while.
   * Throws ShrinkRefused, or LockerdError Cancelled.
   */
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
        // A page or two does not count as progress.
        if (lowest - probe.usage >= mebibyte / 4n) {
          progressAt = Date.now();
          tookSome = false;
        }
        lowest = probe.usage;
      }
      const now = Date.now();
      if (now - progressAt > stuckMs && tookSome && !hold) {
        // A guest that reads files refills its cache as fast as the kernel reclaims it.
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

  /** Releases the guest and measures what it needs, for the refusal. */
  async #troubled(trouble: Trouble, expected = 0n): Promise<ShrinkRefused> {
    await this.release();
    if (trouble === 'out-of-memory') this.heldUpMs += Date.now() - this.#calmAt;
    const end = Date.now() + lookBackMs;
    // What the guest held at the start is known to be enough.
    const enough = trouble === 'stalled' ? this.#start : expected;
    let most = enough > this.#goal ? enough : this.#goal;
    do {
      const { pinned, maybe } = this.#memory.held(this.#request.swapLeft);
      if (pinned + maybe > most) most = pinned + maybe;
      await sleep(pollMs);
    } while (Date.now() < end);
    return this.#refuse(reasons[trouble], most);
  }

  /** The refusal for a guest that outgrew the limit only when it was about to be set. */
  outgrown(): Promise<ShrinkRefused> {
    return this.#troubled('pinned');
  }

  /** The last time when no process of the guest was out of memory. */
  #calmAt = Date.now();

  #judge(now: number): Trouble | undefined {
    const trouble = this.#watch.judge(now, this.#memory.probe());
    if (trouble !== 'out-of-memory') this.#calmAt = now;
    return trouble;
  }

  /** How long processes waited while out of memory, which no pressure file counts. */
  heldUpMs = 0;

  /** Undoes the trial; set by the owner of the undo record. */
  release: () => Promise<void> = () => Promise.resolve();
}

/**
 * How much one user, or everybody together, may have at a time: pace of calls, authorizations,
 * password prompts, jobs and waits. The bus layer's own quota, of calls without an answer, is
 * another one.
 */

import type { Clock } from './clock.ts';
import { LockerdError } from '../model/errors.ts';
import { Listeners } from './listeners.ts';

/** What Manager.Limits shows: how much one uid, or everybody together, may have at a time. */
export const defaultLimits = {
  /**
   * Sustained rate of calls of one uid; a burst may have `calls-burst` of them. Long calls and
   * long answers count as several.
   */
  'calls-per-second': 100,
  'calls-burst': 500,
  /** Calls that wait for polkit, with or without somebody being asked. */
  'pending-authorizations-per-uid': 64,
  /** Among them those where somebody is asked for a password. */
  'prompts-per-uid': 8,
  prompts: 32,
  /** Jobs that have not ended. */
  'jobs-per-uid': 64,
  jobs: 512,
  /** Calls that wait for the end of a job. */
  'waits-per-uid': 128,
  /** How long a job can be looked at after its end. */
  'finished-job-seconds': 60,
  /** Uid 0 may have this many times what one uid may have. */
  'root-factor': 8,
} as const;
export type Limits = Readonly<Record<keyof typeof defaultLimits, number>>;
export type UidLimit =
  'pending-authorizations-per-uid' | 'prompts-per-uid' | 'jobs-per-uid' | 'waits-per-uid';

const uidLimitWords: Record<UidLimit, string> = {
  'pending-authorizations-per-uid': 'calls that wait for authorization',
  'prompts-per-uid': 'open password prompts',
  'jobs-per-uid': 'unfinished jobs',
  'waits-per-uid': 'calls that wait for jobs',
};

interface Bucket {
  tokens: number;
  filledMs: number;
}

/** Counts what each uid has and does, and refuses what goes beyond the limits. */
export class UserQuota {
  readonly limits: Limits;
  readonly #clock: Clock;
  readonly #counts = new Map<string, number>();
  /** Somebody has something less under way. */
  readonly freed = new Listeners<[]>();
  readonly #buckets = new Map<number, Bucket>();

  constructor(clock: Clock, limits: Limits = defaultLimits) {
    this.#clock = clock;
    this.limits = limits;
  }

  /**
   * Takes a call that costs so much from the uid's token bucket; LockerdError LimitsExceeded when the
   * bucket is empty. A call that costs more than is left is let in and leaves a debt: else none of
   * a large host's answers could ever be had.
   */
  takeCall(uid: number, cost = 1): void {
    const bucket = this.#bucket(uid);
    if (bucket.tokens < 1) {
      const rate = this.limits['calls-per-second'] * this.#factor(uid);
      throw new LockerdError(
        'LimitsExceeded',
        `uid ${uid} makes more than ${rate} calls a second, or too large ones; slow down`,
      );
    }
    bucket.tokens -= cost;
  }

  /** Takes what a call has cost beyond what was taken before it, or gives back. */
  settleCall(uid: number, difference: number): void {
    if (difference !== 0) this.#bucket(uid).tokens -= difference;
  }

  #bucket(uid: number): Bucket {
    const factor = this.#factor(uid);
    const rate = this.limits['calls-per-second'] * factor;
    const size = this.limits['calls-burst'] * factor;
    const now = this.#clock.nowMs();
    let bucket = this.#buckets.get(uid);
    if (bucket === undefined) {
      if (this.#buckets.size >= 1000) this.#forgetFullBuckets(now);
      bucket = { tokens: size, filledMs: now };
      this.#buckets.set(uid, bucket);
    }
    bucket.tokens = Math.min(size, bucket.tokens + ((now - bucket.filledMs) / 1000) * rate);
    bucket.filledMs = now;
    return bucket;
  }

  /** An entry that would be full again says no more than no entry. */
  #forgetFullBuckets(now: number): void {
    const { 'calls-burst': size, 'calls-per-second': rate } = this.limits;
    for (const [uid, { tokens, filledMs }] of this.#buckets) {
      const missing = size * this.#factor(uid) - tokens;
      if (((now - filledMs) / 1000) * rate * this.#factor(uid) >= missing) {
        this.#buckets.delete(uid);
      }
    }
  }

  /** Nobody has an authorization, a prompt, a job or a wait under way. */
  get isUnused(): boolean {
    return this.#counts.size === 0;
  }

  /** LockerdError LimitsExceeded when the uid has as many of these as it may have. */
  check(limit: UidLimit, uid: number): void {
    if (this.#count(`${limit} ${uid}`) < this.limits[limit] * this.#factor(uid)) return;
    throw new LockerdError(
      'LimitsExceeded',
      `uid ${uid} has too many ${uidLimitWords[limit]}; wait until some have ended`,
    );
  }

  /** Like {@link check}, and counts one more until the returned function is called. */
  enter(limit: UidLimit, uid: number): () => void {
    this.check(limit, uid);
    return this.#add(`${limit} ${uid}`);
  }

  /** Counts one more prompt of this uid and of all uids. */
  enterPrompt(uid: number): () => void {
    if (this.#count('prompts') >= this.limits.prompts) {
      throw new LockerdError(
        'LimitsExceeded',
        'too many password prompts are open; try again later',
      );
    }
    const leaveUid = this.enter('prompts-per-uid', uid);
    const leaveAll = this.#add('prompts');
    return () => {
      leaveUid();
      leaveAll();
    };
  }

  #factor(uid: number): number {
    return uid === 0 ? this.limits['root-factor'] : 1;
  }

  #count(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  #add(key: string): () => void {
    this.#counts.set(key, this.#count(key) + 1);
    let entered = true;
    return () => {
      if (!entered) return;
      entered = false;
      const left = this.#count(key) - 1;
      if (left > 0) this.#counts.set(key, left);
      else this.#counts.delete(key);
      this.freed.emit();
    };
  }
}

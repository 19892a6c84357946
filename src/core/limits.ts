import type { Clock } from './clock.ts';
import { CoreError } from '../model/errors.ts';

/** What Manager.Limits shows: how much one uid, or everybody together, may have at a time. */
export const defaultLimits = {
  /** Sustained rate of calls of one uid; a burst may have `calls-burst` of them. */
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
export class Admission {
  readonly limits: Limits;
  readonly #clock: Clock;
  readonly #counts = new Map<string, number>();
  readonly #buckets = new Map<number, Bucket>();

  constructor(clock: Clock, limits: Limits = defaultLimits) {
    this.#clock = clock;
    this.limits = limits;
  }

  /** Takes one call from the uid's token bucket; CoreError limitsExceeded when it is empty. */
  call(uid: number): void {
    const factor = this.#factor(uid);
    const rate = this.limits['calls-per-second'] * factor;
    const size = this.limits['calls-burst'] * factor;
    const now = this.#clock.nowMs();
    const bucket = this.#buckets.get(uid) ?? { tokens: size, filledMs: now };
    bucket.tokens = Math.min(size, bucket.tokens + ((now - bucket.filledMs) / 1000) * rate);
    bucket.filledMs = now;
    this.#buckets.set(uid, bucket);
    if (this.#buckets.size > 1000) this.#forgetFullBuckets(now);
    if (bucket.tokens < 1) {
      throw new CoreError(
        'limitsExceeded',
        `uid ${uid} makes more than ${rate} calls a second; slow down`,
      );
    }
    bucket.tokens -= 1;
  }

  /** An entry that would be full again says no more than no entry. */
  #forgetFullBuckets(now: number): void {
    const fullAfterMs = (this.limits['calls-burst'] / this.limits['calls-per-second']) * 1000;
    for (const [uid, { filledMs }] of this.#buckets) {
      if (now - filledMs >= fullAfterMs) this.#buckets.delete(uid);
    }
  }

  /** CoreError limitsExceeded when the uid has as many of these as it may have. */
  check(limit: UidLimit, uid: number): void {
    if (this.#count(`${limit} ${uid}`) < this.limits[limit] * this.#factor(uid)) return;
    throw new CoreError(
      'limitsExceeded',
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
      throw new CoreError('limitsExceeded', 'too many password prompts are open; try again later');
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
    };
  }
}

/** Lets a number of things be done at a time; others wait for their turn. */
export class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(atATime: number) {
    this.#free = atATime;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

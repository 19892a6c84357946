import { DBusError } from '../bus/values.ts';
import { LockerdError } from '../model/errors.ts';
import { isDown, type Properties } from './properties.ts';

/**
 * Waits for systemd's jobs. A job is an object in systemd's queue; systemd replies with its path and
 * announces its end with JobRemoved. That signal can be missed: it may come before the reply that
 * names the job, and it is not sent while systemd re-executes itself. So early ends are kept, and if
 * the signal was missed, the state of the unit decides how the job ended.
 */

/** How a job ended, in systemd's words; see org.freedesktop.systemd1(5), JobRemoved. */
export type JobResult =
  | 'done'
  | 'canceled'
  | 'timeout'
  | 'failed'
  | 'dependency'
  | 'skipped'
  /** The job has ended, but the unit's state does not show that it succeeded. */
  | 'lost'
  | (string & {});

export type JobVerb = 'start' | 'stop' | 'restart';

/** How a program waits for its jobs. */
export interface JobPolicy {
  /** How often to check whether a job still exists, in milliseconds. */
  readonly lookMs: number;
  /**
   * What happens when the signal of a wait aborts. `cancel` cancels the job and still waits for its end.
   * `abandon` leaves the job to systemd and throws LockerdError Cancelled; such a wait also ends with an
   * Error when the bus connection is lost.
   */
  readonly onAbort: 'cancel' | 'abandon';
}

export interface JobOptions {
  readonly signal?: AbortSignal | undefined;
  /** In milliseconds. After it the wait throws LockerdError TimedOut and the job continues. Default: none. */
  readonly timeoutMs?: number;
  /** StateChangeTimestamp of the unit before a restart, in microseconds, if known. */
  readonly changedUsec?: bigint | undefined;
}

/** The calls to systemd that waiting for jobs needs. */
export interface JobCalls {
  call(member: string, signature: string, body: readonly unknown[]): Promise<readonly unknown[]>;
  cancelJob(path: string): Promise<void>;
  get(unit: string, type: 'Unit', names: readonly string[]): Promise<Properties>;
}

interface AwaitedJob {
  readonly path: string;
  readonly verb: JobVerb;
  readonly unit: string;
  readonly options: JobOptions;
  readonly end: (result: JobResult) => void;
  readonly fail: (error: Error) => void;
}

export class Jobs {
  readonly #systemd: JobCalls;
  readonly #policy: JobPolicy;
  /** Two waits may share one job, because systemd merges equal jobs. */
  readonly #awaited = new Set<AwaitedJob>();
  /** Results of jobs that ended before their reply was handled, by path. */
  readonly #endedEarly = new Map<string, JobResult>();
  #requests = 0;
  #lost: Error | undefined;

  constructor(systemd: JobCalls, policy: JobPolicy) {
    this.#systemd = systemd;
    this.#policy = policy;
  }

  /**
   * Creates a job and waits for its end.
   * @param request the call that systemd answers with the job's path
   * @throws what `request` throws, and LockerdErrors as the policy and options say
   */
  async run(
    verb: JobVerb,
    unit: string,
    options: JobOptions,
    request: () => Promise<readonly unknown[]>,
  ): Promise<JobResult> {
    if (this.#policy.onAbort === 'cancel' && isAborted(options.signal)) return 'canceled';
    let end: Promise<JobResult>;
    this.#requests++;
    try {
      const [path] = await request();
      if (typeof path !== 'string') throw new Error(`systemd named no job of ${unit}`);
      end = this.#wait(path, verb, unit, options);
    } finally {
      this.#requests--;
      if (this.#requests === 0) this.#endedEarly.clear();
    }
    return end;
  }

  /** Handles JobRemoved: a job has ended. */
  ended(path: string, result: JobResult): void {
    for (const job of this.#awaited) if (job.path === path) job.end(result);
    if (this.#requests > 0) this.#endedEarly.set(path, result);
  }

  /** Checks all awaited jobs, because the ends of some may have been missed. */
  lookForAll(): void {
    for (const job of this.#awaited) void this.#lookFor(job);
  }

  busLost(error: Error): void {
    this.#lost = error;
    if (this.#policy.onAbort !== 'abandon') return;
    for (const { fail } of this.#awaited) fail(error);
  }

  async #wait(path: string, verb: JobVerb, unit: string, options: JobOptions): Promise<JobResult> {
    const { onAbort, lookMs } = this.#policy;
    const { signal, timeoutMs } = options;
    const { promise, end, fail } = deferred();
    const job = { path, verb, unit, options, end, fail };
    this.#awaited.add(job);
    const abort = (): void => {
      if (onAbort === 'abandon') fail(new LockerdError('Cancelled', 'the caller has left'));
      // A job that has just ended cannot be cancelled; the signal of its end is on the way.
      else this.#systemd.cancelJob(path).catch(() => this.#lookFor(job));
    };
    signal?.addEventListener('abort', abort, { once: true });
    if (isAborted(signal)) abort();
    if (onAbort === 'abandon' && this.#lost !== undefined) fail(this.#lost);
    const early = this.#endedEarly.get(path);
    if (early !== undefined) end(early);
    const looks = setInterval(() => void this.#lookFor(job), lookMs).unref();
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            const text = `systemd did not finish within ${timeoutMs / 1000} s`;
            fail(new LockerdError('TimedOut', text));
          }, timeoutMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      clearInterval(looks);
      signal?.removeEventListener('abort', abort);
      this.#awaited.delete(job);
    }
  }

  /** Asks systemd whether a job still exists. A failed call says nothing; a later check repeats it. */
  async #lookFor(job: AwaitedJob): Promise<void> {
    const id = Number(job.path.slice(job.path.lastIndexOf('/') + 1));
    try {
      await this.#systemd.call('GetJob', 'u', [id]);
    } catch (error) {
      const isGone =
        error instanceof DBusError && error.errorName === 'org.freedesktop.systemd1.NoSuchJob';
      // A JobRemoved for this job would have come before this answer.
      if (isGone && this.#awaited.has(job)) await this.#decide(job).catch(() => undefined);
    }
  }

  /** Ends the wait for a job that no longer exists, unless its unit is still changing. */
  async #decide(job: AwaitedJob): Promise<void> {
    const { verb, unit, options } = job;
    const names = verb === 'restart' ? ['ActiveState', 'StateChangeTimestamp'] : ['ActiveState'];
    const properties = await this.#systemd.get(unit, 'Unit', names);
    const activeState = properties.string('ActiveState');
    const hasEnded = isDown(activeState);
    if (!hasEnded && activeState !== 'active') return;
    switch (verb) {
      case 'start':
        job.end(hasEnded ? 'failed' : 'done');
        break;
      case 'stop':
        job.end(hasEnded ? 'done' : 'lost');
        break;
      case 'restart': {
        // An active unit does not show whether it was restarted; only a newer timestamp does.
        const { changedUsec } = options;
        const hasChanged =
          changedUsec !== undefined && properties.bigint('StateChangeTimestamp') > changedUsec;
        if (hasEnded) job.end('failed');
        else job.end(hasChanged ? 'done' : 'lost');
        break;
      }
    }
  }
}

function deferred(): {
  readonly promise: Promise<JobResult>;
  readonly end: (result: JobResult) => void;
  readonly fail: (error: Error) => void;
} {
  let end: (result: JobResult) => void = () => undefined;
  let fail: (error: Error) => void = () => undefined;
  const promise = new Promise<JobResult>((resolve, reject) => {
    end = resolve;
    fail = reject;
  });
  return { promise, end, fail };
}

/** A function, because TypeScript would assume that a second check, after an await, is still false. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

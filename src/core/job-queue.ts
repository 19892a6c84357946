/**
 * Jobs: one for each operation that changes something, from the authorization until a while after its
 * end. A container has one unfinished job at a time, and so has a locker; a stop may take the place of
 * another job of its container.
 */

import type { Clock } from './clock.ts';
import { LockerdError, type ErrorCode } from '../model/errors.ts';
import type { Limits } from './user-quota.ts';
import { Listeners } from './listeners.ts';

export type Verb =
  | 'start'
  | 'stop'
  | 'reboot'
  | 'freeze'
  | 'thaw'
  | 'balloon'
  | 'set-limits'
  | 'mount-locker'
  | 'unmount-locker'
  | 'set-autostart'
  | 'create-locker'
  | 'grow-locker'
  | 'rename-locker'
  | 'snapshot-locker'
  | 'restore-locker'
  | 'forget-locker'
  | 'adopt-locker';
export type JobState = 'waiting' | 'running' | 'done';
export type JobResult = '' | 'done' | 'failed' | 'cancelled' | 'timeout';

/** Why a job was ended before it was done. */
export type AbortReason = 'cancelled' | 'superseded' | 'timeout' | 'gone';

/** How the work of a job reports its progress, and learns that it has to end. */
export interface JobContext {
  readonly signal: AbortSignal;
  /** Undefined while the job goes on. Work that then returns all the same has been done. */
  readonly abortReason: () => AbortReason | undefined;
  /** Throws when the job was aborted. For work that was not done for that reason. */
  readonly throwIfAborted: () => void;
  /** A short fixed word, and how far the job is, 0 to 1; -1 for unknown. */
  readonly report: (phase: string, progress?: number) => void;
  /** Something that the caller should know although the job succeeds. */
  readonly warn: (text: string) => void;
  /** How long the guest stood still for want of memory, microseconds. */
  readonly stalled: (usec: bigint) => void;
}

export interface JobSpec {
  readonly verb: Verb;
  /** Empty for a job of a locker. */
  readonly container: string;
  /** Empty for verbs without one. */
  readonly locker: string;
  /** What can have no other job meanwhile, by {@link subjectOf}. */
  readonly subjects: readonly string[];
  readonly uid: number;
  /** Milliseconds until the job is given up; undefined for no bound. */
  readonly timeoutMs: number | undefined;
  /** Callers may cancel it also while it runs. */
  readonly isCancelable: boolean;
  /** A job of the same container that ends for this one. */
  readonly supersedes?: Job | undefined;
  readonly run: (context: JobContext) => Promise<void>;
}

/** One mutating operation, from the authorization until a while after its end. */
export interface Job {
  readonly id: number;
  readonly verb: Verb;
  readonly container: string;
  readonly locker: string;
  readonly uid: number;
  /** CLOCK_REALTIME, microseconds. */
  readonly startUsec: bigint;
  readonly state: JobState;
  readonly phase: string;
  readonly progress: number;
  readonly isCancelable: boolean;
  readonly result: JobResult;
  /** Set with the results failed, cancelled and timeout. */
  readonly error: LockerdError | undefined;
  /** What callers should know although it succeeded, a sentence each. */
  readonly warnings: readonly string[];
  /** How long a balloon made the guest stand still, microseconds; undefined where unknown. */
  readonly stallUsec: bigint | undefined;
  /** Settles when the job is done, whatever its result. */
  readonly ended: Promise<void>;
}

interface JobRecord extends Job {
  state: JobState;
  phase: string;
  progress: number;
  isCancelable: boolean;
  result: JobResult;
  error: LockerdError | undefined;
  warnings: readonly string[];
  stallUsec: bigint | undefined;
  spec: JobSpec;
  abort: AbortController;
  abortReason: AbortReason | undefined;
  end: () => void;
  /** Settles when nothing of this job, and of those it superseded, is at work any more. */
  released: Promise<void>;
}

/** How long work may take to come to an end after it was told to. */
const graceMs: Record<AbortReason, number> = {
  cancelled: 60_000,
  timeout: 60_000,
  superseded: 20_000,
  gone: 5_000,
};
/** Longer appointments are none. */
const longestTimerMs = 2 ** 31 - 1;
const maxId = 2 ** 32 - 1;

/** The jobs that there are. */
export class Jobs {
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #jobs = new Map<number, JobRecord>();
  /** The job that each subject is busy with. */
  readonly #current = new Map<string, JobRecord>();
  #lastId = 0;
  readonly added = new Listeners<[Job]>();
  readonly changed = new Listeners<[Job]>();
  readonly ended = new Listeners<[Job]>();
  readonly removed = new Listeners<[Job]>();
  /** An error without a code, for the journal. Its text is not for callers. */
  readonly failedUnexpectedly = new Listeners<[Job, unknown]>();

  constructor(clock: Clock, limits: Limits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get(id: number): Job | undefined {
    return this.#jobs.get(id);
  }

  /** Also those that ended a short time ago. */
  get all(): readonly Job[] {
    return [...this.#jobs.values()];
  }

  get unfinished(): readonly Job[] {
    return this.all.filter(({ state }) => state !== 'done');
  }

  /** The unfinished job of a container that a new one would have to wait for. */
  of(container: string): Job | undefined {
    return this.#current.get(subjectOf('container', container));
  }

  /** The first of several subjects that has an unfinished job, with that job. */
  busy(subjects: readonly string[]): { readonly subject: string; readonly job: Job } | undefined {
    for (const subject of subjects) {
      const job = this.#current.get(subject);
      if (job) return { subject, job };
    }
    return undefined;
  }

  /**
   * Makes a job and starts it, at once or when the one it supersedes has ended. Throws LockerdError
   * JobConflict when a subject is busy with another one, LimitsExceeded when there are too many.
   */
  create(spec: JobSpec): Job {
    const busy = this.busy(spec.subjects);
    if (busy && busy.job !== spec.supersedes) throw busyError(busy);
    const current = busy && this.#jobs.get(busy.job.id);
    if (this.unfinished.length >= this.#limits.jobs) {
      throw new LockerdError(
        'LimitsExceeded',
        'too many jobs are unfinished; wait until some ended',
      );
    }
    const job = this.#record(spec);
    this.#jobs.set(job.id, job);
    for (const subject of spec.subjects) this.#current.set(subject, job);
    this.added.emit(job);
    if (current) this.#abort(current, 'superseded');
    job.released = this.#execute(job, current?.released);
    return job;
  }

  #record(spec: JobSpec): JobRecord {
    do this.#lastId = (this.#lastId % maxId) + 1;
    while (this.#jobs.has(this.#lastId));
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    return {
      id: this.#lastId,
      verb: spec.verb,
      container: spec.container,
      locker: spec.locker,
      uid: spec.uid,
      startUsec: this.#clock.realtimeUsec(),
      state: 'waiting',
      phase: 'waiting',
      warnings: [],
      stallUsec: undefined,
      progress: -1,
      isCancelable: true,
      result: '',
      error: undefined,
      ended,
      spec,
      abort: new AbortController(),
      abortReason: undefined,
      end,
      released: ended,
    };
  }

  async #execute(job: JobRecord, predecessor: Promise<void> | undefined): Promise<void> {
    const { spec } = job;
    const { timeoutMs } = spec;
    const stopTimer =
      timeoutMs !== undefined && timeoutMs <= longestTimerMs
        ? this.#clock.after(timeoutMs, () => {
            this.#abort(job, 'timeout');
          })
        : () => undefined;
    try {
      if (predecessor) await Promise.race([predecessor, whenAborted(job.abort.signal)]);
      if (job.abortReason !== undefined) {
        this.#finish(job, endOf(job));
        // A successor must not meet what this one still waited for.
        await predecessor;
        return;
      }
      job.state = 'running';
      job.isCancelable = spec.isCancelable;
      this.changed.emit(job);
      const work = this.#run(job);
      this.#finish(job, await Promise.race([work, this.#whenGivenUp(job)]));
    } finally {
      stopTimer();
    }
  }

  /** Never rejects. */
  async #run(job: JobRecord): Promise<LockerdError | undefined> {
    try {
      await job.spec.run({
        signal: job.abort.signal,
        abortReason: () => job.abortReason,
        throwIfAborted: () => {
          if (job.abortReason !== undefined) throw endOf(job);
        },
        report: (phase, progress = -1) => {
          if (job.state === 'done') return;
          const isSame = job.phase === phase && job.progress === progress;
          job.phase = phase;
          job.progress = progress;
          if (!isSame) this.changed.emit(job);
        },
        warn: (text) => {
          if (job.state === 'done') return;
          job.warnings = [...job.warnings, text];
          this.changed.emit(job);
        },
        stalled: (usec) => {
          if (job.state === 'done') return;
          job.stallUsec = usec;
          this.changed.emit(job);
        },
      });
      return undefined;
    } catch (error) {
      if (job.abortReason !== undefined) return endOf(job);
      if (error instanceof LockerdError) return error;
      this.failedUnexpectedly.emit(job, error);
      return new LockerdError(
        'Failed',
        `${describeJob(job)} failed for a reason that is not yours; see: journalctl -u lockerd`,
      );
    }
  }

  async #whenGivenUp(job: JobRecord): Promise<LockerdError | undefined> {
    await whenAborted(job.abort.signal);
    const reason = job.abortReason ?? 'cancelled';
    await Promise.race([
      new Promise<void>((resolve) => this.#clock.after(graceMs[reason], resolve)),
      job.ended,
    ]);
    return endOf(job);
  }

  #finish(job: JobRecord, error: LockerdError | undefined): void {
    job.state = 'done';
    job.isCancelable = false;
    job.phase = 'done';
    if (error === undefined) job.progress = 1;
    job.error = error;
    job.result = resultOf(error?.code);
    for (const subject of job.spec.subjects) {
      if (this.#current.get(subject) === job) this.#current.delete(subject);
    }
    this.changed.emit(job);
    this.ended.emit(job);
    job.end();
    this.#clock.after(this.#limits['finished-job-seconds'] * 1000, () => {
      this.#jobs.delete(job.id);
      this.removed.emit(job);
    });
  }

  /** Throws LockerdError Failed when the job has gone too far to be cancelled. */
  cancel(job: Job): void {
    const record = this.#jobs.get(job.id);
    if (!record || record.state === 'done' || record.abortReason !== undefined) return;
    if (!record.isCancelable) {
      throw new LockerdError(
        'Failed',
        `${describeJob(job)} cannot be cancelled any more; wait for its end`,
      );
    }
    this.#abort(record, 'cancelled');
  }

  /** Ends the job of a container that is no longer there. */
  containerGone(container: string): void {
    const current = this.#current.get(subjectOf('container', container));
    if (current) this.#abort(current, 'gone');
  }

  #abort(job: JobRecord, reason: AbortReason): void {
    if (job.state === 'done' || job.abortReason !== undefined) return;
    job.abortReason = reason;
    job.isCancelable = false;
    this.changed.emit(job);
    job.abort.abort();
  }

  /**
   * Waits for the end of a job. LockerdError TimedOut when it takes longer, Cancelled when the
   * caller has left.
   */
  async wait(job: Job, timeoutMs: number | undefined, left: AbortSignal): Promise<void> {
    if (job.state === 'done') return;
    const waiting = new AbortController();
    let stopTimer: () => void = () => undefined;
    try {
      const timeout = new Promise<never>((_, reject) => {
        if (timeoutMs === undefined || timeoutMs > longestTimerMs) return;
        stopTimer = this.#clock.after(timeoutMs, () => {
          reject(new LockerdError('TimedOut', `${describeJob(job)} has not ended yet; it goes on`));
        });
      });
      const gone = whenAborted(left, waiting.signal).then(() => {
        throw new LockerdError('Cancelled', 'the caller has left');
      });
      await Promise.race([job.ended, timeout, gone]);
    } finally {
      waiting.abort();
      stopTimer();
    }
  }
}

/** What a job is about, as messages name it: `container "web"`. */
export function subjectOf(kind: 'container' | 'locker', name: string): string {
  return `${kind} "${name}"`;
}

/** `job 7 (start of container "web")` */
export function describeJob({
  id,
  verb,
  container,
  locker,
}: Pick<Job, 'id' | 'verb' | 'container' | 'locker'>): string {
  const subject =
    container === '' ? subjectOf('locker', locker) : subjectOf('container', container);
  return `job ${id} (${verb} of ${subject})`;
}

/** Another job is in the way. */
export function busyError({
  subject,
  job,
}: {
  readonly subject: string;
  readonly job: Job;
}): LockerdError {
  return new LockerdError(
    'JobConflict',
    `${subject} is busy with ${describeJob(job)}; wait for its end or cancel it`,
  );
}

/** How an aborted job ends, whatever its work has said. */
function endOf(job: JobRecord): LockerdError {
  switch (job.abortReason) {
    case 'timeout':
      return new LockerdError('TimedOut', `${describeJob(job)} took too long and was given up`);
    case 'gone':
      return new LockerdError(
        'Failed',
        `container "${job.container}" was removed during ${describeJob(job)}`,
      );
    case 'superseded':
      return new LockerdError(
        'Cancelled',
        `${describeJob(job)} was ended by a stop of the container`,
      );
    case 'cancelled':
    case undefined:
      return new LockerdError('Cancelled', `${describeJob(job)} was cancelled`);
  }
}

function resultOf(code: ErrorCode | undefined): JobResult {
  if (code === undefined) return 'done';
  if (code === 'Cancelled') return 'cancelled';
  return code === 'TimedOut' ? 'timeout' : 'failed';
}

function whenAborted(signal: AbortSignal, until?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const onAbort = () => {
      resolve();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    until?.addEventListener('abort', () => {
      signal.removeEventListener('abort', onAbort);
    });
  });
}

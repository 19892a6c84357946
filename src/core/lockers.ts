/**
 * The lives of lockers: what is to be known before a request about one can be decided, and what its job
 * does. A job ends when the service shows what has come of it.
 */

import { LockerdError } from '../model/errors.ts';
import type { Clock } from './clock.ts';
import { FairLimiter } from './fair-limiter.ts';
import type { HostState } from './host-state.ts';
import { fixedWord } from './job-actions.ts';
import type { Job, JobContext } from './job-queue.ts';
import { LockerLooks } from './locker-looks.ts';
import { planLocker, type LockerFacts } from './locker-plan.ts';
import type { LockersPort, LockerSnapshot, Store, TellProgress } from './locker-ports.ts';
import { LockerUse } from './locker-use.ts';
import type { ActionDetails } from './ports.ts';
import { quoted } from './quoted.ts';
import type { Plan } from './request-plan.ts';
import type { LockerOptions, LockerRequest } from './request.ts';
import type { ReportProblem } from './retried-watch.ts';

/** Questions to the helper at a time, each a process of root's, and those of one user. */
const questions = 4;
const questionsPerUid = 1;

export class Lockers {
  readonly #host: HostState;
  readonly #port: LockersPort;
  readonly #clock: Clock;
  readonly #asking = new FairLimiter(questions, questionsPerUid);
  readonly looks: LockerLooks;
  readonly use: LockerUse;
  /** As they were seen last. */
  #stores: readonly Store[] = [];

  constructor(host: HostState, port: LockersPort, clock: Clock, reportProblem: ReportProblem) {
    this.#host = host;
    this.#port = port;
    this.#clock = clock;
    this.looks = new LockerLooks(host, port, clock, reportProblem);
    this.use = new LockerUse(this.looks);
  }

  /** Rejects with LockerdError where the helper does, as the next one. */
  async readStores(uid: number): Promise<readonly Store[]> {
    this.#stores = await this.#asking.run(uid, () => this.#port.stores());
    return this.#stores;
  }

  async readSnapshots(uid: number, locker: string): Promise<readonly LockerSnapshot[]> {
    if (!this.#host.locker(locker)) {
      throw new LockerdError('NoSuchLocker', `there is no locker ${quoted(locker)}`);
    }
    return this.#asking.run(uid, () => this.#port.snapshots(locker));
  }

  /** What was known of stores last, without asking for it. */
  get knownStores(): readonly Store[] {
    return this.#stores;
  }

  /** Finds out what a request depends on. Never rejects: what is wrong is told to whoever may do it. */
  async prepare(uid: number, request: LockerRequest): Promise<LockerFacts> {
    const snapshot = snapshotName(this.#clock.realtimeUsec());
    try {
      const isNew = request.verb === 'create-locker' || request.verb === 'restore-locker';
      const needsStores =
        isNew || request.verb === 'grow-locker' || request.verb === 'adopt-locker';
      const [stores] = await Promise.all([
        needsStores ? this.readStores(uid) : [],
        needsStores ? this.looks.complete() : undefined,
        request.verb === 'create-locker' || request.verb === 'adopt-locker'
          ? undefined
          : this.looks.refresh([request.locker]),
      ]);
      return { stores, trouble: undefined, snapshot };
    } catch (error) {
      if (!(error instanceof LockerdError)) throw error;
      return { stores: [], trouble: error, snapshot };
    }
  }

  /** Finds out what questions about lockers depend on, as far as it can. */
  async foresee(uid: number, withStores: boolean): Promise<void> {
    try {
      await Promise.all([withStores ? this.readStores(uid) : undefined, this.looks.complete()]);
    } catch (error) {
      // The questions are asked with what is known.
      if (!(error instanceof LockerdError)) throw error;
    }
  }

  plan(uid: number, request: LockerRequest, options: LockerOptions, facts: LockerFacts): Plan {
    return planLocker(this, uid, request, options, facts);
  }

  get host(): HostState {
    return this.#host;
  }

  /** Counts what a job makes as its user's, from now until its end. */
  claim(job: Job, { verb, locker, name, size }: ActionDetails): void {
    // What was forgotten counts already.
    if (size === '' || verb === 'adopt-locker') return;
    this.use.claim(job, verb === 'restore-locker' ? name : locker, BigInt(size));
  }

  /** Does what polkit has allowed. */
  async run(
    request: LockerRequest,
    details: ActionDetails,
    uid: number,
    job: JobContext,
  ): Promise<void> {
    const { warnings } = await this.#change(request, details, uid, job);
    warnings.forEach(job.warn);
    await this.#settle(request, details, uid);
  }

  async #change(
    request: LockerRequest,
    details: ActionDetails,
    uid: number,
    job: JobContext,
  ): Promise<{ readonly warnings: readonly string[] }> {
    const { locker } = request;
    const { store, owner, mode, container, snapshot } = details;
    const tell: TellProgress = (phase, fraction) => {
      job.report(fixedWord(phase), Math.min(1, Math.max(-1, fraction)));
    };
    switch (request.verb) {
      case 'create-locker': {
        job.report('creating');
        const encrypt = details.encrypt || 'no';
        const size = BigInt(details.size);
        const wanted = { locker, store, size, owner, mode, encrypt, container, creator: uid };
        return this.#port.create(wanted, tell, job.signal);
      }
      case 'grow-locker':
        job.report('growing');
        return this.#port.grow({ locker, size: BigInt(details.size) }, tell);
      case 'rename-locker':
        job.report('renaming');
        return this.#port.rename({ locker, name: request.name });
      case 'snapshot-locker': {
        job.report('snapshotting');
        const freeze = details.freeze === 'true';
        return this.#port.snapshot({ locker, snapshot, freeze }, tell, job.signal);
      }
      case 'restore-locker': {
        job.report('restoring');
        const wanted = { locker, snapshot, name: request.name, creator: uid };
        return this.#port.restore(wanted, tell, job.signal);
      }
      case 'forget-locker': {
        job.report('forgetting');
        const { place, warnings } = await this.#port.forget(locker);
        return { warnings: [...warnings, `the data of locker "${locker}" stays in ${place}`] };
      }
      case 'adopt-locker':
        job.report('adopting');
        return this.#port.adopt({ locker, store, creator: uid }, tell);
    }
  }

  /** What there is now is shown before the job ends, and counts before its claim does not any more. */
  async #settle(request: LockerRequest, details: ActionDetails, uid: number): Promise<void> {
    const { store, size } = details;
    const made =
      request.verb === 'create-locker'
        ? request.locker
        : request.verb === 'restore-locker'
          ? request.name
          : undefined;
    if (made !== undefined) this.looks.note(made, { store, creator: uid, size: BigInt(size) });
    // systemd has reloaded, so that the generator's word about the lockers is there to be read.
    if (request.verb !== 'grow-locker' && request.verb !== 'snapshot-locker') {
      await this.#host.reload();
    }
    const shown = 'name' in request ? request.name : request.locker;
    try {
      await this.looks.refresh([shown]);
    } catch (error) {
      // What was done is done, whatever can be seen of it.
      if (!(error instanceof LockerdError)) throw error;
    }
  }
}

/** `20261130-145500`, in UTC. @param usec CLOCK_REALTIME, microseconds */
function snapshotName(usec: bigint): string {
  const iso = new Date(Number(usec / 1000n)).toISOString();
  return iso.slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
}

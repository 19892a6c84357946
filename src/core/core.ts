/**
 * What lockerd decides: which containers, lockers and jobs there are, who may do what with them, and
 * how it is done. src/core knows no outside system; each one is behind a port, see ports.ts. What only
 * the automatic balloon decides belongs in src/balloon, and the bus in src/service.
 *
 * A request becomes a plan, is authorized, is planned again because time has passed, and becomes a
 * job.
 */

import { LockerdError } from '../model/errors.ts';
import { AuditLog } from './audit-log.ts';
import { Authorizer } from './authorizer.ts';
import { CallerLeft, type Caller } from './caller.ts';
import type { Clock } from './clock.ts';
import { GuestLooks } from './guest-looks.ts';
import { HostState, type HostPorts } from './host-state.ts';
import { JobActions } from './job-actions.ts';
import { busyError, describeJob, Jobs, type Job, type JobSpec } from './job-queue.ts';
import { LimitReconciler } from './limit-reconciler.ts';
import type { LockerFacts } from './locker-plan.ts';
import type { LockersPort } from './locker-ports.ts';
import { Lockers } from './lockers.ts';
import { emptyOptions, parseOptions, type OptionBag, type Options } from './options.ts';
import { jobDetails, questionsAbout, type PermissionObject } from './permissions.ts';
import type { ActionId, AuthorityPort, Decision, JournalPort } from './ports.ts';
import { planRequest, type Plan } from './request-plan.ts';
import {
  defaultTimeoutMs,
  isCancelable,
  isLockerRequest,
  optionsOf,
  optionsOfCancel,
  supersedes,
  type Request,
} from './request.ts';
import { defaultLimits, UserQuota, type Limits } from './user-quota.ts';

export interface CorePorts extends HostPorts {
  readonly authority: AuthorityPort;
  readonly journal: JournalPort;
  readonly lockers: LockersPort;
}

interface RememberedRequest {
  readonly fingerprint: string;
  readonly job: Promise<Job>;
}

export class Core {
  readonly #authority: AuthorityPort;
  readonly #authorizer: Authorizer;
  readonly #actions: JobActions;
  readonly #log: AuditLog;
  /** By uid and request id. */
  readonly #requests = new Map<string, RememberedRequest>();
  readonly quota: UserQuota;
  readonly host: HostState;
  readonly looks: GuestLooks;
  readonly lockers: Lockers;
  readonly jobs: Jobs;

  constructor(ports: CorePorts, clock: Clock, limits: Limits = defaultLimits) {
    const log = new AuditLog(ports.journal);
    const reportProblem = log.problem.bind(log);
    this.#log = log;
    this.#authority = ports.authority;
    this.quota = new UserQuota(clock, limits);
    this.host = new HostState(ports, clock, reportProblem);
    this.looks = new GuestLooks(this.host, ports.helper, clock);
    this.lockers = new Lockers(this.host, ports.lockers, clock, reportProblem);
    this.jobs = new Jobs(clock, limits);
    this.#actions = new JobActions(this.host, ports);
    this.#authorizer = new Authorizer(
      ports.authority,
      this.quota,
      log,
      () => this.host.rootNeedsNoAuthority,
    );
    new LimitReconciler(this.host, ports, clock, reportProblem);
    this.jobs.ended.add((job) => {
      log.jobEnded(job);
    });
    this.jobs.failedUnexpectedly.add((job, error) => {
      log.problem(`${describeJob(job)} failed`, error);
    });
    this.host.changed.add(({ kind, type, name }) => {
      if (kind === 'removed' && type === 'container') this.jobs.containerGone(name);
    });
  }

  /** Settles when the state of everything that answers is known. */
  start(): Promise<void> {
    return this.host.start();
  }

  get authorityState(): string {
    return this.#authority.state;
  }

  /**
   * Does what a caller asks for, if it may: settles with the job, or with the ended job when the
   * options say so. Every refusal is a LockerdError.
   */
  async request(caller: Caller, request: Request, bag: OptionBag): Promise<Job> {
    const options = parseOptions(bag, optionsOf[request.verb]);
    const job = await this.#jobFor(caller, request, options);
    if (options.wait) {
      await this.wait(caller, job, undefined);
      if (job.error) throw job.error;
    }
    return job;
  }

  /** A retry with the same request id joins the first call, also while that is being authorized. */
  async #jobFor(caller: Caller, request: Request, options: Options): Promise<Job> {
    const { requestId } = options;
    if (requestId === undefined) return this.#admit(caller, request, options);
    const key = `${caller.uid} ${requestId}`;
    const fingerprint = fingerprintOf(request, options);
    for (;;) {
      const known = this.#requests.get(key);
      if (!known) break;
      if (known.fingerprint !== fingerprint) {
        throw new LockerdError('InvalidArgs', 'option "request-id" was used for another request');
      }
      const leaveQueue = this.quota.enter('pending-authorizations-per-uid', caller.uid);
      try {
        return await known.job;
      } catch (error) {
        // The first caller left, and nothing happened: this one asks for itself.
        if (!(error instanceof CallerLeft) || caller.left.aborted) throw error;
      } finally {
        leaveQueue();
      }
    }
    const job = this.#admit(caller, request, options);
    this.#requests.set(key, { fingerprint, job });
    const forget = () => {
      if (this.#requests.get(key)?.job === job) this.#requests.delete(key);
    };
    try {
      const made = await job;
      const unlisten = this.jobs.removed.add((removed) => {
        if (removed !== made) return;
        unlisten();
        forget();
      });
      return made;
    } catch (error) {
      forget();
      throw error;
    }
  }

  async #admit(caller: Caller, request: Request, options: Options): Promise<Job> {
    const plan = await this.#planner(caller, request, options);
    const first = plan();
    const { action, details, subjects, objection } = first;
    const isInteractive = caller.interactive || options.interactive;
    const inTheWay = () => {
      const busy = this.jobs.busy(subjects);
      return busy && !supersedes(request, options, busy.job) ? busyError(busy) : undefined;
    };
    this.quota.check('jobs-per-uid', caller.uid);
    const obstacle = inTheWay() ?? objection;
    if (obstacle) {
      // A caller without permission does not learn why the request makes no sense. No prompt is shown.
      await this.#authorizer.requireChance(caller, action, details, isInteractive);
      throw obstacle;
    }
    await this.#authorizer.authorize(caller, action, details, isInteractive);
    const now = planAgain(plan);
    if (!now || isOther(first, now)) {
      this.#log.decision(caller, action, details, 'changed');
      throw new LockerdError(
        'JobConflict',
        `${subjects[0]} changed during the authorization; look and try again`,
      );
    }
    const late = inTheWay();
    if (late) throw late;
    return this.#createJob(caller, request, options, now);
  }

  /** What says what a request means, again and again; throws LockerdErrors that are for everybody. */
  async #planner(caller: Caller, request: Request, options: Options): Promise<() => Plan> {
    const { lockers, quota } = this;
    if (!isLockerRequest(request)) return () => planRequest(this.host, request, options);
    const planWith = (facts: LockerFacts) => lockers.plan(caller.uid, request, options, facts);
    // What can be said without root's help is said without it.
    planWith({ stores: lockers.knownStores, trouble: undefined, snapshot: '' });
    const leave = quota.enter('pending-authorizations-per-uid', caller.uid);
    try {
      const facts = await lockers.prepare(caller.uid, request);
      return () => planWith(facts);
    } finally {
      leave();
    }
  }

  #createJob(caller: Caller, request: Request, options: Options, plan: Plan): Job {
    const { container, subjects, details } = plan;
    const timeoutMs =
      options.timeoutUsec === undefined
        ? defaultTimeoutMs(request.verb, options.force)
        : Math.ceil(Number(options.timeoutUsec) / 1000);
    const leave = this.quota.enter('jobs-per-uid', caller.uid);
    try {
      const job = this.jobs.create({
        verb: request.verb,
        container: container?.name ?? '',
        locker: 'locker' in request ? request.locker : '',
        subjects,
        uid: caller.uid,
        timeoutMs,
        isCancelable: isCancelable(request.verb),
        supersedes: this.jobs.busy(subjects)?.job,
        run: this.#work(caller, request, options, plan),
      });
      void job.ended.then(leave);
      if (isLockerRequest(request)) this.lockers.claim(job, details);
      return job;
    } catch (error) {
      leave();
      throw error;
    }
  }

  #work(caller: Caller, request: Request, options: Options, plan: Plan): JobSpec['run'] {
    const { container, details } = plan;
    if (isLockerRequest(request)) {
      return (context) => this.lockers.run(request, details, caller.uid, context);
    }
    if (container === undefined) throw new Error(`${request.verb} has no container`);
    return (context) => this.#actions.run(request, container, options, context);
  }

  /** Cancels a job: one's own freely, another's with polkit's yes. */
  async cancel(caller: Caller, job: Job, bag: OptionBag): Promise<void> {
    const options = parseOptions(bag, optionsOfCancel);
    if (job.uid !== caller.uid) {
      const details = jobDetails(this.host, job);
      const isInteractive = caller.interactive || options.interactive;
      const action = 'org.lockerd1.cancel-job-other';
      await this.#authorizer.authorize(caller, action, details, isInteractive);
    }
    if (job.state === 'done') {
      throw new LockerdError('Failed', `${describeJob(job)} has ended already`);
    }
    this.jobs.cancel(job);
  }

  /** Waits for a job's end; LockerdError TimedOut when it takes longer, in milliseconds. */
  async wait(caller: Caller, job: Job, timeoutMs: number | undefined): Promise<void> {
    const leave = this.quota.enter('waits-per-uid', caller.uid);
    try {
      await this.jobs.wait(job, timeoutMs, caller.left);
    } finally {
      leave();
    }
  }

  /** What polkit would say to this caller, action by action, without asking anybody. */
  async permissions(
    caller: Caller,
    object: PermissionObject,
  ): Promise<ReadonlyMap<ActionId, Decision>> {
    const { host, lockers } = this;
    if (object.kind === 'manager' || object.kind === 'locker') {
      await lockers.foresee(caller.uid, object.kind === 'manager');
    }
    const questions = questionsAbout({ host, lockers, uid: caller.uid }, object);
    if (object.kind === 'job' && object.job.uid === caller.uid) {
      return new Map(questions.map(({ action }) => [action, 'yes']));
    }
    return this.#authorizer.answers(caller, questions);
  }
}

/** Undefined for a request that has become pointless. */
function planAgain(plan: () => Plan): Plan | undefined {
  try {
    const now = plan();
    return now.objection ? undefined : now;
  } catch (error) {
    if (error instanceof LockerdError) return undefined;
    throw error;
  }
}

/** Same object, same guest, same meaning. */
function isOther(before: Plan, now: Plan): boolean {
  return (
    now.container !== before.container ||
    now.locker !== before.locker ||
    // A guest that has just started is seen a moment after its unit.
    (before.leader !== 0 && now.leader !== before.leader) ||
    JSON.stringify(now.details) !== JSON.stringify(before.details)
  );
}

/** What makes two requests the same. How long the caller waits, and whether somebody is asked, does not count. */
function fingerprintOf(request: Request, options: Options): string {
  const { interactive, wait, requestId } = emptyOptions;
  const sorted = (value: object) => Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  const counted = { ...options, interactive, wait, requestId };
  return JSON.stringify([sorted(request), sorted(counted)], (_, part: unknown) =>
    typeof part === 'bigint' ? `${part}n` : part,
  );
}

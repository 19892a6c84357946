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
import {
  defaultTimeoutMs,
  isCancelable,
  optionsOf,
  optionsOfCancel,
  supersedes,
  type Request,
} from './container-request.ts';
import { GuestLooks } from './guest-looks.ts';
import { HostState, type HostPorts } from './host-state.ts';
import { JobActions } from './job-actions.ts';
import { busyError, describeJob, Jobs, type Job } from './job-queue.ts';
import { LimitReconciler } from './limit-reconciler.ts';
import { parseOptions, type OptionBag, type Options } from './options.ts';
import { jobDetails, questionsAbout, type PermissionObject } from './permissions.ts';
import type { ActionId, AuthorityPort, Decision, JournalPort } from './ports.ts';
import { planRequest, type Plan } from './request-plan.ts';
import { defaultLimits, UserQuota, type Limits } from './user-quota.ts';

export interface CorePorts extends HostPorts {
  readonly authority: AuthorityPort;
  readonly journal: JournalPort;
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
  readonly jobs: Jobs;

  constructor(ports: CorePorts, clock: Clock, limits: Limits = defaultLimits) {
    const log = new AuditLog(ports.journal);
    const reportProblem = log.problem.bind(log);
    this.#log = log;
    this.#authority = ports.authority;
    this.quota = new UserQuota(clock, limits);
    this.host = new HostState(ports, clock, reportProblem);
    this.looks = new GuestLooks(this.host, ports.helper, clock);
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
    const { jobs } = this;
    const plan = planRequest(this.host, request, options);
    const { action, details } = plan;
    const isInteractive = caller.interactive || options.interactive;
    const inTheWay = () => {
      const current = jobs.of(plan.container.name);
      return current && !supersedes(request, options, current) ? busyError(current) : undefined;
    };
    this.quota.check('jobs-per-uid', caller.uid);
    const objection = inTheWay() ?? plan.objection;
    if (objection) {
      // A caller without permission does not learn why the request makes no sense. No prompt is shown.
      await this.#authorizer.requireChance(caller, action, details, isInteractive);
      throw objection;
    }
    await this.#authorizer.authorize(caller, action, details, isInteractive);
    const now = this.#planAgain(request, options);
    if (!now || isOther(plan, now)) {
      this.#log.decision(caller, action, details, 'changed');
      throw new LockerdError(
        'JobConflict',
        `container "${plan.container.name}" changed during the authorization; look and try again`,
      );
    }
    const late = inTheWay();
    if (late) throw late;
    return this.#createJob(caller, request, options, now);
  }

  #planAgain(request: Request, options: Options): Plan | undefined {
    try {
      const plan = planRequest(this.host, request, options);
      return plan.objection ? undefined : plan;
    } catch (error) {
      if (error instanceof LockerdError) return undefined;
      throw error;
    }
  }

  #createJob(caller: Caller, request: Request, options: Options, plan: Plan): Job {
    const { container } = plan;
    const timeoutMs =
      options.timeoutUsec === undefined
        ? defaultTimeoutMs(request.verb, options.force)
        : Math.ceil(Number(options.timeoutUsec) / 1000);
    const leave = this.quota.enter('jobs-per-uid', caller.uid);
    try {
      const job = this.jobs.create({
        verb: request.verb,
        container: container.name,
        locker: 'locker' in request ? request.locker : '',
        uid: caller.uid,
        timeoutMs,
        isCancelable: isCancelable(request.verb),
        supersedes: this.jobs.of(container.name),
        run: (context) => this.#actions.run(request, container, options, context),
      });
      void job.ended.then(leave);
      return job;
    } catch (error) {
      leave();
      throw error;
    }
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
    const questions = questionsAbout(this.host, object);
    if (object.kind === 'job' && object.job.uid === caller.uid) {
      return new Map(questions.map(({ action }) => [action, 'yes']));
    }
    return this.#authorizer.answers(caller, questions);
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

/** What makes two requests the same. How long the caller waits does not count. */
function fingerprintOf(request: Request, options: Options): string {
  const { force, readOnly, persist, swap, timeoutUsec } = options;
  const limit = request.verb === 'balloon' ? String(request.limit) : '';
  const limits = request.verb === 'set-limits' ? Object.entries(request.limits) : [];
  const locker = 'locker' in request ? request.locker : '';
  const autostart = 'autostart' in request && request.autostart;
  const { verb, container } = request;
  return JSON.stringify([
    ...[verb, container, locker, limit, autostart, force, readOnly, persist],
    ...[String(swap), String(timeoutUsec), limits],
  ]);
}

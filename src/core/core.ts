import type { Caller } from './caller.ts';
import type { Clock } from './clock.ts';
import { LockerdError } from '../model/errors.ts';
import { busy, describe, Jobs, type Job } from './jobs.ts';
import { LimitKeeper } from './limit-keeper.ts';
import { FairLimiter } from './fair-limiter.ts';
import { defaultLimits, type Limits, UserQuota } from './user-quota.ts';
import { messageIds } from './message-ids.ts';
import { parseOptions, type OptionBag, type Options } from './options.ts';
import {
  better,
  jobDetails,
  questionsAbout,
  type PermissionObject,
  type Question,
} from './permissions.ts';
import type { ActionDetails, ActionId, AuthorityPort, Decision, JournalPort } from './ports.ts';
import {
  defaultTimeoutMs,
  isCancelable,
  optionsOf,
  optionsOfCancel,
  planRequest,
  supersedes,
  Work,
  type Plan,
  type Request,
} from './container-request.ts';
import { World, type WorldPorts } from './host-state.ts';

export interface CorePorts extends WorldPorts {
  readonly authority: AuthorityPort;
  readonly journal: JournalPort;
}

/** What the journal says beside polkit's own answers. */
type Verdict = Decision | 'unavailable' | 'left' | 'changed';

/** Checks in which nobody is asked, at a time. polkit answers one after the other anyway. */
const silentChecks = 16;
/** One user's: the second is at polkit when the first is answered, and others wait for no more. */
const silentChecksOfOne = 2;

const priority = { error: 3, warning: 4, notice: 5, info: 6 } as const;

/** Asks the authority one question. */
type Ask = (action: ActionId, details: ActionDetails, interactive?: boolean) => Promise<Decision>;

interface Remembered {
  readonly fingerprint: string;
  readonly job: Promise<Job>;
}

/** Containers, lockers and jobs; who may do what; and the doing. */
export class Core {
  readonly #ports: CorePorts;
  readonly #work: Work;
  readonly #silent = new FairLimiter(silentChecks, silentChecksOfOne);
  /** By uid and request id. */
  readonly #requests = new Map<string, Remembered>();
  readonly quota: UserQuota;
  readonly world: World;
  readonly jobs: Jobs;

  constructor(ports: CorePorts, clock: Clock, limits: Limits = defaultLimits) {
    this.#ports = ports;
    this.quota = new UserQuota(clock, limits);
    const trouble = (what: string, error: unknown) => {
      this.trouble(what, error);
    };
    this.world = new World(ports, clock, trouble);
    new LimitKeeper(this.world, ports, clock, trouble);
    this.jobs = new Jobs(clock, limits);
    this.#work = new Work(this.world, ports);
    this.jobs.ended.add((job) => {
      this.#journalEnd(job);
    });
    this.jobs.troubled.add((job, error) => {
      this.trouble(`${describe(job)} failed`, error);
    });
    this.world.changed.add(({ kind, type, name }) => {
      if (kind === 'removed' && type === 'container') this.jobs.containerGone(name);
    });
  }

  /** Settles when the state of everything that answers is known. */
  start(): Promise<void> {
    return this.world.start();
  }

  stop(): Promise<void> {
    return this.world.stop();
  }

  get authorityState(): string {
    return this.#ports.authority.state;
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
    const { world, jobs } = this;
    const plan = planRequest(world, request, options);
    const inTheWay = () => {
      const current = jobs.of(plan.container.name);
      return current && !supersedes(request, options, current) ? busy(current) : undefined;
    };
    this.quota.check('jobs-per-uid', caller.uid);
    const objection = inTheWay() ?? plan.objection;
    if (objection) await this.#object(caller, plan, options, objection);
    await this.#authorize(caller, plan.action, plan.details, options);
    const now = this.#planAgain(request, options);
    if (!now || isOther(plan, now)) {
      this.#journalDecision(caller, plan.action, plan.details, 'changed');
      throw new LockerdError(
        'JobConflict',
        `container "${plan.container.name}" changed during the authorization; look and try again`,
      );
    }
    const late = inTheWay();
    if (late) throw late;
    return this.#createJob(caller, request, options, now);
  }

  /** Who may not do a thing does not learn why it would make no sense, and nobody is asked. */
  async #object(
    caller: Caller,
    plan: Plan,
    options: Options,
    objection: LockerdError,
  ): Promise<never> {
    const decision = await this.#told(caller, plan.action, plan.details, () =>
      this.#asking(caller, (ask) => ask(plan.action, plan.details)),
    );
    const mayAsk = decision === 'challenge' && (caller.interactive || options.interactive);
    if (decision === 'yes' || mayAsk) throw objection;
    this.#journalDecision(caller, plan.action, plan.details, decision);
    throw refusal(decision, plan.action);
  }

  #planAgain(request: Request, options: Options): Plan | undefined {
    try {
      const plan = planRequest(this.world, request, options);
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
        run: (context) => this.#work.do(request, container, options, context),
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
      const details = jobDetails(this.world, job);
      await this.#authorize(caller, 'org.lockerd1.cancel-job-other', details, options);
    }
    if (job.state === 'done') {
      throw new LockerdError('Failed', `${describe(job)} has ended already`);
    }
    this.jobs.cancel(job);
  }

  /** Waits for a job's end; LockerdError timedOut when it takes longer, in milliseconds. */
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
    const questions = questionsAbout(this.world, object);
    if (object.kind === 'job' && object.job.uid === caller.uid) {
      return new Map(questions.map(({ action }) => [action, 'yes']));
    }
    return this.#asking(caller, async (ask) => {
      const best = async ({ action, candidates }: Question): Promise<Decision> => {
        let decision: Decision = 'no';
        for (const details of candidates) {
          decision = better(decision, await ask(action, details));
          if (decision === 'yes') break;
        }
        return decision;
      };
      // One after another: it is one call, which has the turns of one.
      const decisions = new Map<ActionId, Decision>();
      for (const question of questions) decisions.set(question.action, await best(question));
      return decisions;
    });
  }

  /** Settles when polkit says yes; every other answer is a LockerdError. */
  async #authorize(
    caller: Caller,
    action: ActionId,
    details: ActionDetails,
    options: Options,
  ): Promise<void> {
    const isInteractive = caller.interactive || options.interactive;
    const decision = await this.#told(caller, action, details, () =>
      this.#asking(caller, async (ask) => {
        const silent = await ask(action, details);
        if (silent !== 'challenge' || !isInteractive) return silent;
        // Only who must be asked takes up a prompt, and a slow answer of a human holds up no other.
        const leavePrompt = this.quota.enterPrompt(caller.uid);
        try {
          return await ask(action, details, true);
        } finally {
          leavePrompt();
        }
      }),
    );
    this.#journalDecision(caller, action, details, decision);
    if (decision !== 'yes') throw refusal(decision, action);
  }

  /** Tells the journal where there is no decision. */
  async #told(
    caller: Caller,
    action: ActionId,
    details: ActionDetails,
    decide: () => Promise<Decision>,
  ): Promise<Decision> {
    try {
      return await decide();
    } catch (error) {
      if (error instanceof CallerLeft) this.#journalDecision(caller, action, details, 'left');
      else if (isUnavailable(error)) {
        this.#journalDecision(caller, action, details, 'unavailable');
      }
      throw error;
    }
  }

  /**
   * The one way to the authority, for whatever reason somebody wants its word: within the quota of
   * the caller's user, and when it is that user's turn.
   */
  async #asking<T>(caller: Caller, work: (ask: Ask) => Promise<T>): Promise<T> {
    const leave = this.quota.enter('pending-authorizations-per-uid', caller.uid);
    const { sender, left: signal, uid } = caller;
    try {
      return await work(async (action, details, interactive = false) => {
        const check = () => {
          this.#stillThere(caller);
          return this.#ports.authority.check({ sender, action, details, interactive, signal });
        };
        try {
          const decision = await (interactive
            ? check()
            : this.#silent.run(uid, async () => check()));
          this.#stillThere(caller);
          return decision;
        } catch (error) {
          return this.#undecided(caller, error);
        }
      });
    } finally {
      leave();
    }
  }

  #undecided(caller: Caller, error: unknown): Decision {
    if (error instanceof CallerLeft || caller.left.aborted) throw new CallerLeft();
    if (caller.uid === 0 && this.world.rootNeedsNoAuthority && isUnavailable(error)) return 'yes';
    if (error instanceof LockerdError) throw error;
    this.trouble('the authority failed', error);
    throw new LockerdError(
      'AuthorityUnavailable',
      'nobody can say whether you may do this; see: systemctl status polkit',
      { cause: error },
    );
  }

  #stillThere(caller: Caller): void {
    if (caller.left.aborted) throw new CallerLeft();
  }

  #journalDecision(
    caller: Caller,
    action: ActionId,
    details: ActionDetails,
    decision: Verdict,
  ): void {
    const { container, locker, verb } = details;
    const object = locker === '' ? `"${container}"` : `"${locker}" of "${container}"`;
    this.#ports.journal.write({
      uid: caller.uid,
      isKept: decision === 'yes' || decision === 'changed',
      messageId: messageIds.decision,
      priority: decision === 'yes' ? priority.info : priority.notice,
      message: `${verb} ${object} for uid ${caller.uid}: ${verdictWords[decision]}`,
      fields: {
        ...objectFields(container, locker),
        VERB: verb,
        ACTION: action,
        UID: String(caller.uid),
        SENDER: caller.sender,
        DECISION: decision,
      },
    });
  }

  #journalEnd(job: Job): void {
    const failure = job.error ? `: ${job.error.message}` : '';
    const { stallUsec } = job;
    this.#ports.journal.write({
      uid: job.uid,
      isKept: true,
      messageId: messageIds.jobEnded,
      priority: job.result === 'failed' ? priority.warning : priority.info,
      message: `${describe(job)}: ${job.result}${failure}`,
      fields: {
        ...objectFields(job.container, job.locker),
        VERB: job.verb,
        JOB: String(job.id),
        UID: String(job.uid),
        RESULT: job.result,
        ...(stallUsec !== undefined && { STALL_USEC: String(stallUsec) }),
        ...(job.error && { ERROR: job.error.code }),
      },
    });
  }

  /** Tells the journal, and only the journal, what is wrong. */
  trouble(what: string, error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    this.#ports.journal.write({
      messageId: messageIds.trouble,
      priority: priority.error,
      message: `${what}: ${why}`,
      fields: {},
    });
  }
}

/** Nobody is there to hear the answer. */
export class CallerLeft extends LockerdError {
  constructor() {
    super('Cancelled', 'the caller has left');
  }
}

const verdictWords: Record<Verdict, string> = {
  yes: 'allowed',
  no: 'denied',
  challenge: 'denied without a password',
  dismissed: 'password prompt dismissed',
  unavailable: 'no authority to ask',
  left: 'the caller left first',
  changed: 'allowed, but what it was asked for had changed',
};

function objectFields(container: string, locker: string): Record<string, string> {
  return {
    ...(container !== '' && { CONTAINER: container }),
    ...(locker !== '' && { LOCKER: locker }),
  };
}

function isUnavailable(error: unknown): boolean {
  return error instanceof LockerdError && error.code === 'AuthorityUnavailable';
}

function refusal(decision: Exclude<Decision, 'yes'>, action: ActionId): LockerdError {
  switch (decision) {
    case 'no':
      return new LockerdError('AccessDenied', `polkit does not allow you ${action}`);
    case 'challenge':
      return new LockerdError(
        'InteractiveAuthorizationRequired',
        `${action} takes a password; call it with interactive authorization allowed`,
      );
    case 'dismissed':
      return new LockerdError(
        'AuthorizationDismissed',
        `the password prompt for ${action} was closed`,
      );
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

/** What makes two requests the same; how long somebody waits for them does not. */
function fingerprintOf(request: Request, options: Options): string {
  const { force, readOnly, persist, swap, timeoutUsec } = options;
  const limit = request.verb === 'balloon' ? String(request.limit) : '';
  const locker = 'locker' in request ? request.locker : '';
  const { verb, container } = request;
  return JSON.stringify([
    ...[verb, container, locker, limit, force, readOnly, persist],
    ...[String(swap), String(timeoutUsec)],
  ]);
}

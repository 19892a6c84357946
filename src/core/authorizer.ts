/**
 * The one way to polkit, for whatever reason its word is wanted: within the quota of the caller's
 * user, in that user's turn, and with an entry in the journal for each decision.
 */

import { LockerdError } from '../model/errors.ts';
import type { AuditLog } from './audit-log.ts';
import { CallerLeft, type Caller } from './caller.ts';
import { FairLimiter } from './fair-limiter.ts';
import { betterDecision, type Question } from './permissions.ts';
import type { ActionDetails, ActionId, AuthorityPort, Decision } from './ports.ts';
import type { UserQuota } from './user-quota.ts';

/** How many checks without a prompt run at a time. polkit answers one after the other anyway. */
const silentChecks = 16;
/** The same for one user. The second check is at polkit when the first is answered. */
const silentChecksPerUid = 2;

/** Asks polkit one question. */
type Check = (action: ActionId, details: ActionDetails, interactive?: boolean) => Promise<Decision>;

export class Authorizer {
  readonly #authority: AuthorityPort;
  readonly #quota: UserQuota;
  readonly #log: AuditLog;
  readonly #rootNeedsNoAuthority: () => boolean;
  readonly #silent = new FairLimiter(silentChecks, silentChecksPerUid);

  /** @param rootNeedsNoAuthority whether uid 0 may do everything while there is no polkit */
  constructor(
    authority: AuthorityPort,
    quota: UserQuota,
    log: AuditLog,
    rootNeedsNoAuthority: () => boolean,
  ) {
    this.#authority = authority;
    this.#quota = quota;
    this.#log = log;
    this.#rootNeedsNoAuthority = rootNeedsNoAuthority;
  }

  /** Settles when polkit says yes; every other answer is a LockerdError. */
  async authorize(
    caller: Caller,
    action: ActionId,
    details: ActionDetails,
    isInteractive: boolean,
  ): Promise<void> {
    const decision = await this.#decide(caller, action, details, async (check) => {
      const silent = await check(action, details);
      if (silent !== 'challenge' || !isInteractive) return silent;
      // A prompt is taken only when it is needed, and a slow answer holds up no other call.
      const leavePrompt = this.#quota.enterPrompt(caller.uid);
      try {
        return await check(action, details, true);
      } finally {
        leavePrompt();
      }
    });
    this.#log.decision(caller, action, details, decision);
    if (decision !== 'yes') throw refusal(decision, action);
  }

  /**
   * Settles when polkit would say yes, or might after a password; every other answer is a
   * LockerdError. Nobody is asked for a password.
   */
  async requireChance(
    caller: Caller,
    action: ActionId,
    details: ActionDetails,
    isInteractive: boolean,
  ): Promise<void> {
    const decision = await this.#decide(caller, action, details, (check) => check(action, details));
    if (decision === 'yes' || (decision === 'challenge' && isInteractive)) return;
    this.#log.decision(caller, action, details, decision);
    throw refusal(decision, action);
  }

  /** What polkit would say to each question, without asking anybody for a password. */
  async answers(
    caller: Caller,
    questions: readonly Question[],
  ): Promise<ReadonlyMap<ActionId, Decision>> {
    return this.#checking(caller, async (check) => {
      // One after another: it is one call, which has the turns of one.
      const decisions = new Map<ActionId, Decision>();
      for (const { action, candidates } of questions) {
        let best: Decision = 'no';
        for (const details of candidates) {
          best = betterDecision(best, await check(action, details));
          if (best === 'yes') break;
        }
        decisions.set(action, best);
      }
      return decisions;
    });
  }

  /** Where there is no decision, the journal says why. */
  async #decide(
    caller: Caller,
    action: ActionId,
    details: ActionDetails,
    ask: (check: Check) => Promise<Decision>,
  ): Promise<Decision> {
    try {
      return await this.#checking(caller, ask);
    } catch (error) {
      if (error instanceof CallerLeft) this.#log.decision(caller, action, details, 'left');
      else if (isUnavailable(error)) this.#log.decision(caller, action, details, 'unavailable');
      throw error;
    }
  }

  async #checking<T>(caller: Caller, ask: (check: Check) => Promise<T>): Promise<T> {
    const leave = this.#quota.enter('pending-authorizations-per-uid', caller.uid);
    const { sender, left: signal, uid } = caller;
    try {
      return await ask(async (action, details, interactive = false) => {
        const check = () => {
          requirePresent(caller);
          return this.#authority.check({ sender, action, details, interactive, signal });
        };
        try {
          const decision = await (interactive
            ? check()
            : this.#silent.run(uid, async () => check()));
          requirePresent(caller);
          return decision;
        } catch (error) {
          return this.#withoutDecision(caller, error);
        }
      });
    } finally {
      leave();
    }
  }

  #withoutDecision(caller: Caller, error: unknown): Decision {
    if (error instanceof CallerLeft || caller.left.aborted) throw new CallerLeft();
    if (caller.uid === 0 && this.#rootNeedsNoAuthority() && isUnavailable(error)) return 'yes';
    if (error instanceof LockerdError) throw error;
    this.#log.problem('the authority failed', error);
    throw new LockerdError(
      'AuthorityUnavailable',
      'nobody can say whether you may do this; see: systemctl status polkit',
      { cause: error },
    );
  }
}

function requirePresent(caller: Caller): void {
  if (caller.left.aborted) throw new CallerLeft();
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

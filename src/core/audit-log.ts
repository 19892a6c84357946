/** What the journal says of decisions, jobs and problems. */

import type { Caller } from './caller.ts';
import { describeJob, type Job } from './job-queue.ts';
import { messageIds } from './message-ids.ts';
import type { ActionDetails, ActionId, Decision, JournalPort } from './ports.ts';

/** How an authorization ended. */
export type Verdict = Decision | 'unavailable' | 'left' | 'changed';

const priority = { error: 3, warning: 4, notice: 5, info: 6, debug: 7 } as const;

const verdictWords: Record<Verdict, string> = {
  yes: 'allowed',
  no: 'denied',
  challenge: 'denied without a password',
  dismissed: 'password prompt dismissed',
  unavailable: 'no authority to ask',
  left: 'the caller left first',
  changed: 'allowed, but what it was asked for had changed',
};

export interface CalledMethod {
  readonly path: string;
  /** Of the interface; empty where the caller named none. */
  readonly name: string;
  readonly member: string;
}

export class AuditLog {
  readonly #journal: JournalPort;

  constructor(journal: JournalPort) {
    this.#journal = journal;
  }

  decision(caller: Caller, action: ActionId, details: ActionDetails, verdict: Verdict): void {
    const { container, locker, verb } = details;
    const object = [locker, container]
      .filter((name) => name !== '')
      .map((name) => `"${name}"`)
      .join(' of ');
    this.#journal.write({
      uid: caller.uid,
      isKept: verdict === 'yes' || verdict === 'changed',
      messageId: messageIds.decision,
      priority: verdict === 'yes' ? priority.info : priority.notice,
      message: `${verb} ${object} for uid ${caller.uid}: ${verdictWords[verdict]}`,
      fields: {
        ...objectFields(container, locker),
        ...lockerFields(details),
        VERB: verb,
        ACTION: action,
        UID: String(caller.uid),
        SENDER: caller.sender,
        DECISION: verdict,
      },
    });
  }

  jobEnded(job: Job): void {
    const failure = job.error ? `: ${job.error.message}` : '';
    const { stallUsec } = job;
    this.#journal.write({
      uid: job.uid,
      isKept: true,
      messageId: messageIds.jobEnded,
      priority: job.result === 'failed' ? priority.warning : priority.info,
      message: `${describeJob(job)}: ${job.result}${failure}`,
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

  /** A call on the bus; `error` is the name of the error that it was answered with. */
  call(uid: number, sender: string, { path, name, member }: CalledMethod, error?: string): void {
    this.#journal.write({
      uid,
      messageId: messageIds.call,
      priority: priority.debug,
      message: `${member} of ${path} for uid ${uid}: ${error ?? 'answered'}`,
      fields: {
        PATH: path,
        INTERFACE: name,
        MEMBER: member,
        UID: String(uid),
        SENDER: sender,
        ...(error !== undefined && { ERROR: error }),
      },
    });
  }

  /** Something that lockerd needs does not work. Callers do not learn of it. */
  problem(what: string, error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    this.#journal.write({
      messageId: messageIds.trouble,
      priority: priority.error,
      message: `${what}: ${why}`,
      fields: {},
    });
  }
}

/** What is to be made of a locker. */
function lockerFields({ store, size, snapshot, name }: ActionDetails): Record<string, string> {
  return {
    ...(store !== '' && { STORE: store }),
    ...(size !== '' && { SIZE: size }),
    ...(snapshot !== '' && { SNAPSHOT: snapshot }),
    ...(name !== '' && { NAME: name }),
  };
}

function objectFields(container: string, locker: string): Record<string, string> {
  return {
    ...(container !== '' && { CONTAINER: container }),
    ...(locker !== '' && { LOCKER: locker }),
  };
}

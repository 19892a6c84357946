/** Jobs of the service, their progress, and how they end. */

import { interfaces } from '../api/names.ts';
import type { Signal } from '../bus/connection.ts';
import { busError, DBusError, type VariantMap } from '../bus/values.ts';
import { reactionTo } from './exit.ts';
import { jobId } from './object-info.ts';
import type { JobRequest, Service } from './lockerd-client.ts';
import type { Terminal } from './terminal.ts';

/** How a request ended, also one that never became a job. */
export interface JobOutcome {
  /** `done`, `failed`, `cancelled`, `timeout`; `queued` with --no-block. */
  readonly result: string;
  /** Undefined where the service made no job. */
  readonly job: number | undefined;
  /** Name and text of the error; empty without one. */
  readonly error: string;
  readonly message: string;
  /** What to do about it. */
  readonly hint?: string | undefined;
  /** To be told although it succeeded. */
  readonly warnings?: readonly string[];
  /** How long the guest stood still for want of memory, where that is known. */
  readonly stallUsec?: bigint | undefined;
  readonly status: number;
}

/** Shows what jobs do, in the terminal's line of progress. */
export class JobProgress {
  readonly #terminal: Terminal;
  /** Paths of our jobs, with what to call them. */
  readonly #labels = new Map<string, string>();
  /** Words by path, also of jobs of others: signals come before the reply that names our job. */
  readonly #words = new Map<string, { phase?: string; percent?: string }>();
  #ended = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  receive(signal: Signal): void {
    const [interfaceName, changed] = signal.body as [string, VariantMap];
    if (interfaceName !== interfaces.job) return;
    const words = this.#words.get(signal.path) ?? {};
    const phase = changed['Phase'] ?? changed['State'];
    const progress = changed['Progress']?.value;
    if (typeof phase?.value === 'string' && phase.value !== '') words.phase = phase.value;
    if (typeof progress === 'number') words.percent = formatProgress(progress);
    this.#words.set(signal.path, words);
    this.#show();
  }

  add(path: string, label: string): void {
    this.#labels.set(path, label);
    this.#show();
  }

  remove(path: string): void {
    this.#labels.delete(path);
    this.#ended++;
    this.#show();
  }

  #show(): void {
    const jobs = [...this.#labels].map(([path, label]) => {
      const { phase = '', percent = '' } = this.#words.get(path) ?? {};
      const words = [phase, percent].filter((word) => word !== '').join(' ');
      return words === '' ? label : `${label}: ${words}`;
    });
    const total = this.#ended + jobs.length;
    const count = jobs.length > 0 && total > 1 ? `[${this.#ended}/${total}] ` : '';
    this.#terminal.status(count + jobs.join(', '));
  }
}

/** `40%`; empty for unknown. @param progress 0..1, or less for unknown */
export function formatProgress(progress: number | undefined): string {
  return progress === undefined || progress < 0 ? '' : `${Math.floor(progress * 100 + 1e-6)}%`;
}

function failure(job: number | undefined, error: DBusError): JobOutcome {
  const { errorName } = error;
  const message = error.message || errorName;
  return { result: 'failed', job, error: errorName, message, ...reactionTo(errorName) };
}

/** The job was there and is not any more: the service has ended or was replaced. */
function isGone(errorName: string): boolean {
  return (
    errorName === busError.noReply ||
    errorName === busError.unknownObject ||
    errorName === busError.nameHasNoOwner ||
    errorName === 'org.freedesktop.DBus.Error.ServiceUnknown'
  );
}

/**
 * Has a job made and waits for its end. What the service refuses is an outcome as well; only the
 * loss of the bus and defects are thrown.
 */
export async function runJob(
  service: Service,
  request: JobRequest,
  how: { readonly block: boolean; readonly progress?: JobProgress; readonly label: string },
): Promise<JobOutcome> {
  let path: string;
  try {
    path = await service.startJob(request);
  } catch (error) {
    if (error instanceof DBusError) return failure(undefined, error);
    throw error;
  }
  const job = jobId(path);
  if (!how.block) return { result: 'queued', job, error: '', message: '', status: 0 };
  how.progress?.add(path, how.label);
  try {
    const { result, errorName, errorMessage } = await service.waitForJob(path);
    if (result === 'done') {
      const remarks = await service.remarksOf(path);
      return { result, job, error: '', message: '', ...remarks, status: 0 };
    }
    const message = errorMessage || errorName || `job ${job} ended as "${result}"`;
    const { hint, status } = reactionTo(errorName);
    return { result, job, error: errorName, message, hint, status };
  } catch (error) {
    if (!(error instanceof DBusError)) throw error;
    if (!isGone(error.errorName)) return failure(job, error);
    return {
      ...failure(job, error),
      message: `lockerd ended while job ${job} ran, so how that ended is not known`,
      hint: 'See "lockerctl status NAME" and "systemctl status lockerd".',
      status: 1,
    };
  } finally {
    how.progress?.remove(path);
  }
}

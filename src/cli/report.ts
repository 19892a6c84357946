/** What is reported of each container or locker that a command has changed. */

import { DBusError } from '../bus/values.ts';
import type { Invocation } from './arguments.ts';
import { complain } from './complain.ts';
import { asCommandError, exitStatus } from './exit.ts';
import type { JsonValue } from './json.ts';
import type { Service } from './lockerd-client.ts';
import { JobProgress, type JobOutcome } from './run-job.ts';
import type { Terminal } from './terminal.ts';
import { escapeText } from './text.ts';

export interface ActionContext {
  readonly service: Service;
  readonly terminal: Terminal;
  readonly invocation: Invocation;
  readonly progress: JobProgress | undefined;
}

export interface Report {
  readonly kind: 'container' | 'locker';
  readonly name: string;
  readonly outcome: JobOutcome;
  /** Said of success, without the name. */
  readonly success: string;
  readonly facts?: Readonly<Record<string, JsonValue>>;
}

/** Shows the progress of jobs, where somebody sees it. */
export async function followProgress(
  service: Service,
  terminal: Terminal,
  { progress, block }: Pick<Invocation, 'progress' | 'block'>,
): Promise<JobProgress | undefined> {
  if (!progress || !block || terminal.traits.progressColumns === undefined) return undefined;
  const shown = new JobProgress(terminal);
  await service.onSignal(
    {
      pathNamespace: '/org/lockerd1/job',
      interface: 'org.freedesktop.DBus.Properties',
      member: 'PropertiesChanged',
    },
    (signal) => {
      shown.receive(signal);
    },
  );
  return shown;
}

export function printReport(
  { terminal, invocation }: Pick<ActionContext, 'terminal' | 'invocation'>,
  report: Report,
): void {
  const { name, outcome, success } = report;
  if (outcome.status !== exitStatus.ok) {
    complain(terminal, `cannot ${invocation.command} "${name}"`, outcome);
    return;
  }
  for (const warning of invocation.json ? [] : (outcome.warnings ?? [])) {
    terminal.complain(`lockerctl: warning: ${escapeText(warning)}`);
  }
  if (invocation.json || invocation.quiet) return;
  const text =
    outcome.result === 'queued' ? `job ${outcome.job ?? 0} ${invocation.command}` : success;
  terminal.print(escapeText(`${name}: ${text}`));
}

export function reportJson(report: Report, verb: string): JsonValue {
  const { kind, name, outcome, facts } = report;
  const { result, job, error, message, warnings = [] } = outcome;
  return {
    [kind]: name,
    verb,
    result,
    job: job ?? null,
    ...facts,
    error: error === '' ? null : error,
    message: message === '' ? null : message,
    ...(warnings.length > 0 ? { warnings } : {}),
  };
}

/** What is thrown for one must not keep the others from being reported. */
export function reportOfError(kind: Report['kind'], name: string, error: unknown): Report {
  const { message, hint, status } = asCommandError(error);
  const errorName = error instanceof DBusError ? error.errorName : '';
  const outcome = { result: 'failed', job: undefined, error: errorName, message, hint, status };
  return { kind, name, outcome, success: '' };
}

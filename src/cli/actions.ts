/** Commands that change something: a request for each container, and a report of its end. */

import pMap from 'p-map';
import { errorNames } from '../api/names.ts';
import { busError, DBusError, type VariantMap } from '../bus/values.ts';
import type { Invocation } from './arguments.ts';
import { complain } from './complain.ts';
import { asCommandError, CommandError, exitStatus } from './exit.ts';
import type { JsonValue } from './json.ts';
import type { ContainerJobRequest, Service } from './lockerd-client.ts';
import { NameGuess } from './name-guess.ts';
import { unlimited } from '../model/memory-limit.ts';
import { parseLimitWords } from './limit-words.ts';
import {
  followProgress,
  printReport,
  reportJson,
  reportOfError,
  type ActionContext,
  type Report,
} from './report.ts';
import { runJob } from './run-job.ts';
import { changedLimit, formatLimit, parseSizeChange } from './size.ts';
import type { Terminal } from './terminal.ts';
import { bootText } from './views.ts';

/** So many containers at a time; the service has limits for each user as well. */
const parallelJobs = 32;

/** Each of their jobs has systemd reload, which does one reload after the other. */
const settingCommands: readonly string[] = ['enable', 'disable'];

interface SimpleVerb {
  readonly member: ContainerJobRequest['member'];
  readonly doing: string;
  readonly done: string;
  /** The error that says that nothing had to be done, and what to say then. */
  readonly already?: { readonly error: string; readonly text: string };
}

const simpleVerbs = {
  start: {
    member: 'StartContainer',
    doing: 'starting',
    done: 'started',
    already: { error: errorNames.AlreadyRunning, text: 'runs already' },
  },
  stop: {
    member: 'StopContainer',
    doing: 'stopping',
    done: 'stopped',
    already: { error: errorNames.NotRunning, text: 'does not run' },
  },
  reboot: { member: 'RebootContainer', doing: 'rebooting', done: 'rebooted' },
  freeze: { member: 'FreezeContainer', doing: 'freezing', done: 'frozen' },
  thaw: { member: 'ThawContainer', doing: 'thawing', done: 'thawed' },
} as const satisfies Record<string, SimpleVerb>;

async function runSimple(
  context: ActionContext,
  container: string,
  verb: SimpleVerb,
  block = context.invocation.block,
): Promise<Report> {
  const outcome = await runJob(
    context.service,
    { member: verb.member, container, options: { force: context.invocation.force } },
    {
      block,
      label: `${verb.doing} ${container}`,
      ...(context.progress === undefined ? {} : { progress: context.progress }),
    },
  );
  const { already } = verb;
  if (already?.error !== outcome.error)
    return { kind: 'container', name: container, outcome, success: verb.done };
  // As with systemctl, what is so already is no failure.
  const success = already.text;
  return {
    kind: 'container',
    name: container,
    outcome: { ...outcome, result: 'done', status: exitStatus.ok },
    success,
  };
}

async function restart(context: ActionContext, container: string): Promise<Report> {
  // The start depends on the stop's end, so that is waited for also with --no-block.
  const stopped = await runSimple(context, container, simpleVerbs.stop, true);
  if (stopped.outcome.status !== exitStatus.ok) return stopped;
  // --force was for the stop.
  const invocation = { ...context.invocation, force: false };
  const started = await runSimple({ ...context, invocation }, container, simpleVerbs.start);
  return { ...started, success: 'restarted' };
}

async function balloon(context: ActionContext, container: string, size: string): Promise<Report> {
  const { service, terminal, invocation, progress } = context;
  const change = sizeChange(size);
  const before = await service.container(container);
  const limitBytes = newLimit(change, before.memoryLimit, container);
  const outcome = await runJob(
    service,
    {
      member: 'Balloon',
      container,
      limitBytes,
      swapBytes: invocation.swap,
      options: { force: invocation.force, persist: invocation.persist },
    },
    {
      block: invocation.block,
      label: `ballooning ${container}`,
      ...(progress === undefined ? {} : { progress }),
    },
  );
  const isDone = outcome.result === 'done';
  // The kernel counts in pages, so what was asked for is not always what came of it.
  const after = isDone ? await service.container(container) : before;
  const [memory, swap] = (['memoryLimit', 'swapLimit'] as const).map(
    (limit) => `${formatLimit(before[limit])} ${terminal.arrow} ${formatLimit(after[limit])}`,
  );
  const { stallUsec } = outcome;
  const isShrink = after.memoryLimit < before.memoryLimit;
  const success = [
    `memory limit ${memory}`,
    ...(invocation.swap === undefined ? [] : [`swap limit ${swap}`]),
    ...(isShrink && stallUsec !== undefined ? [`guest stalled ${formatStall(stallUsec)}`] : []),
  ].join(', ');
  const json = (bytes: bigint): bigint | null => (bytes === unlimited ? null : bytes);
  const facts = {
    before: json(before.memoryLimit),
    after: json(after.memoryLimit),
    ...(invocation.swap === undefined
      ? {}
      : { swap_before: json(before.swapLimit), swap_after: json(after.swapLimit) }),
    stall_usec: stallUsec ?? null,
  };
  return { kind: 'container', name: container, outcome, success, facts };
}

/** In milliseconds, or in seconds where those would be many. */
function formatStall(usec: bigint): string {
  const ms = Number(usec) / 1000;
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function sizeChange(size: string): ReturnType<typeof parseSizeChange> {
  try {
    return parseSizeChange(size);
  } catch (error) {
    throw new CommandError((error as Error).message, exitStatus.usage);
  }
}

function newLimit(
  change: ReturnType<typeof parseSizeChange>,
  before: bigint,
  container: string,
): bigint {
  try {
    return changedLimit(change, before);
  } catch (error) {
    const message = `container "${container}": ${(error as Error).message}`;
    throw new CommandError(message, exitStatus.failure);
  }
}

async function setLimits(
  context: ActionContext,
  container: string,
  words: readonly string[],
): Promise<Report> {
  const { service, invocation, progress } = context;
  const outcome = await runJob(
    service,
    {
      member: 'SetLimits',
      container,
      limits: limitsIn(words),
      options: { persist: invocation.persist },
    },
    {
      block: invocation.block,
      label: `limiting ${container}`,
      ...(progress === undefined ? {} : { progress }),
    },
  );
  return {
    kind: 'container',
    name: container,
    outcome,
    success: `set ${words.join(' ')}`,
    facts: { limits: words },
  };
}

function limitsIn(words: readonly string[]): VariantMap {
  try {
    return parseLimitWords(words);
  } catch (error) {
    throw new CommandError((error as Error).message, exitStatus.usage);
  }
}

async function moveLocker(
  context: ActionContext,
  member: 'MountLocker' | 'UnmountLocker',
  container: string,
  locker: string,
): Promise<Report> {
  const { invocation, progress } = context;
  const { force, persist, readOnly } = invocation;
  const outcome = await runJob(
    context.service,
    { member, container, locker, options: { force, persist, 'read-only': readOnly } },
    {
      block: invocation.block,
      label: `${member === 'MountLocker' ? 'attaching' : 'detaching'} ${locker}, ${container}`,
      ...(progress === undefined ? {} : { progress }),
    },
  );
  const success = `${member === 'MountLocker' ? 'attached' : 'detached'} ${locker}`;
  return { kind: 'container', name: container, outcome, success, facts: { locker } };
}

async function setAutostart(
  context: ActionContext,
  container: string,
  autostart: boolean,
): Promise<Report> {
  const { service, invocation, progress } = context;
  const outcome = await runJob(
    service,
    { member: 'SetAutostart', container, autostart },
    {
      block: invocation.block,
      label: `${autostart ? 'enabling' : 'disabling'} ${container}`,
      ...(progress === undefined ? {} : { progress }),
    },
  );
  if (outcome.result !== 'done')
    return { kind: 'container', name: container, outcome, success: '' };
  // What the boot will do, whoever decides it.
  const after = await service.container(container);
  const facts = { autostart: after.autostart, autostart_reasons: after.autostartReasons };
  return { kind: 'container', name: container, outcome, success: bootText(after), facts };
}

function runVerb(context: ActionContext, container: string): Promise<Report> {
  const { command, operands } = context.invocation;
  const [, second = ''] = operands;
  switch (command) {
    case 'start':
    case 'stop':
    case 'reboot':
    case 'freeze':
    case 'thaw':
      return runSimple(context, container, simpleVerbs[command]);
    case 'restart':
      return restart(context, container);
    case 'balloon':
      return balloon(context, container, second);
    case 'set':
      return setLimits(context, container, operands.slice(1));
    case 'attach':
      return moveLocker(context, 'MountLocker', container, second);
    case 'detach':
      return moveLocker(context, 'UnmountLocker', container, second);
    case 'enable':
    case 'disable':
      return setAutostart(context, container, command === 'enable');
    default:
      throw new Error(`"${command}" makes no job`);
  }
}

/**
 * Runs a command for each of its containers at once and reports each when it ends.
 * @returns the exit status: that of the first container that failed
 */
export async function runAction(
  service: Service,
  terminal: Terminal,
  invocation: Invocation,
): Promise<number> {
  const { command, operands } = invocation;
  const takesOne = ['balloon', 'set', 'attach', 'detach'].includes(command);
  const containers = takesOne ? operands.slice(0, 1) : [...new Set(operands)];
  if (command === 'balloon') sizeChange(operands[1] ?? '');
  if (command === 'set') limitsIn(operands.slice(1));
  const progress = await followProgress(service, terminal, invocation);
  const context = { service, terminal, invocation, progress };
  const guess = new NameGuess(service);
  const run = async (container: string): Promise<Report> => {
    const ended = await runVerb(context, container).catch((error: unknown) =>
      reportOfError('container', container, error),
    );
    const { outcome } = ended;
    const hint = await guess.hint(outcome.error, {
      container,
      locker: operands[1],
      others: containers,
    });
    const report = { ...ended, outcome: { ...outcome, hint: hint ?? outcome.hint } };
    printReport(context, report);
    return report;
  };
  const concurrency = settingCommands.includes(command) ? 1 : parallelJobs;
  const reports = await pMap(containers, run, { concurrency });
  terminal.status('');
  if (invocation.json) {
    terminal.printJson(
      reports.map((report) => reportJson(report, command)),
      invocation.json,
    );
  }
  return reports.find(({ outcome }) => outcome.status !== exitStatus.ok)?.outcome.status ?? 0;
}

/** "cancel": each job by its number. */
export async function cancelJobs(
  service: Service,
  terminal: Terminal,
  invocation: Invocation,
): Promise<number> {
  const ids = invocation.operands.map((text) => {
    const id = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (!(id <= 0xffff_ffff)) {
      const hint = '"lockerctl jobs" shows the numbers of jobs.';
      throw new CommandError(`"${text}" is not the number of a job`, exitStatus.usage, hint);
    }
    return id;
  });
  let status: number = exitStatus.ok;
  const results: JsonValue[] = [];
  for (const id of ids) {
    try {
      await service.cancelJob(id);
      if (!invocation.quiet && !invocation.json) terminal.print(`${id}: cancelled`);
      results.push({ job: id, result: 'cancelled', error: null, message: null });
    } catch (error) {
      const isUnknown = error instanceof DBusError && error.errorName === busError.unknownObject;
      const problem = isUnknown
        ? new CommandError('there is no such job', exitStatus.noSuchObject)
        : asCommandError(error);
      complain(terminal, `cannot cancel job ${id}`, problem);
      const name = error instanceof DBusError ? error.errorName : null;
      results.push({ job: id, result: 'failed', error: name, message: problem.message });
      if (status === exitStatus.ok) status = problem.status;
    }
  }
  if (invocation.json) terminal.printJson(results, invocation.json);
  return status;
}

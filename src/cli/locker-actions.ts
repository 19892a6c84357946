/** Commands that change a locker as such: a request, and a report of its end. */

import { knownVariants, Variant, type VariantMap } from '../bus/values.ts';
import { parseBytes } from '../model/byte-size.ts';
import { formatBytes } from '../model/memory-limit.ts';
import type { Invocation } from './arguments.ts';
import { asCommandError, exitStatus, UsageError } from './exit.ts';
import type { JsonValue } from './json.ts';
import type { LockerJobRequest, Service } from './lockerd-client.ts';
import { NameGuess } from './name-guess.ts';
import type { LockerInfo } from './object-info.ts';
import {
  followProgress,
  printReport,
  reportJson,
  reportOfError,
  type ActionContext,
  type Report,
} from './report.ts';
import { runJob } from './run-job.ts';
import type { Terminal } from './terminal.ts';

/** What a command asks for, and what is said of its success. */
interface Plan {
  readonly request: LockerJobRequest;
  readonly doing: string;
  /** How the locker is called afterwards; undefined for one that is forgotten. */
  readonly shown: string | undefined;
  readonly success: (
    before: LockerInfo | undefined,
    after: LockerInfo | undefined,
  ) => readonly [text: string, facts?: Readonly<Record<string, JsonValue>>];
}

function sizeOf(text: string, mayBeMore: boolean): { bytes: bigint; isMore: boolean } {
  const isMore = mayBeMore && text.startsWith('+');
  const bytes = parseBytes(isMore ? text.slice(1) : text);
  if (bytes !== undefined && bytes > 0n) return { bytes, isMore };
  const example = mayBeMore ? '20G or +5G' : '10G or 1.5T';
  throw new UsageError(
    `"${text}" is not a size: write it as ${example} (K, M, G and T by 1024)`,
    undefined,
  );
}

function createPlan(name: string, size: string, { store, locker }: Invocation): Plan {
  const { owner, mode, container, encrypt } = locker;
  const variants = knownVariants([
    ['store', 's', store],
    ['owner', 's', owner],
    ['mode', 'u', mode],
    ['container', 's', container],
    ['encrypt', 's', encrypt],
  ]);
  const { bytes } = sizeOf(size, false);
  return {
    request: { member: 'CreateLocker', signature: 'st', body: [name, bytes], variants },
    doing: 'creating',
    shown: name,
    success: (_, after) => [
      `created, ${formatBytes(after?.size ?? bytes)}${after?.store ? ` of store ${after.store}` : ''}`,
      { size: after?.size ?? bytes, store: after?.store ?? null },
    ],
  };
}

function growPlan(name: string, size: string): Plan {
  const { bytes, isMore } = sizeOf(size, true);
  const variants: VariantMap = isMore ? { by: new Variant('b', true) } : {};
  const json = (locker: LockerInfo | undefined): bigint | null => locker?.size ?? null;
  return {
    request: { member: 'GrowLocker', signature: 'st', body: [name, bytes], variants },
    doing: 'growing',
    shown: name,
    success: (before, after) => [
      after?.size === undefined ? 'grown' : `grown to ${formatBytes(after.size)}`,
      { before: json(before), after: json(after) },
    ],
  };
}

function snapshotPlan(name: string, snapshot: string, freeze: boolean): Plan {
  const variants: VariantMap = freeze ? { freeze: new Variant('b', true) } : {};
  return {
    request: { member: 'SnapshotLocker', signature: 'ss', body: [name, snapshot], variants },
    doing: 'snapshotting',
    shown: name,
    success: (before, after) => {
      // The service names it where the caller has not.
      const made = after?.snapshots.find((one) => before?.snapshots.includes(one) !== true);
      const shown = snapshot || made;
      return [`snapshot ${shown ?? 'made'}`, { snapshot: shown ?? null }];
    },
  };
}

function planOf(invocation: Invocation): Plan {
  const { command, operands, freeze } = invocation;
  const [name = '', second = '', third = ''] = operands;
  const variants: VariantMap = {};
  switch (command) {
    case 'create-locker':
      return createPlan(name, second, invocation);
    case 'grow-locker':
      return growPlan(name, second);
    case 'snapshot-locker':
      return snapshotPlan(name, second, freeze);
    case 'rename-locker':
      return {
        request: { member: 'RenameLocker', signature: 'ss', body: [name, second], variants },
        doing: 'renaming',
        shown: second,
        success: () => [`renamed to ${second}`, { name: second }],
      };
    case 'restore-locker':
      return {
        request: {
          member: 'RestoreLocker',
          signature: 'sss',
          body: [name, second, third],
          variants,
        },
        doing: 'restoring',
        shown: third,
        success: () => [`${second} restored as ${third}`, { snapshot: second, name: third }],
      };
    case 'forget-locker':
      return {
        request: { member: 'ForgetLocker', signature: 's', body: [name], variants },
        doing: 'forgetting',
        shown: undefined,
        success: () => ['forgotten'],
      };
    case 'adopt-locker':
      return {
        request: {
          member: 'AdoptLocker',
          signature: 's',
          body: [name],
          variants: knownVariants([['store', 's', invocation.store]]),
        },
        doing: 'adopting',
        shown: name,
        success: (_, after) => [
          `taken back${after?.store ? ` from store ${after.store}` : ''}`,
          { store: after?.store ?? null },
        ],
      };
    default:
      throw new Error(`"${command}" changes no locker`);
  }
}

/** Undefined where it is not there, or not yet. */
async function seen(service: Service, name: string | undefined): Promise<LockerInfo | undefined> {
  return name === undefined ? undefined : service.locker(name).catch(() => undefined);
}

async function run(context: ActionContext, plan: Plan, name: string): Promise<Report> {
  const { service, invocation, progress } = context;
  const isReported =
    invocation.block && ['GrowLocker', 'SnapshotLocker'].includes(plan.request.member);
  const before = isReported ? await seen(service, name) : undefined;
  const outcome = await runJob(service, plan.request, {
    block: invocation.block,
    label: `${plan.doing} ${name}`,
    ...(progress === undefined ? {} : { progress }),
  });
  if (outcome.result !== 'done') return { kind: 'locker', name, outcome, success: '' };
  const [success, facts = {}] = plan.success(before, await seen(service, plan.shown));
  return { kind: 'locker', name, outcome, success, facts };
}

/** Runs a command for its locker and reports the end. @returns the exit status */
export async function runLockerAction(
  service: Service,
  terminal: Terminal,
  invocation: Invocation,
): Promise<number> {
  const [name = ''] = invocation.operands;
  const plan = planOf(invocation);
  const progress = await followProgress(service, terminal, invocation);
  const context = { service, terminal, invocation, progress };
  const ended = await run(context, plan, name).catch((error: unknown) => {
    if (asCommandError(error).status === exitStatus.usage) throw error;
    return reportOfError('locker', name, error);
  });
  const { outcome } = ended;
  const container = invocation.locker.container ?? '';
  const hint = await new NameGuess(service).hint(outcome.error, { container, locker: name });
  const report = { ...ended, outcome: { ...outcome, hint: hint ?? outcome.hint } };
  terminal.status('');
  printReport(context, report);
  if (invocation.json) {
    terminal.printJson([reportJson(report, invocation.command)], invocation.json);
  }
  return outcome.status;
}

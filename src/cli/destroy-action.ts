/**
 * "destroy-locker": the only command that destroys data. It is for root alone, so that it asks neither the
 * service nor polkit but the helper, which does it for nobody else.
 */

import { HelperLockers } from '../adapters/helper-lockers.ts';
import { errorNames, storesSocket } from '../api/names.ts';
import { LockerdError } from '../model/errors.ts';
import type { Invocation } from './arguments.ts';
import { enter } from './enter.ts';
import { CommandError, exitStatus, reactionTo, UsageError } from './exit.ts';
import { formatProgress, type JobOutcome } from './run-job.ts';
import { printReport, reportJson, type Report } from './report.ts';
import type { Terminal } from './terminal.ts';

/** For tests, which have another one. */
const socketVariable = 'LOCKERD_STORES_SOCKET';

/** The store that a locker comes from, also one that is forgotten. */
async function storeOf(helper: HelperLockers, locker: string): Promise<string> {
  const seen = (await helper.look([locker])).get(locker)?.store;
  if (seen !== undefined) return seen;
  const stores = (await helper.stores())
    .filter(({ forgotten }) => forgotten.some(({ name }) => name === locker))
    .map(({ name }) => name);
  const [store] = stores;
  if (store === undefined) {
    throw new LockerdError('NoSuchLocker', `no store has a locker "${locker}" that lockerd made`);
  }
  if (stores.length === 1) return store;
  throw new UsageError(
    `several stores have a locker "${locker}": say --store=${stores.join(' or ')}`,
  );
}

async function destroy(invocation: Invocation, terminal: Terminal): Promise<JobOutcome> {
  const [locker = ''] = invocation.operands;
  const { snapshot = '' } = invocation;
  const helper = new HelperLockers(process.env[socketVariable] ?? storesSocket);
  try {
    const store = invocation.store ?? (await storeOf(helper, locker));
    const { warnings } = await helper.destroy({ locker, store, snapshot }, (phase, fraction) => {
      if (invocation.progress) terminal.status(`${phase} ${formatProgress(fraction)}`.trimEnd());
    });
    return { result: 'done', job: undefined, error: '', message: '', warnings, status: 0 };
  } catch (error) {
    if (!(error instanceof LockerdError)) throw error;
    const { code, message } = error;
    const name = errorNames[code];
    return { result: 'failed', job: undefined, error: name, message, ...reactionTo(name) };
  } finally {
    terminal.status('');
  }
}

/**
 * Destroys a locker of this host, or has another host do so.
 * @throws {CommandError} when this user cannot, or has not said clearly enough that it is meant
 */
export async function destroyLocker(invocation: Invocation, terminal: Terminal): Promise<number> {
  const { operands, host, yes, snapshot } = invocation;
  const [name = '', again = ''] = operands;
  if (name !== again) {
    throw new UsageError(`"${name}" and "${again}" are two names; give that of one locker twice`);
  }
  if (!yes) throw new UsageError('data is destroyed only with --yes, and cannot be had back');
  if (host !== undefined) return enter(invocation);
  if (process.geteuid?.() !== 0) {
    const message = 'only root can use "destroy-locker"';
    const hint = '"lockerctl forget-locker" leaves the data.';
    throw new CommandError(message, exitStatus.notPermitted, hint);
  }
  const outcome = await destroy(invocation, terminal);
  const success = snapshot === undefined ? 'destroyed' : `snapshot ${snapshot} destroyed`;
  const facts = snapshot === undefined ? {} : { snapshot };
  const report: Report = { kind: 'locker', name, outcome, success, facts };
  printReport({ terminal, invocation }, report);
  if (invocation.json) {
    terminal.printJson([reportJson(report, invocation.command)], invocation.json);
  }
  return outcome.status;
}

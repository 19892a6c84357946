/** Ends a move that did not end by itself: at the source, and at the target where that can be reached. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { forLockers, withSystemd } from '../helper/context.ts';
import { setAutostart } from '../helper/set-autostart.ts';
import { viewContainer } from '../helper/view.ts';
import { LockerdError } from '../model/errors.ts';
import { thawMarked } from './frozen.ts';
import { hold, release } from './guard.ts';
import { allIncoming, Incoming } from './incoming.ts';
import { claimLease, leaseState, lookMs } from './lease.ts';
import { withMoveLock } from './lock.ts';
import { abortIncoming, hostLxcpath } from './receiver.ts';
import { readRecord, recordedContainers, writeRecord, type MoveRecord } from './record.ts';
import { startUnit } from './run.ts';
import { Target } from './ssh.ts';

/** What became of a move that was undone. */
export interface Undone {
  /** `kept`: it had succeeded, as the target says, and now is ended here too. */
  readonly outcome: 'undone' | 'kept' | 'nothing';
  /** Where the target has what was copied; undefined where nobody knows. */
  readonly copy: string | undefined;
  readonly warnings: readonly string[];
}

type TargetState =
  | { readonly state: 'aborted' | 'unknown' | 'kept'; readonly copy: string | undefined }
  | { readonly state: 'unreachable'; readonly why: string };

/** Has the target undo what it has done. */
async function abortAtTarget({ target: host, container, id }: MoveRecord): Promise<TargetState> {
  try {
    // Another name for the socket: a connection that was cut may still have the usual one.
    const socket = randomBytes(8).toString('hex');
    const { target } = await Target.connect(host, socket);
    try {
      const answer = await target.ask('abort', { id, name: container });
      const state = answer.oneOf('state', ['aborted', 'unknown', 'kept'] as const);
      return { state, copy: answer.optionalText('copy') };
    } finally {
      target.close();
    }
  } catch (error) {
    return { state: 'unreachable', why: error instanceof Error ? error.message : String(error) };
  }
}

/** Asks again until the target answers, or surely runs nothing any more. */
async function abortOrOutlast(record: MoveRecord): Promise<TargetState> {
  for (;;) {
    const answer = await abortAtTarget(record);
    if (answer.state !== 'unreachable' || Date.now() >= record.leaseEndMs) return answer;
    await sleep(1000);
  }
}

/** Whatever else would start it, its unit does not: so a failure is no more than a warning. */
async function disableHere(container: string): Promise<readonly string[]> {
  try {
    const view = viewContainer(container);
    const set = await withSystemd(forLockers, (systemd) => setAutostart(systemd, view, false));
    return set.warnings;
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

/** The container is the target's: nothing here starts it any more, and what is there stays. */
export async function giveUp(record: MoveRecord): Promise<readonly string[]> {
  const { container, target } = record;
  hold(container, `it was moved to ${target}`);
  const warnings = await disableHere(container);
  writeRecord({ ...record, phase: 'moved' });
  return warnings;
}

/** The container is the source's again, and runs if it ran. */
async function takeBack(record: MoveRecord): Promise<void> {
  const { container, phase, wasRunning } = record;
  release(container);
  // While it was copied nothing was done to it, and who has stopped it since has meant that.
  // A second order to start does nothing where this process is killed before it notes down the first.
  if (wasRunning && phase !== 'copying') await startUnit(container);
  writeRecord({ ...record, phase: 'paused' });
}

/**
 * Undoes a move whose lock the caller holds, and starts the container again where it ran.
 * @throws {LockerdError} Failed where it cannot be known whether the target has the container
 */
export async function undo(record: MoveRecord): Promise<Undone> {
  const { container, phase, target } = record;
  if (phase === 'moved' || phase === 'paused') {
    return { outcome: 'nothing', copy: undefined, warnings: [] };
  }
  // Before it is told to start, a target does nothing by itself, so nobody waits for its answer.
  const mayRun = phase === 'starting' || phase === 'keeping';
  if (!mayRun) await takeBack(record);
  const answer = mayRun ? await abortOrOutlast(record) : await abortAtTarget(record);
  if (phase === 'keeping' && answer.state === 'kept') {
    return { outcome: 'kept', copy: undefined, warnings: await giveUp(record) };
  }
  if (phase === 'keeping' && answer.state === 'unreachable') {
    const why = `${target} cannot be asked whether it has ${container} for good: ${answer.why}`;
    const remedy = 'the container stays stopped here until it answers';
    throw new LockerdError('Failed', `${why}; ${remedy}`);
  }
  if (mayRun) await takeBack(record);
  const warnings =
    answer.state === 'unreachable' ? [`${target} could not be cleaned up: ${answer.why}`] : [];
  return { outcome: 'undone', copy: 'copy' in answer ? answer.copy : undefined, warnings };
}

/** The lock of a mover that lives is not waited for; that of one that dies is free soon. */
const abortWaitSec = 10;

/** `lockerctl move --abort`: undoes a move; one that has ended is forgotten, and its container may start here. */
export function abortMove(container: string): Promise<Undone> {
  return withMoveLock(container, abortWaitSec, async () => {
    const record = readRecord(container);
    if (record === undefined) {
      throw new LockerdError('Failed', `no move of "${container}" is known here`);
    }
    const undone = await undo(record);
    if (record.phase === 'moved') release(container);
    return undone;
  });
}

/** More than a move can last. */
const watchMaxSec = 30 * 24 * 3600;

/** Waits for the end of whoever moves, exports or imports the container, and undoes what that has not ended. */
export async function watchMove(container: string): Promise<void> {
  await withMoveLock(container, watchMaxSec, async () => {
    for (;;) {
      try {
        await thawMarked(container);
        for (const incoming of allIncoming(hostLxcpath())) {
          if (incoming.container === container) await abortIncoming(incoming);
        }
        const record = readRecord(container);
        if (record !== undefined) await undo(record);
        return;
      } catch (error) {
        console.error(`<4>${error instanceof Error ? error.message : String(error)}`);
        await sleep(30_000);
      }
    }
  });
}

/** Throws what went wrong first, after all the rest. */
function throwFirst(ends: readonly PromiseSettledResult<void>[]): void {
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

/** As a target, after a boot. What cannot be undone for one container keeps no other one from it. */
async function recoverIncoming(): Promise<void> {
  const ends: PromiseSettledResult<void>[] = [];
  for (const incoming of allIncoming(hostLxcpath())) {
    ends.push(...(await Promise.allSettled([abortIncoming(incoming)])));
  }
  throwFirst(ends);
}

/** As a source, after a boot. */
async function recoverMove(container: string): Promise<void> {
  const record = readRecord(container);
  if (record !== undefined && !['moved', 'paused'].includes(record.phase)) {
    await watchMove(container);
  }
}

/** After a boot: undoes what the last one has left, at both ends. */
export async function recover(): Promise<void> {
  const moves = recordedContainers().map(recoverMove);
  throwFirst(await Promise.allSettled([recoverIncoming(), ...moves]));
}

/** At the target: ends what runs when the source is not heard in time. */
export async function expire(id: string): Promise<void> {
  for (;;) {
    const state = leaseState(id);
    if (state === 'none') return;
    if (state === 'ended' && claimLease(id)) break;
    await sleep(lookMs);
  }
  const incoming = Incoming.find(hostLxcpath(), id);
  if (incoming !== undefined) await abortIncoming(incoming);
}

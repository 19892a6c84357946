/** Brings to an end what changes of lockers have left that were killed, at whatever step. */

import { LockerdError } from '../model/errors.ts';
import { printable } from '../model/unit-syntax.ts';
import { Tools } from '../stores/tools.ts';
import { recoverAdoption } from './adopt-locker.ts';
import type { Change } from './changes.ts';
import { lockersOf, readChange, readChanges, removeUnwritten } from './changes.ts';
import { recoverDestroy } from './destroy-locker.ts';
import { recoverForget } from './forget-locker.ts';
import { recoverGrowth } from './grow-locker.ts';
import type { LockerContext } from './locker-context.ts';
import type { Needed } from './locker-locks.ts';
import { alone, withLockerLocks } from './locker-locks.ts';
import { recoverMaking } from './make-locker.ts';
import { recoverRename } from './rename-locker.ts';
import { recoverSnapshot } from './snapshot-locker.ts';

async function recoverOne(context: LockerContext, change: Change): Promise<void> {
  switch (change.verb) {
    case 'create':
    case 'restore':
      return recoverMaking(context, change);
    case 'adopt':
      return recoverAdoption(context, change);
    case 'rename':
      return recoverRename(context, change);
    case 'grow':
      return recoverGrowth(context, change);
    case 'snapshot':
      return recoverSnapshot(context, change);
    case 'forget':
      return recoverForget(context, change);
    case 'destroy':
      return recoverDestroy(context, change);
  }
}

/** A change that could not be brought to an end; its record stays. */
export interface Unfinished {
  readonly change: string;
  readonly verb: string;
  readonly locker: string;
  readonly problem: string;
}

function log(level: number, text: string): void {
  process.stderr.write(`<${level}>${printable(text)}\n`);
}

/** What a request has for itself already, with the descriptors of its locks. */
interface Held extends Needed {
  readonly locks: readonly number[];
}

/** How long recovery waits for the processes of a helper that is just being killed; seconds. */
export const dyingSec = 100;

function wordsOf({ id, verb, locker }: Change): string {
  return `change ${id} (${verb} of locker "${locker}")`;
}

/** Why a change could not be brought to its end, in words; undefined where it was. */
async function endOne(context: LockerContext, change: Change): Promise<string | undefined> {
  try {
    // Nobody can cancel what has to be done.
    await recoverOne({ ...context, signal: undefined }, change);
    log(5, `${wordsOf(change)} was not finished, and has been brought to an end`);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * Ends one change if it was killed, which is so where nobody has the locks of its lockers. Returns what is in
 * the way, in words. Throws TimedOut where somebody has them.
 */
async function endKilled(
  context: LockerContext,
  found: Change,
  held: Held,
  waitSec: number,
): Promise<string | undefined> {
  const lockers = lockersOf(found).filter((name) => !held.lockers.includes(name));
  const isFreezing = found.verb === 'snapshot' && found.frozen.length > 0;
  const needed = { lockers, freezes: isFreezing && held.freezes !== true };
  return withLockerLocks(needed, { waitSec }, async (locks) => {
    // Whoever had the locks may have come to the end.
    const change = readChange(found.id);
    if (change === undefined) return undefined;
    const tools = new Tools({ locks: [...held.locks, ...locks], alone });
    return endOne({ ...context, tools }, change);
  });
}

/** Whether an error says that a change is under way that has none of the lockers that are held. */
function isElsewhere(error: unknown, change: Change, held: Held): boolean {
  const isUnderWay = error instanceof LockerdError && error.code === 'TimedOut';
  return isUnderWay && !lockersOf(change).some((name) => held.lockers.includes(name));
}

/**
 * Ends all changes that are recorded and not under way, also those that are recorded meanwhile. What fails is in
 * the journal and in the answer, and is tried again the next time. Throws TimedOut where a change is under way
 * that has one of the lockers that are held as well.
 */
export async function recover(
  context: LockerContext,
  held: Held,
  waitSec: number,
): Promise<Unfinished[]> {
  await removeUnwritten(alone);
  const seen = new Set<string>();
  const unfinished: Unfinished[] = readChanges().broken.map((path) => {
    const problem = `${path} is no record of a change; look at what it says, and remove it`;
    return { change: path, verb: '', locker: '', problem };
  });
  for (;;) {
    const change = readChanges().changes.find(({ id }) => !seen.has(id));
    if (change === undefined) break;
    const { verb, locker, id } = change;
    seen.add(id);
    try {
      const problem = await endKilled(context, change, held, waitSec);
      if (problem !== undefined) unfinished.push({ change: id, verb, locker, problem });
    } catch (error) {
      if (!isElsewhere(error, change, held)) throw error;
    }
  }
  for (const { change, verb, locker, problem } of unfinished) {
    log(
      3,
      `change ${change} (${verb} of locker "${locker}") cannot be brought to an end: ${problem}`,
    );
  }
  return unfinished;
}

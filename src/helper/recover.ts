/** Brings to an end what changes of lockers have left that were killed, at whatever step. */

import { readdirSync, rmSync } from 'node:fs';
import { printable } from '../model/unit-syntax.ts';
import type { Change } from './changes.ts';
import { changesDirectory, readChanges } from './changes.ts';
import { recoverDestroy } from './destroy-locker.ts';
import { recoverForget } from './forget-locker.ts';
import { recoverGrowth } from './grow-locker.ts';
import type { LockerContext } from './locker-context.ts';
import { recoverMaking } from './make-locker.ts';
import { recoverRename } from './rename-locker.ts';
import { recoverSnapshot } from './snapshot-locker.ts';

async function recoverOne(context: LockerContext, change: Change): Promise<void> {
  switch (change.verb) {
    case 'create':
    case 'restore':
      return recoverMaking(context, change);
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

/** What a killed helper was just writing; it has changed nothing by it. */
function removeUnwritten(): void {
  for (const name of readdirSync(changesDirectory)) {
    if (/^\.[0-9a-f]{16}\.json\.new$/.test(name)) rmSync(`${changesDirectory}/${name}`);
  }
}

function log(level: number, text: string): void {
  process.stderr.write(`<${level}>${printable(text)}\n`);
}

/**
 * Ends all changes that are recorded; no other one may be under way. What fails is in the journal and in the
 * answer, and is tried again the next time.
 */
export async function recover(context: LockerContext): Promise<Unfinished[]> {
  const { changes, broken } = readChanges();
  const unfinished: Unfinished[] = broken.map((path) => {
    const problem = `${path} is no record of a change; look at what it says, and remove it`;
    return { change: path, verb: '', locker: '', problem };
  });
  if (changes.length > 0) removeUnwritten();
  for (const change of changes) {
    const { verb, locker, id } = change;
    const what = `change ${id} (${verb} of locker "${locker}") was not finished`;
    try {
      // Nobody can cancel what has to be done.
      await recoverOne({ ...context, signal: undefined }, change);
      log(5, `${what}, and has been brought to an end`);
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      unfinished.push({ change: id, verb, locker, problem });
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

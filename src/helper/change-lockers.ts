/** One change of a locker at a time, after what earlier ones have left was brought to an end. */

import { statSync } from 'node:fs';
import { LockerdError } from '../model/errors.ts';
import type { Making } from '../stores/driver.ts';
import { Tools } from '../stores/tools.ts';
import { lockersOf, pathOfChange, readChanges } from './changes.ts';
import { forStores, withSystemd } from './context.ts';
import { hasLeft } from './input.ts';
import type { LockerContext } from './locker-context.ts';
import type { Needed } from './locker-locks.ts';
import { alone, lockerWaitSec, withLockerLocks } from './locker-locks.ts';
import { Progress } from './progress.ts';
import type { Unfinished } from './recover.ts';
import { recover } from './recover.ts';

/** What is done with a locker right now, for whoever waits for it. */
function whatWith(locker: string): string {
  const change = readChanges().changes.find((one) => lockersOf(one).includes(locker));
  const what = `change of locker "${locker}"`;
  if (change === undefined) return what;
  const since = statSync(pathOfChange(change.id), { throwIfNoEntry: false })?.mtimeMs;
  const time = since === undefined ? '' : ` for ${Math.round((Date.now() - since) / 1000)} s`;
  return `${what} (${change.verb}${time})`;
}

/**
 * Makes a change of lockers while no other one has any of them. What was killed is brought to an end first, of
 * these and of all lockers that nobody has; `unfinished` is what could not be. Throws TimedOut and Cancelled.
 */
export async function changeLockers<T>(
  signal: AbortSignal | undefined,
  needed: Needed,
  use: (context: LockerContext, unfinished: readonly Unfinished[]) => Promise<T>,
  recoverWaitSec = 0,
): Promise<T> {
  const report = new Progress(() => undefined);
  const progress: Making['progress'] = (phase, fraction) => {
    report.report(phase, fraction);
  };
  const change = (locks: readonly number[]): Promise<T> =>
    withSystemd(forStores, async (systemd) => {
      const context = { systemd, tools: new Tools({ locks, alone }), signal, progress };
      const unfinished = await recover(context, { ...needed, locks }, recoverWaitSec);
      if (hasLeft(signal)) throw new LockerdError('Cancelled', 'the caller has left');
      return use(context, unfinished);
    });
  return withLockerLocks(needed, { waitSec: lockerWaitSec, signal, whatWith }, change);
}

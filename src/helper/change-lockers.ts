/** One change of lockers at a time, after what earlier ones have left was brought to an end. */

import { LockerdError } from '../model/errors.ts';
import type { Making } from '../stores/driver.ts';
import { privatePlace } from '../stores/private-mounts.ts';
import { Tools } from '../stores/tools.ts';
import { forLockers, withSystemd } from './context.ts';
import { hasLeft } from './input.ts';
import { withLock } from './lock.ts';
import type { LockerContext } from './locker-context.ts';
import { Progress } from './progress.ts';
import type { Unfinished } from './recover.ts';
import { recover } from './recover.ts';

/** Also the place of private mounts: a directory of root's that is there as long as a helper is. */
export const lockersLock = { directory: privatePlace, waitSec: 120, what: 'change of lockers' };

/**
 * Makes a change of lockers while no other one is under way. What one that was killed has left is brought to
 * an end first; `unfinished` is what could not be.
 */
export async function changeLockers<T>(
  signal: AbortSignal | undefined,
  use: (context: LockerContext, unfinished: readonly Unfinished[]) => Promise<T>,
): Promise<T> {
  const { directory, waitSec, what } = lockersLock;
  const report = new Progress(() => undefined);
  const change = (lock: number | undefined): Promise<T> =>
    withSystemd(forLockers, async (systemd) => {
      const progress: Making['progress'] = (phase, fraction) => {
        report.report(phase, fraction);
      };
      const context = { systemd, tools: new Tools(lock), signal, progress };
      const unfinished = await recover(context);
      if (hasLeft(signal)) throw new LockerdError('Cancelled', 'the caller has left');
      return use(context, unfinished);
    });
  return withLock(directory, waitSec, change, { signal, what });
}

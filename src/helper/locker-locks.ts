/**
 * What keeps changes of lockers apart: a lock for each locker, which a change has from its beginning to its end,
 * and one lock for what all of them share, which nobody has for long. The first is also what tells a change that
 * is under way from one that was killed: the kernel releases it with the last process of the change.
 */

import { namesIn } from '../host/names-in.ts';
import { LockerdError } from '../model/errors.ts';
import { privatePlace } from '../stores/private-mounts.ts';
import { withLock } from './lock.ts';

/** A directory of root's that is there as long as a helper is. */
const shared = privatePlace;
const ofLockers = `${privatePlace}/lockers`;

/** Seconds that a change waits for another one of the same locker. */
export const lockerWaitSec = 120;

/** Those who write files that all lockers share, one after the other. Not to be called within itself. */
export async function alone<T>(use: () => Promise<T> | T): Promise<T> {
  const what = 'change of what lockers share';
  return withLock(shared, lockerWaitSec, async () => use(), { what });
}

/** No locker has this name. */
const frozen = '.frozen';

/** What a change needs for itself. */
export interface Needed {
  /** Lockers that it changes, or whose snapshots it reads. */
  readonly lockers: readonly string[];
  /** Whether it freezes containers: no other one may let them go on meanwhile. */
  readonly freezes?: boolean;
}

interface Waiting {
  readonly waitSec: number;
  readonly signal?: AbortSignal | undefined;
  /** What another one does with a locker, for the error. */
  readonly whatWith?: (locker: string) => string;
}

/**
 * Holds the locks of lockers until `use` ends, and until whatever got the descriptors has ended that it is called
 * with. Throws TimedOut and Cancelled.
 */
export async function withLockerLocks<T>(
  { lockers, freezes = false }: Needed,
  { waitSec, signal, whatWith }: Waiting,
  use: (locks: readonly number[]) => Promise<T>,
): Promise<T> {
  // Always in the same order, so that no two wait for each other.
  const names = [...new Set(lockers), ...(freezes ? [frozen] : [])].sort();
  const lockFrom = async (index: number, locks: readonly number[]): Promise<T> => {
    const name = names[index];
    if (name === undefined) return use(locks);
    const what = (): string =>
      name === frozen
        ? 'snapshot, for which containers stand still,'
        : (whatWith?.(name) ?? `change of locker "${name}"`);
    return withLock(
      `${ofLockers}/${name}`,
      waitSec,
      (lock) => lockFrom(index + 1, lock === undefined ? locks : [...locks, lock]),
      { isMade: true, signal, what },
    );
  };
  return lockFrom(0, []);
}

/** Removes what killed helpers have left of locks, which is of no harm. */
export async function sweepLocks(): Promise<void> {
  for (const name of namesIn(ofLockers)) {
    try {
      await withLock(`${ofLockers}/${name}`, 0, () => Promise.resolve(), { isMade: true });
    } catch (error) {
      if (!(error instanceof LockerdError)) throw error;
      // Somebody has it.
    }
  }
}

/** Requests about stores and what comes from them, each to the file that serves it. */

import { adoptLocker } from './adopt-locker.ts';
import { changeLockers } from './change-lockers.ts';
import { createLocker } from './create-locker.ts';
import { destroyLocker } from './destroy-locker.ts';
import { forgetLocker } from './forget-locker.ts';
import { growLocker } from './grow-locker.ts';
import { listStores } from './list-stores.ts';
import type { ChangeLockers, LockerContext } from './locker-context.ts';
import { sweepLocks } from './locker-locks.ts';
import { lookAtLockers } from './look-lockers.ts';
import type { Unfinished } from './recover.ts';
import { dyingSec } from './recover.ts';
import { renameLocker } from './rename-locker.ts';
import type { StoreRequest } from './request.ts';
import { restoreLocker } from './restore-locker.ts';
import { listSnapshots, snapshotLocker } from './snapshot-locker.ts';

/** @param signal aborts when the caller has left */
export async function serveStores(
  request: StoreRequest,
  uid: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Record<string, unknown>> {
  const change: ChangeLockers = (needed, use) => changeLockers(signal, needed, use);
  switch (request.verb) {
    case 'create-locker':
      return createLocker(request, change);
    case 'grow-locker':
      return growLocker(request, change);
    case 'rename-locker':
      return renameLocker(request, change);
    case 'snapshot-locker':
      return snapshotLocker(request, change);
    case 'list-snapshots':
      return listSnapshots(request.locker);
    case 'restore-locker':
      return restoreLocker(request, change);
    case 'forget-locker':
      return forgetLocker(request.locker, change);
    case 'adopt-locker':
      return adoptLocker(request, change);
    case 'list-stores':
      return listStores();
    case 'look-lockers':
      await lookAtLockers(request.lockers, (locker, seen) => {
        process.stdout.write(`${JSON.stringify({ locker, seen })}\n`);
      });
      return {};
    case 'destroy-locker':
      return destroyLocker(request, uid, change);
    case 'recover':
      return recoverAll();
  }
}

/** Brings all that was killed to an end; `unfinished` is what could not be. */
async function recoverAll(): Promise<Record<string, unknown>> {
  const answer = async (_: LockerContext, unfinished: readonly Unfinished[]) => {
    await sweepLocks();
    return { unfinished };
  };
  return changeLockers(undefined, { lockers: [] }, answer, dyingSec);
}

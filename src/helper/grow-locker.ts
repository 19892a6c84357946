import { LockerdError } from '../model/errors.ts';
import { formatBytes } from '../model/memory-limit.ts';
import { driverOf } from '../stores/drivers.ts';
import { layerFor } from '../stores/layers.ts';
import { hostMounts } from './context.ts';
import type { GrowChange } from './changes.ts';
import { endChange, newChangeId, recordChange } from './changes.ts';
import type { ChangeLockers, LockerContext } from './locker-context.ts';
import { isMounted } from './locker-context.ts';
import { findMadeLocker, viewLockers } from './locker-view.ts';
import { checkMaxSize } from './make-locker.ts';
import type { GrowLockerRequest } from './request.ts';

/** The size that is asked for; throws InvalidArgs for a smaller one than now. */
function wantedSize({ locker, size }: GrowLockerRequest, now: bigint): bigint {
  const wanted = size.startsWith('+') ? now + BigInt(size.slice(1)) : BigInt(size);
  if (wanted >= now) return wanted;
  throw new LockerdError(
    'InvalidArgs',
    `locker "${locker}" has ${formatBytes(now)} already, and lockerd makes no locker smaller`,
  );
}

/** Grows a volume with all that is on it. Can be repeated. */
async function grow({ tools, progress }: LockerContext, change: GrowChange): Promise<void> {
  const { locker, store, size, mountPoint, encrypt } = change;
  const place = isMounted(mountPoint) ? mountPoint : undefined;
  const layer = layerFor(encrypt, { locker, tools, progress });
  await driverOf(store, tools, hostMounts).grow(locker, BigInt(size), layer, place);
}

/** Brings a killed growth to its end: what has grown cannot shrink. */
export async function recoverGrowth(context: LockerContext, change: GrowChange): Promise<void> {
  await grow(context, change);
  endChange(change);
}

/**
 * Makes a locker larger while it is used, with its file system. Throws NoSuchLocker, NoSuchStore, InvalidArgs,
 * LockerBusy, NoSpace and Failed; repeating it goes on with what has failed.
 */
export async function growLocker(
  request: GrowLockerRequest,
  changeLockers: ChangeLockers,
): Promise<Record<string, unknown>> {
  const { locker } = request;
  return changeLockers({ lockers: [locker] }, async (context) => {
    const { store, origin, mountPoint } = findMadeLocker(viewLockers(), locker);
    const driver = driverOf(store, context.tools, hostMounts);
    const stored = (await driver.lockers()).find((one) => one.locker === locker);
    if (stored === undefined) {
      const place = driver.place(locker);
      throw new LockerdError('NoSuchLocker', `locker "${locker}" has lost its place ${place}`);
    }
    if (stored.size === undefined) {
      throw new LockerdError(
        'InvalidArgs',
        `locker "${locker}" has no size of its own: it may take all of store "${store.name}"`,
      );
    }
    const wanted = wantedSize(request, stored.size);
    checkMaxSize(store, wanted);
    const { size, warnings } = await driver.check(locker, wanted, stored.size);
    const change: GrowChange = {
      verb: 'grow',
      id: newChangeId(),
      locker,
      store,
      size: size.toString(),
      mountPoint,
      encrypt: origin.encrypt ?? 'no',
    };
    await recordChange(change, context.tools.alone);
    try {
      context.progress('file-system', 0);
      await grow(context, change);
    } finally {
      endChange(change);
    }
    return { size: size.toString(), ...(warnings.length === 0 ? {} : { warnings }) };
  });
}

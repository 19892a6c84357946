import { randomUUID } from 'node:crypto';
import { LockerdError } from '../model/errors.ts';
import { driverOf } from '../stores/drivers.ts';
import { layerFor } from '../stores/layers.ts';
import { hostMounts } from './context.ts';
import { newChangeId } from './changes.ts';
import type { ChangeLockers } from './locker-context.ts';
import { findMadeLocker, viewLockers } from './locker-view.ts';
import { checkMaxSize, makeLocker, newMountPoint, refuseStored } from './make-locker.ts';
import { definitionFor } from './new-definition.ts';
import type { RestoreLockerRequest } from './request.ts';

/**
 * Makes a new locker of a snapshot of another one, which stays as it is. Throws NoSuchLocker, NoSuchSnapshot,
 * NoSuchStore, LockerExists, InvalidArgs, NoSpace, Cancelled and Failed.
 */
export async function restoreLocker(
  { locker, snapshot, name, creator }: RestoreLockerRequest,
  changeLockers: ChangeLockers,
): Promise<Record<string, unknown>> {
  return changeLockers({ lockers: [locker, name] }, async (context) => {
    const view = viewLockers();
    const { store, origin } = findMadeLocker(view, locker);
    const mountPoint = newMountPoint(view, name);
    const driver = driverOf(store, context.tools, hostMounts);
    const stored = (await driver.lockers()).find((one) => one.locker === locker);
    const copy = stored?.snapshots.find((one) => one.name === snapshot);
    if (copy === undefined) {
      throw new LockerdError(
        'NoSuchSnapshot',
        `locker "${locker}" has no snapshot "${snapshot}"; see "lockerctl snapshots"`,
      );
    }
    if (copy.problem !== undefined) {
      throw new LockerdError(
        'Failed',
        `snapshot "${snapshot}" of locker "${locker}" cannot be restored: ${copy.problem}`,
      );
    }
    checkMaxSize(store, copy.size);
    const { warnings } = await driver.check(name, copy.size);
    await refuseStored(driver, name);
    const id = newChangeId();
    const { encrypt } = origin;
    const { tools, progress } = context;
    const uuid = encrypt === undefined ? undefined : randomUUID();
    const layer = layerFor(encrypt ?? 'no', { locker: name, tools, progress, uuid });
    layer.check();
    await makeLocker(
      context,
      {
        verb: 'restore',
        from: locker,
        ...(uuid === undefined ? {} : { uuid }),
        id,
        locker: name,
        store,
        definition: definitionFor(driver, layer, {
          locker: name,
          mountPoint,
          creator: Number(creator),
          change: id,
          encrypt,
        }),
      },
      driver,
      (making) => driver.restore({ locker, snapshot }, name, layer, making),
    );
    return { ...(warnings.length === 0 ? {} : { warnings }) };
  });
}

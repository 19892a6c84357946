import { LockerdError } from '../model/errors.ts';
import { driverOf } from '../stores/drivers.ts';
import { layerFor } from '../stores/layers.ts';
import { hostMounts } from './context.ts';
import type { DestroyChange } from './changes.ts';
import { endChange, newChangeId, recordChange } from './changes.ts';
import { dismissCreator } from './forgotten.ts';
import { checkForgettable, definedOf, forget } from './forget-locker.ts';
import type { ChangeLockers, LockerContext } from './locker-context.ts';
import { refuseUsed } from './locker-users.ts';
import type { KnownLocker } from './locker-view.ts';
import { storeOf, viewLockers } from './locker-view.ts';
import type { DestroyLockerRequest } from './request.ts';

/** Can be repeated. */
async function destroy(context: LockerContext, change: DestroyChange): Promise<void> {
  const { locker, snapshot, store, defined, encrypt } = change;
  if (defined !== undefined) await forget(context, defined, encrypt);
  const driver = driverOf(store, context.tools, hostMounts);
  if (snapshot === undefined) {
    // Nobody knows of a forgotten locker whether it is encrypted.
    const layer = layerFor('key-file', { locker, tools: context.tools });
    const isVolume = store.type === 'lvm' || store.type === 'lvm-thin';
    if (isVolume) await layer.discard(driver.place(locker));
  }
  await driver.destroy(locker, snapshot);
  if (snapshot === undefined) dismissCreator(store.name, locker);
}

/** Brings a destruction to its end that root has asked for: half a locker is of no use to anybody. */
export async function recoverDestroy(context: LockerContext, change: DestroyChange): Promise<void> {
  await destroy(context, change);
  endChange(change);
}

/** Throws where the locker of that name is not the one that the store has. */
function checkIsOf(known: KnownLocker | undefined, locker: string, store: string): void {
  if (known === undefined || known.origin?.store === store) return;
  throw new LockerdError(
    'InvalidArgs',
    `locker "${locker}" (${known.file}) is not from store "${store}"; name its own store`,
  );
}

/**
 * Destroys a locker with its data, or one of its snapshots: the only request that does, and root's alone.
 * Throws AccessDenied, NoSuchStore, NoSuchLocker, NoSuchSnapshot, LockerBusy, InvalidArgs and Failed.
 */
export async function destroyLocker(
  { locker, store: storeName, snapshot }: DestroyLockerRequest,
  uid: number | undefined,
  changeLockers: ChangeLockers,
): Promise<Record<string, unknown>> {
  if (uid !== 0) throw new LockerdError('AccessDenied', 'only root may have data destroyed');
  return changeLockers({ lockers: [locker] }, async (context) => {
    const view = viewLockers();
    const store = storeOf(view, storeName);
    const driver = driverOf(store, context.tools, hostMounts);
    const known = view.lockers.get(locker);
    checkIsOf(known, locker, storeName);
    const stored = (await driver.lockers()).find((one) => one.locker === locker);
    if (stored === undefined) {
      throw new LockerdError(
        'NoSuchLocker',
        `store "${storeName}" has no locker "${locker}"; see "lockerctl stores"`,
      );
    }
    const names = stored.snapshots.map(({ name }) => name);
    if (snapshot !== undefined && !names.includes(snapshot)) {
      throw new LockerdError(
        'NoSuchSnapshot',
        `locker "${locker}" has no snapshot "${snapshot}"; see "lockerctl snapshots"`,
      );
    }
    if (snapshot === undefined && names.length > 0) {
      throw new LockerdError(
        'LockerBusy',
        `locker "${locker}" has snapshots (${names.join(', ')}); destroy them first`,
      );
    }
    const isDefined = snapshot === undefined && known !== undefined;
    if (isDefined) {
      checkForgettable(known);
      await refuseUsed(context.systemd, view, known);
    }
    const change: DestroyChange = {
      verb: 'destroy',
      id: newChangeId(),
      locker,
      store,
      ...(snapshot === undefined ? {} : { snapshot }),
      ...(isDefined ? { defined: definedOf(known) } : {}),
      encrypt: known?.origin?.encrypt ?? 'no',
    };
    await recordChange(change, context.tools.alone);
    try {
      await destroy(context, change);
    } finally {
      endChange(change);
    }
    return {};
  });
}

import { LockerdError } from '../model/errors.ts';
import { driverOf } from '../stores/drivers.ts';
import { layerFor } from '../stores/layers.ts';
import { encryptionOf } from '../stores/luks.ts';
import type { StoreSettings } from '../host/store-settings.ts';
import { hostMounts } from './context.ts';
import type { AdoptChange } from './changes.ts';
import { endChange, newChangeId, recordChange } from './changes.ts';
import { dismissCreator, rememberedCreator } from './forgotten.ts';
import type { ChangeLockers, LockerContext } from './locker-context.ts';
import { define } from './locker-definitions.ts';
import { storeOf, viewLockers } from './locker-view.ts';
import { alsoFailed, newMountPoint } from './make-locker.ts';
import { definitionFor, isDefined, mountDefined, withdraw } from './new-definition.ts';
import type { AdoptLockerRequest } from './request.ts';

/** Mounts what is defined, which says who had it made. Can be repeated. */
async function bringUp(context: LockerContext, { definition }: AdoptChange): Promise<void> {
  await mountDefined(context, definition);
  dismissCreator(definition.store, definition.locker);
}

/** Takes the definition away again. The data and its key stay in any case. Can be repeated. */
function undo(context: LockerContext, change: AdoptChange): Promise<void> {
  return withdraw(context, change, () => Promise.resolve());
}

/** Brings a killed change to an end: goes on if the locker was defined, and undoes it otherwise. */
export async function recoverAdoption(context: LockerContext, change: AdoptChange): Promise<void> {
  if (!isDefined(change)) return undo(context, change);
  await bringUp(context, change);
  endChange(change);
}

/** How what a store has is to be opened: only volumes can be encrypted. */
function encryptionIn({ type }: StoreSettings, place: string): string | undefined {
  return type === 'lvm' || type === 'lvm-thin' ? encryptionOf(place) : undefined;
}

/**
 * Defines and mounts a locker that was forgotten, or whose definition was lost. Who had it made is who had it made
 * before, where that is known. Throws NoSuchStore, NoSuchLocker, LockerExists, InvalidArgs and Failed; then all is
 * as it was.
 */
export async function adoptLocker(
  { locker, store: storeName, creator }: AdoptLockerRequest,
  changeLockers: ChangeLockers,
): Promise<Record<string, unknown>> {
  return changeLockers({ lockers: [locker] }, async (context) => {
    const view = viewLockers();
    const mountPoint = newMountPoint(view, locker);
    const store = storeOf(view, storeName);
    const driver = driverOf(store, context.tools, hostMounts);
    if (!(await driver.lockers()).some((one) => one.locker === locker)) {
      throw new LockerdError(
        'NoSuchLocker',
        `store "${storeName}" has no locker "${locker}" that lockerd has made; see "lockerctl stores"`,
      );
    }
    const encrypt = encryptionIn(store, driver.place(locker));
    const layer = layerFor(encrypt ?? 'no', { locker, tools: context.tools });
    layer.check();
    const id = newChangeId();
    const change: AdoptChange = {
      verb: 'adopt',
      id,
      locker,
      store,
      definition: definitionFor(driver, layer, {
        locker,
        mountPoint,
        creator: rememberedCreator(store.name, locker) ?? Number(creator),
        change: id,
        encrypt,
      }),
    };
    await recordChange(change, context.tools.alone);
    try {
      context.progress('mount', 0);
      await context.tools.alone(async () => {
        await layer.define(driver.place(locker));
        define(change.definition, store.definition);
      });
      await bringUp(context, change);
    } catch (error) {
      await undo(context, change).catch((second: unknown) => {
        throw alsoFailed(error, second);
      });
      throw error;
    }
    endChange(change);
    return {};
  });
}

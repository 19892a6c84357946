import { LockerdError } from '../model/errors.ts';
import { driverOf } from '../stores/drivers.ts';
import { layerFor } from '../stores/layers.ts';
import { hostMounts } from './context.ts';
import type { RenameChange } from './changes.ts';
import { endChange, newChangeId, recordChange } from './changes.ts';
import { checkForgettable, definedOf } from './forget-locker.ts';
import type { ChangeLockers, LockerContext } from './locker-context.ts';
import { isMounted, mountLocker, unmountLocker } from './locker-context.ts';
import {
  define,
  enable,
  removeMountPoint,
  removeUnfinished,
  undefine,
} from './locker-definitions.ts';
import { namedBy, refuseUsed } from './locker-users.ts';
import { findMadeLocker, viewLockers } from './locker-view.ts';
import { newMountPoint, refuseStored } from './make-locker.ts';

/** Whether the definition of the new name is there. */
function isRenamed({ definition, id }: RenameChange): boolean {
  return viewLockers().lockers.get(definition.locker)?.origin?.change === id;
}

/** What follows the new definition. Can be repeated. */
async function goOn(context: LockerContext, change: RenameChange): Promise<void> {
  const { before, definition, wasMounted } = change;
  const { tools } = context;
  enable(definition);
  await tools.alone(() => undefine(before));
  await context.systemd.reload();
  const layer = layerFor(before.encrypt, { locker: before.name, tools });
  await tools.alone(() => layer.forget());
  removeMountPoint(before.mountPoint);
  if (wasMounted) await mountLocker(context, definition.mountPoint);
  endChange(change);
}

/** Gives everything its old name. Can be repeated. */
async function undo(context: LockerContext, change: RenameChange): Promise<void> {
  const { before, definition, store, wasMounted } = change;
  const { tools } = context;
  const layer = layerFor(before.encrypt, { locker: definition.locker, tools });
  await layer.close();
  await tools.alone(async () => {
    removeUnfinished(definition);
    await layer.forget();
  });
  await driverOf(store, tools, hostMounts).rename(definition.locker, before.name);
  if (wasMounted) await mountLocker(context, before.mountPoint);
  endChange(change);
}

export async function recoverRename(context: LockerContext, change: RenameChange): Promise<void> {
  if (isRenamed(change)) await goOn(context, change);
  else await undo(context, change);
}

/** Unmounts, renames and defines anew. */
async function rename(context: LockerContext, change: RenameChange): Promise<void> {
  const { before, definition, store } = change;
  const { tools } = context;
  const driver = driverOf(store, tools, hostMounts);
  await unmountLocker(tools, before);
  await layerFor(before.encrypt, { locker: before.name, tools }).close();
  await driver.rename(before.name, definition.locker);
  const layer = layerFor(before.encrypt, { locker: definition.locker, tools });
  await tools.alone(async () => {
    await layer.define(driver.place(definition.locker));
    define(definition, store.definition);
  });
}

/**
 * Gives a locker that nobody uses another name, with its volume. Throws NoSuchLocker, LockerExists, LockerBusy,
 * InvalidArgs, NoSuchStore and Failed.
 */
export async function renameLocker(
  { locker, name }: { readonly locker: string; readonly name: string },
  changeLockers: ChangeLockers,
): Promise<Record<string, unknown>> {
  return changeLockers({ lockers: [locker, name] }, async (context) => {
    const view = viewLockers();
    const known = findMadeLocker(view, locker);
    const { store, origin } = known;
    checkForgettable(known);
    const mountPoint = newMountPoint(view, name);
    const names = namedBy(view, known);
    if (names.length > 0) {
      throw new LockerdError(
        'LockerBusy',
        `locker "${locker}" has that name in the settings or the configuration of ${names.slice(0, 5).join(', ')}; ` +
          'change that first',
      );
    }
    await refuseUsed(context.systemd, view, known);
    const driver = driverOf(store, context.tools, hostMounts);
    driver.checkName(name);
    await refuseStored(driver, name);
    const encrypt = origin.encrypt ?? 'no';
    const layer = layerFor(encrypt, { locker: name, tools: context.tools });
    layer.check();
    const id = newChangeId();
    const source = driver.source(name, layer);
    const definition = {
      ...origin,
      change: id,
      locker: name,
      mountPoint,
      source,
      options: store.options,
    };
    const change: RenameChange = {
      verb: 'rename',
      id,
      locker,
      store,
      before: { ...definedOf(known), encrypt },
      definition,
      wasMounted: isMounted(known.mountPoint),
    };
    await recordChange(change, context.tools.alone);
    try {
      await rename(context, change);
    } catch (error) {
      await undo(context, change);
      throw error;
    }
    await goOn(context, change);
    return {};
  });
}

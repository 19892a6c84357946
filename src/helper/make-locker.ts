/**
 * How a new locker comes to be, new or of a copy. Its definition is what makes it a locker: before that is
 * written, a failure or a kill undoes all; from then on a kill is followed by going on.
 */

import { existsSync, readdirSync } from 'node:fs';
import { whyNoMountUnit } from '../host/lockers.ts';
import type { StoreSettings } from '../host/store-settings.ts';
import { LockerdError } from '../model/errors.ts';
import { formatBytes } from '../model/memory-limit.ts';
import { shellWord } from '../model/shell-quote.ts';
import type { Driver, Making } from '../stores/driver.ts';
import { driverOf } from '../stores/drivers.ts';
import { throwFull } from '../stores/space.ts';
import { hostMounts } from './context.ts';
import type { MakeChange } from './changes.ts';
import { endChange, recordChange } from './changes.ts';
import { hasLeft } from './input.ts';
import type { LockerContext } from './locker-context.ts';
import { define } from './locker-definitions.ts';
import type { LockerView } from './locker-view.ts';
import { checkNewName } from './locker-view.ts';
import { isDefined, layerOf, mountDefined, withdraw } from './new-definition.ts';

/** Where a new locker will be mounted. Throws InvalidArgs, LockerExists and Failed. */
export function newMountPoint(view: LockerView, locker: string): string {
  checkNewName('locker', locker);
  const known = view.lockers.get(locker);
  if (known !== undefined) {
    throw new LockerdError(
      'LockerExists',
      `there is a locker "${locker}" already, which ${known.file} has; take another name`,
    );
  }
  const path = `${view.host.lockerDirectory}/${locker}`;
  const why = whyNoMountUnit(path);
  if (why !== undefined) {
    throw new LockerdError('InvalidArgs', `locker "${locker}" cannot be: its path ${why}`);
  }
  if (existsSync(path) && !isEmptyDirectory(path)) {
    throw new LockerdError(
      'LockerExists',
      `${path} has something in it, which the new locker would hide; move that, or take another name`,
    );
  }
  return path;
}

function isEmptyDirectory(path: string): boolean {
  try {
    return readdirSync(path).length === 0;
  } catch {
    // A file, for instance.
    return false;
  }
}

/** Throws LockerExists where the store has the data of a locker of that name, defined or not. */
export async function refuseStored(driver: Driver, locker: string): Promise<void> {
  const stored = (await driver.lockers()).find((one) => one.locker === locker);
  if (stored === undefined) return;
  const { name } = driver.settings;
  throw new LockerdError(
    'LockerExists',
    `store "${name}" still has ${driver.place(locker)} of a locker "${locker}" that was forgotten; take another ` +
      `name, or take that back: lockerctl adopt-locker ${shellWord(locker)}`,
  );
}

/** Throws InvalidArgs for a locker that is larger than its store's settings allow. */
export function checkMaxSize({ name, maxSize }: StoreSettings, size: bigint): void {
  if (maxSize === undefined || size <= maxSize) return;
  throw new LockerdError(
    'InvalidArgs',
    `a locker of store "${name}" may have ${formatBytes(maxSize)} ("max-size" in /etc/lockerd/lockerd.conf), ` +
      `and not ${formatBytes(size)}`,
  );
}

/** What drivers have to know of a change. */
export function makingOf({ id }: { readonly id: string }, context: LockerContext): Making {
  const { signal, progress } = context;
  return { change: id, signal, progress };
}

/**
 * Makes a locker: `make` has the store make it, the rest is here. All of it is undone where anything fails.
 * @param change is recorded here
 */
export async function makeLocker(
  context: LockerContext,
  change: MakeChange,
  driver: Driver,
  make: (making: Making) => Promise<void>,
): Promise<void> {
  const { definition, locker, store } = change;
  const layer = layerOf(change, context);
  await recordChange(change, context.tools.alone);
  try {
    await make(makingOf(change, context)).catch((error: unknown) => throwFull(store.name, error));
    if (hasLeft(context.signal)) {
      throw new LockerdError('Cancelled', `locker "${locker}" was not made: the caller has left`);
    }
    context.progress('mount', 0);
    await context.tools.alone(async () => {
      await layer.define(driver.place(locker));
      define(definition, store.definition);
    });
    await bringUp(context, change, driver);
  } catch (error) {
    await undoMaking(context, change, driver).catch((second: unknown) => {
      throw alsoFailed(error, second);
    });
    throw error;
  }
  endChange(change);
}

/** A failure whose consequences could not be undone either. */
export function alsoFailed(first: unknown, second: unknown): LockerdError {
  const [why, whyNot] = [first, second].map((error) =>
    error instanceof Error ? error.message : String(error),
  );
  const code = first instanceof LockerdError ? first.code : 'Failed';
  return new LockerdError(code, `${why}; and: ${whyNot}`, { cause: first });
}

/** Mounts a locker that is defined, and takes the marks of the change off it. Can be repeated. */
async function bringUp(context: LockerContext, change: MakeChange, driver: Driver): Promise<void> {
  await mountDefined(context, change.definition);
  await driver.finish(change.id);
}

/** Undoes a change that has not come to its end. Throws Failed with what is left. Can be repeated. */
async function undoMaking(
  context: LockerContext,
  change: MakeChange,
  driver: Driver,
): Promise<void> {
  const { locker } = change;
  const left = await withdraw(context, change, async (layer) => {
    await layer.discard(driver.place(locker));
    return driver.undo({ change: change.id, locker });
  });
  if (left === undefined) return;
  throw new LockerdError(
    'Failed',
    `${left.what} is left of locker "${locker}", which was not made; to remove it: ${left.remedy}`,
  );
}

/** Brings a killed change to an end: goes on if the locker was defined, and undoes it otherwise. */
export async function recoverMaking(context: LockerContext, change: MakeChange): Promise<void> {
  const driver = driverOf(change.store, context.tools, hostMounts);
  if (!isDefined(change)) {
    await undoMaking(context, change, driver);
    return;
  }
  await bringUp(context, change, driver);
  endChange(change);
}

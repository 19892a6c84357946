import { LockerdError } from '../model/errors.ts';
import { driverOf } from '../stores/drivers.ts';
import { layerFor } from '../stores/layers.ts';
import { hostMounts } from './context.ts';
import type { Defined, ForgetChange } from './changes.ts';
import { endChange, newChangeId, recordChange } from './changes.ts';
import { rememberCreator } from './forgotten.ts';
import type { ChangeLockers, LockerContext } from './locker-context.ts';
import { isMounted, unmountLocker } from './locker-context.ts';
import { removeMountPoint, undefine } from './locker-definitions.ts';
import { refuseUsed } from './locker-users.ts';
import { findLocker, fstab, viewLockers } from './locker-view.ts';
import type { KnownLocker, LockerView } from './locker-view.ts';

/** What of a locker a change has to know, to remove its definition. */
export function definedOf({ name, mountPoint, unit, file }: KnownLocker): Defined {
  return { name, mountPoint, unit, file };
}

/** Throws InvalidArgs for a locker whose definition is not an admin's file, before anything is unmounted. */
export function checkForgettable({ name, file, unit }: KnownLocker): void {
  if (file === fstab || file === `/etc/systemd/system/${unit}`) return;
  throw new LockerdError(
    'InvalidArgs',
    `locker "${name}" is defined neither in ${fstab} nor by /etc/systemd/system/${unit}, but by ${file}; ` +
      'unmount it and remove that yourself',
  );
}

/** Unmounts a locker and removes its definition. Can be repeated. Returns the file that had it. */
export async function forget(
  { systemd, tools }: LockerContext,
  defined: Defined,
  encrypt: string,
): Promise<string> {
  await unmountLocker(tools, defined);
  const file = await tools.alone(() => undefine(defined));
  await systemd.reload();
  const layer = layerFor(encrypt, { locker: defined.name, tools });
  await layer.close();
  await tools.alone(() => layer.forget());
  // What opens it is made of crypttab.
  if (encrypt !== 'no') await systemd.reload();
  removeMountPoint(defined.mountPoint);
  await systemd.resetFailed(defined.unit);
  return file;
}

/** Brings a killed change to its end; what has been mounted again meanwhile stays. */
export async function recoverForget(context: LockerContext, change: ForgetChange): Promise<void> {
  const { defined, encrypt } = change;
  if (!isMounted(defined.mountPoint)) await forget(context, defined, encrypt);
  endChange(change);
}

/** Where the data of a locker is, for who wants it back. */
async function placeOf(
  { systemd, tools }: LockerContext,
  view: LockerView,
  { origin, unit, name }: KnownLocker,
): Promise<string> {
  const store = view.stores.stores.get(origin?.store ?? '');
  if (store !== undefined) return driverOf(store, tools, hostMounts).place(name);
  return (await systemd.get(unit, 'Mount', ['What'])).string('What');
}

/** The same, with what opens it where it is encrypted. */
async function placeWithSecret(
  context: LockerContext,
  view: LockerView,
  known: KnownLocker,
): Promise<string> {
  const place = await placeOf(context, view, known);
  const { tools } = context;
  const layer = layerFor(known.origin?.encrypt ?? 'no', { locker: known.name, tools });
  const secret = await layer.secret(place);
  return secret === undefined ? place : `${place}, which is encrypted; ${secret} opens it`;
}

/**
 * Unmounts a locker that nobody uses and removes its definition. Its data stays; the answer says in which
 * `place`, and which `file` had the definition. Throws NoSuchLocker, LockerBusy, InvalidArgs and Failed.
 */
export async function forgetLocker(
  name: string,
  changeLockers: ChangeLockers,
): Promise<Record<string, unknown>> {
  return changeLockers({ lockers: [name] }, async (context) => {
    const view = viewLockers();
    const locker = findLocker(view, name);
    checkForgettable(locker);
    await refuseUsed(context.systemd, view, locker);
    const place = await placeWithSecret(context, view, locker);
    const change: ForgetChange = {
      verb: 'forget',
      id: newChangeId(),
      locker: name,
      defined: definedOf(locker),
      encrypt: locker.origin?.encrypt ?? 'no',
    };
    await recordChange(change, context.tools.alone);
    if (locker.origin !== undefined) rememberCreator({ ...locker.origin, locker: name });
    const file = await forget(context, change.defined, change.encrypt).catch((error: unknown) => {
      // Still mounted, it is still defined.
      if (isMounted(locker.mountPoint)) endChange(change);
      throw error;
    });
    endChange(change);
    return { place, file };
  });
}

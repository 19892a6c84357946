import { LockerdError } from '../model/errors.ts';
import { shellWord } from '../model/shell-quote.ts';
import type { StoredSnapshot } from '../stores/driver.ts';
import { driverOf } from '../stores/drivers.ts';
import { throwFull } from '../stores/space.ts';
import { Tools } from '../stores/tools.ts';
import { hostMounts } from './context.ts';
import type { SnapshotChange } from './changes.ts';
import { endChange, newChangeId, recordChange } from './changes.ts';
import type { ChangeLockers, LockerContext } from './locker-context.ts';
import { loadModules } from './locker-context.ts';
import { attachedTo } from './locker-users.ts';
import type { LockerView } from './locker-view.ts';
import { checkNewName, findMadeLocker, viewLockers } from './locker-view.ts';
import { freeze, statusOf, thaw } from './lxc.ts';
import { alsoFailed, makingOf } from './make-locker.ts';
import type { SnapshotLockerRequest } from './request.ts';
import { viewContainer } from './view.ts';

/** Running containers that write to a locker; one that is frozen already stays so. */
async function writersOf(view: LockerView, locker: string): Promise<string[]> {
  const running: string[] = [];
  for (const { container, readOnly } of attachedTo(view, locker)) {
    if (readOnly) continue;
    const { state } = await statusOf(viewContainer(container));
    if (state === 'RUNNING') running.push(container);
  }
  return running;
}

/** Lets the containers go on that a change has frozen; one that does not run has nothing to go on with. */
async function thawAll(containers: readonly string[]): Promise<void> {
  const failed: string[] = [];
  for (const container of containers) {
    try {
      await thaw(viewContainer(container));
    } catch (error) {
      const code = error instanceof LockerdError ? error.code : 'Failed';
      if (!['NotFrozen', 'NoSuchContainer'].includes(code)) failed.push(container);
    }
  }
  if (failed.length === 0) return;
  throw new LockerdError(
    'Failed',
    `still frozen: ${failed.join(', ')}; run: ${failed.map((name) => `lockerctl thaw ${shellWord(name)}`).join('; ')}`,
  );
}

/** Undoes a killed snapshot, and lets its containers go on. */
export async function recoverSnapshot(
  { tools }: LockerContext,
  change: SnapshotChange,
): Promise<void> {
  await thawAll(change.frozen);
  const { id, locker, snapshot } = change;
  const left = await driverOf(change.store, tools, hostMounts).undo({
    change: id,
    locker,
    snapshot,
  });
  endChange(change);
  if (left === undefined) return;
  throw new LockerdError(
    'Failed',
    `${left.what} is left of snapshot "${snapshot}", which was not made; to remove it: ${left.remedy}`,
  );
}

/**
 * Keeps a copy of a locker as it is now. With `freeze`, the containers that write to it stand still meanwhile.
 * Throws NoSuchLocker, NoSuchStore, LockerExists, InvalidArgs, NoSpace and Failed.
 */
export async function snapshotLocker(
  { locker, snapshot, freeze: isFreezing }: SnapshotLockerRequest,
  changeLockers: ChangeLockers,
): Promise<Record<string, unknown>> {
  checkNewName('snapshot', snapshot);
  return changeLockers({ lockers: [locker], freezes: isFreezing }, async (context) => {
    const view = viewLockers();
    const { store } = findMadeLocker(view, locker);
    const driver = driverOf(store, context.tools, hostMounts);
    const stored = (await driver.lockers()).find((one) => one.locker === locker);
    if (stored?.snapshots.some(({ name }) => name === snapshot) === true) {
      throw new LockerdError(
        'LockerExists',
        `locker "${locker}" has a snapshot "${snapshot}" already; take another name`,
      );
    }
    await loadModules(context, driver);
    const frozen = isFreezing ? await writersOf(view, locker) : [];
    const id = newChangeId();
    const change: SnapshotChange = { verb: 'snapshot', id, locker, store, snapshot, frozen };
    await recordChange(change, context.tools.alone);
    try {
      for (const container of frozen) await freeze(viewContainer(container));
      await driver
        .snapshot(locker, snapshot, makingOf(change, context))
        .catch((error: unknown) => throwFull(store.name, error));
    } catch (error) {
      await recoverSnapshot(context, change).catch((second: unknown) => {
        throw alsoFailed(error, second);
      });
      throw error;
    }
    await thawAll(frozen);
    await driver.finish(id);
    endChange(change);
    return {};
  });
}

function shown({ name, createdUsec, size, used, problem }: StoredSnapshot) {
  return {
    name,
    createdUsec: createdUsec.toString(),
    size: size.toString(),
    used: used.toString(),
    ...(problem === undefined ? {} : { problem }),
  };
}

/** The snapshots of a locker, the oldest first. Throws NoSuchLocker, NoSuchStore and InvalidArgs. */
export async function listSnapshots(locker: string): Promise<Record<string, unknown>> {
  const { store } = findMadeLocker(viewLockers(), locker);
  const stored = (await driverOf(store, new Tools(), hostMounts).lockers()).find(
    (one) => one.locker === locker,
  );
  const snapshots = [...(stored?.snapshots ?? [])].sort((a, b) =>
    a.createdUsec < b.createdUsec ? -1 : 1,
  );
  return { snapshots: snapshots.map(shown) };
}

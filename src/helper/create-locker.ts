import { randomUUID } from 'node:crypto';
import { LockerdError } from '../model/errors.ts';
import { driverOf } from '../stores/drivers.ts';
import { layerFor } from '../stores/layers.ts';
import type { RootOwner } from '../stores/file-systems.ts';
import { hostMounts } from './context.ts';
import { newChangeId } from './changes.ts';
import { hostIdOf } from './guest-ids.ts';
import type { ChangeLockers } from './locker-context.ts';
import { newLockerStore, viewLockers } from './locker-view.ts';
import { checkMaxSize, makeLocker, newMountPoint, refuseStored } from './make-locker.ts';
import { definitionFor } from './new-definition.ts';
import type { CreateLockerRequest } from './request.ts';
import { viewContainer } from './view.ts';

/** What the parser of requests has let through as an owner and a mode. Throws NoSuchContainer and InvalidArgs. */
function rootOf({ owner, mode, container }: CreateLockerRequest): RootOwner {
  const [uid = 0, gid = 0] = owner.split(':').map(Number);
  const root = { uid, gid, mode: Number.parseInt(mode, 8) };
  if (container === undefined) return root;
  const view = viewContainer(container);
  // With "idmap-lockers" the files have the guest's own ids, and their mount maps them.
  if (view.wormholeWith([])?.idmap !== undefined) return root;
  const idOf = (kind: 'u' | 'g', id: number) => hostIdOf(container, view.idmaps, kind, id);
  return { ...root, uid: idOf('u', uid), gid: idOf('g', gid) };
}

/**
 * Makes a locker in a store, defines and mounts it. Throws InvalidArgs, LockerExists, NoSuchStore, NoSpace,
 * Cancelled and Failed; then nothing of it is left, or the message says what.
 */
export async function createLocker(
  request: CreateLockerRequest,
  changeLockers: ChangeLockers,
): Promise<Record<string, unknown>> {
  const { locker, encrypt } = request;
  return changeLockers({ lockers: [locker] }, async (context) => {
    const view = viewLockers();
    const root = rootOf(request);
    const mountPoint = newMountPoint(view, locker);
    const store = newLockerStore(view, request.store);
    const isVolume = store.type === 'lvm' || store.type === 'lvm-thin';
    if (encrypt !== 'no' && !isVolume) {
      throw new LockerdError(
        'InvalidArgs',
        `lockers of store "${store.name}" of type ${store.type} cannot be encrypted; take one of volumes`,
      );
    }
    const driver = driverOf(store, context.tools, hostMounts);
    checkMaxSize(store, BigInt(request.size));
    const { size, warnings } = await driver.check(locker, BigInt(request.size));
    await refuseStored(driver, locker);
    const id = newChangeId();
    const { tools, progress } = context;
    const uuid = encrypt === 'no' ? undefined : randomUUID();
    const layer = layerFor(encrypt, { locker, tools, progress, uuid });
    layer.check();
    await makeLocker(
      context,
      {
        verb: 'create',
        ...(uuid === undefined ? {} : { uuid }),
        id,
        locker,
        store,
        definition: definitionFor(driver, layer, {
          locker,
          mountPoint,
          creator: Number(request.creator),
          change: id,
          encrypt: encrypt === 'no' ? undefined : encrypt,
        }),
      },
      driver,
      (making) => driver.create({ locker, size, root, layer }, making),
    );
    return { ...(warnings.length === 0 ? {} : { warnings }) };
  });
}

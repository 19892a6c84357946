/**
 * The root file system of a container that comes from a volume. Where the store is one of volumes, it becomes a new
 * volume, which is mounted beside the copy while files come; otherwise a directory of the container.
 */
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { hostMounts } from '../helper/context.ts';
import { newLockerStore, viewLockers } from '../helper/locker-view.ts';
import { replaceFile } from '../host/replace-file.ts';
import { mountAt } from '../host/mountinfo.ts';
import type { VolumeStore } from '../host/store-settings.ts';
import { LockerdError } from '../model/errors.ts';
import {
  checkRootVolume,
  disownRootVolume,
  findRootVolume,
  makeRootVolume,
  rootVolumeDevice,
  rootVolumeName,
  type RootVolume,
} from '../stores/root-volume.ts';
import { Tools } from '../stores/tools.ts';
import type { Incoming } from './incoming.ts';

/** The store that the volume comes from; undefined for a directory. Throws NoSuchStore. */
function volumeStore(name: string): VolumeStore | undefined {
  const view = viewLockers();
  if (name === '' && view.stores.stores.size === 0) return undefined;
  const store = newLockerStore(view, name);
  return store.type === 'lvm' || store.type === 'lvm-thin' ? store : undefined;
}

function volumeOf(store: VolumeStore, id: string, container: string): RootVolume {
  return { store, name: rootVolumeName(container), owner: id };
}

/** What it becomes, in words, and why it cannot. Changes nothing. @param size of the volume, bytes */
export async function checkRoot({
  id,
  name,
  store: storeName,
  size,
}: Readonly<Record<'id' | 'name' | 'store', string>> & {
  readonly size: number;
}): Promise<{ problems: string[]; warnings: string[]; isVolume: boolean }> {
  try {
    const store = volumeStore(storeName);
    const becomes = (what: string): string[] => [
      `its root file system is a volume, and becomes ${what} there`,
    ];
    if (store === undefined) {
      return { problems: [], warnings: becomes('a directory'), isVolume: false };
    }
    const volume = volumeOf(store, id, name);
    const tools = new Tools();
    if (!(await findRootVolume(volume, tools))) {
      await checkRootVolume(volume, BigInt(size), tools);
    }
    const warnings = becomes(`volume ${rootVolumeDevice(volume)}`);
    return { problems: [], warnings, isVolume: true };
  } catch (error) {
    if (!(error instanceof LockerdError)) throw error;
    return { problems: [error.message], warnings: [], isVolume: false };
  }
}

const placeOf = (incoming: Incoming): string => `${incoming.directory}/volume`;

/** Makes the volume, or finds that of an earlier try, and mounts it. @returns nothing for a directory */
export async function makeRoot(incoming: Incoming, storeName: string, size: number): Promise<void> {
  const store = volumeStore(storeName);
  if (store === undefined) {
    mkdirSync(`${incoming.copy}/rootfs`, { recursive: true, mode: 0o755 });
    return;
  }
  const tools = new Tools();
  const volume = volumeOf(store, incoming.id, incoming.container);
  await makeRootVolume(volume, BigInt(size), tools);
  incoming.rootStore = store.name;
  const place = placeOf(incoming);
  mkdirSync(place, { recursive: true, mode: 0o700 });
  if (mountAt(hostMounts(), place) !== undefined) return;
  const options = ['-t', store.fileSystem, '-o', 'nosuid,nodev,noexec'];
  await tools.run('mount', [...options, '--', rootVolumeDevice(volume), place]);
}

/** Where the files of the root file system are to be copied now. */
export function rootPlace(incoming: Incoming): string {
  return incoming.rootStore === '' ? `${incoming.at}/rootfs` : placeOf(incoming);
}

/** Unmounts the volume: a container mounts it itself. */
export async function leaveRoot(incoming: Incoming): Promise<void> {
  if (incoming.rootStore === '') return;
  const place = placeOf(incoming);
  const isMounted = mountAt(hostMounts(), place) !== undefined;
  if (isMounted) await new Tools().run('umount', ['--', place]);
  try {
    rmdirSync(place);
  } catch {
    // It is not there any more.
  }
}

/** The volume is the container's for good. */
export async function keepRoot(incoming: Incoming): Promise<void> {
  const store = incoming.rootStore === '' ? undefined : volumeStore(incoming.rootStore);
  if (store === undefined) return;
  await disownRootVolume(volumeOf(store, incoming.id, incoming.container), new Tools());
}

/** Writes into the container's own configuration where its root file system is now. Throws Failed. */
export function pointToRoot(incoming: Incoming): void {
  const store = incoming.rootStore === '' ? undefined : volumeStore(incoming.rootStore);
  const value =
    store === undefined
      ? `dir:${incoming.place}/rootfs`
      : `lvm:${rootVolumeDevice(volumeOf(store, incoming.id, incoming.container))}`;
  const path = `${incoming.at}/config`;
  const text = readFileSync(path, 'latin1');
  const line = /^[ \t]*lxc\.rootfs(?:\.path)?[ \t]*=.*$/gm;
  if (!line.test(text)) throw new LockerdError('Failed', `${path} has no line lxc.rootfs.path`);
  replaceFile(path, Buffer.from(text.replaceAll(line, `lxc.rootfs.path = ${value}`), 'latin1'));
}

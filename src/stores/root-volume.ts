/**
 * Volumes of a store for root file systems of containers, which are no lockers: they have names and tags of their own,
 * and neither a definition nor a mount on the host. Nothing here destroys one.
 */
import { mkdirSync } from 'node:fs';
import type { VolumeStore } from '../host/store-settings.ts';
import { LockerdError } from '../model/errors.ts';
import { makeFileSystem } from './file-systems.ts';
import { LvmDriver, placeFor } from './lvm.ts';
import type { LogicalVolume } from './lvm-report.ts';
import { parseVolumes, volumesIn } from './lvm-report.ts';
import { privatePlace } from './private-mounts.ts';
import type { Tools } from './tools.ts';

/** A volume that is made for somebody who names himself by `owner`, such as a move. */
export interface RootVolume {
  readonly store: VolumeStore;
  /** Of the volume in its group. */
  readonly name: string;
  readonly owner: string;
}

/** On a volume whose file system is not made yet, and on one that is whole and its owner's. */
const making = (owner: string): string => `lockerd.making=${owner}`;
const owned = (owner: string): string => `lockerd.move=${owner}`;

/** The name of the volume that a container's root file system gets. */
export function rootVolumeName(container: string): string {
  const name = `lxc-${container}`;
  if (/^[A-Za-z0-9_.+-]{1,100}$/.test(name)) return name;
  throw new LockerdError('InvalidArgs', `no volume can be named "${name}"`);
}

export const rootVolumeDevice = ({ store, name }: RootVolume): string =>
  `/dev/${store.volumeGroup}/${name}`;

async function lookFor(
  { store, name }: RootVolume,
  tools: Tools,
): Promise<LogicalVolume | undefined> {
  const volumes = parseVolumes(await tools.run('lvs', volumesIn(store.volumeGroup)));
  return volumes.find((volume) => volume.name === name);
}

/** Whether there is such a volume of this owner, and it is whole. Throws Failed for one of somebody else. */
export async function findRootVolume(volume: RootVolume, tools: Tools): Promise<boolean> {
  const found = await lookFor(volume, tools);
  if (found === undefined || found.tags.includes(making(volume.owner))) return false;
  if (found.tags.includes(owned(volume.owner))) return true;
  throw new LockerdError('Failed', `there is a volume ${rootVolumeDevice(volume)} already`);
}

/** Throws NoSuchStore, NoSpace and InvalidArgs where no such volume can be made. @param size bytes */
export async function checkRootVolume(
  { store, name }: RootVolume,
  size: bigint,
  tools: Tools,
): Promise<bigint> {
  return (await new LvmDriver(store, tools).check(name, size)).size;
}

/** Makes the volume with an empty file system, or finds that of an earlier try. */
export async function makeRootVolume(
  volume: RootVolume,
  size: bigint,
  tools: Tools,
): Promise<void> {
  const { store, name, owner } = volume;
  if (await findRootVolume(volume, tools)) return;
  const full = `${store.volumeGroup}/${name}`;
  const bytes = await checkRootVolume(volume, size, tools);
  if ((await lookFor(volume, tools)) === undefined) {
    const named = ['--quiet', '--yes', '--name', name, '--addtag', making(owner)];
    const place = placeFor(store, bytes);
    await tools.run('lvcreate', [...named, ...place, '--', store.volumeGroup]);
  }
  mkdirSync(privatePlace, { recursive: true, mode: 0o700 });
  const root = { uid: 0, gid: 0, mode: 0o755 };
  await makeFileSystem(tools, store.fileSystem, rootVolumeDevice(volume), root);
  const tags = ['--deltag', making(owner), '--addtag', owned(owner)];
  await tools.run('lvchange', ['--quiet', ...tags, '--', full]);
}

/** The volume is nobody's any more but the container's. */
export async function disownRootVolume(volume: RootVolume, tools: Tools): Promise<void> {
  const { store, name, owner } = volume;
  const full = `${store.volumeGroup}/${name}`;
  await tools.run('lvchange', ['--quiet', '--deltag', owned(owner), '--', full]);
}

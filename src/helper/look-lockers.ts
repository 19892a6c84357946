/**
 * Looks at lockers: how full they are, on what, and whether that is well. A file system that does not answer
 * costs a bounded time, and keeps no other one waiting.
 */

import { existsSync, readFileSync } from 'node:fs';
import pMap from 'p-map';
import { mountAt } from '../host/mountinfo.ts';
import type { Mount } from '../host/mountinfo.ts';
import { driverOf } from '../stores/drivers.ts';
import type { StoredLocker } from '../stores/driver.ts';
import type { Space } from '../stores/space.ts';
import { spaceOf } from '../stores/space.ts';
import type { LockerHealth } from '../model/locker-words.ts';
import { Tools } from '../stores/tools.ts';
import { hostMounts } from './context.ts';
import type { KnownLocker, LockerView } from './locker-view.ts';
import { viewLockers } from './locker-view.ts';

/** Bytes are decimal texts, as JSON has no 64-bit numbers. What is not known is missing. */
export interface LockerLook {
  readonly size?: string;
  readonly used?: string;
  readonly available?: string;
  readonly fileSystem?: string;
  readonly device?: string;
  readonly health: LockerHealth;
  readonly store?: string;
  readonly creator?: string;
  readonly snapshots: readonly string[];
}

const parallelLooks = 8;
/** How long a store may take to say what it has. */
const reportMs = 10_000;

/** Whether the device below a file system is there and works. */
function isDeviceThere({ device }: Mount): boolean {
  const path = `/sys/dev/block/${device}`;
  // File systems without a device of their own, such as btrfs, have a number that is none.
  if (device.startsWith('0:')) return true;
  if (!existsSync(path)) return false;
  try {
    return readFileSync(`${path}/device/state`, 'utf8').trim() !== 'offline';
  } catch {
    // A volume or a partition has no state of its own.
    return true;
  }
}

/** A file system that had an error and is read-only since, while its mount is not. */
function wentReadOnly(mount: Mount): boolean {
  return mount.readOnly && !mount.options.includes('ro');
}

function healthOf(
  mount: Mount,
  space: Space | undefined,
  warning: number | undefined,
): LockerHealth {
  if (!isDeviceThere(mount)) return 'device-missing';
  if (space === undefined) return 'hung';
  if (wentReadOnly(mount)) return 'read-only';
  const usable = space.used + space.available;
  const isFull = warning !== undefined && space.used * 100n >= usable * BigInt(warning);
  return isFull && usable > 0n ? 'nearly-full' : 'good';
}

/** What stores have of the lockers, each store asked once; a store that is not there has nothing. */
async function storedOf(
  view: LockerView,
  lockers: readonly KnownLocker[],
  tools: Tools,
): Promise<ReadonlyMap<string, StoredLocker>> {
  const names = new Set(lockers.flatMap(({ origin }) => origin?.store ?? []));
  const stored = new Map<string, StoredLocker>();
  for (const name of names) {
    const store = view.stores.stores.get(name);
    if (store === undefined) continue;
    const found = await driverOf(store, tools, hostMounts)
      .lockers()
      .catch(() => []);
    for (const one of found) stored.set(`${name}/${one.locker}`, one);
  }
  return stored;
}

/** What a part of a file system has, where the file system tells only of itself. */
function withinQuota(space: Space, { size, used }: Partial<StoredLocker> = {}): Space {
  if (size === undefined || used === undefined) return space;
  const left = size > used ? size - used : 0n;
  return { size, used, available: left < space.available ? left : space.available };
}

async function lookAt(
  { name, mountPoint, origin }: KnownLocker,
  view: LockerView,
  mounts: readonly Mount[],
  stored: ReadonlyMap<string, StoredLocker>,
  tools: Tools,
): Promise<LockerLook> {
  const mount = mountAt(mounts, mountPoint);
  const seen = mount === undefined ? undefined : await spaceOf(tools, mountPoint);
  const kept = stored.get(`${origin?.store ?? ''}/${name}`);
  const space = seen === undefined ? undefined : withinQuota(seen, kept);
  const size = kept?.size ?? space?.size;
  const health = mount === undefined ? 'unknown' : healthOf(mount, space, view.host.lockerWarning);
  return {
    ...(size === undefined ? {} : { size: size.toString() }),
    ...(space === undefined
      ? {}
      : { used: space.used.toString(), available: space.available.toString() }),
    ...(mount === undefined ? {} : { fileSystem: mount.type, device: mount.source }),
    health,
    ...(origin === undefined ? {} : { store: origin.store, creator: origin.creator.toString() }),
    snapshots: (kept?.snapshots ?? []).map((snapshot) => snapshot.name),
  };
}

/** Looks at lockers and tells each as soon as it is seen; nothing is told of a name without a locker. */
export async function lookAtLockers(
  names: readonly string[],
  tell: (locker: string, seen: LockerLook) => void,
): Promise<void> {
  const view = viewLockers();
  const tools = new Tools({ timeoutMs: reportMs });
  const lockers = [...new Set(names)].flatMap((name) => view.lockers.get(name) ?? []);
  const stored = await storedOf(view, lockers, tools);
  const mounts = hostMounts();
  await pMap(
    lockers,
    async (locker) => {
      tell(locker.name, await lookAt(locker, view, mounts, stored, tools));
    },
    { concurrency: parallelLooks },
  );
}

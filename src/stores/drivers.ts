import type { Mount } from '../host/mountinfo.ts';
import type { StoreSettings } from '../host/store-settings.ts';
import { BtrfsDriver } from './btrfs.ts';
import { DirectoryDriver } from './directory.ts';
import type { Driver } from './driver.ts';
import { LvmDriver } from './lvm.ts';
import type { Tools } from './tools.ts';

/**
 * The driver of a store.
 * @param mounts those of the host
 */
export function driverOf(
  store: StoreSettings,
  tools: Tools,
  mounts: () => readonly Mount[],
): Driver {
  switch (store.type) {
    case 'lvm':
    case 'lvm-thin':
      return new LvmDriver(store, tools);
    case 'btrfs':
      return new BtrfsDriver(store, tools, mounts);
    case 'directory':
      return new DirectoryDriver(store, tools, mounts);
  }
}

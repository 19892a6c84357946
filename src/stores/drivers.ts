import type { StoreSettings } from '../host/store-settings.ts';
import { LockerdError } from '../model/errors.ts';
import type { Driver } from './driver.ts';
import { LvmDriver } from './lvm.ts';
import type { Tools } from './tools.ts';

/** The driver of a store. */
export function driverOf(store: StoreSettings, tools: Tools): Driver {
  switch (store.type) {
    case 'lvm':
    case 'lvm-thin':
      return new LvmDriver(store, tools);
    case 'btrfs':
    case 'directory':
      throw new LockerdError('Failed', 'not yet');
  }
}

import { LockerdError } from '../model/errors.ts';
import { formatProblem } from '../model/problem.ts';
import { driverOf } from '../stores/drivers.ts';
import { Tools } from '../stores/tools.ts';
import type { StoreSettings } from '../host/store-settings.ts';
import { hostMounts } from './context.ts';
import { viewLockers } from './locker-view.ts';

function messageOf(error: unknown): string {
  if (error instanceof LockerdError) return error.message;
  return error instanceof Error ? error.message : String(error);
}

async function describe(store: StoreSettings): Promise<Record<string, string>> {
  const { name, type, maxSize } = store;
  const fixed = { name, type, ...(maxSize === undefined ? {} : { maxSize: maxSize.toString() }) };
  try {
    const { size, free, fileSystem } = await driverOf(store, new Tools(), hostMounts).space();
    return { ...fixed, fileSystem, size: size.toString(), free: free.toString() };
  } catch (error) {
    return { ...fixed, fileSystem: '', size: '0', free: '0', problem: messageOf(error) };
  }
}

/** Every store of the settings, with its bytes in all and free, or with what is wrong with it. */
export async function listStores(): Promise<Record<string, unknown>> {
  const { stores: found, host } = viewLockers();
  const stores = await Promise.all([...found.stores.values()].map(describe));
  const broken = [...found.broken].map(([name, problem]) => ({
    name,
    type: '',
    fileSystem: '',
    size: '0',
    free: '0',
    problem: formatProblem(problem),
  }));
  const { defaultStore } = host;
  return {
    stores: [...stores, ...broken],
    ...(defaultStore === undefined ? {} : { defaultStore }),
  };
}

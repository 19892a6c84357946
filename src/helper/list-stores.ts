import { LockerdError } from '../model/errors.ts';
import { formatProblem } from '../model/problem.ts';
import type { Driver } from '../stores/driver.ts';
import { driverOf } from '../stores/drivers.ts';
import { Tools } from '../stores/tools.ts';
import type { StoreSettings } from '../host/store-settings.ts';
import { hostMounts } from './context.ts';
import { rememberedCreator } from './forgotten.ts';
import type { LockerView } from './locker-view.ts';
import { viewLockers } from './locker-view.ts';

function messageOf(error: unknown): string {
  if (error instanceof LockerdError) return error.message;
  return error instanceof Error ? error.message : String(error);
}

/** What a store has of lockers that are defined no more, with who had them made. */
async function forgottenIn(driver: Driver, { lockers }: LockerView): Promise<unknown[]> {
  const { name: store } = driver.settings;
  const stored = await driver.lockers();
  const isDefined = (locker: string) => lockers.get(locker)?.origin?.store === store;
  return stored.flatMap(({ locker: name, size }) => {
    if (isDefined(name)) return [];
    const creator = rememberedCreator(store, name);
    return [
      {
        name,
        ...(size === undefined ? {} : { size: size.toString() }),
        ...(creator === undefined ? {} : { creator: creator.toString() }),
      },
    ];
  });
}

async function describe(store: StoreSettings, view: LockerView): Promise<Record<string, unknown>> {
  const { name, type, maxSize } = store;
  const fixed = { name, type, ...(maxSize === undefined ? {} : { maxSize: maxSize.toString() }) };
  try {
    const driver = driverOf(store, new Tools(), hostMounts);
    const { size, free, fileSystem } = await driver.space();
    const forgotten = await forgottenIn(driver, view);
    return { ...fixed, fileSystem, size: size.toString(), free: free.toString(), forgotten };
  } catch (error) {
    return { ...fixed, fileSystem: '', size: '0', free: '0', problem: messageOf(error) };
  }
}

/**
 * Every store of the settings, with its bytes in all and free and what was forgotten there, or with what is
 * wrong with it.
 */
export async function listStores(): Promise<Record<string, unknown>> {
  const view = viewLockers();
  const { stores: found, host } = view;
  const stores = await Promise.all(
    [...found.stores.values()].map((store) => describe(store, view)),
  );
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

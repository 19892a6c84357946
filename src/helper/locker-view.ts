/** What root's files say about lockers and stores, read anew for each request. */

import { readFileSync } from 'node:fs';
import { Files } from '../host/files.ts';
import { locateLockers } from '../host/locate.ts';
import { HostReader } from '../host/read.ts';
import { parseSettings } from '../host/settings.ts';
import type { HostSettings } from '../host/settings.ts';
import { parseStores } from '../host/store-settings.ts';
import type { StoreSettings, Stores } from '../host/store-settings.ts';
import { LockerdError } from '../model/errors.ts';
import { isNewName, newNameForm } from '../model/new-name.ts';
import { formatProblem } from '../model/problem.ts';
import { mountUnit } from '../model/unit-name.ts';
import type { Origin } from '../stores/definition.ts';
import { parseFstabOrigin, parseUnitOrigin } from '../stores/definition.ts';

/** A locker that is defined or mounted. */
export interface KnownLocker {
  readonly name: string;
  readonly mountPoint: string;
  readonly unit: string;
  /** What defines it: a unit file, /etc/fstab, or the mount table of the kernel. */
  readonly file: string;
  /** Undefined for one that lockerd has not made. */
  readonly origin: Origin | undefined;
}

export interface LockerView {
  /** With real paths. */
  readonly host: HostSettings;
  readonly stores: Stores;
  readonly lockers: ReadonlyMap<string, KnownLocker>;
}

export const fstab = '/etc/fstab';

/** What a unit file says; nothing for one that has gone meanwhile. */
function unitOrigin(file: string): Origin | undefined {
  try {
    return parseUnitOrigin(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

export function viewLockers(): LockerView {
  const host = new HostReader('', new Files());
  const files = host.hostSettings();
  const { lockers, settings } = locateLockers(host, parseSettings(files).host);
  const known = [...lockers.values()].map(({ name, path, file, options }): KnownLocker => {
    const isUnit = file.endsWith('.mount');
    const origin = isUnit ? unitOrigin(file) : parseFstabOrigin(options);
    return { name, mountPoint: path, unit: mountUnit(path), file, origin };
  });
  return {
    host: settings,
    stores: parseStores(files),
    lockers: new Map(known.map((locker) => [locker.name, locker])),
  };
}

/** Throws NoSuchStore, with what is wrong in the settings where that is the reason. */
export function storeOf({ stores: { stores, broken } }: LockerView, name: string): StoreSettings {
  const store = stores.get(name);
  if (store !== undefined) return store;
  const problem = broken.get(name);
  const names = [...stores.keys()].map((one) => `"${one}"`).join(', ');
  const remedy =
    stores.size > 0
      ? `there are ${names}`
      : 'write a section [store NAME] into /etc/lockerd/lockerd.conf, see lockerd.conf(5)';
  throw new LockerdError(
    'NoSuchStore',
    problem === undefined
      ? `there is no store "${name}"; ${remedy}`
      : `there is no store "${name}": ${formatProblem(problem)}`,
  );
}

/** The store of a new locker; an empty name stands for the one by default. */
export function newLockerStore(view: LockerView, name: string): StoreSettings {
  if (name !== '') return storeOf(view, name);
  const { defaultStore } = view.host;
  if (defaultStore !== undefined) return storeOf(view, defaultStore);
  const [only, ...more] = view.stores.stores.values();
  if (only !== undefined && more.length === 0) return only;
  if (only === undefined) return storeOf(view, '');
  throw new LockerdError(
    'InvalidArgs',
    'there are several stores; name one, or write "default-store" into /etc/lockerd/lockerd.conf',
  );
}

/** Throws InvalidArgs for a name that no new locker, or no snapshot, can have. */
export function checkNewName(what: 'locker' | 'snapshot', name: string): void {
  if (isNewName(name)) return;
  throw new LockerdError(
    'InvalidArgs',
    `a new ${what} cannot be named "${name}"; take ${newNameForm}`,
  );
}

/** Throws NoSuchLocker. */
export function findLocker({ lockers, host }: LockerView, name: string): KnownLocker {
  const locker = lockers.get(name);
  if (locker !== undefined) return locker;
  const place = `${host.lockerDirectory}/${name}`;
  throw new LockerdError(
    'NoSuchLocker',
    `there is no locker "${name}": nothing is mounted at ${place}`,
  );
}

/** A locker that lockerd has made, with its store. Throws NoSuchLocker, NoSuchStore and InvalidArgs. */
export function findMadeLocker(
  view: LockerView,
  name: string,
): KnownLocker & { readonly origin: Origin; readonly store: StoreSettings } {
  const locker = findLocker(view, name);
  const { origin } = locker;
  if (origin === undefined) {
    throw new LockerdError(
      'InvalidArgs',
      `lockerd has not made locker "${name}" (${locker.file}) and knows no store of it; ` +
        'do that with the tools that it was made with',
    );
  }
  return { ...locker, origin, store: storeOf(view, origin.store) };
}

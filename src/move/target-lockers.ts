/**
 * Lockers that come with a container to this host. A store makes them under a name of the move's own, by which no
 * container knows them; they get their names with the container, and lose them if the move is undone.
 */
import { HelperLockers } from '../adapters/helper-lockers.ts';
import { storesSocket } from '../api/names.ts';
import type { Store } from '../core/locker-ports.ts';
import { viewLockers } from '../helper/locker-view.ts';
import { LockerdError } from '../model/errors.ts';
import { formatBytes } from '../model/memory-limit.ts';

/** A locker that is to come. */
export interface WantedLocker {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
}

/** The name that each locker has until the move is done, by its own one. */
export type LockerNames = Readonly<Record<string, string>>;

export function unfinishedNames(id: string, names: readonly string[]): LockerNames {
  return Object.fromEntries(
    [...names].sort().map((name, index) => [name, `lockerd-move-${id}-${index}`]),
  );
}

/** The store that they come from. Throws NoSuchStore and InvalidArgs. */
async function storeFor(helper: HelperLockers, name: string): Promise<Store> {
  const stores = await helper.stores();
  const store = stores.find((one) => (name === '' ? one.isDefault : one.name === name));
  if (store?.problem === '') return store;
  if (store !== undefined) throw new LockerdError('NoSuchStore', store.problem);
  throw new LockerdError(
    'NoSuchStore',
    name === ''
      ? 'there is no store for lockers, or several and no default one; say --store=STORE'
      : `there is no store "${name}" for lockers`,
  );
}

/** Which of the lockers are here, and why the others cannot be. Changes nothing. */
export async function checkLockers(
  id: string,
  names: readonly string[],
  wanted: readonly WantedLocker[],
  storeName: string,
): Promise<{ present: string[]; problems: string[] }> {
  const { lockers } = viewLockers();
  const present = names.filter((name) => lockers.has(name));
  const absent = names.filter((name) => !lockers.has(name));
  const toMake = wanted.filter(({ name }) => absent.includes(name));
  const problems = absent
    .filter((name) => !toMake.some((one) => one.name === name))
    .map((name) => `there is no locker "${name}"; --with-lockers makes it, and copies its data`);
  if (toMake.length === 0) return { present, problems };
  try {
    const store = await storeFor(new HelperLockers(storesSocket), storeName);
    const unfinished = unfinishedNames(id, names);
    const bytes = toMake
      .filter(({ name }) => !lockers.has(unfinished[name] ?? ''))
      .reduce((sum, { size }) => sum + size, 0);
    const tooLarge = toMake.filter(
      ({ size }) => store.maxSize !== undefined && BigInt(size) > store.maxSize,
    );
    if (store.free !== undefined && BigInt(bytes) > store.free) {
      const [free, needed] = [store.free, BigInt(bytes)].map((size) => formatBytes(size));
      problems.push(
        `store "${store.name}" has ${free ?? ''} left, and lockers need ${needed ?? ''}`,
      );
    }
    for (const { name } of tooLarge) {
      problems.push(`locker "${name}" is larger than store "${store.name}" allows`);
    }
  } catch (error) {
    if (!(error instanceof LockerdError)) throw error;
    problems.push(error.message);
  }
  return { present, problems };
}

/** Makes lockers, but for those of an earlier try. */
export async function makeLockers(
  unfinished: LockerNames,
  wanted: readonly WantedLocker[],
  storeName: string,
): Promise<void> {
  const helper = new HelperLockers(storesSocket);
  const never = new AbortController().signal;
  for (const { name, size } of wanted) {
    const locker = unfinished[name] ?? '';
    if (viewLockers().lockers.has(locker)) continue;
    const store = (await storeFor(helper, storeName)).name;
    const root = { owner: '0:0', mode: '0750', encrypt: 'no', container: '', creator: 0 } as const;
    await helper.create({ locker, store, size: BigInt(size), ...root }, () => undefined, never);
  }
}

/** Gives lockers other names, but for those that have them already. */
async function rename(pairs: readonly (readonly [from: string, to: string])[]): Promise<void> {
  const helper = new HelperLockers(storesSocket);
  for (const [locker, name] of pairs) {
    const { lockers } = viewLockers();
    if (lockers.has(locker) && !lockers.has(name)) await helper.rename({ locker, name });
  }
}

/** Gives them their names. Throws LockerExists. */
export async function nameLockers(unfinished: LockerNames): Promise<void> {
  await rename(Object.entries(unfinished).map(([name, locker]) => [locker, name]));
  const left = Object.entries(unfinished).find(([, locker]) => viewLockers().lockers.has(locker));
  if (left === undefined) return;
  throw new LockerdError('LockerExists', `there is a locker "${left[0]}" meanwhile`);
}

/** Takes their names away again. */
export async function unnameLockers(unfinished: LockerNames): Promise<void> {
  await rename(Object.entries(unfinished));
}

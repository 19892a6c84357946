/**
 * What a request about a locker means at this moment: the store and the size that come of it, the polkit
 * action with its details, and what is against it. What polkit has allowed is in the details, and is what
 * is done.
 */

import { LockerdError } from '../model/errors.ts';
import { formatBytes } from '../model/memory-limit.ts';
import { isNewName, newNameForm } from '../model/new-name.ts';
import { shellWord } from '../model/shell-quote.ts';
import type { Locker } from './host-objects.ts';
import type { HostState } from './host-state.ts';
import { subjectOf } from './job-queue.ts';
import type { LockerLooks } from './locker-looks.ts';
import type { ForgottenLocker, LockerLook, Store } from './locker-ports.ts';
import type { LockerUse } from './locker-use.ts';
import type { ActionDetails } from './ports.ts';
import { quoted } from './quoted.ts';
import { emptyDetails, type Plan } from './request-plan.ts';
import type { LockerOptions, LockerRequest } from './request.ts';

/** What is known of lockers. */
export interface LockerWorld {
  readonly host: HostState;
  readonly looks: LockerLooks;
  readonly use: LockerUse;
}

/** What was found out for one request before its authorization. */
export interface LockerFacts {
  readonly stores: readonly Store[];
  /** Why something could not be found out. */
  readonly trouble: LockerdError | undefined;
  /** The name that a snapshot without one gets. */
  readonly snapshot: string;
}

/** One exbibyte: file systems do not grow beyond it, and sums of many still fit. */
const sizeMax = 2n ** 60n;

interface Case {
  readonly world: LockerWorld;
  readonly uid: number;
  readonly request: LockerRequest;
  readonly options: LockerOptions;
  readonly facts: LockerFacts;
  readonly locker: Locker | undefined;
  readonly look: LockerLook | undefined;
  /** It comes from there, or will. */
  readonly store: Store | undefined;
}

function invalid(message: string): LockerdError {
  return new LockerdError('InvalidArgs', message);
}

/** What is wrong with a request whoever makes it, or with the names in it. */
function checkWords({ host }: LockerWorld, request: LockerRequest, options: LockerOptions): void {
  const isNew = request.verb === 'create-locker' || request.verb === 'adopt-locker';
  if (!isNew && !host.locker(request.locker)) {
    throw new LockerdError(
      'NoSuchLocker',
      `there is no locker ${quoted(request.locker)}; for a new one: systemctl daemon-reload`,
    );
  }
  for (const [what, name] of [
    ['locker', isNew ? request.locker : undefined],
    ['locker', 'name' in request ? request.name : undefined],
    ['snapshot', 'snapshot' in request ? request.snapshot : undefined],
  ] as const) {
    const mayBeEmpty = request.verb === 'snapshot-locker' && what === 'snapshot';
    if (name === undefined || (name === '' && mayBeEmpty) || isNewName(name)) continue;
    throw invalid(`a new ${what} cannot be named ${quoted(name)}; take ${newNameForm}`);
  }
  if ('size' in request && (request.size === 0n || request.size > sizeMax)) {
    throw invalid('the size of a locker must be 1 byte or more, and not above 1 EiB');
  }
  const { container } = options;
  if (container !== '' && !host.container(container)) {
    throw new LockerdError('NoSuchContainer', `there is no container ${quoted(container)}`);
  }
}

function forgottenIn(store: Store | undefined, locker: string): ForgottenLocker | undefined {
  return store?.forgotten.find(({ name }) => name === locker);
}

/** Bytes that the locker of a request will have; undefined where that does not matter or is not known. */
function sizeOf({ request, options, look, store }: Case): bigint | undefined {
  switch (request.verb) {
    case 'adopt-locker':
      return forgottenIn(store, request.locker)?.size;
    case 'create-locker':
      return request.size;
    case 'grow-locker':
      if (!options.by) return request.size;
      return look?.size === undefined ? undefined : look.size + request.size;
    case 'restore-locker':
      // Lockers only grow, so that no snapshot is larger.
      return look?.size;
    case 'rename-locker':
    case 'snapshot-locker':
    case 'forget-locker':
      return undefined;
  }
}

/** The locker that a request makes, or makes larger. */
function grownLocker(request: LockerRequest): string | undefined {
  switch (request.verb) {
    case 'create-locker':
    case 'grow-locker':
      return request.locker;
    case 'restore-locker':
      return request.name;
    case 'rename-locker':
    case 'snapshot-locker':
    case 'forget-locker':
    case 'adopt-locker':
      return undefined;
  }
}

/** Whether the locker of a request is the caller's; empty for one that is not there yet. */
function ownOf({ uid, request, look, store }: Case): ActionDetails['own'] {
  if (request.verb === 'create-locker') return '';
  const isAdopted = request.verb === 'adopt-locker';
  const { creator } = (isAdopted ? forgottenIn(store, request.locker) : look) ?? {};
  return creator === uid ? 'true' : 'false';
}

function detailsOf(context: Case): ActionDetails {
  const { world, uid, request, options, facts, look } = context;
  const grown = grownLocker(request);
  const use = grown === undefined ? undefined : world.use.of(uid, grown, facts.stores);
  const details: ActionDetails = {
    ...emptyDetails,
    verb: request.verb,
    locker: request.locker,
    store: context.store?.name ?? look?.store ?? '',
    size: sizeOf(context)?.toString() ?? '',
    own: ownOf(context),
    name: 'name' in request ? request.name : '',
    'user-lockers': use?.lockers.toString() ?? '',
    'user-size': use?.size.toString() ?? '',
  };
  switch (request.verb) {
    case 'create-locker': {
      const { container, owner, mode, encrypt } = options;
      return { ...details, container, owner, mode, encrypt };
    }
    case 'snapshot-locker': {
      const snapshot = request.snapshot || facts.snapshot;
      const snapshots = look?.snapshots?.length.toString() ?? '';
      return { ...details, snapshot, snapshots, freeze: options.freeze ? 'true' : 'false' };
    }
    case 'restore-locker':
      return { ...details, snapshot: request.snapshot };
    case 'grow-locker':
    case 'rename-locker':
    case 'forget-locker':
    case 'adopt-locker':
      return details;
  }
}

/** The store that a locker comes from, or will. */
function storeOf(
  request: LockerRequest,
  { store: wanted }: LockerOptions,
  look: LockerLook | undefined,
  stores: readonly Store[],
): Store | undefined {
  if (request.verb === 'adopt-locker') {
    const [only, ...more] = stores.filter(
      (store) =>
        (wanted === '' || store.name === wanted) &&
        forgottenIn(store, request.locker) !== undefined,
    );
    return more.length === 0 ? only : undefined;
  }
  if (request.verb !== 'create-locker') return stores.find(({ name }) => name === look?.store);
  return stores.find(({ name, isDefault }) => (wanted === '' ? isDefault : name === wanted));
}

function objectionToStore({ store, options, facts }: Case): LockerdError | undefined {
  if (store === undefined) {
    const { store: wanted } = options;
    const see = 'see "[store NAME]" in lockerd.conf(5)';
    if (wanted !== '') {
      return new LockerdError('NoSuchStore', `there is no store ${quoted(wanted)}; ${see}`);
    }
    const why =
      facts.stores.length === 0 ? 'there is no store' : 'none of the stores is the default';
    return new LockerdError('NoSuchStore', `${why}; ${see}`);
  }
  if (store.problem === '') return undefined;
  return new LockerdError('Failed', `store "${store.name}" cannot be used: ${store.problem}`);
}

function objectionToSize(context: Case): LockerdError | undefined {
  const { world, uid, request, look, facts, store } = context;
  const grown = grownLocker(request) ?? '';
  const size = sizeOf(context);
  if (size === undefined) {
    return new LockerdError(
      'Failed',
      `the size of locker "${request.locker}" is not known; see: lockerctl lockers`,
    );
  }
  if (request.verb === 'grow-locker' && look?.size !== undefined && size <= look.size) {
    return invalid(
      `locker "${request.locker}" has ${formatBytes(look.size)} already; lockers only grow`,
    );
  }
  if (size > sizeMax) return invalid('the size of a locker must not be above 1 EiB');
  if (store?.maxSize !== undefined && size > store.maxSize) {
    return invalid(
      `a locker of store "${store.name}" has at most ${formatBytes(store.maxSize)} (max-size), not ${formatBytes(size)}`,
    );
  }
  const { unknown } = world.use.of(uid, grown, facts.stores);
  // No rule binds root.
  if (unknown === undefined || uid === 0) return undefined;
  return new LockerdError(
    'Failed',
    `nobody knows how much you have already: the size of locker "${unknown}" is not known`,
  );
}

function objectionToName({ host }: LockerWorld, name: string): LockerdError | undefined {
  if (!host.locker(name)) return undefined;
  return new LockerdError('LockerExists', `there is a locker "${name}" already`);
}

function objectionToUse({ locker }: Case): LockerdError | undefined {
  const [first] = locker?.attachedTo ?? [];
  if (locker === undefined || first === undefined) return undefined;
  return new LockerdError(
    'LockerBusy',
    `locker "${locker.name}" is attached to container "${first.container}"; first detach it`,
  );
}

/** What is against taking back what was forgotten: the store is not said, or has nothing of that name. */
function objectionToAdoption({ request, options, facts, store }: Case): LockerdError | undefined {
  if (store !== undefined) return undefined;
  const { store: wanted } = options;
  const known = facts.stores.find(({ name }) => name === wanted);
  if (wanted !== '' && known === undefined) {
    return new LockerdError('NoSuchStore', `there is no store ${quoted(wanted)}`);
  }
  if (known !== undefined && known.problem !== '') {
    return new LockerdError('Failed', `store "${wanted}" cannot be used: ${known.problem}`);
  }
  const having = facts.stores.filter((one) => forgottenIn(one, request.locker) !== undefined);
  if (wanted === '' && having.length > 1) {
    const names = having.map(({ name }) => `"${name}"`).join(', ');
    return invalid(`several stores have a locker "${request.locker}": ${names}; say which`);
  }
  const where = wanted === '' ? 'no store has' : `store "${wanted}" does not have`;
  return new LockerdError(
    'NoSuchLocker',
    `${where} a locker "${request.locker}" that was forgotten; see: lockerctl stores`,
  );
}

function objectionTo(context: Case): LockerdError | undefined {
  const { world, request, look, facts } = context;
  switch (request.verb) {
    case 'create-locker':
      return (
        objectionToName(world, request.locker) ??
        facts.trouble ??
        objectionToStore(context) ??
        objectionToSize(context)
      );
    case 'grow-locker':
      return facts.trouble ?? objectionToSize(context);
    case 'rename-locker':
      return objectionToName(world, request.name) ?? objectionToUse(context) ?? facts.trouble;
    case 'snapshot-locker': {
      if (request.snapshot !== '' && look?.snapshots?.includes(request.snapshot) === true) {
        return new LockerdError(
          'LockerExists',
          `locker "${request.locker}" has a snapshot "${request.snapshot}" already`,
        );
      }
      return facts.trouble;
    }
    case 'restore-locker':
      return (
        objectionToName(world, request.name) ??
        facts.trouble ??
        objectionToSnapshot(request.locker, request.snapshot, look) ??
        objectionToSize(context)
      );
    case 'forget-locker':
      return objectionToUse(context) ?? facts.trouble;
    case 'adopt-locker':
      return (
        objectionToName(world, request.locker) ?? facts.trouble ?? objectionToAdoption(context)
      );
  }
}

function objectionToSnapshot(
  locker: string,
  snapshot: string,
  look: LockerLook | undefined,
): LockerdError | undefined {
  // Where nobody could look, the helper decides.
  if (look?.snapshots === undefined || look.snapshots.includes(snapshot)) return undefined;
  return new LockerdError(
    'NoSuchSnapshot',
    `locker "${locker}" has no snapshot "${snapshot}"; see: lockerctl snapshots ${shellWord(locker)}`,
  );
}

/**
 * Plans a request of a user. LockerdError NoSuchLocker, NoSuchContainer and InvalidArgs about its words
 * are for everybody; other objections are in the plan.
 */
export function planLocker(
  world: LockerWorld,
  uid: number,
  request: LockerRequest,
  options: LockerOptions,
  facts: LockerFacts,
): Plan {
  checkWords(world, request, options);
  const look = world.looks.of(request.locker);
  const store = storeOf(request, options, look, facts.stores);
  const locker = world.host.locker(request.locker);
  const context: Case = { world, uid, request, options, facts, locker, look, store };
  const other = 'name' in request ? [subjectOf('locker', request.name)] : [];
  return {
    container: undefined,
    locker,
    subjects: [subjectOf('locker', request.locker), ...other],
    action: `org.lockerd1.${request.verb}`,
    details: detailsOf(context),
    objection: objectionTo(context),
    leader: 0,
  };
}

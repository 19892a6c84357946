/**
 * What a request means at this moment: the objects that it names, the polkit action with its details,
 * and what is against it.
 */

import { LockerdError } from '../model/errors.ts';
import { unlimited } from '../model/memory-limit.ts';
import { shellWord } from '../model/shell-quote.ts';
import type { ContainerRequest, RequestOptions } from './request.ts';
import { isUp } from './container-state.ts';
import {
  isOfCluster,
  leftToCluster,
  quotedName,
  runsOutside,
  unitInstance,
} from './container-words.ts';
import type { Container, Locker } from './host-objects.ts';
import type { HostState } from './host-state.ts';
import { subjectOf } from './job-queue.ts';
import type { ActionDetails, ActionId } from './ports.ts';
import { quoted } from './quoted.ts';

/** What a request means at this moment. */
export interface Plan {
  /** Undefined for a request about a locker as such. */
  readonly container: Container | undefined;
  readonly locker: Locker | undefined;
  /** What may have no other job meanwhile, and what messages name. */
  readonly subjects: readonly [string, ...string[]];
  readonly action: ActionId;
  readonly details: ActionDetails;
  /** Why it makes no sense now; the caller may learn of it when it may do it at all. */
  readonly objection: LockerdError | undefined;
  /** The guest that is meant, when another one in its place would not be. */
  readonly leader: number;
}

/**
 * Finds what a request names and what is against it. LockerdError NoSuchContainer, NoSuchLocker and
 * InvalidArgs are for everybody; other objections are in the plan.
 */
export function planRequest(
  host: HostState,
  request: ContainerRequest,
  options: RequestOptions,
): Plan {
  const container = host.container(request.container);
  if (!container) {
    throw new LockerdError(
      'NoSuchContainer',
      `there is no container ${quoted(request.container)}; for a new one: systemctl daemon-reload`,
    );
  }
  if (request.verb === 'balloon' && request.limit === 0n) {
    throw new LockerdError(
      'InvalidArgs',
      `${quotedName(container)} cannot live with a limit of 0 bytes`,
    );
  }
  const locker = 'locker' in request ? host.locker(request.locker) : undefined;
  if ('locker' in request && !locker) {
    const isAttached = container.attachments.some(({ locker: name }) => name === request.locker);
    // What is attached can be detached, also when its line in fstab has gone meanwhile.
    if (request.verb === 'mount-locker' || !isAttached) {
      throw new LockerdError(
        'NoSuchLocker',
        `there is no locker ${quoted(request.locker)}; for a new one: systemctl daemon-reload`,
      );
    }
  }
  return {
    container,
    locker,
    subjects: [subjectOf('container', container.name)],
    action: actionOf(request.verb, options.force),
    details: detailsOf(request, container, options),
    objection: objectionTo(request, container, options),
    leader: request.verb === 'start' ? 0 : container.leader,
  };
}

/** What stands for a number of bytes in an authorization's details. */
function limitText(bytes: bigint): string {
  return bytes === unlimited ? 'max' : String(bytes);
}

/** Every key, for an action that none of the keys tells anything about. */
export const emptyDetails: ActionDetails = {
  container: '',
  unit: '',
  verb: '',
  locker: '',
  mode: '',
  force: 'false',
  persist: 'false',
  'memory-limit': '',
  'memory-current': '',
  'memory-direction': '',
  'swap-limit': '',
  limits: '',
  'cpu-quota': '',
  'cpu-weight': '',
  cpus: '',
  'memory-nodes': '',
  'io-weight': '',
  'io-read-bytes': '',
  'io-write-bytes': '',
  'io-read-operations': '',
  'io-write-operations': '',
  tasks: '',
  autostart: '',
  'job-uid': '',
  store: '',
  size: '',
  owner: '',
  encrypt: '',
  snapshot: '',
  snapshots: '',
  freeze: '',
  name: '',
  own: '',
  'user-lockers': '',
  'user-size': '',
};

function actionOf(verb: ContainerRequest['verb'], force: boolean): ActionId {
  switch (verb) {
    case 'stop':
      return force ? 'org.lockerd1.stop-force' : 'org.lockerd1.stop';
    case 'unmount-locker':
      return force ? 'org.lockerd1.unmount-locker-force' : 'org.lockerd1.unmount-locker';
    case 'thaw':
      return 'org.lockerd1.freeze';
    case 'start':
    case 'reboot':
    case 'freeze':
    case 'balloon':
    case 'set-limits':
    case 'mount-locker':
    case 'set-autostart':
      return `org.lockerd1.${verb}`;
  }
}

/** Details of an authorization for a request that names these objects. */
export function detailsOf(
  request: ContainerRequest,
  container: Container,
  options: RequestOptions,
): ActionDetails {
  const base: ActionDetails = {
    ...emptyDetails,
    container: container.name,
    unit: container.definition.unit,
    verb: request.verb,
    force: options.force ? 'true' : 'false',
    persist: options.persist ? 'true' : 'false',
  };
  switch (request.verb) {
    case 'balloon': {
      const current = container.unit?.memoryMax ?? unlimited;
      const { limit } = request;
      return {
        ...base,
        'memory-limit': limitText(limit),
        'memory-current': limitText(current),
        'memory-direction': limit > current ? 'grow' : limit < current ? 'shrink' : 'same',
        'swap-limit': options.swap === undefined ? '' : limitText(options.swap),
      };
    }
    case 'set-limits':
      return { ...base, ...request.limits, limits: Object.keys(request.limits).join(' ') };
    case 'mount-locker':
      return { ...base, locker: request.locker, mode: options.readOnly ? 'ro' : 'rw' };
    case 'unmount-locker': {
      const attached = container.attachments.find(({ locker }) => locker === request.locker);
      return { ...base, locker: request.locker, mode: attached?.readOnly === true ? 'ro' : 'rw' };
    }
    case 'set-autostart':
      return { ...base, autostart: request.autostart ? 'yes' : 'no' };
    case 'start':
    case 'stop':
    case 'reboot':
    case 'freeze':
    case 'thaw':
      return base;
  }
}

function notRunning(container: Container): LockerdError {
  const { state } = container;
  const remedy = isUp(state)
    ? 'wait until it runs'
    : `start it: systemctl start ${shellWord(unitInstance(container))}`;
  return new LockerdError(
    'NotRunning',
    `${quotedName(container)} is ${state}, not running; ${remedy}`,
  );
}

/** Why a request makes no sense in the container's present state. */
function objectionTo(
  request: ContainerRequest,
  container: Container,
  options: RequestOptions,
): LockerdError | undefined {
  const { state, unit } = container;
  // The unit has started it, and its guest is seen in a moment.
  const isNew = state === 'starting' && unit?.activeState === 'active';
  const hasGuest = isNew || ['running', 'frozen', 'freezing'].includes(state);
  switch (request.verb) {
    case 'start':
      if (hasGuest)
        return new LockerdError('AlreadyRunning', `${quotedName(container)} is ${state} already`);
      if (isOfCluster(container)) return leftToCluster(container, 'start');
      if (state === 'broken') {
        return new LockerdError(
          'Failed',
          `the configuration of ${quotedName(container)} is broken; ` +
            `see: systemctl status ${shellWord(unitInstance(container))}`,
        );
      }
      return undefined;
    case 'stop':
      if (container.isOutsideUnit) return runsOutside(container);
      if (isUp(state) && isOfCluster(container)) return leftToCluster(container, 'stop');
      // A stop ends the waiting for what the start has lacked.
      if (!isUp(state) && state !== 'unmet')
        return new LockerdError('NotRunning', `${quotedName(container)} is ${state}`);
      return undefined;
    case 'reboot':
      if (container.isOutsideUnit) return runsOutside(container);
      if (state === 'running' || isNew) return undefined;
      if (options.force && isUp(state) && state !== 'waiting') return undefined;
      if (state === 'frozen' || state === 'freezing') {
        return new LockerdError(
          'NotRunning',
          `${quotedName(container)} is ${state}; thaw it first`,
        );
      }
      return notRunning(container);
    case 'freeze':
      return hasGuest ? undefined : notRunning(container);
    case 'thaw':
      if (state === 'frozen' || state === 'freezing') return undefined;
      return new LockerdError('NotFrozen', `${quotedName(container)} is ${state}, not frozen`);
    case 'balloon':
    case 'set-limits':
      if (container.isOutsideUnit) return runsOutside(container);
      // A lasting limit can be set for the next start.
      return hasGuest || options.persist ? undefined : notRunning(container);
    case 'mount-locker':
      return objectionToMount(request.locker, container, options, hasGuest);
    case 'unmount-locker':
      return objectionToUnmount(request.locker, container, options);
    case 'set-autostart':
      // Whether it runs, or can run, does not matter to the next boot.
      return undefined;
  }
}

function objectionToUnmount(
  locker: string,
  container: Container,
  options: RequestOptions,
): LockerdError | undefined {
  if (container.attachments.some((attachment) => attachment.locker === locker)) return undefined;
  // What is away for now, or with its container, can be kept from coming back.
  if (options.persist) return undefined;
  return new LockerdError('NotMounted', `locker "${locker}" is not in ${quotedName(container)}`);
}

function objectionToMount(
  locker: string,
  container: Container,
  options: RequestOptions,
  hasGuest: boolean,
): LockerdError | undefined {
  if (container.definition.wormhole === undefined) {
    return new LockerdError(
      'Failed',
      `${quotedName(container)} has no wormhole; see "lockers" in lockerd.conf(5)`,
    );
  }
  const attached = container.attachments.find((attachment) => attachment.locker === locker);
  // What is there for now can be made lasting.
  if (attached && options.persist && attached.readOnly === options.readOnly) return undefined;
  if (attached) {
    const mode = attached.readOnly ? 'read-only' : 'read-write';
    return new LockerdError(
      'AlreadyMounted',
      `locker "${attached.locker}" is in ${quotedName(container)} already, ${mode}`,
    );
  }
  return hasGuest ? undefined : notRunning(container);
}

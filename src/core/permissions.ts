/** Which questions to polkit tell callers what they may do, before they try. */

import type { ActionDetails, ActionId, Decision } from './ports.ts';
import { actionIds } from './ports.ts';
import type { LimitTexts } from '../model/guest-limits.ts';
import { unlimited } from '../model/memory-limit.ts';
import type { Job } from './job-queue.ts';
import { planLocker } from './locker-plan.ts';
import type { Lockers } from './lockers.ts';
import { emptyOptions } from './options.ts';
import type { ContainerRequest, LockerOptions, LockerRequest, RequestOptions } from './request.ts';
import { detailsOf, emptyDetails } from './request-plan.ts';
import type { Container, Locker } from './host-objects.ts';
import type { HostState } from './host-state.ts';

/** What a caller may ask about. */
export type PermissionObject =
  | { readonly kind: 'manager' }
  | { readonly kind: 'container'; readonly container: Container }
  | { readonly kind: 'locker'; readonly locker: Locker }
  | { readonly kind: 'job'; readonly job: Job };

/** One action, and what it could be asked for; the best answer counts. */
export interface Question {
  readonly action: ActionId;
  readonly candidates: readonly ActionDetails[];
}

/** With more lockers (or containers) than this, the rest is not asked for. */
const maxCandidates = 16;

/** Some that a rule may allow; one request may set any of them. */
const exampleLimits: readonly LimitTexts[] = [
  { 'cpu-quota': '500000' },
  { 'cpu-weight': '100' },
  { 'io-weight': '100' },
  { tasks: '100' },
];

const plain: RequestOptions = { force: false, readOnly: false, persist: false, swap: undefined };
const forced: RequestOptions = { ...plain, force: true };
const readOnly: RequestOptions = { ...plain, readOnly: true };

/** Somebody who asks, and what there is. */
export interface Asked {
  readonly host: HostState;
  readonly lockers: Lockers;
  readonly uid: number;
}

/** Bytes that somebody may want. */
const exampleSize = 2n ** 30n;
/** Stands for what somebody will choose. */
const exampleName = 'new';

/**
 * What polkit is to be asked for an object. Rules may look at the other half of an attachment, and
 * at how a limit changes, so several cases are asked for; a button is of use when one is allowed.
 */
export function questionsAbout(asked: Asked, object: PermissionObject): Question[] {
  const { host } = asked;
  switch (object.kind) {
    case 'manager':
      return actionIds.map((action) => ({
        action,
        candidates: [
          ...(action === 'org.lockerd1.create-locker' ? newLockers(asked) : []),
          ...(action === 'org.lockerd1.adopt-locker' ? forgottenLockers(asked) : []),
          emptyDetails,
        ],
      }));
    case 'container':
      return questionsAboutContainer(host, object.container);
    case 'locker':
      return questionsAboutLocker(asked, object.locker);
    case 'job':
      return [
        {
          action: 'org.lockerd1.cancel-job-other',
          candidates: [jobDetails(host, object.job)],
        },
      ];
  }
}

function questionsAboutContainer(host: HostState, container: Container): Question[] {
  const ask = (request: ContainerRequest, options = plain) =>
    detailsOf(request, container, options);
  const { name, definition } = container;
  const own = definition.lockers.map((locker) => locker.name);
  const attached = container.attachments.map(({ locker }) => locker);
  const known = host.lockers.map((locker) => locker.name);
  const attachable = firstOf(
    own,
    known.filter((locker) => !attached.includes(locker)),
  );
  const mount = (options: RequestOptions) =>
    attachable.map((locker) => ask({ verb: 'mount-locker', container: name, locker }, options));
  const unmount = (options: RequestOptions) =>
    firstOf(own, attached.length > 0 ? attached : known).map((locker) =>
      ask({ verb: 'unmount-locker', container: name, locker }, options),
    );
  const limit = container.unit?.memoryMax ?? unlimited;
  const half = limit === unlimited ? 2n ** 30n : limit / 2n;
  const balloon = [limit, unlimited, half].map((bytes) =>
    ask({ verb: 'balloon', container: name, limit: bytes }),
  );
  return [
    { action: 'org.lockerd1.start', candidates: [ask({ verb: 'start', container: name })] },
    { action: 'org.lockerd1.stop', candidates: [ask({ verb: 'stop', container: name })] },
    {
      action: 'org.lockerd1.stop-force',
      candidates: [ask({ verb: 'stop', container: name }, forced)],
    },
    { action: 'org.lockerd1.reboot', candidates: [ask({ verb: 'reboot', container: name })] },
    {
      action: 'org.lockerd1.freeze',
      candidates: [
        ask({ verb: container.state === 'frozen' ? 'thaw' : 'freeze', container: name }),
      ],
    },
    { action: 'org.lockerd1.balloon', candidates: balloon },
    {
      action: 'org.lockerd1.set-limits',
      candidates: exampleLimits.map((limits) =>
        ask({ verb: 'set-limits', container: name, limits }),
      ),
    },
    {
      action: 'org.lockerd1.mount-locker',
      candidates: [...mount(plain), ...mount(readOnly)],
    },
    { action: 'org.lockerd1.unmount-locker', candidates: unmount(plain) },
    { action: 'org.lockerd1.unmount-locker-force', candidates: unmount(forced) },
    {
      action: 'org.lockerd1.set-autostart',
      candidates: [!definition.autostart, definition.autostart].map((autostart) =>
        ask({ verb: 'set-autostart', container: name, autostart }),
      ),
    },
  ];
}

/** One of each store. */
function newLockers(asked: Asked): ActionDetails[] {
  const names = asked.lockers.knownStores.slice(0, maxCandidates).map((store) => store.name);
  const request = { verb: 'create-locker', locker: exampleName, size: exampleSize } as const;
  return names.map((store) => lockerDetails(asked, request, { store }));
}

/** Some of what stores have of lockers that were forgotten. */
function forgottenLockers(asked: Asked): ActionDetails[] {
  return asked.lockers.knownStores
    .flatMap(({ name: store, forgotten }) => forgotten.map(({ name }) => ({ store, name })))
    .slice(0, maxCandidates)
    .map(({ store, name }) =>
      lockerDetails(asked, { verb: 'adopt-locker', locker: name }, { store }),
    );
}

function lockerDetails(
  { lockers, uid }: Asked,
  request: LockerRequest,
  options: Partial<LockerOptions> = {},
): ActionDetails {
  const facts = { stores: lockers.knownStores, trouble: undefined, snapshot: exampleName };
  const all = { ...emptyOptions, ...options };
  return planLocker(lockers, uid, request, all, facts).details;
}

/** What changes a locker as such. */
function lockerQuestions(asked: Asked, locker: string): Question[] {
  const snapshots = asked.lockers.looks.of(locker)?.snapshots ?? [];
  const ask = (request: LockerRequest, options?: Partial<LockerOptions>) =>
    lockerDetails(asked, request, options);
  return [
    {
      action: 'org.lockerd1.grow-locker',
      candidates: [ask({ verb: 'grow-locker', locker, size: exampleSize }, { by: true })],
    },
    {
      action: 'org.lockerd1.rename-locker',
      candidates: [ask({ verb: 'rename-locker', locker, name: exampleName })],
    },
    {
      action: 'org.lockerd1.snapshot-locker',
      candidates: [false, true].map((freeze) =>
        ask({ verb: 'snapshot-locker', locker, snapshot: '' }, { freeze }),
      ),
    },
    {
      action: 'org.lockerd1.restore-locker',
      candidates: (snapshots.length > 0 ? snapshots.slice(0, maxCandidates) : [exampleName]).map(
        (snapshot) => ask({ verb: 'restore-locker', locker, snapshot, name: exampleName }),
      ),
    },
    {
      action: 'org.lockerd1.forget-locker',
      candidates: [ask({ verb: 'forget-locker', locker })],
    },
  ];
}

function questionsAboutLocker(asked: Asked, locker: Locker): Question[] {
  const { host } = asked;
  const name = locker.name;
  const attachedTo = locker.attachedTo.map(({ container }) => container);
  const owners = host.containers
    .filter(({ definition }) => definition.lockers.some((own) => own.name === name))
    .map((container) => container.name);
  const all = host.containers.map((container) => container.name);
  const free = all.filter((container) => !attachedTo.includes(container));
  const ask = (verb: 'mount-locker' | 'unmount-locker', among: string[], options: RequestOptions) =>
    firstOf(owners, among).flatMap((containerName) => {
      const container = host.container(containerName);
      const request: ContainerRequest = { verb, container: containerName, locker: name };
      return container ? [detailsOf(request, container, options)] : [];
    });
  const holders = attachedTo.length > 0 ? attachedTo : all;
  return [
    {
      action: 'org.lockerd1.mount-locker',
      candidates: [...ask('mount-locker', free, plain), ...ask('mount-locker', free, readOnly)],
    },
    {
      action: 'org.lockerd1.unmount-locker',
      candidates: ask('unmount-locker', holders, plain),
    },
    {
      action: 'org.lockerd1.unmount-locker-force',
      candidates: ask('unmount-locker', holders, forced),
    },
    ...lockerQuestions(asked, name),
  ];
}

/** A bounded number of names, the preferred ones first where they are among them. */
function firstOf(preferred: readonly string[], names: readonly string[]): string[] {
  const isPreferred = new Set(preferred);
  const first = names.filter((name) => isPreferred.has(name));
  const others = names.filter((name) => !isPreferred.has(name));
  return [...first, ...others].slice(0, maxCandidates);
}

/** Details for cancelling another user's job. */
export function jobDetails(host: HostState, job: Job): ActionDetails {
  return {
    ...emptyDetails,
    container: job.container,
    unit: host.container(job.container)?.definition.unit ?? '',
    verb: job.verb,
    locker: job.locker,
    'job-uid': String(job.uid),
  };
}

const ranks: Record<Decision, number> = { yes: 2, challenge: 1, no: 0, dismissed: 0 };

/** The better of two answers. */
export function betterDecision(a: Decision, b: Decision): Decision {
  return ranks[b] > ranks[a] ? b : a;
}

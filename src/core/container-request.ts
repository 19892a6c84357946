import { unlimited } from '../model/memory-limit.ts';
import { shellWord } from '../model/shell-quote.ts';
import { LockerdError } from '../model/errors.ts';
import type { AbortReason, Job, JobContext, Verb } from './jobs.ts';
import type { OptionName, Options } from './options.ts';
import type { ActionDetails, ActionId, HelperPort, UnitsPort } from './ports.ts';
import { isUp } from './container-state.ts';
import { quoted } from './quoted.ts';
import type { Container, Locker, World } from './host-state.ts';

/** What a caller asks for. */
export type Request =
  | { readonly verb: 'start' | 'stop' | 'reboot' | 'freeze' | 'thaw'; readonly container: string }
  | {
      readonly verb: 'balloon';
      readonly container: string;
      /** Bytes; 2^64-1 for no limit. */
      readonly limit: bigint;
    }
  | {
      readonly verb: 'mount-locker' | 'unmount-locker';
      readonly container: string;
      readonly locker: string;
    };

/** What a request means at this moment. */
export interface Plan {
  readonly container: Container;
  readonly locker: Locker | undefined;
  readonly action: ActionId;
  readonly details: ActionDetails;
  /** Why it makes no sense now; the caller may learn of it when it may do it at all. */
  readonly objection: LockerdError | undefined;
  /** The guest that is meant, when another one in its place would not be. */
  readonly leader: number;
}

const common: readonly OptionName[] = ['interactive', 'wait', 'timeout-usec', 'request-id'];

export const optionsOf: Readonly<Record<Verb, readonly OptionName[]>> = {
  start: common,
  stop: [...common, 'force'],
  reboot: [...common, 'force'],
  freeze: common,
  thaw: common,
  balloon: [...common, 'force', 'persist', 'swap'],
  'mount-locker': [...common, 'read-only', 'persist'],
  'unmount-locker': [...common, 'force', 'persist'],
};

/** Of Cancel, which is no verb of a job. */
export const optionsOfCancel: readonly OptionName[] = ['interactive'];

const sigkill = 9;

/** How long a guest may take to reboot when the caller does not say. */
const rebootTimeoutMs = 90_000;
/** How long systemd's, LXC's and the kernel's news may take to arrive after the work is done. */
const settleMs = 5_000;

const unitInstance = (container: Container) => container.definition.unit.replace(/\.service$/, '');
const seeJournal = (container: Container) =>
  `see: journalctl -u ${shellWord(unitInstance(container))}`;
const named = (container: Container) => `container "${container.name}"`;

/** What stands for a number of bytes in an authorization's details. */
function bytesWord(bytes: bigint): string {
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
  'job-uid': '',
};

export type PlanOptions = Pick<Options, 'force' | 'readOnly' | 'persist' | 'swap'>;

export function actionOf(verb: Verb, force: boolean): ActionId {
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
    case 'mount-locker':
      return `org.lockerd1.${verb}`;
  }
}

/** Details of an authorization for a request that names these objects. */
export function detailsOf(
  request: Request,
  container: Container,
  options: PlanOptions,
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
        'memory-limit': bytesWord(limit),
        'memory-current': bytesWord(current),
        'memory-direction': limit > current ? 'grow' : limit < current ? 'shrink' : 'same',
        'swap-limit': options.swap === undefined ? '' : bytesWord(options.swap),
      };
    }
    case 'mount-locker':
      return { ...base, locker: request.locker, mode: options.readOnly ? 'ro' : 'rw' };
    case 'unmount-locker': {
      const attached = container.attachments.find(({ locker }) => locker === request.locker);
      return { ...base, locker: request.locker, mode: attached?.readOnly === true ? 'ro' : 'rw' };
    }
    case 'start':
    case 'stop':
    case 'reboot':
    case 'freeze':
    case 'thaw':
      return base;
  }
}

/**
 * Finds what a request names and what is against it. LockerdError noSuchContainer, noSuchLocker and
 * invalidArgs are for everybody; other objections are in the plan.
 */
export function planRequest(world: World, request: Request, options: PlanOptions): Plan {
  const container = world.container(request.container);
  if (!container) {
    throw new LockerdError(
      'NoSuchContainer',
      `there is no container ${quoted(request.container)}; for a new one: systemctl daemon-reload`,
    );
  }
  if (request.verb === 'balloon' && request.limit === 0n) {
    throw new LockerdError(
      'InvalidArgs',
      `${named(container)} cannot live with a limit of 0 bytes`,
    );
  }
  const locker = 'locker' in request ? world.locker(request.locker) : undefined;
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
    action: actionOf(request.verb, options.force),
    details: detailsOf(request, container, options),
    objection: objectionTo(request, container, options),
    leader: request.verb === 'start' ? 0 : container.leader,
  };
}

function notRunning(container: Container): LockerdError {
  const { state } = container;
  const remedy = isUp(state)
    ? 'wait until it runs'
    : `start it: systemctl start ${shellWord(unitInstance(container))}`;
  return new LockerdError('NotRunning', `${named(container)} is ${state}, not running; ${remedy}`);
}

function outside(container: Container): LockerdError {
  return new LockerdError(
    'Failed',
    `${named(container)} runs outside its unit ${container.definition.unit}; ` +
      `stop it with: lxc-stop -n ${shellWord(container.name)}`,
  );
}

/** Why a request makes no sense in the container's present state. */
function objectionTo(
  request: Request,
  container: Container,
  options: PlanOptions,
): LockerdError | undefined {
  const { state, unit } = container;
  // The unit has started it, and its guest is seen in a moment.
  const isNew = state === 'starting' && unit?.activeState === 'active';
  const hasGuest = isNew || ['running', 'frozen', 'freezing'].includes(state);
  switch (request.verb) {
    case 'start':
      if (hasGuest)
        return new LockerdError('AlreadyRunning', `${named(container)} is ${state} already`);
      if (state === 'broken') {
        return new LockerdError(
          'Failed',
          `the configuration of ${named(container)} is broken; ` +
            `see: systemctl status ${shellWord(unitInstance(container))}`,
        );
      }
      return undefined;
    case 'stop':
      if (container.isOutsideUnit) return outside(container);
      if (!isUp(state)) return new LockerdError('NotRunning', `${named(container)} is ${state}`);
      return undefined;
    case 'reboot':
      if (container.isOutsideUnit) return outside(container);
      if (state === 'running' || isNew) return undefined;
      if (options.force && isUp(state)) return undefined;
      if (state === 'frozen' || state === 'freezing') {
        return new LockerdError('NotRunning', `${named(container)} is ${state}; thaw it first`);
      }
      return notRunning(container);
    case 'freeze':
      return hasGuest ? undefined : notRunning(container);
    case 'thaw':
      if (state === 'frozen' || state === 'freezing') return undefined;
      return new LockerdError('NotFrozen', `${named(container)} is ${state}, not frozen`);
    case 'balloon':
      if (container.isOutsideUnit) return outside(container);
      // A lasting limit can be set for the next start.
      return hasGuest || options.persist ? undefined : notRunning(container);
    case 'mount-locker': {
      if (container.definition.wormhole === undefined) {
        return new LockerdError(
          'Failed',
          `${named(container)} has no wormhole; see "lockers" in lockerd.conf(5)`,
        );
      }
      const attached = container.attachments.find(({ locker }) => locker === request.locker);
      // What is there for now can be made lasting.
      if (attached && options.persist && attached.readOnly === options.readOnly) return undefined;
      if (attached) {
        const mode = attached.readOnly ? 'read-only' : 'read-write';
        return new LockerdError(
          'AlreadyMounted',
          `locker "${attached.locker}" is in ${named(container)} already, ${mode}`,
        );
      }
      return hasGuest ? undefined : notRunning(container);
    }
    case 'unmount-locker':
      if (container.attachments.some(({ locker }) => locker === request.locker)) return undefined;
      // What is away for now, or with its container, can be kept from coming back.
      if (options.persist) return undefined;
      return new LockerdError(
        'NotMounted',
        `locker "${request.locker}" is not in ${named(container)}`,
      );
  }
}

/** Whether a new request ends the job that its container is busy with, rather than to wait. */
export function supersedes(request: Request, options: PlanOptions, current: Job): boolean {
  if (request.verb !== 'stop') return false;
  if (current.verb === 'stop') return options.force;
  // What a stop makes pointless anyway. The others end soon.
  return options.force || ['start', 'reboot', 'balloon'].includes(current.verb);
}

/** Milliseconds that a verb may take when the caller does not say; undefined for no bound. */
export function defaultTimeoutMs(verb: Verb, force: boolean): number | undefined {
  return verb === 'reboot' && !force ? rebootTimeoutMs : undefined;
}

/** Whether work that has begun can be called off. */
export function isCancelable(verb: Verb): boolean {
  return verb === 'start' || verb === 'balloon';
}

export interface WorkPorts {
  readonly units: UnitsPort;
  readonly helper: HelperPort;
}

/** The work of a verb, done when its job runs. */
export class Work {
  readonly #world: World;
  readonly #ports: WorkPorts;

  constructor(world: World, ports: WorkPorts) {
    this.#world = world;
    this.#ports = ports;
  }

  do(request: Request, container: Container, options: PlanOptions, job: JobContext): Promise<void> {
    switch (request.verb) {
      case 'start':
        return this.#start(container, job);
      case 'stop':
        return this.#stop(container, options.force, job);
      case 'reboot':
        return options.force ? this.#restart(container, job) : this.#reboot(container, job);
      case 'freeze':
        return this.#freeze(container, job);
      case 'thaw':
        return this.#thaw(container, job);
      case 'balloon':
        return this.#balloon(container, request.limit, options, job);
      case 'mount-locker':
        return this.#attach(container, request.locker, options, job);
      case 'unmount-locker':
        return this.#detach(container, request.locker, options, job);
    }
  }

  async #start(container: Container, job: JobContext): Promise<void> {
    const { unit } = container.definition;
    job.report('starting');
    try {
      const result = await this.#ports.units.start(unit, job.signal);
      job.throwIfAborted();
      if (result !== 'done') throw await this.#unitFailure(container, 'did not start', result);
    } finally {
      const reason: AbortReason | undefined = job.abortReason();
      // Without its job, systemd goes on starting a unit. A stop job does better what is to be done.
      if (reason === 'cancelled' || reason === 'timeout') {
        job.report('stopping');
        await this.#ports.units.stop(unit, new AbortController().signal);
        await this.#world.until(container, ({ state }) => !isUp(state), settleMs);
      }
    }
    await this.#settle(
      container,
      job,
      (now) => now.state !== 'starting' && now.state !== 'stopped' && this.#hasItsLockers(now),
    );
  }

  /** Those that it comes with, where the host has them. */
  #hasItsLockers({ definition, attachments }: Container): boolean {
    return definition.lockers.every(
      ({ name }) =>
        this.#world.locker(name)?.isMounted !== true ||
        attachments.some(({ locker }) => locker === name),
    );
  }

  async #stop(container: Container, force: boolean, job: JobContext): Promise<void> {
    const { unit } = container.definition;
    if (force && (container.state === 'frozen' || container.state === 'freezing')) {
      // A frozen process is not even killed on cgroup v1.
      job.report('thawing');
      await this.#ports.helper.thaw(container.name);
    }
    job.report('stopping');
    const stopping = this.#ports.units.stop(unit, job.signal);
    if (force) {
      // First systemd must know that the unit is wanted to end. Its answer is awaited below.
      stopping.catch(() => undefined);
      await this.#settle(container, job, ({ state }) => state === 'stopping' || !isUp(state));
      job.report('killing');
      if (isUp(container.state)) await this.#kill(unit);
    }
    const result = await stopping;
    if (result !== 'done') {
      job.throwIfAborted();
      throw await this.#unitFailure(container, 'did not stop', result);
    }
    await this.#settle(
      container,
      job,
      ({ state, attachments }) => !isUp(state) && attachments.length === 0,
    );
    if (isUp(container.state) && container.isOutsideUnit) throw outside(container);
  }

  async #kill(unit: string): Promise<void> {
    try {
      await this.#ports.units.kill(unit, 'all', sigkill);
    } catch {
      // Nothing is left to kill, or systemd's own time-out will kill it; the stop's result tells.
    }
  }

  async #restart(container: Container, job: JobContext): Promise<void> {
    job.report('restarting');
    const result = await this.#ports.units.restart(container.definition.unit, job.signal);
    if (result !== 'done') {
      job.throwIfAborted();
      throw await this.#unitFailure(container, 'did not restart', result);
    }
    await this.#settle(
      container,
      job,
      (now) => now.state === 'running' && this.#hasItsLockers(now),
    );
  }

  async #reboot(container: Container, job: JobContext): Promise<void> {
    const { leader, definition } = container;
    if (leader === 0) {
      throw new LockerdError(
        'Failed',
        `nothing is known of the guest of ${named(container)}; ` +
          (this.#world.helperProblem || 'try again in a moment'),
      );
    }
    job.report('rebooting');
    await this.#ports.units.kill(definition.unit, 'main', definition.rebootSignal);
    const rebooted = (now: Container) =>
      now.state === 'running' && now.leader !== 0 && now.leader !== leader;
    await this.#world.until(
      container,
      (now) => rebooted(now) || !isUp(now.state),
      undefined,
      job.signal,
    );
    if (rebooted(container)) return;
    job.throwIfAborted();
    throw new LockerdError(
      'Failed',
      `${named(container)} shut down instead of rebooting; ${seeJournal(container)}`,
    );
  }

  async #freeze(container: Container, job: JobContext): Promise<void> {
    if (container.state === 'frozen') return;
    job.report('freezing');
    await this.#ports.helper.freeze(container.name);
    await this.#settle(container, job, ({ state }) => state === 'frozen' || !isUp(state));
  }

  async #thaw(container: Container, job: JobContext): Promise<void> {
    job.report('thawing');
    await this.#ports.helper.thaw(container.name);
    await this.#settle(container, job, ({ state }) => state !== 'frozen' && state !== 'freezing');
  }

  async #balloon(
    container: Container,
    limit: bigint,
    { force, persist, swap }: PlanOptions,
    job: JobContext,
  ): Promise<void> {
    job.report('checking');
    const { warnings, stallUsec } = await this.#ports.helper.balloon(
      { container: container.name, limit, swap, force, persist },
      (phase, fraction) => {
        job.report(fixedWord(phase), Math.min(1, Math.max(-1, fraction)));
      },
      job.signal,
    );
    warnings.forEach(job.warn);
    if (stallUsec !== undefined) job.stalled(stallUsec);
    // A stopped container has no control group whose limits could be watched.
    await this.#ports.units.look(container.definition.unit);
    const inPages = (bytes: bigint) => (bytes === unlimited ? bytes : bytes - (bytes % 4096n));
    await this.#settle(
      container,
      job,
      ({ unit }) =>
        unit?.memoryMax === inPages(limit) &&
        (swap === undefined || unit.memorySwapMax === inPages(swap)),
    );
  }

  async #attach(
    container: Container,
    locker: string,
    { readOnly, persist }: PlanOptions,
    job: JobContext,
  ): Promise<void> {
    job.report('attaching');
    await this.#ports.helper.attach({ container: container.name, locker, readOnly, persist });
    await this.#settle(container, job, (now) =>
      now.attachments.some((one) => one.locker === locker),
    );
  }

  async #detach(
    container: Container,
    locker: string,
    { force, persist }: PlanOptions,
    job: JobContext,
  ): Promise<void> {
    job.report('detaching');
    const request = { container: container.name, locker, force, persist };
    const { lazy } = await this.#ports.helper.detach(request);
    if (lazy) {
      job.warn(
        `locker "${locker}" is out of sight in ${named(container)}, but what used it there ` +
          'goes on using it until it lets go',
      );
    }
    await this.#settle(
      container,
      job,
      (now) => !now.attachments.some((one) => one.locker === locker),
    );
  }

  /**
   * Properties must have changed before the caller hears of the end. News that do not come are no
   * failure: somebody else may have changed things already.
   */
  async #settle(
    container: Container,
    job: JobContext,
    condition: (now: Container) => boolean,
  ): Promise<void> {
    await this.#world.until(container, condition, settleMs, job.signal);
  }

  async #unitFailure(container: Container, what: string, result: string): Promise<LockerdError> {
    await this.#world.until(container, ({ unit }) => unit?.activeState === 'failed', 1_000);
    const unitResult = container.unit?.result ?? 'success';
    const why = unitResult === 'success' ? result : unitResult;
    return new LockerdError(
      'Failed',
      `${named(container)} ${what} (${fixedWord(why)}); ${container.obstacle || seeJournal(container)}`,
    );
  }
}

/** Systemd's and the helper's words are short; anything else is not for callers. */
function fixedWord(word: string): string {
  return /^[a-z][a-z0-9-]{0,31}$/.test(word) ? word : 'other';
}

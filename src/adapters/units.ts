/**
 * Connects the core to systemd's units: their states, jobs and signals. A unit's memory limits can change
 * without a signal from systemd, so the limits of its control group are watched as well and cause a new
 * reading of the unit.
 */

import { LockerdError } from '../model/errors.ts';
import { unlimited } from '../model/memory-limit.ts';
import type { UnitJobResult, UnitsPort, UnitStatus, Unwatch } from '../core/ports.ts';
import { shellWord } from '../model/shell-quote.ts';
import { DBusError } from '../bus/values.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import { isDown } from '../systemd/properties.ts';
import type { WantedProperties } from '../systemd/unit-watch.ts';
import type { UnitReading } from '../systemd/watched-unit.ts';
import { UnitFiles } from '../systemd/unit-files.ts';
import { UnitWatch } from '../systemd/unit-watch.ts';

const activeStates: readonly string[] = [
  'active',
  'reloading',
  'inactive',
  'failed',
  'activating',
  'deactivating',
  'maintenance',
  'refreshing',
] satisfies UnitStatus['activeState'][];

/** Reports when limits were set, because systemd sends no signal for these properties. */
export interface LimitsWatcher {
  watchLimits(controlGroup: string, changed: () => void): Promise<Unwatch>;
}

/** The control group whose limits are watched for a unit, and how to stop watching. */
interface WatchedLimits {
  readonly controlGroup: string;
  readonly unwatch: Promise<Unwatch>;
}

/** systemd's units as the core sees them. Turns systemd's refusals into messages with a remedy. */
export class SystemdUnits implements UnitsPort {
  readonly #manager: SystemdManager;
  readonly #limits: LimitsWatcher;
  readonly #units: UnitWatch<UnitStatus>;
  /** Watched limits, by unit. */
  readonly #watchedLimits = new Map<string, WatchedLimits>();

  /** @param root below which systemd's unit files are */
  constructor(manager: SystemdManager, limits: LimitsWatcher, root = '') {
    this.#manager = manager;
    this.#limits = limits;
    this.#units = new UnitWatch(manager, wantedProperties(root), unitStatus, (unit, status) => {
      this.#followLimits(unit, status?.controlGroup ?? '');
    });
  }

  onReloaded(handler: () => void): void {
    this.#manager.listen({ reloaded: handler });
  }

  async watch(unit: string, changed: (status: UnitStatus) => void): Promise<Unwatch> {
    try {
      const unwatch = await this.#units.watch(unit, changed);
      return () => {
        unwatch();
        return Promise.resolve();
      };
    } catch (error) {
      throw new LockerdError('Failed', `systemd does not tell the state of ${unit}`, {
        cause: error,
      });
    }
  }

  #followLimits(unit: string, controlGroup: string): void {
    const before = this.#watchedLimits.get(unit);
    if ((before?.controlGroup ?? '') === controlGroup) return;
    this.#watchedLimits.delete(unit);
    // Watching has failed if the control group had just gone; then there is nothing to stop.
    before?.unwatch.then((unwatch) => unwatch()).catch(() => undefined);
    if (controlGroup === '') return;
    const unwatch = this.#limits.watchLimits(controlGroup, () => {
      this.#units.noteChange(unit);
    });
    unwatch.catch(() => undefined);
    this.#watchedLimits.set(unit, { controlGroup, unwatch });
  }

  look(unit: string): Promise<void> {
    return this.#units.look(unit);
  }

  start(unit: string, signal: AbortSignal): Promise<UnitJobResult> {
    return this.#job(unit, this.#manager.start(unit, { signal }));
  }

  stop(unit: string, signal: AbortSignal): Promise<UnitJobResult> {
    return this.#job(unit, this.#manager.stop(unit, { signal }));
  }

  restart(unit: string, signal: AbortSignal): Promise<UnitJobResult> {
    const changedUsec = this.#units.statusOf(unit)?.stateChangeUsec;
    return this.#job(unit, this.#manager.restart(unit, { signal, changedUsec }));
  }

  /** Waits for a job and then reads the unit, so that its status already shows what the job did. */
  async #job(unit: string, job: Promise<UnitJobResult>): Promise<UnitJobResult> {
    const result = await job.catch((error: unknown) => {
      throw new LockerdError('Failed', whyRefused(unit, error), { cause: error });
    });
    await this.look(unit);
    return result;
  }

  async kill(unit: string, whom: 'main' | 'all', signalNumber: number): Promise<void> {
    try {
      await this.#manager.kill(unit, whom, signalNumber);
    } catch (error) {
      throw isDead(error)
        ? new LockerdError('NotRunning', `${unit} is not running`, { cause: error })
        : new LockerdError('Failed', whyRefused(unit, error), { cause: error });
    }
  }
}

/** systemd sends a signal only for Result. */
function wantedProperties(root: string): WantedProperties {
  return {
    always: ['MemoryMax', 'MemorySwapMax'],
    whenUsed: ['Result', 'ControlGroup'],
    unset: {
      files: new UnitFiles(/^[ \t]*Memory(?:Max|SwapMax|Limit)[ \t]*=/m, root),
      values: new Map([
        ['MemoryMax', unlimited],
        ['MemorySwapMax', unlimited],
      ]),
    },
  };
}

function unitStatus(
  unit: string,
  { activeState, stateChangeUsec, service, heldStart, isAwaited }: UnitReading,
): UnitStatus {
  if (!isActiveState(activeState)) {
    throw new Error(`systemd has a state of ${unit} that is not known: ${activeState}`);
  }
  const isUsed = activeState !== 'inactive';
  return {
    activeState,
    result: isUsed ? service.string('Result') : 'success',
    stateChangeUsec,
    memoryMax: service.bigint('MemoryMax'),
    memorySwapMax: service.bigint('MemorySwapMax'),
    controlGroup: isUsed ? service.string('ControlGroup') : '',
    heldStart: heldStart?.kind,
    isAwaited: isAwaited && isDown(activeState),
    // One text, as statuses are compared member by member.
    heldBy: heldStart?.units.join(' ') ?? '',
  };
}

function isActiveState(text: string): text is UnitStatus['activeState'] {
  return activeStates.includes(text);
}

/** The last component of a D-Bus error name; empty for other errors. */
function errorWord(error: unknown): string {
  const name = error instanceof DBusError ? error.errorName : '';
  return name.slice(name.lastIndexOf('.') + 1);
}

function isDead(error: unknown): boolean {
  return ['NoSuchUnit', 'NoSuchProcess'].includes(errorWord(error));
}

function whyRefused(unit: string, error: unknown): string {
  switch (errorWord(error)) {
    case 'UnitMasked':
      return `${unit} is masked; unmask it with "systemctl unmask ${shellWord(unit)}"`;
    case 'NoSuchUnit':
      return `systemd has no ${unit}; see "systemctl status ${shellWord(unit)}"`;
    case 'LoadFailed':
    case 'BadUnitSetting':
    case 'UnitError':
      return `systemd cannot load ${unit}; see "systemctl status ${shellWord(unit)}"`;
    case 'OnlyByDependency':
      return `${unit} may be started and stopped by other units only`;
    case 'JobTypeNotApplicable':
      return `systemd cannot do this with ${unit}`;
    case 'TransactionIsDestructive':
    case 'TransactionJobsConflicting':
    case 'TransactionOrderIsCyclic':
      return `${unit} is in the way of other jobs of systemd, such as the host's shutdown`;
    case 'ShuttingDown':
      return `the host is shutting down, so ${unit} stays as it is`;
    case 'AccessDenied':
    case 'InteractiveAuthorizationRequired':
      return `systemd does not let lockerd work on ${unit}; is the packaged polkit rule for lockerd in place?`;
    case 'NoReply':
    case 'TimedOut':
      return `systemd does not answer; whether it works on ${unit} is not known`;
    default:
      return `systemd refused to work on ${unit}; see "systemctl status ${shellWord(unit)}"`;
  }
}

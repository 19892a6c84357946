import { LockerdError } from '../model/errors.ts';
import type { UnitJobResult, UnitsPort, UnitStatus, Unwatch } from '../core/ports.ts';
import { shellWord } from '../model/shell-quote.ts';
import { busError, DBusError } from '../bus/values.ts';
import {
  type ListedUnit,
  type SystemdManager,
  systemdIsAway,
  unitPath,
} from '../systemd/manager.ts';

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

/** How long to wait for systemd when it is off the bus, as while it executes itself anew. */
const awayTimeoutMs = 60_000;
const retryMs = 250;

/** How often it is looked whether a job is still there, in case its end was told to nobody. */
const jobLookMs = 30_000;

/** A job that somebody waits for. */
interface AwaitedJob {
  readonly method: string;
  readonly unit: string;
  /** When the unit had last changed before the job, where that is known. */
  readonly before: bigint | undefined;
  readonly done: (result: UnitJobResult) => void;
}

/** A unit that somebody watches. */
interface Watched {
  readonly unit: string;
  readonly path: string;
  readonly handlers: Set<(status: UnitStatus) => void>;
  status: UnitStatus | undefined;
  /** From signals, because a unit that systemd unloads forgets it. */
  stateChangeUsec: bigint;
  /** Counts what may have changed the unit; a reading is good when none came meanwhile. */
  changes: number;
  /** The reading that is under way. */
  reading: Promise<void> | undefined;
  /** Whose limits are watched, and how that ends. */
  controlGroup: string;
  limits: Promise<Unwatch> | undefined;
}

/** Who tells of limits that were set: systemd has no signal for these properties. */
export interface LimitsWatcher {
  watchLimits(controlGroup: string, changed: () => void): Promise<Unwatch>;
}

/** systemd's units over D-Bus. */
export class SystemdUnits implements UnitsPort {
  readonly #manager: SystemdManager;
  readonly #limits: LimitsWatcher;
  readonly #watched = new Map<string, Watched>();
  readonly #reloaded = new Set<() => void>();
  /** Those who wait for a job, by its object path. */
  readonly #jobs = new Map<string, AwaitedJob>();
  /** Jobs that ended before the reply that names them was looked at. */
  readonly #endedJobs = new Map<string, UnitJobResult>();
  #jobsAskedFor = 0;
  /** Units to be looked for in the next list of loaded ones. */
  readonly #toList = new Set<string>();
  #listing: Promise<ReadonlyMap<string, ListedUnit>> | undefined;

  constructor(manager: SystemdManager, limits: LimitsWatcher) {
    this.#manager = manager;
    this.#limits = limits;
    manager.listen({
      unitChanged: (path, changed) => {
        const watched = this.#watched.get(path);
        if (watched === undefined) return;
        const since = changed['StateChangeTimestamp'];
        if (typeof since === 'bigint' && since > 0n) watched.stateChangeUsec = since;
        this.#noteChange(watched);
      },
      unitNew: (_name, path) => {
        const watched = this.#watched.get(path);
        // When systemd leaves the bus, all is read again after its return.
        if (watched !== undefined) this.#lookAtLoaded(watched).catch(() => undefined);
      },
      jobRemoved: (path, result) => {
        const job = this.#jobs.get(path);
        if (job !== undefined) job.done(result);
        else if (this.#jobsAskedFor > 0) this.#endedJobs.set(path, result);
      },
      reloaded: () => {
        for (const watched of this.#watched.values()) this.#noteChange(watched);
        for (const path of this.#jobs.keys()) void this.#lookForJob(path);
        for (const handler of this.#reloaded) handler();
      },
    });
  }

  onReloaded(handler: () => void): void {
    this.#reloaded.add(handler);
  }

  async watch(unit: string, changed: (status: UnitStatus) => void): Promise<Unwatch> {
    const path = unitPath(unit);
    let watched = this.#watched.get(path);
    if (watched === undefined) {
      watched = {
        unit,
        path,
        handlers: new Set(),
        status: undefined,
        stateChangeUsec: 0n,
        changes: 0,
        reading: undefined,
        controlGroup: '',
        limits: undefined,
      };
      this.#watched.set(path, watched);
    }
    const { handlers } = watched;
    if (watched.status !== undefined) changed(watched.status);
    handlers.add(changed);
    const unwatch = (): Promise<void> => {
      handlers.delete(changed);
      if (handlers.size === 0 && this.#watched.get(path) === watched) {
        this.#watched.delete(path);
        this.#followLimits(watched, '');
      }
      return Promise.resolve();
    };
    try {
      if (watched.status === undefined) await this.#read(watched);
    } catch (error) {
      await unwatch();
      throw new LockerdError('Failed', `systemd does not tell the state of ${unit}`, {
        cause: error,
      });
    }
    return unwatch;
  }

  #noteChange(watched: Watched): void {
    watched.changes++;
    // Whoever waits for a reading hears of its failure; the next change reads again.
    this.#read(watched).catch(() => undefined);
  }

  /** Reads the unit, again and again until nothing has changed while it was read. */
  #read(watched: Watched): Promise<void> {
    watched.reading ??= this.#readUntilQuiet(watched).finally(() => {
      watched.reading = undefined;
    });
    return watched.reading;
  }

  async #readUntilQuiet(watched: Watched): Promise<void> {
    const end = Date.now() + awayTimeoutMs;
    for (;;) {
      const { changes } = watched;
      let status: UnitStatus;
      try {
        status = await this.#readStatus(watched);
      } catch (error) {
        if (!systemdIsAway(error) || Date.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, retryMs));
        continue;
      }
      if (!this.#watched.has(watched.path)) return;
      if (watched.changes !== changes) continue;
      this.#report(watched, status);
      return;
    }
  }

  #report(watched: Watched, status: UnitStatus): void {
    const before = watched.status;
    if (status.stateChangeUsec > 0n) watched.stateChangeUsec = status.stateChangeUsec;
    const now = { ...status, stateChangeUsec: watched.stateChangeUsec };
    watched.status = now;
    this.#followLimits(watched, now.controlGroup);
    const isSame =
      before !== undefined &&
      (Object.keys(now) as (keyof UnitStatus)[]).every((key) => before[key] === now[key]);
    if (isSame) return;
    for (const handler of [...watched.handlers]) handler(now);
  }

  #followLimits(watched: Watched, controlGroup: string): void {
    if (watched.controlGroup === controlGroup) return;
    watched.controlGroup = controlGroup;
    // A control group that has just gone has no limits either.
    watched.limits?.then((unwatch) => unwatch()).catch(() => undefined);
    watched.limits =
      controlGroup === ''
        ? undefined
        : this.#limits.watchLimits(controlGroup, () => {
            this.#noteChange(watched);
          });
    watched.limits?.catch(() => undefined);
  }

  /**
   * Each question about a unit that is not loaded has systemd load it, which takes 10 ms and more:
   * there is one for each unit, and one for all of them at the same time.
   */
  async #readStatus({ unit, path }: Pick<Watched, 'unit' | 'path'>): Promise<UnitStatus> {
    const loaded = await this.#loadedUnit(unit);
    const [service, since] = await Promise.all([
      this.#manager.getAll(path, 'Service'),
      loaded === undefined ? 0n : this.#manager.get(path, 'Unit', 'StateChangeTimestamp'),
    ]);
    const activeState = loaded?.activeState ?? 'inactive';
    const result = service['Result'];
    const mainPid = service['MainPID'];
    const memoryMax = service['MemoryMax'];
    const memorySwapMax = service['MemorySwapMax'];
    const controlGroup = service['ControlGroup'];
    if (
      !isActiveState(activeState) ||
      typeof since !== 'bigint' ||
      typeof result !== 'string' ||
      typeof mainPid !== 'number' ||
      typeof memoryMax !== 'bigint' ||
      typeof memorySwapMax !== 'bigint' ||
      typeof controlGroup !== 'string'
    ) {
      throw new Error(`systemd gave a status of ${unit} that makes no sense`);
    }
    return {
      activeState,
      result,
      mainPid,
      stateChangeUsec: since,
      memoryMax,
      memorySwapMax,
      controlGroup,
    };
  }

  /** The unit in the list of those that are loaded, which is read once for all who ask now. */
  async #loadedUnit(unit: string): Promise<ListedUnit | undefined> {
    this.#toList.add(unit);
    this.#listing ??= new Promise((resolve) => setImmediate(resolve)).then(async () => {
      const names = [...this.#toList];
      this.#toList.clear();
      this.#listing = undefined;
      const listed = await this.#manager.listLoaded(names);
      return new Map(listed.map((one) => [one.name, one]));
    });
    return (await this.#listing).get(unit);
  }

  /**
   * What happened to a unit before its loading was announced is not told in another signal. A
   * reading would load it again and again, so the list of loaded units says whether there is need.
   */
  async #lookAtLoaded(watched: Watched): Promise<void> {
    const listed = await this.#loadedUnit(watched.unit);
    // The reading that is under way may have begun before.
    await watched.reading;
    if (listed === undefined || watched.status === undefined) return;
    if (watched.status.activeState !== listed.activeState) this.#noteChange(watched);
  }

  start(unit: string, signal: AbortSignal): Promise<UnitJobResult> {
    return this.#job('StartUnit', unit, signal);
  }

  stop(unit: string, signal: AbortSignal): Promise<UnitJobResult> {
    return this.#job('StopUnit', unit, signal);
  }

  restart(unit: string, signal: AbortSignal): Promise<UnitJobResult> {
    return this.#job('RestartUnit', unit, signal);
  }

  async kill(unit: string, whom: 'main' | 'all', signalNumber: number): Promise<void> {
    await this.#ask('KillUnit', unit, 'ssi', [unit, whom, signalNumber]);
  }

  async #job(method: string, unit: string, signal: AbortSignal): Promise<UnitJobResult> {
    if (signal.aborted) return 'canceled';
    const before = this.#watched.get(unitPath(unit))?.status?.stateChangeUsec;
    this.#jobsAskedFor++;
    let ended: Promise<UnitJobResult>;
    let path: string;
    try {
      path = String((await this.#ask(method, unit, 'ss', [unit, 'replace']))[0]);
      ended = this.#jobEnd(path, { method, unit, before });
    } finally {
      this.#jobsAskedFor--;
      if (this.#jobsAskedFor === 0) this.#endedJobs.clear();
    }
    // A job that has just ended cannot be cancelled; its end is on the way.
    const cancel = (): void => {
      this.#manager.cancelJob(path).catch(() => this.#lookForJob(path));
    };
    signal.addEventListener('abort', cancel, { once: true });
    if (isAborted(signal)) cancel();
    try {
      const result = await ended;
      await this.look(unit);
      return result;
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  #jobEnd(path: string, job: Omit<AwaitedJob, 'done'>): Promise<UnitJobResult> {
    const result = this.#endedJobs.get(path);
    if (result !== undefined) return Promise.resolve(result);
    return new Promise((resolve) => {
      const timer = setInterval(() => void this.#lookForJob(path), jobLookMs);
      timer.unref();
      const done = (how: UnitJobResult): void => {
        clearInterval(timer);
        this.#jobs.delete(path);
        resolve(how);
      };
      this.#jobs.set(path, { ...job, done });
    });
  }

  /** Whoever hears that work has ended finds what it did in the unit's status. */
  async look(unit: string): Promise<void> {
    const watched = this.#watched.get(unitPath(unit));
    if (watched === undefined) return;
    watched.changes++;
    // The work's result counts also when its unit cannot be looked at.
    await this.#read(watched).catch(() => undefined);
  }

  /**
   * The end of a job may have been told to nobody, as when systemd was away. What became of it is
   * seen in its unit then.
   */
  async #lookForJob(path: string): Promise<void> {
    const id = Number(path.slice(path.lastIndexOf('/') + 1));
    try {
      await this.#manager.call('GetJob', 'u', [id]);
    } catch (error) {
      const isGone =
        error instanceof DBusError && error.errorName === 'org.freedesktop.systemd1.NoSuchJob';
      // Its end was told before this answer, if it was.
      const job = this.#jobs.get(path);
      if (isGone && job !== undefined) await this.#decideLostJob(job);
    }
  }

  async #decideLostJob(job: AwaitedJob): Promise<void> {
    let status: UnitStatus;
    try {
      const path = unitPath(job.unit);
      status = await this.#readStatus({ unit: job.unit, path });
    } catch {
      // It is asked again a while later.
      return;
    }
    const result = resultOfLostJob(job, status);
    if (result !== undefined) job.done(result);
  }

  async #ask(
    method: string,
    unit: string,
    signature: string,
    body: readonly unknown[],
  ): Promise<readonly unknown[]> {
    const end = Date.now() + awayTimeoutMs;
    for (;;) {
      try {
        return await this.#manager.call(method, signature, body);
      } catch (error) {
        if (wasNotDelivered(error) && Date.now() < end) {
          await new Promise((resolve) => setTimeout(resolve, retryMs));
          continue;
        }
        throw refusal(method, unit, error);
      }
    }
  }
}

/**
 * How a job ended whose end nobody has heard, by its unit; undefined while the unit changes. A unit
 * that is up says nothing of a restart that may never have begun.
 */
function resultOfLostJob(
  { method, before }: AwaitedJob,
  { activeState, stateChangeUsec }: UnitStatus,
): UnitJobResult | undefined {
  const isDown = activeState === 'inactive' || activeState === 'failed';
  if (!isDown && activeState !== 'active') return undefined;
  switch (method) {
    case 'StopUnit':
      return isDown ? 'done' : 'lost';
    case 'RestartUnit':
      if (isDown) return 'failed';
      return before !== undefined && stateChangeUsec > before ? 'done' : 'lost';
    default:
      return isDown ? 'failed' : 'done';
  }
}

function isActiveState(text: string): text is UnitStatus['activeState'] {
  return activeStates.includes(text);
}

/** A function, for what is asked again after an await is not known to be false. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

/** Nobody got the call, so that it can be repeated; NoReply would leave that open. */
function wasNotDelivered(error: unknown): boolean {
  return (
    systemdIsAway(error) &&
    error instanceof DBusError &&
    error.errorName !== busError.noReply &&
    error.errorName !== 'org.freedesktop.DBus.Error.TimedOut'
  );
}

function refusal(method: string, unit: string, error: unknown): LockerdError {
  const name = error instanceof DBusError ? error.errorName : '';
  const isDead = ['NoSuchUnit', 'NoSuchProcess'].some((end) => name.endsWith(`.${end}`));
  return method === 'KillUnit' && isDead
    ? new LockerdError('NotRunning', `${unit} is not running`, { cause: error })
    : new LockerdError('Failed', whyRefused(unit, error), { cause: error });
}

function whyRefused(unit: string, error: unknown): string {
  const name = error instanceof DBusError ? error.errorName : '';
  switch (name.slice(name.lastIndexOf('.') + 1)) {
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

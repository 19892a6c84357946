/**
 * The only client of org.freedesktop.systemd1(5), for the service, the helper and autoballoon. Code in
 * src/systemd knows systemd and its bus interface, but neither containers nor lockers.
 *
 * - `manager.ts`: calls, jobs, signals, and the subscription that is renewed after a daemon-reexec
 * - `unit-jobs.ts`: waiting for the end of a job
 * - `properties.ts`: checked properties
 * - `common-pattern.ts`, `gathered.ts`: one question about many units
 * - `watched.ts`, `unit-watch.ts`: following what changes, such as the state of a unit
 * - `reload.ts`, `away.ts`: what to do while systemd reads its unit files or is off the bus
 */

import type { BusConnection, Signal } from '../bus/connection.ts';
import { DBusError } from '../bus/values.ts';
import { escapeLabel } from '../model/object-label.ts';
import { retryWhile, systemdIsAway, wasNotDelivered } from './away.ts';
import type { JobOptions, JobPolicy, JobResult } from './unit-jobs.ts';
import { Jobs } from './unit-jobs.ts';
import type { UnitProperty, UnitType } from './properties.ts';
import { plainValue, plainValues, Properties } from './properties.ts';

const systemd = 'org.freedesktop.systemd1';
const managerPath = '/org/freedesktop/systemd1';
const unitNamespace = '/org/freedesktop/systemd1/unit';
const managerInterface = 'org.freedesktop.systemd1.Manager';
const propertiesInterface = 'org.freedesktop.DBus.Properties';

export interface ManagerOptions {
  /**
   * Which signals to subscribe to: all of {@link ManagerListener}, only the ends of jobs, or none; with
   * `none` no job can be awaited. Each subscription costs a short-lived process time. Default: `all`.
   */
  readonly signals?: 'all' | 'jobs' | 'none';
  /** Timeout of one call. Default: 25 s, as usual in D-Bus. */
  readonly callTimeoutMs?: number;
  /** How long a call about a unit is repeated while systemd is off the bus. Default: 60 s. */
  readonly awayMaxMs?: number;
  /** Default: jobs are checked every 30 s and cancelled when their signal aborts. */
  readonly jobs?: JobPolicy;
}

/** The fields that we use of one unit in Manager.ListUnits*(). */
export interface ListedUnit {
  readonly name: string;
  readonly activeState: string;
  /** The job that systemd has queued for it or works on; its id is 0 for none. */
  readonly job: { readonly id: number; readonly type: string };
}

export interface ManagerListener {
  /** The properties that unitChanged is for. */
  readonly properties?: readonly string[];
  /**
   * Properties of a unit have changed; `changed` decodes the new values, without their types, of those that some
   * listener names.
   */
  readonly unitChanged?: (path: string, changed: () => ReadonlyMap<string, unknown>) => void;
  /** A unit was loaded. Its state may have changed as well: no other signal reports its first change. */
  readonly unitNew?: (name: string, path: string) => void;
  /** A job of a unit was queued, whoever made it. */
  readonly jobNew?: (unit: string) => void;
  /** A job of a unit has ended, whoever made it. */
  readonly jobEnded?: (unit: string, result: string) => void;
  /**
   * Unit files were read again, or systemd itself is new: everything may have changed. No unit is told of as
   * loaded or unloaded during a reload.
   * @param isNew systemd itself is: signals may have been lost
   */
  readonly reloaded?: (isNew: boolean) => void;
}

export interface StartOptions extends JobOptions {
  /** Whether the job replaces a conflicting queued job or is refused. Default: `replace`. */
  readonly mode?: 'replace' | 'fail';
}

/** Object path of a unit, which need not be loaded. */
export function unitPath(unit: string): string {
  return `${unitNamespace}/${escapeLabel(unit)}`;
}

/**
 * systemd over one bus connection, with one subscription for all listeners. Signals are dispatched
 * here, because a match rule per unit would hit the bus daemon's limits.
 */
export class SystemdManager {
  readonly #bus: BusConnection;
  readonly #callTimeoutMs: number | undefined;
  readonly #awayMaxMs: number;
  readonly #jobs: Jobs;
  readonly #listeners = new Set<ManagerListener>();
  /** Properties of units that some listener wants. systemd tells all of them at each change. */
  readonly #properties = new Set<string>();
  #owner = '';
  #isReloading = false;

  private constructor(bus: BusConnection, options: ManagerOptions) {
    this.#bus = bus;
    this.#callTimeoutMs = options.callTimeoutMs;
    this.#awayMaxMs = options.awayMaxMs ?? 60_000;
    this.#jobs = new Jobs(this, options.jobs ?? { lookMs: 30_000, onAbort: 'cancel' });
    void bus.lost.then((error) => {
      this.#jobs.busLost(error);
    });
  }

  /** Creates a manager and subscribes to signals for as long as the connection lasts. */
  static async connect(bus: BusConnection, options: ManagerOptions = {}): Promise<SystemdManager> {
    const manager = new SystemdManager(bus, options);
    const { signals = 'all' } = options;
    if (signals === 'all') await manager.#subscribeToAll();
    if (signals === 'jobs') await manager.#subscribeToManager('JobRemoved');
    // systemd sends signals about units and jobs only if some client has called Subscribe.
    if (signals !== 'none') await manager.#callSubscribe();
    return manager;
  }

  /** Adds a listener; returns a function that removes it. */
  listen(listener: ManagerListener): () => void {
    this.#listeners.add(listener);
    for (const name of listener.properties ?? []) this.#properties.add(name);
    return () => this.#listeners.delete(listener);
  }

  // Subscription

  async #subscribeToAll(): Promise<void> {
    await this.#bus.subscribe(
      {
        sender: 'org.freedesktop.DBus',
        interface: 'org.freedesktop.DBus',
        member: 'NameOwnerChanged',
        arg0: systemd,
      },
      ({ body }) => {
        const owner = String(body[2]);
        // Subscriptions last as long as systemd's own connection to the bus.
        if (owner !== '' && owner !== this.#owner) void this.#resubscribe();
        this.#owner = owner;
      },
    );
    for (const member of ['UnitNew', 'JobNew', 'JobRemoved', 'Reloading']) {
      await this.#subscribeToManager(member);
    }
    // Each change of a unit is told twice, of its type and of the unit itself, which comes last.
    for (const type of ['Service', 'Unit']) {
      await this.#bus.subscribe(
        {
          sender: systemd,
          pathNamespace: unitNamespace,
          interface: propertiesInterface,
          member: 'PropertiesChanged',
          arg0: `${systemd}.${type}`,
          keys: this.#properties,
        },
        (signal) => {
          const changed = (): ReadonlyMap<string, unknown> => plainValues(signal.body[1]);
          this.#tell((listener) => listener.unitChanged?.(signal.path, changed));
        },
      );
    }
  }

  async #subscribeToManager(member: string): Promise<void> {
    await this.#bus.subscribe(
      {
        sender: systemd,
        path: managerPath,
        interface: managerInterface,
        member,
      },
      this.#onManagerSignal,
    );
  }

  async #callSubscribe(): Promise<void> {
    try {
      await this.call('Subscribe');
    } catch (error) {
      const isSubscribed =
        error instanceof DBusError && error.errorName === `${systemd}.AlreadySubscribed`;
      if (!isSubscribed) throw error;
    }
  }

  async #resubscribe(): Promise<void> {
    try {
      // It is back on the bus before it has time to answer.
      await retryWhile(systemdIsAway, this.#awayMaxMs, () => this.#callSubscribe());
    } catch {
      // systemd has left again; the next change of the name's owner leads back here.
      return;
    }
    this.#isReloading = false;
    this.#onReloaded(true);
  }

  readonly #onManagerSignal = ({ member, body }: Signal): void => {
    switch (member) {
      case 'UnitNew':
        if (this.#isReloading) break;
        this.#tell((l) => l.unitNew?.(String(body[0]), String(body[1])));
        break;
      case 'JobNew':
        this.#tell((l) => l.jobNew?.(String(body[2])));
        break;
      case 'JobRemoved':
        this.#jobs.ended(String(body[1]), String(body[3]));
        this.#tell((l) => l.jobEnded?.(String(body[2]), String(body[3])));
        break;
      case 'Reloading':
        // The argument is true at the start of a reload.
        this.#isReloading = body[0] === true;
        if (!this.#isReloading) this.#onReloaded(false);
        break;
    }
  };

  #onReloaded(isNew: boolean): void {
    this.#jobs.lookForAll();
    this.#tell((listener) => listener.reloaded?.(isNew));
  }

  #tell(what: (listener: ManagerListener) => void): void {
    for (const listener of [...this.#listeners]) what(listener);
  }

  // Calls

  #call(
    path: string,
    callInterface: string,
    member: string,
    signature: string,
    body: readonly unknown[],
  ): Promise<readonly unknown[]> {
    return this.#bus.call({
      destination: systemd,
      path,
      interface: callInterface,
      member,
      signature,
      body,
      ...(this.#callTimeoutMs === undefined ? {} : { timeoutMs: this.#callTimeoutMs }),
    });
  }

  /** Calls a method of the manager object. */
  call(member: string, signature = '', body: readonly unknown[] = []): Promise<readonly unknown[]> {
    return this.#call(managerPath, managerInterface, member, signature, body);
  }

  /** A call that is repeated if it was not delivered because systemd was off the bus. */
  #callWhenBack(
    member: string,
    signature: string,
    body: readonly unknown[],
  ): Promise<readonly unknown[]> {
    return retryWhile(wasNotDelivered, this.#awayMaxMs, () => this.call(member, signature, body));
  }

  /** daemon-reload: systemd runs the generators and reloads all unit files. */
  async reload(): Promise<void> {
    await this.call('Reload');
  }

  async kill(unit: string, whom: 'main' | 'all', signalNumber: number): Promise<void> {
    await this.#callWhenBack('KillUnit', 'ssi', [unit, whom, signalNumber]);
  }

  /** Resets the failed state of a unit; does nothing if systemd does not know the unit. */
  async resetFailed(unit: string): Promise<void> {
    await this.call('ResetFailedUnit', 's', [unit]).catch((error: unknown) => {
      if (!(error instanceof DBusError)) throw error;
    });
  }

  /** Does what `systemctl set-property` does; `runtime` stands for --runtime. */
  async setProperties(
    unit: string,
    runtime: boolean,
    properties: readonly UnitProperty[],
  ): Promise<void> {
    await this.call('SetUnitProperties', 'sba(sv)', [unit, runtime, properties]);
  }

  // Jobs: each method resolves when the job has ended, and throws a DBusError if it is refused.

  /** Starts a unit; the job is `done` at once if the unit is active. */
  start(unit: string, options: StartOptions = {}): Promise<JobResult> {
    return this.#jobs.run('start', unit, options, () =>
      this.#callWhenBack('StartUnit', 'ss', [unit, options.mode ?? 'replace']),
    );
  }

  /** Creates a unit without a unit file and starts it. */
  startTransient(
    unit: string,
    properties: readonly UnitProperty[],
    options: StartOptions = {},
  ): Promise<JobResult> {
    const body = [unit, options.mode ?? 'replace', properties, []];
    return this.#jobs.run('start', unit, options, () =>
      this.#callWhenBack('StartTransientUnit', 'ssa(sv)a(sa(sv))', body),
    );
  }

  stop(unit: string, options: JobOptions = {}): Promise<JobResult> {
    return this.#jobs.run('stop', unit, options, () =>
      this.#callWhenBack('StopUnit', 'ss', [unit, 'replace']),
    );
  }

  restart(unit: string, options: JobOptions = {}): Promise<JobResult> {
    return this.#jobs.run('restart', unit, options, () =>
      this.#callWhenBack('RestartUnit', 'ss', [unit, 'replace']),
    );
  }

  /** Cancels a job; what systemd has already done for it is not undone. */
  async cancelJob(path: string): Promise<void> {
    await this.#call(path, 'org.freedesktop.systemd1.Job', 'Cancel', '', []);
  }

  /** Units for whose jobs a job waits; none for a job that has ended. */
  async unitsBefore(job: number): Promise<string[]> {
    try {
      // systemctl list-jobs --before
      const [jobs] = await this.call('GetJobBefore', 'u', [job]);
      if (!Array.isArray(jobs)) throw new Error('systemd did not answer with a list of jobs');
      return jobs.map((row: unknown) => String(Array.isArray(row) ? row[1] : ''));
    } catch (error) {
      if (error instanceof DBusError && error.errorName === `${systemd}.NoSuchJob`) return [];
      throw error;
    }
  }

  // Properties

  /**
   * Reads some properties of a unit, one call for each. systemd loads an unloaded unit for this and
   * announces it as new and as removed, so reading in response to those signals would never end.
   */
  async get(unit: string, type: UnitType, names: readonly string[]): Promise<Properties> {
    const values = names.map(async (name) => {
      const body = [`${systemd}.${type}`, name];
      const [value] = await this.#call(unitPath(unit), propertiesInterface, 'Get', 'ss', body);
      return [name, plainValue(value)] as const;
    });
    return new Properties(unit, new Map(await Promise.all(values)));
  }

  /** ActiveState of a unit, such as `active`; `inactive` for a unit that does not exist. */
  async activeState(unit: string): Promise<string> {
    return (await this.get(unit, 'Unit', ['ActiveState'])).string('ActiveState');
  }

  /**
   * Reads all properties of one interface of a unit, and keeps some. Loads the unit, as {@link get}
   * does, but once.
   */
  async getAll(unit: string, type: UnitType, names: readonly string[]): Promise<Properties> {
    const body = [`${systemd}.${type}`];
    const [all] = await this.#call(unitPath(unit), propertiesInterface, 'GetAll', 's', body);
    const values = [...plainValues(all)].filter(([name]) => names.includes(name));
    return new Properties(unit, new Map(values));
  }

  /** Lists the loaded units whose names match one of the patterns; loads none. */
  async listLoaded(patterns: readonly string[]): Promise<ListedUnit[]> {
    const [units] = await this.call('ListUnitsByPatterns', 'asas', [
      [],
      // A backslash in a name would escape the next character of the pattern.
      patterns.map((pattern) => pattern.replaceAll('\\', '?')),
    ]);
    if (!Array.isArray(units)) throw new Error('systemd did not answer with a list of units');
    return units.map(listedUnit);
  }
}

function listedUnit(row: unknown): ListedUnit {
  const cells = Array.isArray(row) ? (row as readonly unknown[]) : [];
  const [name, , , activeState, , , , id, type] = cells;
  const isUnit = typeof name === 'string' && typeof activeState === 'string';
  if (!isUnit || typeof id !== 'number' || typeof type !== 'string') {
    throw new Error('systemd did not answer with a list of units');
  }
  return { name, activeState, job: { id, type } };
}

import { commonPattern } from './common-pattern.ts';
import { Gathered } from './gathered.ts';
import type { ListedUnit, SystemdManager } from './manager.ts';
import { unitPath } from './manager.ts';
import { isDown, Properties } from './properties.ts';
import { lateUnit, readHeldStart, wasNotBegun, willRun } from './held-start.ts';
import type { UnitFiles, UnitFilesState } from './unit-files.ts';
import { Watched } from './watched.ts';
import type { UnitReading, WatchedUnit } from './watched-unit.ts';

/**
 * Properties of the unit's service that are read. For all of them systemd would read a dozen files and write
 * some 200 values, at each start for each unit.
 */
export interface WantedProperties {
  readonly always: readonly string[];
  /** Also of a unit that is not inactive. */
  readonly whenUsed: readonly string[];
  /** What some of them are where no file of the unit has a setting, and who knows the files. */
  readonly unset?: {
    readonly files: Pick<UnitFiles, 'read'>;
    readonly values: ReadonlyMap<string, unknown>;
  };
}

/** More names are not listed one by one: systemd compares each with each unit. */
const patternsMax = 8;

/** A start that is queued for longer is one that waits. systemd announces the job, not the wait. */
const waitingStartMs = 300;

const nothing: ReadonlyMap<string, unknown> = new Map();
const withoutGroup: ReadonlyMap<string, string> = new Map([['ControlGroup', '']]);

/**
 * Follows the states of service units, even if systemd unloads and reloads them. Each query about an
 * unloaded unit makes systemd load it, which takes 10 ms or more. So there is one query per unit, and
 * one list of loaded units for all readings that start at the same time.
 */
export class UnitWatch<Status extends object> {
  readonly #manager: SystemdManager;
  readonly #wanted: WantedProperties;
  readonly #decode: (unit: string, reading: UnitReading) => Status;
  readonly #reported: (unit: string, status: Status | undefined) => void;
  /** Watched units, by object path. */
  readonly #units = new Map<string, WatchedUnit<Status>>();
  /** Those whose late unit has this object path. */
  readonly #lateUnits = new Map<string, WatchedUnit<Status>>();
  /** Entries in the list of loaded units. */
  readonly #loaded = new Gathered((units) => this.#listLoaded(units));
  readonly #files: Gathered<UnitFilesState | undefined> | undefined;

  /**
   * @param decode turns a reading into a status; statuses are compared member by member
   * @param reported called once per unit after each reading, and with undefined when nobody watches
   *   the unit any more
   */
  constructor(
    manager: SystemdManager,
    wanted: WantedProperties,
    decode: (unit: string, reading: UnitReading) => Status,
    reported: (unit: string, status: Status | undefined) => void,
  ) {
    this.#manager = manager;
    this.#wanted = wanted;
    this.#decode = decode;
    this.#reported = reported;
    const files = wanted.unset?.files;
    this.#files = files && new Gathered((units) => Promise.resolve(files.read(units)));
    manager.listen({
      properties: [
        ...['ActiveState', 'Job', 'StateChangeTimestamp'],
        ...[...wanted.always, ...wanted.whenUsed],
      ],
      unitChanged: (path, values) => {
        const awaited = this.#lateUnits.get(path);
        if (awaited !== undefined) this.#noteChange(awaited);
        const entry = this.#units.get(path);
        if (entry === undefined) return;
        const changed = values();
        const since = changed.get('StateChangeTimestamp');
        if (typeof since === 'bigint' && since > 0n) entry.stateChangeUsec = since;
        this.#takeChange(entry, changed);
      },
      unitNew: (_name, path) => {
        const entry = this.#units.get(path);
        if (entry === undefined) return;
        // Any question loads a unit, which then is inactive. A job that it is loaded for is announced next.
        entry.isNew =
          entry.activeState === 'inactive' && entry.job === 0 && !entry.watched.isReading;
        if (!entry.isNew) this.#lookForChange(entry);
      },
      jobNew: (unit) => {
        const entry = this.#units.get(unitPath(unit));
        if (entry === undefined || !isDown(entry.activeState)) return;
        if (entry.isNew) this.#lookForChange(entry);
        entry.isNew = false;
        this.#lookWhetherItWaits(entry);
      },
      jobEnded: (unit, result) => {
        const entry = this.#units.get(unitPath(unit));
        if (entry === undefined || entry.isStartUnmet === wasNotBegun(result)) return;
        entry.isStartUnmet = wasNotBegun(result);
        this.#noteChange(entry);
      },
      reloaded: (isNew) => {
        if (isNew) for (const entry of this.#units.values()) this.#noteAll(entry);
        else this.#lookAtFiles().catch(() => undefined);
      },
    });
  }

  /**
   * Reports the status of a unit now and after each change. Resolves after the first report with a
   * function that ends the watch; throws what the reading throws.
   */
  async watch(unit: string, changed: (status: Status) => void): Promise<() => void> {
    const path = unitPath(unit);
    const entry = this.#units.get(path) ?? this.#newEntry(unit);
    this.#units.set(path, entry);
    const late = lateUnit(unit);
    if (late !== undefined) this.#lateUnits.set(unitPath(late), entry);
    if (entry.status !== undefined) changed(entry.status);
    entry.handlers.add(changed);
    const unwatch = (): void => {
      entry.handlers.delete(changed);
      if (entry.handlers.size > 0 || this.#units.get(path) !== entry) return;
      this.#units.delete(path);
      if (late !== undefined) this.#lateUnits.delete(unitPath(late));
      entry.watched.end();
      this.#reported(unit, undefined);
    };
    try {
      if (entry.status === undefined) await entry.watched.read();
    } catch (error) {
      unwatch();
      throw error;
    }
    return unwatch;
  }

  /** The last status of a watched unit; undefined if there is none yet. */
  statusOf(unit: string): Status | undefined {
    return this.#units.get(unitPath(unit))?.status;
  }

  /** Says that a watched unit may have changed in a way for which systemd sends no signal. */
  noteChange(unit: string): void {
    const entry = this.#units.get(unitPath(unit));
    if (entry !== undefined) this.#noteAll(entry);
  }

  /** Like {@link noteChange}; resolves when the unit has been read or the reading has failed. */
  async look(unit: string): Promise<void> {
    const entry = this.#units.get(unitPath(unit));
    if (entry === undefined) return;
    entry.isServiceOld = true;
    entry.started = undefined;
    await entry.watched.readAfterChange().catch(() => undefined);
  }

  #lookForChange(entry: WatchedUnit<Status>): void {
    // If systemd has left the bus, `reloaded` makes all units be read again after its return.
    this.#lookAtListed(entry, false).catch(() => undefined);
  }

  #noteAll(entry: WatchedUnit<Status>): void {
    entry.isServiceOld = true;
    this.#noteChange(entry);
  }

  /** Something may have changed of which no signal has said all. */
  #noteChange(entry: WatchedUnit<Status>): void {
    entry.started = undefined;
    entry.watched.noteChange();
  }

  /** A start that does not wait has changed the unit's state by then. */
  #lookWhetherItWaits(entry: WatchedUnit<Status>): void {
    if (entry.isStartLooked) return;
    entry.isStartLooked = true;
    setTimeout(() => {
      entry.isStartLooked = false;
      if (isDown(entry.activeState)) this.#noteChange(entry);
    }, waitingStartMs).unref();
  }

  #newEntry(unit: string): WatchedUnit<Status> {
    const entry: WatchedUnit<Status> = {
      unit,
      handlers: new Set(),
      watched: new Watched(
        () => this.#readUnit(entry),
        (reading) => {
          this.#report(entry, reading);
        },
      ),
      isStartUnmet: false,
      activeState: '',
      job: 0,
      reading: undefined,
      service: undefined,
      isServiceOld: true,
      wasDown: true,
      files: undefined,
      areFilesNew: false,
      isNew: false,
      started: undefined,
      isStartLooked: false,
      told: nothing,
      status: undefined,
      stateChangeUsec: 0n,
    };
    return entry;
  }

  /**
   * Takes what a signal says, without a question to systemd. Only the start of a unit, and one that is
   * held up, have more to them than their signals say.
   */
  #takeChange(entry: WatchedUnit<Status>, changed: ReadonlyMap<string, unknown>): void {
    const { reading, watched } = entry;
    const told = this.#ofService(changed);
    entry.told = new Map([...entry.told, ...told]);
    entry.service = entry.service?.with(told);
    const job = changed.get('Job');
    if (Array.isArray(job)) entry.job = Number(job[0]);
    const word = changed.get('ActiveState');
    if (typeof word === 'string') {
      entry.started = isDown(word) ? undefined : word;
      if (isDown(word)) this.#noteDown(entry);
    }
    if (reading === undefined || entry.service === undefined || watched.isReading) {
      watched.noteChange();
      return;
    }
    const activeState = typeof word === 'string' ? word : reading.activeState;
    const isUsed = !isDown(activeState) && entry.wasDown;
    // A unit that starts it later may be queued by then.
    const hasFailed = activeState === 'failed' && reading.activeState !== 'failed';
    const isHeld = isDown(activeState) && (entry.isStartUnmet || hasFailed);
    if (isDown(activeState) && entry.job !== 0) this.#lookWhetherItWaits(entry);
    // Of an inactive unit less was read.
    const isComplete = this.#namesFor(activeState).every((name) => entry.service?.has(name));
    if (isUsed || isHeld || !isComplete || reading.heldStart !== undefined) {
      watched.noteChange();
      return;
    }
    this.#report(entry, { ...reading, activeState, stateChangeUsec: 0n, service: entry.service });
  }

  /** A unit that is down has no control group, about which systemd sends no signal. */
  #noteDown(entry: WatchedUnit<Status>): void {
    entry.wasDown = true;
    entry.service = entry.service?.with(withoutGroup);
  }

  #ofService(values: ReadonlyMap<string, unknown>): ReadonlyMap<string, unknown> {
    const { always, whenUsed } = this.#wanted;
    return new Map(
      [...always, ...whenUsed].flatMap((name): [string, unknown][] =>
        values.has(name) ? [[name, values.get(name)]] : [],
      ),
    );
  }

  #namesFor(activeState: string): readonly string[] {
    const { always, whenUsed } = this.#wanted;
    return activeState === 'inactive' ? always : [...always, ...whenUsed];
  }

  #report(entry: WatchedUnit<Status>, reading: UnitReading): void {
    if (reading.stateChangeUsec > 0n) entry.stateChangeUsec = reading.stateChangeUsec;
    const { unit, stateChangeUsec, status: before } = entry;
    const status = this.#decode(unit, { ...reading, stateChangeUsec });
    entry.activeState = reading.activeState;
    entry.reading = reading;
    entry.status = status;
    this.#reported(unit, status);
    if (before !== undefined && isSame(before, status)) return;
    for (const handler of [...entry.handlers]) handler(status);
  }

  async #readUnit(entry: WatchedUnit<Status>): Promise<UnitReading> {
    const { unit, started } = entry;
    if (started !== undefined) {
      const service = await this.#readService(entry, started, true);
      // A change of the unit that starts it would have made this one be read in the other way.
      const isAwaited = entry.reading?.isAwaited ?? false;
      return {
        activeState: started,
        isAwaited,
        heldStart: undefined,
        stateChangeUsec: 0n,
        service,
      };
    }
    const [loaded, late] = await Promise.all([
      this.#loaded.of(unit),
      this.#loaded.of(lateUnit(unit) ?? unit),
    ]);
    entry.job = loaded?.job.id ?? 0;
    const activeState = loaded?.activeState ?? 'inactive';
    const isAwaited = late !== undefined && willRun(late);
    if (isDown(activeState)) this.#noteDown(entry);
    const [service, heldStart] = await Promise.all([
      this.#readService(entry, activeState, loaded !== undefined),
      readHeldStart(this.#manager, unit, {
        activeState,
        job: loaded?.job,
        isUnmet: entry.isStartUnmet,
        isAwaited,
      }),
    ]);
    return { activeState, isAwaited, heldStart, stateChangeUsec: 0n, service };
  }

  /**
   * The unit's service. It is read where something may have changed of which no signal tells: at a start, where
   * somebody says so, after a reload.
   */
  async #readService(
    entry: WatchedUnit<Status>,
    activeState: string,
    isLoaded: boolean,
  ): Promise<Properties> {
    const { unit, service: known } = entry;
    const names = this.#namesFor(activeState);
    const isStarted = entry.wasDown && !isDown(activeState);
    if (!entry.isServiceOld && !isStarted && known && names.every((name) => known.has(name))) {
      return known;
    }
    // What signals have said of a start need not be asked.
    const told = entry.isServiceOld || entry.started === undefined ? nothing : entry.told;
    const isTold = told.size > 0;
    entry.isServiceOld = false;
    // It may be down once more while it is read.
    if (isStarted) entry.wasDown = false;
    entry.told = nothing;
    try {
      const unset = await this.#unsetOf(entry, activeState);
      const asked = names.filter((name) => !unset.has(name) && !told.has(name));
      const [service, since] = await Promise.all([
        this.#ask(unit, asked, isLoaded),
        isLoaded && !isTold ? this.#manager.get(unit, 'Unit', ['StateChangeTimestamp']) : undefined,
      ]);
      const usec = since?.bigint('StateChangeTimestamp') ?? 0n;
      if (usec > entry.stateChangeUsec) entry.stateChangeUsec = usec;
      return (entry.service = service.with(new Map([...unset, ...told, ...entry.told])));
    } catch (error) {
      entry.isServiceOld = true;
      entry.wasDown ||= isStarted;
      throw error;
    }
  }

  async #ask(unit: string, names: readonly string[], isLoaded: boolean): Promise<Properties> {
    if (names.length === 0) return new Properties(unit, nothing);
    if (isLoaded) return this.#manager.get(unit, 'Service', names);
    // systemd would load it for each of them.
    return this.#manager.getAll(unit, 'Service', names);
  }

  /** What need not be asked of a unit that is down, because no file sets it. */
  async #unsetOf(
    entry: WatchedUnit<Status>,
    activeState: string,
  ): Promise<ReadonlyMap<string, unknown>> {
    const { unset } = this.#wanted;
    if (unset === undefined) return nothing;
    if (entry.service === undefined && !entry.areFilesNew) {
      entry.files = await this.#files?.of(entry.unit);
      entry.areFilesNew = true;
    }
    const isUnset = entry.areFilesNew && entry.files?.hasSetting === false;
    entry.areFilesNew = false;
    return isUnset && isDown(activeState) ? unset.values : nothing;
  }

  /** After a reload: reads again what has other files or another state. */
  async #lookAtFiles(): Promise<void> {
    const entries = [...this.#units.values()];
    const { unset } = this.#wanted;
    const found = await unset?.files.read(entries.map(({ unit }) => unit));
    await Promise.all(
      entries.map(async (entry) => {
        const files = found?.get(entry.unit);
        const isSame = files !== undefined && files.version === entry.files?.version;
        entry.files = files;
        entry.areFilesNew = files !== undefined && !isSame;
        if (!isSame || entry.reading === undefined) this.#noteAll(entry);
        else if (entry.reading.heldStart !== undefined) this.#noteChange(entry);
        // systemd may be too busy to answer; a reading asks it again.
        else
          await this.#lookAtListed(entry, true).catch(() => {
            this.#noteChange(entry);
          });
      }),
    );
  }

  async #listLoaded(units: readonly string[]): Promise<ReadonlyMap<string, ListedUnit>> {
    const patterns = units.length > patternsMax ? [commonPattern(units)] : units;
    const listed = await this.#manager.listLoaded(patterns);
    return new Map(listed.map((loaded) => [loaded.name, loaded]));
  }

  /**
   * Finds changes of a unit for which no signal comes: those from before its loading was announced, and those
   * during a reload. A reading would make systemd load the unit again and again, so the list of loaded units
   * decides whether a reading is needed.
   */
  async #lookAtListed(entry: WatchedUnit<Status>, isAlsoOfUnloaded: boolean): Promise<void> {
    const listed = await this.#loaded.of(entry.unit);
    // A reading that is under way may have begun before the change, so wait for its result.
    await entry.watched.whenRead();
    if (entry.status === undefined || (listed === undefined && !isAlsoOfUnloaded)) return;
    const { activeState, job } = listed ?? { activeState: 'inactive', job: { id: 0 } };
    if (entry.activeState !== activeState || entry.job !== job.id) this.#noteChange(entry);
  }
}

function isSame<Status extends object>(before: Status, now: Status): boolean {
  return (Object.keys(now) as (keyof Status)[]).every((key) => before[key] === now[key]);
}

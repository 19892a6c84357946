import type { ListedUnit, SystemdManager } from './manager.ts';
import { unitPath } from './manager.ts';
import type { Properties } from './properties.ts';
import type { HeldStart } from './held-start.ts';
import { readHeldStart, wasNotBegun } from './held-start.ts';
import { Watched } from './watched.ts';

/** A service unit as it is read. */
export interface UnitReading {
  /** systemd's word, such as `active`. */
  readonly activeState: string;
  /** CLOCK_REALTIME, microseconds; 0 where systemd has never seen it change. */
  readonly stateChangeUsec: bigint;
  readonly service: Properties;
  /** Of a unit that is down: a start that waits, or that ended before it began. */
  readonly heldStart: HeldStart | undefined;
}

interface WatchedUnit<Status> {
  readonly unit: string;
  readonly handlers: Set<(status: Status) => void>;
  readonly watched: Watched<UnitReading>;
  /** The last start ended because of what it needs. */
  isStartUnmet: boolean;
  /** As they were reported last. */
  activeState: string;
  job: number;
  status: Status | undefined;
  /** Also from signals, because a unit that systemd unloads forgets it. */
  stateChangeUsec: bigint;
}

/**
 * Follows the states of service units, also of such that systemd unloads and loads again. Each
 * question about a unit that is not loaded has systemd load it, which takes 10 ms and more. So there
 * is one question for each unit, and one list of the loaded ones for all who ask at the same time.
 */
export class UnitWatch<Status extends object> {
  readonly #manager: SystemdManager;
  readonly #decode: (unit: string, reading: UnitReading) => Status;
  readonly #reported: (unit: string, status: Status | undefined) => void;
  /** By object path. */
  readonly #units = new Map<string, WatchedUnit<Status>>();
  /** Units to be looked for in the next list of loaded ones. */
  readonly #toList = new Set<string>();
  #listing: Promise<ReadonlyMap<string, ListedUnit>> | undefined;

  /**
   * @param decode what is to be known of a reading; statuses are compared member by member
   * @param reported hears of each unit once, after each reading, and of undefined when nobody
   *   watches the unit any more
   */
  constructor(
    manager: SystemdManager,
    decode: (unit: string, reading: UnitReading) => Status,
    reported: (unit: string, status: Status | undefined) => void,
  ) {
    this.#manager = manager;
    this.#decode = decode;
    this.#reported = reported;
    manager.listen({
      unitChanged: (path, changed) => {
        const entry = this.#units.get(path);
        if (entry === undefined) return;
        const since = changed.get('StateChangeTimestamp');
        if (typeof since === 'bigint' && since > 0n) entry.stateChangeUsec = since;
        entry.watched.noteChange();
      },
      unitNew: (_name, path) => {
        const entry = this.#units.get(path);
        // When systemd leaves the bus, all is read again after its return.
        if (entry !== undefined) this.#lookAtLoaded(entry).catch(() => undefined);
      },
      jobEnded: (unit, result) => {
        const entry = this.#units.get(unitPath(unit));
        if (entry === undefined || entry.isStartUnmet === wasNotBegun(result)) return;
        entry.isStartUnmet = wasNotBegun(result);
        entry.watched.noteChange();
      },
      reloaded: () => {
        for (const { watched } of this.#units.values()) watched.noteChange();
      },
    });
  }

  /**
   * Reports the status of a unit now and at every change. Settles after the first report with what
   * ends the watching; throws what the reading throws.
   */
  async watch(unit: string, changed: (status: Status) => void): Promise<() => void> {
    const path = unitPath(unit);
    const entry = this.#units.get(path) ?? this.#newEntry(unit);
    this.#units.set(path, entry);
    if (entry.status !== undefined) changed(entry.status);
    entry.handlers.add(changed);
    const unwatch = (): void => {
      entry.handlers.delete(changed);
      if (entry.handlers.size > 0 || this.#units.get(path) !== entry) return;
      this.#units.delete(path);
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

  /** The last status of a watched unit. */
  statusOf(unit: string): Status | undefined {
    return this.#units.get(unitPath(unit))?.status;
  }

  /** Something of a watched unit may have changed of which systemd tells nobody. */
  noteChange(unit: string): void {
    this.#units.get(unitPath(unit))?.watched.noteChange();
  }

  /** As {@link noteChange}; settles when the unit has been read, or cannot be. */
  async look(unit: string): Promise<void> {
    await this.#units
      .get(unitPath(unit))
      ?.watched.readAfterChange()
      .catch(() => undefined);
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
      status: undefined,
      stateChangeUsec: 0n,
    };
    return entry;
  }

  #report(entry: WatchedUnit<Status>, reading: UnitReading): void {
    if (reading.stateChangeUsec > 0n) entry.stateChangeUsec = reading.stateChangeUsec;
    const { unit, stateChangeUsec, status: before } = entry;
    const status = this.#decode(unit, { ...reading, stateChangeUsec });
    entry.activeState = reading.activeState;
    entry.status = status;
    this.#reported(unit, status);
    if (before !== undefined && isSame(before, status)) return;
    for (const handler of [...entry.handlers]) handler(status);
  }

  async #readUnit(entry: WatchedUnit<Status>): Promise<UnitReading> {
    const { unit } = entry;
    const loaded = await this.#loadedUnit(unit);
    entry.job = loaded?.job.id ?? 0;
    const [service, since] = await Promise.all([
      this.#manager.getAll(unit, 'Service'),
      loaded && this.#manager.get(unit, 'Unit', ['StateChangeTimestamp']),
    ]);
    const activeState = loaded?.activeState ?? 'inactive';
    return {
      activeState,
      heldStart: await readHeldStart(this.#manager, unit, {
        activeState,
        job: loaded?.job,
        isUnmet: entry.isStartUnmet,
      }),
      stateChangeUsec: since?.bigint('StateChangeTimestamp') ?? 0n,
      service,
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
      return new Map(listed.map((loaded) => [loaded.name, loaded]));
    });
    return (await this.#listing).get(unit);
  }

  /**
   * What happened to a unit before its loading was announced is not told in another signal. A
   * reading would load it again and again, so the list of loaded units says whether there is need.
   */
  async #lookAtLoaded(entry: WatchedUnit<Status>): Promise<void> {
    const listed = await this.#loadedUnit(entry.unit);
    // The reading that is under way may have begun before.
    await entry.watched.whenRead();
    if (listed === undefined || entry.status === undefined) return;
    if (entry.activeState !== listed.activeState || entry.job !== listed.job.id) {
      entry.watched.noteChange();
    }
  }
}

function isSame<Status extends object>(before: Status, now: Status): boolean {
  return (Object.keys(now) as (keyof Status)[]).every((key) => before[key] === now[key]);
}

import type { Clock } from './clock.ts';
import { Listeners } from './listeners.ts';
import type {
  ContainerDefinition,
  Definitions,
  DefinitionsPort,
  HelperPort,
  LockerDefinition,
  LxcStatus,
  MemoryPort,
  MountPoint,
  MountsPort,
  UnitsPort,
  UnitStatus,
  Unwatch,
} from './ports.ts';
import { deriveState, runsOutsideUnit, type ContainerState } from './container-state.ts';
import { Watch } from './retried-watch.ts';

/** One locker in one container's wormhole. */
export interface Attachment {
  readonly locker: string;
  readonly readOnly: boolean;
}

/**
 * A container as it is now. Another container that comes later under the same name is another
 * object, so that who kept this one can tell.
 */
export interface Container {
  readonly name: string;
  readonly definition: ContainerDefinition;
  /** Undefined while systemd does not answer. */
  readonly unit: UnitStatus | undefined;
  readonly state: ContainerState;
  /** CLOCK_REALTIME, microseconds. */
  readonly stateChangeUsec: bigint;
  /** Process id of the guest's init on the host; 0 when there is none. */
  readonly leader: number;
  /** Sorted by name. */
  readonly attachments: readonly Attachment[];
  readonly oomKills: bigint;
  /** Who keeps LXC from starting it, with the remedy; empty where nobody does. */
  readonly obstacle: string;
  /** LXC runs it, but not its unit. */
  readonly isOutsideUnit: boolean;
  readonly isGone: boolean;
}

export interface Locker {
  readonly name: string;
  readonly definition: LockerDefinition;
  readonly isMounted: boolean;
  /** What is mounted; empty when nothing is. */
  readonly source: string;
  /** Containers that it comes with; sorted. */
  readonly comesWith: readonly string[];
  readonly attachedTo: readonly { readonly container: string; readonly readOnly: boolean }[];
  readonly isGone: boolean;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };
interface ContainerRecord extends Mutable<Container> {
  lxc: { state: string; leader: number } | undefined;
  /** The unit, not somebody's lxc-start, made what LXC last told of. */
  isOwnedByUnit: boolean;
  /** Of the guest that the unit's start brings. */
  guest: 'awaited' | 'never seen' | undefined;
  stopAwaiting: () => void;
  isAnnounced: boolean;
  watches: Watch[];
  oomWatch: { group: string; watch: Watch } | undefined;
}
type LockerRecord = Mutable<Locker>;

export interface WorldEvent {
  readonly kind: 'added' | 'changed' | 'removed';
  readonly type: 'container' | 'locker';
  readonly name: string;
}

export interface WorldPorts {
  readonly definitions: DefinitionsPort;
  readonly units: UnitsPort;
  readonly mounts: MountsPort;
  readonly helper: HelperPort;
  readonly memory: MemoryPort;
}

/** What a watch gets to report troubles to; the words name what cannot be watched. */
export type TroubleHandler = (what: string, error: unknown) => void;

/** How long the beginning waits for news of guests, which say little that systemd does not. */
const lxcAttemptMs = 2_000;
/** Longer than the helper takes to look for a guest that nobody has told it of. */
const guestAwaitedMs = 5_000;
/** How long it waits for what nothing can be said without; a bus gives up on a service after 25 s. */
const hostAttemptMs = 15_000;

const parentOf = (path: string) => path.slice(0, path.lastIndexOf('/')) || '/';
const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);

/**
 * Containers and lockers as systemd, LXC and the kernel tell of them, whoever changed them. Nothing
 * is asked twice: what is not told by an event has not changed.
 */
export class World {
  readonly #ports: WorldPorts;
  readonly #clock: Clock;
  readonly #trouble: TroubleHandler;
  readonly #containers = new Map<string, ContainerRecord>();
  readonly #lockers = new Map<string, LockerRecord>();
  /** LXC's last word about every name, also of containers that are not defined (yet). */
  readonly #lxc = new Map<string, LxcStatus>();
  #lxcWatch: Watch | undefined;
  /** Somebody tells of guests. */
  #isHeard = false;
  #helperProblem = '';
  /** By the directory that is watched. */
  readonly #mounts = new Map<string, { watch: Watch; points: readonly MountPoint[] }>();
  #rootNeedsNoAuthority = false;
  #reading: Promise<void> | undefined;
  #readAgain = false;
  readonly changed = new Listeners<[WorldEvent]>();

  constructor(ports: WorldPorts, clock: Clock, trouble: TroubleHandler) {
    this.#ports = ports;
    this.#clock = clock;
    this.#trouble = trouble;
  }

  /** Settles when everything that answers has told its state; what does not is asked again. */
  async start(): Promise<void> {
    this.#lxcWatch = this.#watch(
      'LXC',
      () =>
        this.#ports.helper.watch(
          (status) => {
            this.#onLxc(status);
          },
          (container) => {
            const group = this.#containers.get(container)?.oomWatch?.group;
            if (group !== undefined) this.#ports.memory.expectOomKills(group);
          },
          (problem) => {
            this.#onHeard(problem);
          },
        ),
      lxcAttemptMs,
    );
    this.#ports.units.onReloaded(() => void this.reload());
    await Promise.all([this.#lxcWatch.firstAttempt, this.reload()]);
  }

  async stop(): Promise<void> {
    const watches = [
      ...(this.#lxcWatch ? [this.#lxcWatch] : []),
      ...[...this.#mounts.values()].map(({ watch }) => watch),
      ...[...this.#containers.values()].flatMap(watchesOf),
    ];
    await Promise.all(watches.map(async (watch) => watch.stop()));
  }

  get rootNeedsNoAuthority(): boolean {
    return this.#rootNeedsNoAuthority;
  }

  /** Why nobody tells of guests, with the remedy; empty when all is well. */
  get helperProblem(): string {
    return this.#helperProblem;
  }

  /** Sorted by name, as are lockers. */
  get containers(): readonly Container[] {
    return [...this.#containers.values()].filter(({ isAnnounced }) => isAnnounced).sort(byName);
  }

  get lockers(): readonly Locker[] {
    return [...this.#lockers.values()].sort(byName);
  }

  container(name: string): Container | undefined {
    const record = this.#containers.get(name);
    return record?.isAnnounced === true ? record : undefined;
  }

  locker(name: string): Locker | undefined {
    return this.#lockers.get(name);
  }

  /**
   * Waits until something is true of a container: true; false when the time is over, the signal
   * fires or the container is gone.
   */
  async until(
    container: Container,
    condition: (container: Container) => boolean,
    timeoutMs: number | undefined,
    signal?: AbortSignal,
  ): Promise<boolean> {
    if (container.isGone || signal?.aborted === true) return false;
    if (condition(container)) return true;
    return new Promise((resolve) => {
      const end = (result: boolean) => {
        unlisten();
        unwait();
        signal?.removeEventListener('abort', onAbort);
        resolve(result);
      };
      const onAbort = () => {
        end(false);
      };
      const unlisten = this.changed.add(({ type, name }) => {
        if (type !== 'container' || name !== container.name) return;
        if (container.isGone) end(false);
        else if (condition(container)) end(true);
      });
      const unwait =
        timeoutMs === undefined ? () => undefined : this.#clock.after(timeoutMs, onAbort);
      signal?.addEventListener('abort', onAbort);
    });
  }

  /** Reads the definitions again; one that is asked for while another one runs comes after it. */
  reload(): Promise<void> {
    if (this.#reading) {
      this.#readAgain = true;
      return this.#reading;
    }
    const read = async () => {
      this.#readAgain = false;
      try {
        await this.#apply(await this.#ports.definitions.read());
      } catch (error) {
        this.#trouble('the definitions of containers cannot be read', error);
      }
      if (this.#mustReadAgain()) await read();
    };
    this.#reading = read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  #mustReadAgain(): boolean {
    return this.#readAgain;
  }

  async #apply(definitions: Definitions): Promise<void> {
    this.#rootNeedsNoAuthority = definitions.rootNeedsNoAuthority;
    const lockers = new Map(definitions.lockers.map((locker) => [locker.name, locker]));
    for (const [name, record] of this.#lockers) {
      if (lockers.has(name)) continue;
      this.#lockers.delete(name);
      record.isGone = true;
      this.changed.emit({ kind: 'removed', type: 'locker', name });
    }
    const containers = new Map(definitions.containers.map((one) => [one.name, one]));
    for (const [name, record] of this.#containers) {
      if (containers.has(name)) continue;
      this.#containers.delete(name);
      await this.#forget(record);
    }
    const comesWith = (locker: string) =>
      definitions.containers
        .filter((one) => one.lockers.some(({ name }) => name === locker))
        .map(({ name }) => name)
        .sort();
    const newLockers: LockerRecord[] = [];
    for (const [name, definition] of lockers) {
      const known = this.#lockers.get(name);
      const record: LockerRecord = known ?? {
        name,
        definition,
        isMounted: false,
        source: '',
        comesWith: [],
        attachedTo: [],
        isGone: false,
      };
      record.definition = definition;
      record.comesWith = comesWith(name);
      if (known) this.changed.emit({ kind: 'changed', type: 'locker', name });
      else {
        this.#lockers.set(name, record);
        newLockers.push(record);
      }
    }
    const newContainers: ContainerRecord[] = [];
    for (const [name, definition] of containers) {
      const known = this.#containers.get(name);
      if (known && known.definition.unit !== definition.unit) {
        await this.#forget(known);
      } else if (known) {
        known.definition = definition;
        this.#derive(known, 'other');
        continue;
      }
      newContainers.push(this.#define(definition));
    }
    await Promise.all([
      this.#watchMounts(),
      ...newContainers.flatMap(({ watches }) => watches.map(({ firstAttempt }) => firstAttempt)),
    ]);
    this.#placeMounts();
    for (const { name } of newLockers) this.changed.emit({ kind: 'added', type: 'locker', name });
    for (const record of newContainers) {
      // A second reading never runs beside this one, so the record is still the one that counts.
      record.isAnnounced = true;
      this.changed.emit({ kind: 'added', type: 'container', name: record.name });
    }
  }

  #define(definition: ContainerDefinition): ContainerRecord {
    const lxc = this.#lxc.get(definition.name);
    const record: ContainerRecord = {
      name: definition.name,
      definition,
      unit: undefined,
      state: 'stopped',
      stateChangeUsec: 0n,
      leader: 0,
      attachments: [],
      oomKills: 0n,
      obstacle: obstacleOf(lxc),
      isOutsideUnit: false,
      isGone: false,
      lxc: lxc && { state: lxc.state, leader: lxc.leader },
      isOwnedByUnit: false,
      guest: undefined,
      stopAwaiting: () => undefined,
      isAnnounced: false,
      watches: [],
      oomWatch: undefined,
    };
    this.#containers.set(record.name, record);
    record.watches = [
      this.#watch(`unit ${definition.unit}`, () =>
        this.#ports.units.watch(definition.unit, (status) => {
          this.#onUnit(record, status);
        }),
      ),
    ];
    return record;
  }

  async #forget(record: ContainerRecord): Promise<void> {
    record.isGone = true;
    record.stopAwaiting();
    if (record.isAnnounced) {
      this.changed.emit({ kind: 'removed', type: 'container', name: record.name });
    }
    await Promise.all(watchesOf(record).map(async (watch) => watch.stop()));
  }

  #watch(what: string, attempt: () => Promise<Unwatch>, attemptMs = hostAttemptMs): Watch {
    const onFailure = (error: unknown) => {
      this.#trouble(`${what} cannot be watched`, error);
    };
    return new Watch(this.#clock, attempt, onFailure, attemptMs);
  }

  #onUnit(record: ContainerRecord, status: UnitStatus): void {
    if (record.isGone) return;
    const before = record.unit?.activeState;
    const isFirst = record.unit === undefined;
    record.unit = status;
    const { activeState } = status;
    // What comes is told of a little later than its unit.
    const comes = activeState === 'activating' || activeState === 'active';
    if (comes && activeState !== before && record.lxc?.state === 'STOPPED') {
      record.lxc = undefined;
      this.#lxc.delete(record.name);
    }
    if (!isFirst) this.#await(record, before);
    // Which of the two tells first of a start is chance.
    const isStarting = activeState === 'activating' && record.lxc?.state === 'STARTING';
    if (activeState === 'active' || isStarting) record.isOwnedByUnit = true;
    // Whatever of the guest was in the unit has been killed with it; a monitor that was killed
    // cannot say so.
    if ((activeState === 'inactive' || activeState === 'failed') && record.isOwnedByUnit) {
      record.isOwnedByUnit = false;
      if (record.lxc !== undefined) record.lxc = { state: 'STOPPED', leader: 0 };
      this.#lxc.delete(record.name);
    }
    this.#watchOomKills(record, status.controlGroup);
    this.#derive(record, isFirst ? 'first' : 'unit');
  }

  /** The start of a unit is told at once, its guest some moments later. */
  #await(record: ContainerRecord, before: UnitStatus['activeState'] | undefined): void {
    const activeState = record.unit?.activeState;
    if (activeState === 'activating' && before !== 'activating') {
      record.guest = 'awaited';
    } else if (activeState === 'active' && record.guest === 'awaited') {
      record.stopAwaiting();
      record.stopAwaiting = this.#clock.after(guestAwaitedMs, () => {
        if (record.guest !== 'awaited' || record.isGone) return;
        record.guest = 'never seen';
        this.#derive(record, 'other');
      });
    } else if (activeState === 'inactive' || activeState === 'failed') {
      record.stopAwaiting();
      record.guest = undefined;
    }
  }

  #onLxc(status: LxcStatus): void {
    this.#lxc.set(status.container, status);
    const record = this.#containers.get(status.container);
    if (!record) return;
    if (status.state !== 'STOPPED') {
      record.stopAwaiting();
      record.guest = undefined;
    }
    record.lxc = { state: status.state, leader: status.leader };
    record.obstacle = obstacleOf(status);
    if (status.state === 'STOPPED') record.isOwnedByUnit = record.unit?.activeState === 'active';
    else if (status.state === 'STARTING' && record.unit?.activeState === 'activating') {
      record.isOwnedByUnit = true;
    }
    this.#derive(record, 'other');
  }

  /** Guests are told of from now on, or are not: what systemd knows is what is left then. */
  #onHeard(problem: string | undefined): void {
    const before = this.#helperProblem;
    this.#isHeard = problem === undefined;
    this.#helperProblem = problem ?? '';
    if (problem !== undefined) {
      this.#lxc.clear();
      for (const record of this.#containers.values()) {
        record.lxc = undefined;
        record.obstacle = '';
      }
      if (problem !== before) this.#trouble('guests of containers are out of sight', problem);
    }
    for (const record of this.#containers.values()) this.#derive(record, 'other');
  }

  #derive(record: ContainerRecord, cause: 'first' | 'unit' | 'other'): void {
    const facts = {
      broken: record.definition.problem !== '',
      unit: record.unit,
      lxc: record.lxc?.state,
      isHeard: this.#isHeard,
      guest: record.guest,
    };
    const state = deriveState(facts);
    const fromUnit = record.unit?.stateChangeUsec ?? 0n;
    if (cause === 'first') record.stateChangeUsec = fromUnit;
    else if (state !== record.state) {
      record.stateChangeUsec = cause === 'unit' ? fromUnit : this.#clock.realtimeUsec();
    }
    record.state = state;
    record.leader = record.lxc?.leader ?? 0;
    record.isOutsideUnit = runsOutsideUnit(facts);
    this.#emitChanged(record);
  }

  #emitChanged(record: ContainerRecord): void {
    if (!record.isAnnounced) return;
    this.changed.emit({ kind: 'changed', type: 'container', name: record.name });
  }

  #watchOomKills(record: ContainerRecord, group: string): void {
    if (record.oomWatch?.group === group) return;
    void record.oomWatch?.watch.stop();
    record.oomWatch = undefined;
    if (group === '') return;
    const watch = this.#watch(`memory of ${record.definition.unit}`, () =>
      this.#ports.memory.watchOomKills(group, (kills) => {
        if (record.oomWatch?.group !== group) return;
        record.oomKills = kills;
        this.#emitChanged(record);
      }),
    );
    record.oomWatch = { group, watch };
  }

  /** Directories that hold wormholes or lockers' mount points, each watched once. */
  async #watchMounts(): Promise<void> {
    const wanted = new Set<string>();
    for (const { definition } of this.#containers.values()) {
      if (definition.wormhole !== undefined) wanted.add(parentOf(definition.wormhole));
    }
    for (const { definition } of this.#lockers.values()) wanted.add(parentOf(definition.path));
    for (const [directory, { watch }] of this.#mounts) {
      if (wanted.has(directory)) continue;
      this.#mounts.delete(directory);
      await watch.stop();
    }
    for (const directory of wanted) {
      if (this.#mounts.has(directory)) continue;
      const watch = this.#watch(`mounts below ${directory}`, () =>
        this.#ports.mounts.watch(directory, (points) => {
          const entry = this.#mounts.get(directory);
          if (!entry) return;
          entry.points = points;
          this.#placeMounts();
        }),
      );
      this.#mounts.set(directory, { watch, points: [] });
    }
    await Promise.all([...this.#mounts.values()].map(({ watch }) => watch.firstAttempt));
  }

  #placeMounts(): void {
    const points = [...this.#mounts.values()].flatMap((entry) => entry.points);
    const byPath = new Map(points.map((point) => [point.path, point]));
    const attachedTo = new Map<string, { container: string; readOnly: boolean }[]>();
    for (const record of this.#containers.values()) {
      const attachments = attachmentsBelow(record.definition.wormhole, byPath);
      for (const { locker, readOnly } of attachments) {
        const containers = attachedTo.get(locker) ?? [];
        containers.push({ container: record.name, readOnly });
        attachedTo.set(locker, containers);
      }
      if (JSON.stringify(attachments) === JSON.stringify(record.attachments)) continue;
      record.attachments = attachments;
      this.#emitChanged(record);
    }
    for (const record of this.#lockers.values()) {
      const point = byPath.get(record.definition.path);
      const next = {
        isMounted: point !== undefined,
        source: point?.source ?? '',
        attachedTo: (attachedTo.get(record.name) ?? []).sort((a, b) =>
          a.container < b.container ? -1 : 1,
        ),
      };
      const { isMounted, source, attachedTo: before } = record;
      if (JSON.stringify(next) === JSON.stringify({ isMounted, source, attachedTo: before })) {
        continue;
      }
      Object.assign(record, next);
      this.changed.emit({ kind: 'changed', type: 'locker', name: record.name });
    }
  }
}

function obstacleOf(status: LxcStatus | undefined): string {
  const { pid, uid } = status?.squatter ?? {};
  if (pid === undefined) return '';
  return (
    `process ${pid} of uid ${uid} has the container's command socket, so that LXC cannot start it; ` +
    `end that process: kill ${pid}`
  );
}

function watchesOf({ watches, oomWatch }: ContainerRecord): Watch[] {
  return oomWatch ? [...watches, oomWatch.watch] : watches;
}

function attachmentsBelow(
  wormhole: string | undefined,
  byPath: ReadonlyMap<string, MountPoint>,
): Attachment[] {
  if (wormhole === undefined) return [];
  const prefix = `${wormhole}/`;
  const attachments: Attachment[] = [];
  for (const { path, readOnly } of byPath.values()) {
    if (!path.startsWith(prefix)) continue;
    const locker = path.slice(prefix.length);
    // A mount inside a locker belongs to the locker.
    if (locker === '' || locker.includes('/')) continue;
    attachments.push({ locker, readOnly });
  }
  return attachments.sort((a, b) => (a.locker < b.locker ? -1 : 1));
}

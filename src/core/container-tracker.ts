/**
 * What becomes of each container: systemd reports its unit, the helper its guest, the kernel its OOM
 * kills. Each report updates the container's record, and the state is derived again.
 */

import type { Clock } from './clock.ts';
import { deriveState, runsOutsideUnit } from './container-state.ts';
import type { ContainerRecord, HostEvent } from './host-objects.ts';
import type { Listeners } from './listeners.ts';
import type {
  ContainerDefinition,
  HelperPort,
  LxcStatus,
  MemoryPort,
  UnitsPort,
  UnitStatus,
} from './ports.ts';
import { parentOf } from '../model/path.ts';
import { mountUnit } from '../model/unit-name.ts';
import type { RetriedWatch, Watcher } from './retried-watch.ts';

/** How long the start waits for reports of guests: the first answer has them, unless the helper hangs. */
const firstGuestsMs = 10_000;
/** Longer than the helper takes to find a guest by itself. */
const guestAwaitedMs = 15_000;

export interface ContainerTrackerPorts {
  readonly units: UnitsPort;
  readonly helper: HelperPort;
  readonly memory: MemoryPort;
}

export class ContainerTracker {
  readonly #ports: ContainerTrackerPorts;
  readonly #clock: Clock;
  readonly #watcher: Watcher;
  readonly #changed: Listeners<[HostEvent]>;
  readonly #containers = new Map<string, ContainerRecord>();
  /** LXC's last word about every name, also of containers that are not defined (yet). */
  readonly #lxc = new Map<string, LxcStatus>();
  #guestsWatch: RetriedWatch | undefined;
  /** The helper reports guests, so that a guest that is not reported is not there. */
  #areGuestsReported = false;
  #helperProblem = '';

  constructor(
    ports: ContainerTrackerPorts,
    clock: Clock,
    watcher: Watcher,
    changed: Listeners<[HostEvent]>,
  ) {
    this.#ports = ports;
    this.#clock = clock;
    this.#watcher = watcher;
    this.#changed = changed;
  }

  /** Settles when all guests are reported, or after two seconds. */
  async start(): Promise<void> {
    const attempt = () =>
      this.#ports.helper.watch(
        (status) => {
          this.#onGuest(status);
        },
        (container) => {
          const group = this.#containers.get(container)?.oomWatch?.controlGroup;
          if (group !== undefined) this.#ports.memory.expectOomKills(group);
        },
        (problem) => {
          this.#onHelper(problem);
        },
      );
    this.#guestsWatch = this.#watcher.watch('LXC', attempt, firstGuestsMs);
    await this.#guestsWatch.firstAttempt;
  }

  /** Why no guests are reported, with the remedy; empty when they are. */
  get helperProblem(): string {
    return this.#helperProblem;
  }

  get records(): ReadonlyMap<string, ContainerRecord> {
    return this.#containers;
  }

  /** Watches a new container. No event is sent before announce(). */
  add(definition: ContainerDefinition): ContainerRecord {
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
      waitsFor: [],
      isOutsideUnit: false,
      isGone: false,
      lxc: lxc && { state: lxc.state, leader: lxc.leader },
      isOwnedByUnit: false,
      guest: undefined,
      stopAwaiting: () => undefined,
      isAnnounced: false,
      unitWatch: undefined,
      oomWatch: undefined,
    };
    this.#containers.set(record.name, record);
    record.unitWatch = this.#watcher.watch(`unit ${definition.unit}`, () =>
      this.#ports.units.watch(definition.unit, (status) => {
        this.#onUnit(record, status);
      }),
    );
    return record;
  }

  announce(record: ContainerRecord): void {
    record.isAnnounced = true;
    this.#changed.emit({ kind: 'added', type: 'container', name: record.name });
  }

  /** The same container with another definition. */
  redefine(record: ContainerRecord, definition: ContainerDefinition): void {
    // Most do not change with a reload.
    if (record.definition === definition) return;
    record.definition = definition;
    this.#derive(record, 'other');
  }

  async remove(record: ContainerRecord): Promise<void> {
    this.#containers.delete(record.name);
    record.isGone = true;
    record.stopAwaiting();
    if (record.isAnnounced)
      this.#changed.emit({ kind: 'removed', type: 'container', name: record.name });
    await Promise.all(watchesOf(record).map(async (watch) => watch.stop()));
  }

  emitChanged(record: ContainerRecord): void {
    if (record.isAnnounced)
      this.#changed.emit({ kind: 'changed', type: 'container', name: record.name });
  }

  #onUnit(record: ContainerRecord, status: UnitStatus): void {
    if (record.isGone) return;
    const before = record.unit?.activeState;
    const isFirst = record.unit === undefined;
    record.unit = status;
    const { activeState } = status;
    // A guest that starts is reported a little later than its unit.
    const isComing = activeState === 'activating' || activeState === 'active';
    if (isComing && activeState !== before && record.lxc?.state === 'STOPPED') {
      record.lxc = undefined;
      this.#lxc.delete(record.name);
    }
    if (!isFirst) this.#expectGuest(record, before);
    // Whether systemd or LXC reports a start first is chance.
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

  /** The start of a unit is reported at once, its guest some moments later. */
  #expectGuest(record: ContainerRecord, before: UnitStatus['activeState'] | undefined): void {
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

  #onGuest(status: LxcStatus): void {
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

  /** Guests are reported from now on, or are not. Then only what systemd knows counts. */
  #onHelper(problem: string | undefined): void {
    const before = this.#helperProblem;
    this.#areGuestsReported = problem === undefined;
    this.#helperProblem = problem ?? '';
    if (problem !== undefined) {
      this.#lxc.clear();
      for (const record of this.#containers.values()) {
        record.lxc = undefined;
        record.obstacle = '';
      }
      if (problem !== before) {
        this.#watcher.reportProblem('guests of containers are out of sight', problem);
      }
    }
    for (const record of this.#containers.values()) this.#derive(record, 'other');
  }

  #watchOomKills(record: ContainerRecord, controlGroup: string): void {
    if (record.oomWatch?.controlGroup === controlGroup) return;
    void record.oomWatch?.watch.stop();
    record.oomWatch = undefined;
    if (controlGroup === '') return;
    const watch = this.#watcher.watch(`memory of ${record.definition.unit}`, () =>
      this.#ports.memory.watchOomKills(controlGroup, (kills) => {
        if (record.oomWatch?.controlGroup !== controlGroup) return;
        record.oomKills = kills;
        this.emitChanged(record);
      }),
    );
    record.oomWatch = { controlGroup, watch };
  }

  #derive(record: ContainerRecord, cause: 'first' | 'unit' | 'other'): void {
    const heldBy = foreignUnits(record);
    // Its own mounts take a moment at each start.
    const isHeld = heldBy.length > 0 || record.unit?.heldStart === 'unmet';
    const facts = {
      broken: record.definition.problem !== '',
      unit: record.unit && {
        activeState: record.unit.activeState,
        heldStart: isHeld ? record.unit.heldStart : undefined,
      },
      lxc: record.lxc?.state,
      areGuestsReported: this.#areGuestsReported,
      guest: record.guest,
    };
    const state = deriveState(facts);
    const fromUnit = record.unit?.stateChangeUsec ?? 0n;
    if (cause === 'first') record.stateChangeUsec = fromUnit;
    else if (state !== record.state) {
      // The unit stays inactive while its start is held up.
      const isHeldUp = [state, record.state].some((one) => one === 'waiting' || one === 'unmet');
      const isUnits = cause === 'unit' && !isHeldUp;
      record.stateChangeUsec = isUnits ? fromUnit : this.#clock.realtimeUsec();
    }
    record.waitsFor = ['waiting', 'unmet'].includes(state) ? heldBy : [];
    record.state = state;
    record.leader = record.lxc?.leader ?? 0;
    record.isOutsideUnit = runsOutsideUnit(facts);
    this.emitChanged(record);
  }
}

/** What holds up its start, but for wormholes and what belongs to them. */
function foreignUnits({ unit, definition: { wormhole } }: ContainerRecord): string[] {
  // Every event comes here, and hardly any container waits.
  const { heldBy = '' } = unit ?? {};
  if (heldBy === '') return [];
  const own = wormhole === undefined ? '' : mountUnit(parentOf(wormhole)).replace(/\.mount$/, '');
  return heldBy
    .split(' ')
    .filter((name) => name !== '' && !(own !== '' && name.startsWith(own)))
    .filter((name) => !name.startsWith('run-lockerd-'));
}

function obstacleOf(status: LxcStatus | undefined): string {
  const { pid, uid } = status?.squatter ?? {};
  if (pid === undefined) return '';
  return (
    `process ${pid} of uid ${uid} has the container's command socket, so that LXC cannot start it; ` +
    `end that process: kill ${pid}`
  );
}

function watchesOf({ unitWatch, oomWatch }: ContainerRecord): RetriedWatch[] {
  return [...(unitWatch ? [unitWatch] : []), ...(oomWatch ? [oomWatch.watch] : [])];
}

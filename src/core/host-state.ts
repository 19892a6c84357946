/**
 * The containers and lockers of this host as systemd, LXC and the kernel report them. Nothing is
 * polled: without an event, nothing has changed.
 *
 * The definitions say what there is. ContainerTracker and MountTracker say what becomes of it.
 */

import type { Clock } from './clock.ts';
import { ContainerTracker, type ContainerTrackerPorts } from './container-tracker.ts';
import type {
  Container,
  ContainerRecord,
  HostEvent,
  Locker,
  LockerRecord,
} from './host-objects.ts';
import { Listeners } from './listeners.ts';
import { MountTracker } from './mount-tracker.ts';
import type { Definitions, DefinitionsPort, MountsPort } from './ports.ts';
import { Watcher, type ReportProblem } from './retried-watch.ts';

export interface HostPorts extends ContainerTrackerPorts {
  readonly definitions: DefinitionsPort;
  readonly mounts: MountsPort;
}

const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);

export class HostState {
  readonly #ports: HostPorts;
  readonly #clock: Clock;
  readonly #reportProblem: ReportProblem;
  readonly #containers: ContainerTracker;
  readonly #lockers = new Map<string, LockerRecord>();
  readonly #mounts: MountTracker;
  #rootNeedsNoAuthority = false;
  #reading: Promise<void> | undefined;
  #mustReadAgain = false;
  readonly changed = new Listeners<[HostEvent]>();

  constructor(ports: HostPorts, clock: Clock, reportProblem: ReportProblem) {
    this.#ports = ports;
    this.#clock = clock;
    this.#reportProblem = reportProblem;
    const watcher = new Watcher(clock, reportProblem);
    this.#containers = new ContainerTracker(ports, clock, watcher, this.changed);
    this.#mounts = new MountTracker(
      ports.mounts,
      watcher,
      this.#containers,
      this.#lockers,
      this.changed,
    );
  }

  /** Settles when everything that answers has reported its state. The rest is tried again. */
  async start(): Promise<void> {
    const guests = this.#containers.start();
    this.#ports.units.onReloaded(() => void this.reload());
    await Promise.all([guests, this.reload()]);
  }

  get rootNeedsNoAuthority(): boolean {
    return this.#rootNeedsNoAuthority;
  }

  /** Why no guests are reported, with the remedy; empty when they are. */
  get helperProblem(): string {
    return this.#containers.helperProblem;
  }

  /** Sorted by name, as are lockers. */
  get containers(): readonly Container[] {
    return [...this.#containers.records.values()]
      .filter(({ isAnnounced }) => isAnnounced)
      .sort(byName);
  }

  get lockers(): readonly Locker[] {
    return [...this.#lockers.values()].sort(byName);
  }

  container(name: string): Container | undefined {
    const record = this.#containers.records.get(name);
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
    this.#mustReadAgain = true;
    this.#reading ??= this.#readWhileAsked().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #readWhileAsked(): Promise<void> {
    while (this.#mustReadAgain) {
      this.#mustReadAgain = false;
      try {
        await this.#apply(await this.#ports.definitions.read());
      } catch (error) {
        this.#reportProblem('the definitions of containers cannot be read', error);
      }
    }
  }

  async #apply(definitions: Definitions): Promise<void> {
    this.#rootNeedsNoAuthority = definitions.rootNeedsNoAuthority;
    const isDefined = new Set(definitions.containers.map(({ name }) => name));
    this.#removeLockers(definitions);
    for (const record of [...this.#containers.records.values()]) {
      if (!isDefined.has(record.name)) await this.#containers.remove(record);
    }
    const newLockers = this.#defineLockers(definitions);
    const newContainers = await this.#defineContainers(definitions);
    await Promise.all([
      this.#mounts.watchDirectories(),
      ...newContainers.map(({ unitWatch }) => unitWatch?.firstAttempt),
    ]);
    this.#mounts.assign();
    for (const name of newLockers) this.changed.emit({ kind: 'added', type: 'locker', name });
    // A second reading never runs beside this one, so these records are still the ones that count.
    for (const record of newContainers) this.#containers.announce(record);
  }

  #removeLockers({ lockers }: Definitions): void {
    const isDefined = new Set(lockers.map(({ name }) => name));
    for (const [name, record] of this.#lockers) {
      if (isDefined.has(name)) continue;
      this.#lockers.delete(name);
      record.isGone = true;
      this.changed.emit({ kind: 'removed', type: 'locker', name });
    }
  }

  /** @returns the names of new ones, which are still to be announced */
  #defineLockers({ lockers, containers }: Definitions): string[] {
    const newLockers: string[] = [];
    /** By locker: the containers that it comes with. */
    const owners = new Map<string, Set<string>>();
    for (const { name, lockers: own } of containers) {
      for (const locker of own) {
        owners.set(locker.name, (owners.get(locker.name) ?? new Set()).add(name));
      }
    }
    for (const definition of uniqueByName(lockers)) {
      const { name } = definition;
      const comesWith = [...(owners.get(name) ?? [])].sort();
      const known = this.#lockers.get(name);
      if (known) {
        Object.assign(known, { definition, comesWith });
        this.changed.emit({ kind: 'changed', type: 'locker', name });
        continue;
      }
      this.#lockers.set(name, {
        name,
        definition,
        isMounted: false,
        source: '',
        comesWith,
        attachedTo: [],
        isGone: false,
      });
      newLockers.push(name);
    }
    return newLockers;
  }

  /** @returns new ones, which are still to be announced */
  async #defineContainers({ containers }: Definitions): Promise<ContainerRecord[]> {
    const newContainers: ContainerRecord[] = [];
    for (const definition of uniqueByName(containers)) {
      const known = this.#containers.records.get(definition.name);
      if (known?.definition.unit === definition.unit) {
        this.#containers.redefine(known, definition);
        continue;
      }
      if (known) await this.#containers.remove(known);
      newContainers.push(this.#containers.add(definition));
    }
    return newContainers;
  }
}

/** Of several with the same name, the last one counts. */
function uniqueByName<T extends { readonly name: string }>(definitions: readonly T[]): Iterable<T> {
  return new Map(definitions.map((definition) => [definition.name, definition])).values();
}

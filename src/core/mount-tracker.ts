/**
 * Which lockers are mounted, and which are attached to which container, by the mounts below the
 * wormholes and the lockers' directories.
 */

import type { ContainerTracker } from './container-tracker.ts';
import type { Attachment, ContainerRecord, HostEvent, LockerRecord } from './host-objects.ts';
import type { Listeners } from './listeners.ts';
import type { MountPoint, MountsChange, MountsPort } from './ports.ts';
import type { RetriedWatch, Watcher } from './retried-watch.ts';
import { parentOf } from '../model/path.ts';

const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);

interface WatchedDirectory {
  readonly watch: RetriedWatch;
  /** Where something is mounted below it. */
  readonly paths: Set<string>;
}

export class MountTracker {
  readonly #mounts: MountsPort;
  readonly #watcher: Watcher;
  readonly #containers: ContainerTracker;
  readonly #lockers: ReadonlyMap<string, LockerRecord>;
  readonly #changed: Listeners<[HostEvent]>;
  readonly #directories = new Map<string, WatchedDirectory>();
  /** All mounts, by the directory in which they are mounted and their names there. */
  readonly #points = new Map<string, Map<string, MountPoint>>();
  /** By the paths that the definitions have. */
  #wormholes: ReadonlyMap<string, ContainerRecord> = new Map();
  #lockerPaths: ReadonlyMap<string, LockerRecord> = new Map();
  /** By locker: the containers to which it is attached, and whether read-only. */
  readonly #attachedTo = new Map<string, Map<string, boolean>>();

  constructor(
    mounts: MountsPort,
    watcher: Watcher,
    containers: ContainerTracker,
    lockers: ReadonlyMap<string, LockerRecord>,
    changed: Listeners<[HostEvent]>,
  ) {
    this.#mounts = mounts;
    this.#watcher = watcher;
    this.#containers = containers;
    this.#lockers = lockers;
    this.#changed = changed;
  }

  /**
   * Watches each directory that holds wormholes or lockers' mount points once. Settles when the
   * mounts below them are known.
   */
  async watchDirectories(): Promise<void> {
    const wanted = new Set<string>();
    for (const { definition } of this.#containers.records.values()) {
      if (definition.wormhole !== undefined) wanted.add(parentOf(definition.wormhole));
    }
    for (const { definition } of this.#lockers.values()) wanted.add(parentOf(definition.path));
    for (const [directory, { watch, paths }] of this.#directories) {
      if (wanted.has(directory)) continue;
      this.#takeChange(directory, { mounted: [], gone: [...paths] });
      this.#directories.delete(directory);
      await watch.stop();
    }
    for (const directory of wanted) {
      if (this.#directories.has(directory)) continue;
      const watch = this.#watcher.watch(`mounts below ${directory}`, () =>
        this.#mounts.watch(directory, (change) => {
          this.#takeChange(directory, change);
        }),
      );
      this.#directories.set(directory, { watch, paths: new Set() });
    }
    await Promise.all([...this.#directories.values()].map(({ watch }) => watch.firstAttempt));
  }

  /** Assigns the known mounts to the containers and lockers that are defined now. */
  assign(): void {
    const records = [...this.#containers.records.values()];
    this.#wormholes = new Map(records.map((record) => [record.definition.wormhole ?? '', record]));
    const lockers = [...this.#lockers.values()];
    this.#lockerPaths = new Map(lockers.map((record) => [record.definition.path, record]));
    this.#attachedTo.clear();
    for (const record of records) this.#assignContainer(record);
    for (const record of lockers) this.#assignLocker(record);
  }

  /** Takes what has changed below a directory, and assigns it. */
  #takeChange(directory: string, { mounted, gone }: MountsChange): void {
    const entry = this.#directories.get(directory);
    if (!entry) return;
    for (const point of mounted) {
      entry.paths.add(point.path);
      const parent = parentOf(point.path);
      const siblings = this.#points.get(parent) ?? new Map<string, MountPoint>();
      this.#points.set(parent, siblings.set(nameOf(point.path), point));
    }
    for (const path of gone) {
      entry.paths.delete(path);
      const siblings = this.#points.get(parentOf(path));
      siblings?.delete(nameOf(path));
      if (siblings?.size === 0) this.#points.delete(parentOf(path));
    }
    this.#assignPaths([...mounted.map(({ path }) => path), ...gone]);
  }

  #assignPaths(paths: readonly string[]): void {
    const containers = new Set(paths.map((path) => this.#wormholes.get(parentOf(path))));
    const lockers = new Set(paths.map((path) => this.#lockerPaths.get(path)));
    for (const record of containers) {
      if (record === undefined) continue;
      for (const name of this.#assignContainer(record)) lockers.add(this.#lockers.get(name));
    }
    for (const record of lockers) if (record !== undefined) this.#assignLocker(record);
  }

  /** @returns the lockers that were attached or are, where that has changed */
  #assignContainer(record: ContainerRecord): string[] {
    const { name, attachments: before } = record;
    const attachments = this.#attachmentsIn(record.definition.wormhole);
    for (const { locker } of before) this.#attachedTo.get(locker)?.delete(name);
    for (const { locker, readOnly } of attachments) {
      const containers = this.#attachedTo.get(locker) ?? new Map<string, boolean>();
      this.#attachedTo.set(locker, containers.set(name, readOnly));
    }
    if (JSON.stringify(attachments) === JSON.stringify(before)) return [];
    record.attachments = attachments;
    this.#containers.emitChanged(record);
    return [...before, ...attachments].map(({ locker }) => locker);
  }

  /** A mount inside a locker belongs to the locker. */
  #attachmentsIn(wormhole: string | undefined): Attachment[] {
    const mounts = wormhole === undefined ? undefined : this.#points.get(wormhole);
    const attachments = [...(mounts ?? [])].map(([locker, { readOnly }]) => ({ locker, readOnly }));
    return attachments.sort((a, b) => (a.locker < b.locker ? -1 : 1));
  }

  #assignLocker(record: LockerRecord): void {
    const { definition, isMounted, source, attachedTo: before } = record;
    const point = this.#points.get(parentOf(definition.path))?.get(nameOf(definition.path));
    const attachedTo = [...(this.#attachedTo.get(record.name) ?? [])]
      .map(([container, readOnly]) => ({ container, readOnly }))
      .sort((a, b) => (a.container < b.container ? -1 : 1));
    const next = { isMounted: point !== undefined, source: point?.source ?? '', attachedTo };
    if (JSON.stringify(next) === JSON.stringify({ isMounted, source, attachedTo: before })) return;
    Object.assign(record, next);
    this.#changed.emit({ kind: 'changed', type: 'locker', name: record.name });
  }
}

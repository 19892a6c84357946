/**
 * Which lockers are mounted, and which are attached to which container, by the mounts below the
 * wormholes and the lockers' directories.
 */

import type { ContainerTracker } from './container-tracker.ts';
import type { Attachment, HostEvent, LockerRecord } from './host-objects.ts';
import type { Listeners } from './listeners.ts';
import type { MountPoint, MountsPort } from './ports.ts';
import type { RetriedWatch, Watcher } from './retried-watch.ts';
import { parentOf } from '../model/path.ts';


export class MountTracker {
  readonly #mounts: MountsPort;
  readonly #watcher: Watcher;
  readonly #containers: ContainerTracker;
  readonly #lockers: ReadonlyMap<string, LockerRecord>;
  readonly #changed: Listeners<[HostEvent]>;
  /** By the directory that is watched. */
  readonly #directories = new Map<string, { watch: RetriedWatch; points: readonly MountPoint[] }>();

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
    for (const [directory, { watch }] of this.#directories) {
      if (wanted.has(directory)) continue;
      this.#directories.delete(directory);
      await watch.stop();
    }
    for (const directory of wanted) {
      if (this.#directories.has(directory)) continue;
      const watch = this.#watcher.watch(`mounts below ${directory}`, () =>
        this.#mounts.watch(directory, (points) => {
          const entry = this.#directories.get(directory);
          if (!entry) return;
          entry.points = points;
          this.assign();
        }),
      );
      this.#directories.set(directory, { watch, points: [] });
    }
    await Promise.all([...this.#directories.values()].map(({ watch }) => watch.firstAttempt));
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#directories.values()].map(async ({ watch }) => watch.stop()));
  }

  /** Assigns the known mounts to containers and lockers. */
  assign(): void {
    const points = [...this.#directories.values()].flatMap((entry) => entry.points);
    const byPath = new Map(points.map((point) => [point.path, point]));
    const attachedTo = new Map<string, { container: string; readOnly: boolean }[]>();
    for (const record of this.#containers.records.values()) {
      const attachments = attachmentsBelow(record.definition.wormhole, byPath);
      for (const { locker, readOnly } of attachments) {
        const containers = attachedTo.get(locker) ?? [];
        containers.push({ container: record.name, readOnly });
        attachedTo.set(locker, containers);
      }
      if (JSON.stringify(attachments) === JSON.stringify(record.attachments)) continue;
      record.attachments = attachments;
      this.#containers.emitChanged(record);
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
      this.#changed.emit({ kind: 'changed', type: 'locker', name: record.name });
    }
  }
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

/**
 * The host's mounts as systemd's units. lockerd's own mount namespace cannot tell: there all is
 * read-only, and what is mounted on the host later may not be seen.
 */

import { LockerdError } from '../model/errors.ts';
import type { MountPoint, MountsChange, MountsPort, Unwatch } from '../core/ports.ts';
import { unescapeLabel } from '../model/object-label.ts';
import { escapePath, unescapePath } from '../model/unit-name.ts';
import { type SystemdManager, unitPath } from '../systemd/manager.ts';
import { Watched } from '../systemd/watched.ts';

const suffix = '.mount';

/** More names are not listed one by one: systemd compares each with each unit. */
const patternsMax = 8;

/** What was read and not reported yet, by path. */
interface FoundChanges {
  readonly mounted: Map<string, MountPoint>;
  readonly gone: Set<string>;
}

/** What may have changed since it was read. */
interface ToRead {
  readonly units: Set<string>;
  /** All that is there, also what no signal told of. */
  isAll: boolean;
}

interface WatchedDirectory {
  /** What object paths of the units below it begin with. */
  readonly pathPrefix: string;
  /** What is mounted, by unit name. */
  readonly known: Map<string, MountPoint>;
  readonly toRead: ToRead;
  readonly watched: Watched<void>;
}

export class SystemdMounts implements MountsPort {
  readonly #manager: SystemdManager;
  readonly #directories = new Set<WatchedDirectory>();

  constructor(manager: SystemdManager) {
    this.#manager = manager;
    const touch = (path: string): void => {
      for (const { pathPrefix, toRead, watched } of this.#directories) {
        if (!path.startsWith(pathPrefix)) continue;
        const unit = unitOf(path);
        if (unit === undefined) continue;
        toRead.units.add(unit);
        watched.noteChange();
      }
    };
    manager.listen({
      unitChanged: touch,
      unitNew: (_name, path) => {
        touch(path);
      },
      reloaded: () => {
        for (const { toRead, watched } of this.#directories) {
          toRead.isAll = true;
          watched.noteChange();
        }
      },
    });
  }

  async watch(directory: string, changed: (change: MountsChange) => void): Promise<Unwatch> {
    const prefix = `${escapePath(directory)}-`;
    const known = new Map<string, MountPoint>();
    const toRead: ToRead = { units: new Set(), isAll: true };
    // A reading that a change overlaps is not reported, so what it has found waits for the next one.
    let isFirst = true;
    const found: FoundChanges = { mounted: new Map(), gone: new Set() };
    const watched = new Watched(
      () => this.#refresh(prefix, known, toRead, found),
      () => {
        const change = { mounted: [...found.mounted.values()], gone: [...found.gone] };
        found.mounted.clear();
        found.gone.clear();
        if (!isFirst && change.mounted.length === 0 && change.gone.length === 0) return;
        isFirst = false;
        changed(change);
      },
    );
    const entry = { pathPrefix: unitPath(prefix), known, toRead, watched };
    this.#directories.add(entry);
    const unwatch = (): Promise<void> => {
      watched.end();
      this.#directories.delete(entry);
      return Promise.resolve();
    };
    try {
      await watched.read();
    } catch (error) {
      await unwatch();
      throw new LockerdError('Failed', `systemd does not tell what is mounted below ${directory}`, {
        cause: error,
      });
    }
    return unwatch;
  }

  /** Brings what is known of the mounts below a directory up to date. */
  async #refresh(
    prefix: string,
    known: Map<string, MountPoint>,
    toRead: ToRead,
    { mounted, gone }: FoundChanges,
  ): Promise<void> {
    const units = new Set(toRead.units);
    // One that has changed is asked for by its name, however many there are.
    const isAll = toRead.isAll || units.size === 0 || units.size > patternsMax;
    const isAnew = toRead.isAll;
    toRead.units.clear();
    toRead.isAll = false;
    try {
      const listed = await this.#manager.listLoaded(isAll ? [`${prefix}*${suffix}`] : [...units]);
      // A pattern with "?" for each backslash finds too much.
      const isAsked = (name: string): boolean =>
        isAll ? name.startsWith(prefix) : units.has(name);
      const active = listed.filter(
        ({ name, activeState }) => isAsked(name) && isMounted(activeState),
      );
      const names = new Set(active.map(({ name }) => name));
      const asked = isAll ? known.keys() : units;
      const unmounted = [...asked].filter((name) => known.has(name) && !names.has(name));
      const read = await Promise.all(
        active
          .filter(({ name }) => isAnew || !known.has(name) || units.has(name))
          .map(async ({ name }) => [name, await this.#readMount(name)] as const),
      );
      // Not before all is read: after a failure the next reading has to find the same changes.
      for (const name of unmounted) {
        const path = known.get(name)?.path ?? '';
        known.delete(name);
        mounted.delete(path);
        gone.add(path);
      }
      for (const [name, mount] of read) {
        if (mount === undefined || isSame(mount, known.get(name))) continue;
        known.set(name, mount);
        gone.delete(mount.path);
        mounted.set(mount.path, mount);
      }
    } catch (error) {
      toRead.isAll = true;
      throw error;
    }
  }

  async #readMount(unit: string): Promise<MountPoint | undefined> {
    const path = unescapePath(unit.slice(0, -suffix.length));
    if (path === undefined) return undefined;
    const mount = await this.#manager.get(unit, 'Mount', ['What', 'Options']);
    const options = mount.string('Options').split(',');
    return { path, source: mount.string('What'), readOnly: options.includes('ro') };
  }
}

/** The mount unit whose object path this is. */
function unitOf(path: string): string | undefined {
  const unit = unescapeLabel(path.slice(path.lastIndexOf('/') + 1));
  return unit?.endsWith(suffix) === true ? unit : undefined;
}

function isSame(mount: MountPoint, before: MountPoint | undefined): boolean {
  return mount.source === before?.source && mount.readOnly === before.readOnly;
}

/** `reloading` while it is mounted anew with other options, `deactivating` until it is gone. */
function isMounted(activeState: string): boolean {
  return ['active', 'reloading', 'deactivating'].includes(activeState);
}

/**
 * The host's mounts as systemd's units. lockerd's own mount namespace cannot tell: there all is
 * read-only, and what is mounted on the host later may not be seen.
 */

import { LockerdError } from '../model/errors.ts';
import type { MountPoint, MountsPort, Unwatch } from '../core/ports.ts';
import { escapePath, unescapePath } from '../model/unit-name.ts';
import { type SystemdManager, unitPath } from '../systemd/manager.ts';
import { Watched } from '../systemd/watched.ts';

const suffix = '.mount';

interface WatchedDirectory {
  /** What object paths of the units below it begin with. */
  readonly pathPrefix: string;
  /** By unit name; what is missing is read again. */
  readonly known: Map<string, MountPoint>;
  readonly watched: Watched<void>;
}

export class SystemdMounts implements MountsPort {
  readonly #manager: SystemdManager;
  readonly #directories = new Set<WatchedDirectory>();

  constructor(manager: SystemdManager) {
    this.#manager = manager;
    const touch = (path: string): void => {
      for (const { pathPrefix, known, watched } of this.#directories) {
        if (!path.startsWith(pathPrefix)) continue;
        for (const unit of known.keys()) {
          if (unitPath(unit) === path) known.delete(unit);
        }
        watched.noteChange();
      }
    };
    manager.listen({
      unitChanged: touch,
      unitNew: (_name, path) => {
        touch(path);
      },
      unitRemoved: (_name, path) => {
        touch(path);
      },
      reloaded: () => {
        for (const { known, watched } of this.#directories) {
          known.clear();
          watched.noteChange();
        }
      },
    });
  }

  async watch(
    directory: string,
    changed: (mounts: readonly MountPoint[]) => void,
  ): Promise<Unwatch> {
    const prefix = `${escapePath(directory)}-`;
    const known = new Map<string, MountPoint>();
    let last: string | undefined;
    const report = (): void => {
      const mounts = [...known.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
      const text = JSON.stringify(mounts);
      if (text === last) return;
      last = text;
      changed(mounts);
    };
    const watched = new Watched(() => this.#refresh(prefix, known), report);
    const entry = { pathPrefix: unitPath(prefix), known, watched };
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
  async #refresh(prefix: string, known: Map<string, MountPoint>): Promise<void> {
    const listed = await this.#manager.listLoaded([`${prefix}*${suffix}`]);
    const active = listed.filter(
      // A pattern with "?" for each backslash finds too much.
      ({ name, activeState }) => name.startsWith(prefix) && isMounted(activeState),
    );
    const names = new Set(active.map(({ name }) => name));
    for (const name of known.keys()) if (!names.has(name)) known.delete(name);
    await Promise.all(
      active
        .filter(({ name }) => !known.has(name))
        .map(async ({ name }) => {
          const mount = await this.#readMount(name);
          if (mount !== undefined) known.set(name, mount);
        }),
    );
  }

  async #readMount(unit: string): Promise<MountPoint | undefined> {
    const path = unescapePath(unit.slice(0, -suffix.length));
    if (path === undefined) return undefined;
    const mount = await this.#manager.get(unit, 'Mount', ['What', 'Options']);
    const options = mount.string('Options').split(',');
    return { path, source: mount.string('What'), readOnly: options.includes('ro') };
  }
}

/** `reloading` while it is mounted anew with other options, `deactivating` until it is gone. */
function isMounted(activeState: string): boolean {
  return ['active', 'reloading', 'deactivating'].includes(activeState);
}

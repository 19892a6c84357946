/**
 * The host's mounts as systemd's units. lockerd's own mount namespace cannot tell: there all is
 * read-only, and what is mounted on the host later may not be seen.
 */

import { LockerdError } from '../model/errors.ts';
import type { MountPoint, MountsPort, Unwatch } from '../core/ports.ts';
import { escapePath, unescapePath } from '../model/unit-name.ts';
import { type SystemdManager, systemdIsAway, unitPath } from '../systemd/manager.ts';

const suffix = '.mount';
/** How long to wait for systemd when it is off the bus. */
const awayTimeoutMs = 60_000;
const retryMs = 250;

interface WatchedDirectory {
  readonly directory: string;
  /** What names and object paths of the units below it begin with. */
  readonly prefix: string;
  readonly pathPrefix: string;
  readonly changed: (mounts: readonly MountPoint[]) => void;
  /** By unit name; what is missing is read again. */
  readonly known: Map<string, MountPoint>;
  last: string | undefined;
  changes: number;
  reading: Promise<void> | undefined;
  isOver: boolean;
}

export class SystemdMounts implements MountsPort {
  readonly #manager: SystemdManager;
  readonly #watched = new Set<WatchedDirectory>();

  constructor(manager: SystemdManager) {
    this.#manager = manager;
    const touch = (path: string): void => {
      for (const watched of this.#watched) {
        if (!path.startsWith(watched.pathPrefix)) continue;
        for (const unit of watched.known.keys()) {
          if (unitPath(unit) === path) watched.known.delete(unit);
        }
        this.#noteChange(watched);
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
        for (const watched of this.#watched) {
          watched.known.clear();
          this.#noteChange(watched);
        }
      },
    });
  }

  async watch(
    directory: string,
    changed: (mounts: readonly MountPoint[]) => void,
  ): Promise<Unwatch> {
    const prefix = `${escapePath(directory)}-`;
    const watched: WatchedDirectory = {
      directory,
      prefix,
      pathPrefix: unitPath(prefix),
      changed,
      known: new Map(),
      last: undefined,
      changes: 0,
      reading: undefined,
      isOver: false,
    };
    this.#watched.add(watched);
    const unwatch = (): Promise<void> => {
      watched.isOver = true;
      this.#watched.delete(watched);
      return Promise.resolve();
    };
    try {
      await this.#read(watched);
    } catch (error) {
      await unwatch();
      throw new LockerdError('Failed', `systemd does not tell what is mounted below ${directory}`, {
        cause: error,
      });
    }
    return unwatch;
  }

  #noteChange(watched: WatchedDirectory): void {
    watched.changes++;
    // The next change reads again.
    this.#read(watched).catch(() => undefined);
  }

  #read(watched: WatchedDirectory): Promise<void> {
    watched.reading ??= this.#readUntilQuiet(watched).finally(() => {
      watched.reading = undefined;
    });
    return watched.reading;
  }

  async #readUntilQuiet(watched: WatchedDirectory): Promise<void> {
    const end = Date.now() + awayTimeoutMs;
    while (!watched.isOver) {
      const { changes } = watched;
      try {
        await this.#refresh(watched);
      } catch (error) {
        // Also a unit that was unmounted while it was read; its signal is here or on the way.
        const isOld = watched.changes !== changes;
        if ((!isOld && !systemdIsAway(error)) || Date.now() > end) throw error;
        if (!isOld) await new Promise((resolve) => setTimeout(resolve, retryMs));
        continue;
      }
      if (watched.changes === changes) break;
    }
    if (!watched.isOver) report(watched);
  }

  async #refresh({ prefix, known }: WatchedDirectory): Promise<void> {
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
        .map(async ({ name, path }) => {
          const mount = await this.#readMount(name, path);
          if (mount !== undefined) known.set(name, mount);
        }),
    );
  }

  async #readMount(name: string, path: string): Promise<MountPoint | undefined> {
    const where = unescapePath(name.slice(0, -suffix.length));
    if (where === undefined) return undefined;
    const [source, options] = await Promise.all([
      this.#manager.get(path, 'Mount', 'What'),
      this.#manager.get(path, 'Mount', 'Options'),
    ]);
    if (typeof source !== 'string' || typeof options !== 'string') {
      throw new Error(`systemd gave a mount ${name} that makes no sense`);
    }
    return { path: where, source, readOnly: options.split(',').includes('ro') };
  }
}

/** `reloading` while it is mounted anew with other options, `deactivating` until it is gone. */
function isMounted(activeState: string): boolean {
  return ['active', 'reloading', 'deactivating'].includes(activeState);
}

function report(watched: WatchedDirectory): void {
  const mounts = [...watched.known.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  const text = JSON.stringify(mounts);
  if (text === watched.last) return;
  watched.last = text;
  watched.changed(mounts);
}

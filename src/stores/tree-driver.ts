/**
 * What the stores have in common whose lockers are parts of one mounted file system: PATH/NAME is a locker,
 * and a bind mount shows it where lockers are. PATH/.snapshots/NAME has its copies, each with its time and the
 * locker's size in its name: `SNAPSHOT@MICROSECONDS@BYTES`.
 *
 * PATH is root's. Nobody but root can put anything there, and who has a locker sees nothing above it.
 */

import { lstatSync, realpathSync, renameSync, rmdirSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import type { TreeStore } from '../host/store-settings.ts';
import type { Mount } from '../host/mountinfo.ts';
import { mountAt } from '../host/mountinfo.ts';
import { namesIn } from '../host/names-in.ts';
import { codeOf } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';
import { formatBytes } from '../model/memory-limit.ts';
import { isNewName } from '../model/new-name.ts';
import type {
  Driver,
  Leftover,
  Making,
  MountSource,
  NewLocker,
  StoredLocker,
  StoredSnapshot,
  StoreSpace,
  Undone,
} from './driver.ts';
import type { Layer } from './layer.ts';
import { spaceOf } from './space.ts';
import type { Tools } from './tools.ts';

/** What a quota says of a tree, in bytes. */
export interface Copy {
  readonly used: bigint;
  /** What it shares with no other one. */
  readonly own: bigint;
  readonly limit?: bigint;
}

interface FoundSnapshot {
  readonly name: string;
  readonly path: string;
  readonly createdUsec: bigint;
  readonly size: bigint;
}

const block = 4096n;
const smallest = 1024n * 1024n;

export abstract class TreeDriver implements Driver {
  readonly settings: TreeStore;
  protected readonly tools: Tools;
  readonly #mounts: () => readonly Mount[];
  abstract readonly modules: readonly string[];

  /** @param mounts those of the host */
  constructor(settings: TreeStore, tools: Tools, mounts: () => readonly Mount[]) {
    this.settings = settings;
    this.tools = tools;
    this.#mounts = mounts;
  }

  protected get path(): string {
    return this.settings.path;
  }

  /** Why such a file system is none for this store; undefined where it is one. */
  protected abstract checkMount(type: string, options: readonly string[]): string | undefined;

  /** What quotas say of trees; what is not known is missing. */
  protected abstract usage(paths: readonly string[]): Promise<ReadonlyMap<string, Copy>>;

  /** Makes of a snapshot a tree of its own, which may take `size` bytes. */
  protected abstract copyBack(
    from: string,
    to: string,
    size: bigint,
    making: Making,
  ): Promise<void>;

  abstract create(wanted: NewLocker, making: Making): Promise<void>;
  abstract grow(locker: string, size: bigint): Promise<void>;
  abstract snapshot(locker: string, snapshot: string, making: Making): Promise<void>;
  abstract undo(undone: Undone): Promise<Leftover | undefined>;
  abstract destroy(locker: string, snapshot?: string): Promise<void>;

  // Paths

  place(locker: string): string {
    return `${this.path}/${locker}`;
  }

  protected snapshotsOf(locker: string): string {
    return `${this.path}/.snapshots/${locker}`;
  }

  protected newSnapshotPath(locker: string, snapshot: string, size: bigint): string {
    const usec = BigInt(Date.now()) * 1000n;
    return `${this.snapshotsOf(locker)}/${snapshot}@${usec}@${size}`;
  }

  protected statOf(path: string): BigIntStats | undefined {
    return lstatSync(path, { bigint: true, throwIfNoEntry: false });
  }

  private snapshots(locker: string): FoundSnapshot[] {
    const directory = this.snapshotsOf(locker);
    return namesIn(directory).flatMap((entry) => {
      const [, name, usec, size] = /^([^@]+)@(\d{1,18})@(\d{1,19})$/.exec(entry) ?? [];
      if (name === undefined || usec === undefined || size === undefined) return [];
      const path = `${directory}/${entry}`;
      return [{ name, path, createdUsec: BigInt(usec), size: BigInt(size) }];
    });
  }

  protected findSnapshot(locker: string, snapshot: string): FoundSnapshot | undefined {
    return this.snapshots(locker).find(({ name }) => name === snapshot);
  }

  /** Removes the directory of a locker's copies where it has none. */
  protected removeEmptySnapshots(locker: string): void {
    for (const path of [this.snapshotsOf(locker), `${this.path}/.snapshots`]) {
      try {
        rmdirSync(path);
      } catch (error) {
        if (!['ENOENT', 'ENOTEMPTY'].includes(codeOf(error) ?? '')) throw error;
      }
    }
  }

  // What is there

  /** The mount of the store. Throws NoSuchStore where it is not one, and Failed where it is not root's alone. */
  protected mount(): Mount {
    const { name } = this.settings;
    const refuse = (why: string): LockerdError =>
      new LockerdError('NoSuchStore', `store "${name}" is not there: ${this.path} ${why}`);
    const mount = mountAt(this.#mounts(), this.path);
    if (mount === undefined)
      throw refuse('is not mounted; mount it, or mend "path" in lockerd.conf');
    const why = this.checkMount(mount.type, mount.superOptions);
    if (why !== undefined) throw refuse(why);
    if (realpathSync(this.path) !== this.path) throw refuse('is reached by a symbolic link');
    const stat = this.statOf(this.path);
    if (stat?.uid !== 0n || (stat.mode & 0o022n) !== 0n) {
      throw new LockerdError(
        'Failed',
        `others than root may write to ${this.path} of store "${name}"; run: chown root ${this.path} && ` +
          `chmod go-w ${this.path}`,
      );
    }
    return mount;
  }

  async space(): Promise<StoreSpace> {
    const { type } = this.mount();
    const space = await spaceOf(this.tools, this.path);
    if (space === undefined) {
      throw new LockerdError(
        'Failed',
        `${this.path} of store "${this.settings.name}" does not answer`,
      );
    }
    return { size: space.size, free: space.available, fileSystem: type };
  }

  async lockers(): Promise<StoredLocker[]> {
    this.mount();
    const names = namesIn(this.path).filter(
      (name) => isNewName(name) && this.statOf(this.place(name))?.isDirectory() === true,
    );
    const all = names.map((name) => ({ name, snapshots: this.snapshots(name) }));
    const paths = all.flatMap(({ name, snapshots }) => [
      this.place(name),
      ...snapshots.map(({ path }) => path),
    ]);
    const usage = await this.usage(paths);
    return all.flatMap(({ name, snapshots }) => {
      const { limit, used } = usage.get(this.place(name)) ?? {};
      // A directory that has no limit was not made by lockerd.
      if (limit === undefined) return [];
      return [
        {
          locker: name,
          size: limit,
          ...(used === undefined ? {} : { used }),
          snapshots: snapshots.map(({ path, ...rest }): StoredSnapshot => ({
            ...rest,
            used: usage.get(path)?.own ?? 0n,
          })),
        },
      ];
    });
  }

  checkName(): void {
    // Every name of a locker can be one of a directory.
  }

  async check(locker: string, size: bigint): Promise<{ size: bigint; warnings: string[] }> {
    const { name } = this.settings;
    if (size < smallest) {
      throw new LockerdError(
        'InvalidArgs',
        `${formatBytes(size)} are too few for locker "${locker}"; ask for ${formatBytes(smallest)} or more`,
      );
    }
    const rounded = ((size + block - 1n) / block) * block;
    const space = await this.space();
    if (rounded > space.size) {
      throw new LockerdError(
        'NoSpace',
        `store "${name}" has ${formatBytes(space.size)} in all; ask for less`,
      );
    }
    const others = (await this.lockers()).filter((one) => one.locker !== locker);
    const promised = others.reduce((sum, one) => sum + (one.size ?? 0n), rounded);
    const warnings =
      promised > space.size
        ? [`the lockers of store "${name}" are larger than it when all of them are full`]
        : [];
    return { size: rounded, warnings };
  }

  source(locker: string): MountSource {
    return { what: this.place(locker), type: 'none', options: ['bind'], needs: [this.path] };
  }

  // Changes

  finish(): Promise<void> {
    return Promise.resolve();
  }

  rename(from: string, to: string): Promise<void> {
    for (const path of [
      (name: string) => this.place(name),
      (name: string) => this.snapshotsOf(name),
    ]) {
      // What has its new name already was renamed before.
      if (this.statOf(path(from)) === undefined) continue;
      if (this.statOf(path(to)) !== undefined) {
        throw new LockerdError('LockerExists', `${path(to)} is in the way; move it`);
      }
      renameSync(path(from), path(to));
    }
    return Promise.resolve();
  }

  async restore(
    { locker, snapshot }: { locker: string; snapshot: string },
    to: string,
    _layer: Layer,
    making: Making,
  ): Promise<void> {
    const found = this.findSnapshot(locker, snapshot);
    if (found === undefined) {
      throw new LockerdError('NoSuchSnapshot', `locker "${locker}" has no snapshot "${snapshot}"`);
    }
    making.progress('copy', 0);
    await this.copyBack(found.path, this.place(to), found.size, making);
  }
}

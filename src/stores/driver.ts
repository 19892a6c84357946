/**
 * What every kind of store can do. A driver makes, grows, copies and removes lockers; whether that is allowed,
 * and how a locker is defined, is decided by who calls it. Each step can be repeated.
 */

import type { StoreSettings } from '../host/store-settings.ts';
import type { RootOwner } from './file-systems.ts';
import type { Layer } from './layer.ts';

/** How much a store has, in bytes. */
export interface StoreSpace {
  readonly size: bigint;
  readonly free: bigint;
  /** What its lockers are, such as `ext4`. */
  readonly fileSystem: string;
}

/** How a locker is mounted. */
export interface MountSource {
  readonly what: string;
  /** Type of the file system; `none` for a bind mount. */
  readonly type: string;
  /** Options besides those of the store's settings. */
  readonly options: readonly string[];
  /** Directories without which it cannot be mounted. */
  readonly needs: readonly string[];
}

/** What a change is told to make; its id is on all that it makes until it is done. */
export interface Making {
  readonly change: string;
  readonly signal?: AbortSignal | undefined;
  readonly progress: (phase: string, fraction: number) => void;
}

export interface NewLocker {
  readonly locker: string;
  /** Bytes; a driver may round them up. */
  readonly size: bigint;
  readonly root: RootOwner;
  readonly layer: Layer;
}

/** A locker as its store has it, defined or not. */
export interface StoredLocker {
  readonly locker: string;
  /** Bytes that it may take; undefined: as many as its store has. */
  readonly size?: bigint;
  readonly snapshots: readonly StoredSnapshot[];
  /** Bytes that it takes, where its file system does not say so itself. */
  readonly used?: bigint;
}

export interface StoredSnapshot {
  readonly name: string;
  readonly createdUsec: bigint;
  /** Of the locker when it was copied, in bytes. */
  readonly size: bigint;
  /** Bytes that it takes for itself now, as far as the store knows. */
  readonly used: bigint;
  /** Why it cannot be restored, in words; absent for one that can. */
  readonly problem?: string;
}

/** What is left of an undone change, and a command that removes it; undefined where nothing is. */
export interface Leftover {
  readonly what: string;
  readonly remedy: string;
}

/** A change that was to make a locker, or a snapshot of one. */
export interface Undone {
  readonly change: string;
  readonly locker: string;
  readonly snapshot?: string;
}

export interface Driver {
  readonly settings: StoreSettings;

  /** Modules of the kernel that copies need; this process may load none. */
  readonly modules: readonly string[];

  /** Throws NoSuchStore where what the settings name is not there. */
  space(): Promise<StoreSpace>;

  /** Every locker that is there, also those that no definition has. */
  lockers(): Promise<readonly StoredLocker[]>;

  /** Throws InvalidArgs for a name that no locker of this store can have, though others can. */
  checkName(locker: string): void;

  /**
   * The size that a locker gets if it is to have at least this one. Throws InvalidArgs for a name or size that
   * cannot be, and NoSpace; `now` is its size before, where it is to grow.
   */
  check(locker: string, size: bigint, now?: bigint): Promise<{ size: bigint; warnings: string[] }>;

  /** Makes a new locker up to what can be mounted. */
  create(wanted: NewLocker, making: Making): Promise<void>;

  /** Makes a new locker of a snapshot. */
  restore(
    from: { locker: string; snapshot: string },
    to: string,
    layer: Layer,
    making: Making,
  ): Promise<void>;

  /** How a locker is mounted, without looking whether it is there. */
  source(locker: string, layer: Layer): MountSource;

  /** Takes the change's mark off all that it made: from here on that is a locker or a snapshot. */
  finish(change: string): Promise<void>;

  /** Removes what an unfinished change has made. */
  undo(undone: Undone): Promise<Leftover | undefined>;

  /** Makes a locker as large as this; `mountPoint` is where it is mounted. */
  grow(locker: string, size: bigint, layer: Layer, mountPoint: string | undefined): Promise<void>;

  /** Does nothing where it is done already. */
  rename(from: string, to: string): Promise<void>;

  /** Makes a snapshot, which has the change's mark until finish(). */
  snapshot(locker: string, snapshot: string, making: Making): Promise<void>;

  /** Destroys a snapshot, or a locker that has none. Does nothing where it is not there. */
  destroy(locker: string, snapshot?: string): Promise<void>;

  /** Where a locker's data is, for people. */
  place(locker: string): string;
}

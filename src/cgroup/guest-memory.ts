import type { Held } from './figures.ts';

/**
 * A file and what it holds again when the balloon is over, however that ends; "MemoryMax" stands
 * for what that property of the unit is then.
 */
export interface Undo {
  readonly path: string;
  readonly value: string;
}

/** What is read again and again while a guest is watched; cheap. */
export interface Probe {
  /** Bytes charged to the guest. */
  readonly usage: bigint;
  /** Processes of the guest wait for memory that the kernel cannot find, or pass the brake. */
  readonly distressed: boolean;
  /** Microseconds, from an arbitrary start; undefined where the kernel does not count them. */
  readonly stallUsec: number | undefined;
}

export type Reclaimed = 'some' | 'nothing';

/** Limits of a unit's group, in bytes; 2^64-1 for none. */
export interface MemoryLimits {
  readonly memory: bigint;
  /** Bytes of swap beside it; undefined leaves what the kernel has. */
  readonly swap?: bigint | undefined;
}

/**
 * The memory of a running container: its unit's control group, whose limit belongs to systemd, and
 * the guest's group below it, where a trial disturbs nobody else's bookkeeping. Methods that read
 * throw ENOENT or ENODEV when the guest has gone.
 */
export interface GuestMemory {
  readonly version: 1 | 2;
  /** The limits that the unit's group has in the kernel. */
  unitLimit(): bigint;
  unitUsage(): bigint;
  /** The guest's own limit, such as an older start may have left it. */
  guestLimit(): bigint;
  /** Most that the guest ever used; undefined where the kernel does not say. */
  guestPeak(): bigint | undefined;
  /** `swapLeft` is what the guest may still take; undefined for as much as the host has. */
  held(swapLeft: bigint | undefined): Held;
  probe(): Probe;
  /** What reclaim() and brake() change, to be written back by whoever ends the trial. */
  undo(): Undo[];
  /** The same for the limit of the unit's group, which becomes what systemd says that it is. */
  undoUnitLimit(): Undo;
  /**
   * Takes back up to `step` bytes on the way down to `goal`, and kills nobody for it. With `hold` the
   * guest cannot take them again, which slows it down where the kernel needs a brake for that.
   */
  reclaim(goal: bigint, step: bigint, hold: boolean): Promise<Reclaimed>;
  /** Lets the guest live with `goal` bytes, for the trial. */
  brake(goal: bigint): Promise<void>;
  /**
   * Brings the unit under a limit that the trial has shown to fit, in a moment when the guest
   * cannot grow. False when it has grown beyond, and nothing has changed then. `note` takes down
   * what else has to be undone from now on.
   */
  seal(limit: bigint, note: (changes: readonly Undo[]) => void): Promise<boolean>;
  /**
   * Sets limits of the unit's group, by writing them to the kernel behind systemd's back. With
   * `bySystemd`, that call sets those which systemd knows, and only the others are written: cgroup v1
   * limits the sum of memory and swap, which systemd does not know. The sum is raised before
   * memory's limit and lowered after it. Rejects with the kernel's error, EBUSY for a limit that the
   * guest does not fit in; limits that were set by then stay.
   */
  setLimits(limits: MemoryLimits, bySystemd?: () => Promise<void>): Promise<void>;
  /** Bytes of swap that the unit may use; undefined where the kernel does not account for swap. */
  swapLimit(): bigint | undefined;
  swapUsed(): bigint;
  /** Takes a limit off the guest's group that is below the unit's. */
  clearGuestLimit(): Promise<void>;
}

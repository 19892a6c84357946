import type { Held } from './figures.ts';

/**
 * A file, and the value to restore when the balloon is over, however it ends. "MemoryMax" stands for
 * the value of that property of the unit at that time.
 */
export interface Undo {
  readonly path: string;
  readonly value: string;
}

/** Figures that are cheap to read again and again while a guest is watched. */
export interface Probe {
  /** Bytes charged to the guest. */
  readonly usage: bigint;
  /** The guest's processes wait for memory that the kernel cannot find, or use more than the brake. */
  readonly distressed: boolean;
  /** Stall in microseconds, from an arbitrary start; undefined if the kernel does not count it. */
  readonly stallUsec: number | undefined;
}

export type Reclaimed = 'some' | 'nothing';

/** Limits of a unit's group, in bytes; 2^64-1 for none. */
export interface MemoryLimits {
  readonly memory: bigint;
  /** Bytes of swap in addition to memory; undefined leaves the kernel's limit as it is. */
  readonly swap?: bigint | undefined;
}

/**
 * The memory of a running container: its unit's control group, whose limit belongs to systemd, and
 * the guest's group below it, where a trial does not interfere with systemd. Methods that read throw
 * ENOENT or ENODEV when the guest has gone.
 */
export interface GuestMemory {
  readonly version: 1 | 2;
  /** The limit that the unit's group has in the kernel, in bytes. */
  unitLimit(): bigint;
  unitUsage(): bigint;
  /** The limit of the guest's own group, in bytes, which an earlier start may have left. */
  guestLimit(): bigint;
  /** The most that the guest ever used; undefined if the kernel does not say. */
  guestPeak(): bigint | undefined;
  /** `swapLeft` is the swap that the guest may still use; undefined for as much as the host has. */
  held(swapLeft: bigint | undefined): Held;
  probe(): Probe;
  /** What reclaim() and brake() change; the end of the trial writes these values back. */
  undo(): Undo[];
  /** The same for the limit of the unit's group, which is restored to systemd's value. */
  undoUnitLimit(): Undo;
  /**
   * Reclaims up to `step` bytes on the way down to `goal`, without killing. With `hold` the guest cannot
   * use them again, which slows it down if the kernel needs a brake for that.
   */
  reclaim(goal: bigint, step: bigint, hold: boolean): Promise<Reclaimed>;
  /** Holds the guest to `goal` bytes for the trial. */
  brake(goal: bigint): Promise<void>;
  /**
   * Sets a limit of the unit that the trial has shown to fit, at a moment when the guest cannot grow.
   * Returns false, with nothing changed, if the guest has outgrown it. Calls `note` with the further
   * changes that must be undone from then on.
   */
  seal(limit: bigint, note: (changes: readonly Undo[]) => void): Promise<boolean>;
  /**
   * Sets limits of the unit's group by writing them to the kernel, without telling systemd. `bySystemd`,
   * if given, sets the limits that systemd knows, and only the others are written: cgroup v1 limits the
   * sum of memory and swap, which systemd does not know. The sum is raised before memory's limit and
   * lowered after it. Rejects with the kernel's error, EBUSY if the guest does not fit into a limit;
   * limits that were set before the error stay.
   */
  setLimits(limits: MemoryLimits, bySystemd?: () => Promise<void>): Promise<void>;
  /** Bytes of swap that the unit may use; undefined if the kernel does not account for swap. */
  swapLimit(): bigint | undefined;
  swapUsed(): bigint;
  /** Removes the limit of the guest's own group. */
  clearGuestLimit(): Promise<void>;
}

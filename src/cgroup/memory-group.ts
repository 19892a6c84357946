/**
 * The memory of one control group, which knows nothing of guests. Amounts are in bytes, and 2^64-1
 * is no limit. Reading throws ENOENT or ENODEV when the group has gone.
 */
export interface MemoryGroup {
  readonly version: 1 | 2;
  readonly directory: string;
  usage(): bigint;
  /** Most that it ever used; undefined where the kernel does not say. */
  peak(): bigint | undefined;
  limit(): bigint;
  setLimit(limit: bigint): Promise<void>;
  swapUsage(): bigint;
  /** Swap that it may use; undefined where the kernel does not account for swap. */
  swapLimit(): bigint | undefined;
  /** The lines of memory.stat by their names. */
  stat(): ReadonlyMap<string, bigint>;
  /** Undefined where no file tells of the group's. */
  pressure(): Pressure | undefined;
  /** Files that are written when somebody changes a limit. Some of them may not be there. */
  readonly limitFiles: readonly string[];
}

/** How long all processes of a group waited for memory at once. */
export interface Pressure {
  /** Microseconds, from an arbitrary start; undefined where the kernel does not count them. */
  readonly stallUsec: number | undefined;
  /** Per cent of the last ten seconds. */
  readonly stallShare: number;
}

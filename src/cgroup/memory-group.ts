/**
 * The memory of one control group, whether or not it is a guest's. Amounts are in bytes; 2^64-1 means
 * no limit. Reading throws ENOENT or ENODEV if the group has gone.
 */
export interface MemoryGroup {
  readonly version: 1 | 2;
  readonly directory: string;
  usage(): bigint;
  /** The most that it ever used; undefined if the kernel does not say. */
  peak(): bigint | undefined;
  limit(): bigint;
  setLimit(limit: bigint): Promise<void>;
  swapUsage(): bigint;
  /** Swap that it may use; undefined if the kernel does not account for swap. */
  swapLimit(): bigint | undefined;
  /** The lines of memory.stat by their names. */
  stat(): ReadonlyMap<string, bigint>;
  /** Undefined if there is no pressure file for the group. */
  pressure(): Pressure | undefined;
  /** The files that hold the limits. Some of them may not exist. */
  readonly limitFiles: readonly string[];
}

/** How long all processes of a group stalled on memory at once. */
export interface Pressure {
  /** Microseconds, from an arbitrary start; undefined if the kernel does not count them. */
  readonly stallUsec: number | undefined;
  /** Per cent of the last ten seconds. */
  readonly stallShare: number;
}

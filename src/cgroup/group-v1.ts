import { unlimited } from '../model/memory-limit.ts';
import { readFile } from './control-files.ts';
import { parseFlatKeyed } from './figures.ts';
import { MemoryGroup } from './memory-group.ts';

/** A group of cgroup v1, which limits memory and the sum of memory and swap, not swap alone. */
export class GroupV1 extends MemoryGroup {
  readonly version = 1;
  protected readonly words = {
    usage: 'usage_in_bytes',
    peak: 'max_usage_in_bytes',
    limit: 'limit_in_bytes',
    swapLimit: 'memsw.limit_in_bytes',
    unlimited: '-1',
  };
  readonly #pressureFile: string | undefined;

  /** `pressureFile` is that of the same group in the v2 hierarchy, if it is mounted beside v1. */
  constructor(directory: string, pressureFile?: string) {
    super(directory);
    this.#pressureFile = pressureFile;
  }

  protected override pressureFile(): string | undefined {
    return this.#pressureFile;
  }

  /** The limit of memory and swap together; undefined if the kernel does not account for swap. */
  sumLimit(): bigint | undefined {
    return this.optional(this.words.swapLimit);
  }

  setSumLimit(limit: bigint): Promise<void> {
    return this.write(this.words.swapLimit, limit);
  }

  swapLimit(): bigint | undefined {
    const sum = this.sumLimit();
    if (sum === undefined) return undefined;
    const memory = this.limit();
    return sum === unlimited || memory === unlimited ? unlimited : sum - memory;
  }

  swapUsage(): bigint {
    const usage = this.usage();
    const sum = this.optional('memsw.usage_in_bytes') ?? 0n;
    return sum > usage ? sum - usage : 0n;
  }

  /** Kernel memory that is charged to the group, in bytes. */
  kernelUsage(): bigint {
    return this.optional('kmem.usage_in_bytes') ?? 0n;
  }

  /** `under_oom`, `oom_kill_disable` and `oom_kill` of this group alone, without those below. */
  oomControl(): ReadonlyMap<string, bigint> {
    return parseFlatKeyed(readFile(this.file('oom_control')));
  }
}

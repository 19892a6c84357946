import { codeOf } from '../model/errno.ts';
import { parseKernelLimit } from '../model/memory-limit.ts';
import { readFile, tryReadFile, writeFile } from './control-files.ts';
import { parseFlatKeyed } from './figures.ts';
import { MemoryGroup } from './memory-group.ts';

/** A group of cgroup v2; see cgroups(7). */
export class GroupV2 extends MemoryGroup {
  readonly version = 2;
  protected readonly words = {
    usage: 'current',
    peak: 'peak',
    limit: 'max',
    swapLimit: 'swap.max',
    unlimited: 'max',
  };

  /** Above this the kernel throttles processes and reclaims from them, but kills none. */
  high(): bigint {
    return parseKernelLimit(readFile(this.file('high')));
  }

  setHigh(limit: bigint): Promise<void> {
    return this.write('high', limit);
  }

  swapLimit(): bigint | undefined {
    return this.optional(this.words.swapLimit);
  }

  setSwapLimit(limit: bigint): Promise<void> {
    return this.write(this.words.swapLimit, limit);
  }

  swapUsage(): bigint {
    return this.optional('swap.current') ?? 0n;
  }

  /** OOM kills in the group and the groups below it; undefined if it has gone. */
  oomKills(): bigint | undefined {
    return parseFlatKeyed(tryReadFile(this.file('events')) ?? '').get('oom_kill');
  }

  /** Reclaims at most that many bytes, never by killing; false if the kernel found less. */
  async reclaim(bytes: bigint): Promise<boolean> {
    try {
      await writeFile(this.file('reclaim'), bytes.toString());
      return true;
    } catch (error) {
      if (codeOf(error) === 'EAGAIN') return false;
      throw error;
    }
  }
}

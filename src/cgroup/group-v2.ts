import { join } from 'node:path';
import { codeOf } from '../model/errno.ts';
import { parseKernelLimit, unlimited } from '../model/memory-limit.ts';
import { readFile, tryReadFile, writeFile } from './control-files.ts';
import { parseFlatKeyed, parseStall, parseStallShare } from './figures.ts';
import type { MemoryGroup, Pressure } from './memory-group.ts';

/** How cgroup v2 takes a limit in bytes. */
export function limitText(limit: bigint): string {
  return limit === unlimited ? 'max' : limit.toString();
}

/** A group of cgroup v2, see cgroups(7). */
export class GroupV2 implements MemoryGroup {
  readonly version = 2;
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  file(name: string): string {
    return join(this.directory, `memory.${name}`);
  }

  get limitFiles(): readonly string[] {
    return [this.file('max'), this.file('swap.max')];
  }

  usage(): bigint {
    return BigInt(readFile(this.file('current')).trim());
  }

  peak(): bigint | undefined {
    // Before Linux 5.19 nobody kept it.
    const text = tryReadFile(this.file('peak'));
    return text === undefined ? undefined : BigInt(text.trim());
  }

  limit(): bigint {
    return parseKernelLimit(readFile(this.file('max')));
  }

  setLimit(limit: bigint): Promise<void> {
    return writeFile(this.file('max'), limitText(limit));
  }

  /** Beyond it processes are slowed down and reclaimed from, and not killed. */
  high(): bigint {
    return parseKernelLimit(readFile(this.file('high')));
  }

  setHigh(limit: bigint): Promise<void> {
    return writeFile(this.file('high'), limitText(limit));
  }

  swapLimit(): bigint | undefined {
    const text = tryReadFile(this.file('swap.max'));
    return text === undefined ? undefined : parseKernelLimit(text);
  }

  setSwapLimit(limit: bigint): Promise<void> {
    return writeFile(this.file('swap.max'), limitText(limit));
  }

  swapUsage(): bigint {
    return BigInt((tryReadFile(this.file('swap.current')) ?? '0').trim());
  }

  stat(): ReadonlyMap<string, bigint> {
    return parseFlatKeyed(readFile(this.file('stat')));
  }

  pressure(): Pressure | undefined {
    const text = tryReadFile(this.file('pressure'));
    if (text === undefined) return undefined;
    return { stallUsec: parseStall(text), stallShare: parseStallShare(text) };
  }

  /** Processes of the group and those below it that were killed; undefined when it has gone. */
  oomKills(): bigint | undefined {
    return parseFlatKeyed(tryReadFile(this.file('events')) ?? '').get('oom_kill');
  }

  /** Takes back so many bytes at most; false when the kernel found less. It never kills. */
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

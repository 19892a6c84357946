import { join } from 'node:path';
import { codeOf } from '../model/errno.ts';
import { parseKernelLimit, unlimited } from '../model/memory-limit.ts';
import { readFile, tryReadFile, writeFile } from './control-files.ts';
import { parseFlatKeyed, parseStall, parseStallShare } from './figures.ts';
import type { MemoryGroup, Pressure } from './memory-group.ts';

/** Formats a limit in bytes as cgroup v2 expects it. */
export function limitText(limit: bigint): string {
  return limit === unlimited ? 'max' : limit.toString();
}

/** A group of cgroup v2; see cgroups(7). */
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
    // Before Linux 5.19 the kernel did not record it.
    const text = tryReadFile(this.file('peak'));
    return text === undefined ? undefined : BigInt(text.trim());
  }

  limit(): bigint {
    return parseKernelLimit(readFile(this.file('max')));
  }

  setLimit(limit: bigint): Promise<void> {
    return writeFile(this.file('max'), limitText(limit));
  }

  /** Above this the kernel throttles processes and reclaims from them, but kills none. */
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

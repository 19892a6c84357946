import { join } from 'node:path';
import { parseKernelLimit, unlimited } from '../model/memory-limit.ts';
import { readFile, tryReadFile, writeFile } from './control-files.ts';
import { parseFlatKeyed, parseStall, parseStallShare } from './figures.ts';
import type { MemoryGroup, Pressure } from './memory-group.ts';

/** Formats a limit in bytes as cgroup v1 expects it. */
export function limitText(limit: bigint): string {
  return limit === unlimited ? '-1' : limit.toString();
}

/** A group of cgroup v1, which limits memory and the sum of memory and swap, not swap alone. */
export class GroupV1 implements MemoryGroup {
  readonly version = 1;
  readonly directory: string;
  readonly #pressureFile: string | undefined;

  /** `pressureFile` is that of the same group in the v2 hierarchy, if it is mounted beside v1. */
  constructor(directory: string, pressureFile?: string) {
    this.directory = directory;
    this.#pressureFile = pressureFile;
  }

  file(name: string): string {
    return join(this.directory, `memory.${name}`);
  }

  get limitFiles(): readonly string[] {
    return [this.file('limit_in_bytes'), this.file('memsw.limit_in_bytes')];
  }

  usage(): bigint {
    return BigInt(readFile(this.file('usage_in_bytes')).trim());
  }

  peak(): bigint {
    return BigInt(readFile(this.file('max_usage_in_bytes')).trim());
  }

  limit(): bigint {
    return parseKernelLimit(readFile(this.file('limit_in_bytes')));
  }

  setLimit(limit: bigint): Promise<void> {
    return writeFile(this.file('limit_in_bytes'), limitText(limit));
  }

  /** The limit of memory and swap together; undefined if the kernel does not account for swap. */
  sumLimit(): bigint | undefined {
    const text = tryReadFile(this.file('memsw.limit_in_bytes'));
    return text === undefined ? undefined : parseKernelLimit(text);
  }

  setSumLimit(limit: bigint): Promise<void> {
    return writeFile(this.file('memsw.limit_in_bytes'), limitText(limit));
  }

  swapLimit(): bigint | undefined {
    const sum = this.sumLimit();
    if (sum === undefined) return undefined;
    const memory = this.limit();
    return sum === unlimited || memory === unlimited ? unlimited : sum - memory;
  }

  swapUsage(): bigint {
    const usage = this.usage();
    const sum = BigInt((tryReadFile(this.file('memsw.usage_in_bytes')) ?? '0').trim());
    return sum > usage ? sum - usage : 0n;
  }

  stat(): ReadonlyMap<string, bigint> {
    return parseFlatKeyed(readFile(this.file('stat')));
  }

  /** Kernel memory that is charged to the group, in bytes. */
  kernelUsage(): bigint {
    return BigInt((tryReadFile(this.file('kmem.usage_in_bytes')) ?? '0').trim());
  }

  /** `under_oom`, `oom_kill_disable` and `oom_kill` of this group alone, without those below. */
  oomControl(): ReadonlyMap<string, bigint> {
    return parseFlatKeyed(readFile(this.file('oom_control')));
  }

  pressure(): Pressure | undefined {
    if (this.#pressureFile === undefined) return undefined;
    const text = tryReadFile(this.#pressureFile);
    if (text === undefined) return undefined;
    return { stallUsec: parseStall(text), stallShare: parseStallShare(text) };
  }
}

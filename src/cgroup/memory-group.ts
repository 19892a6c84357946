import { join } from 'node:path';
import { parseKernelLimit, unlimited } from '../model/memory-limit.ts';
import { readFile, tryReadFile, writeFile } from './control-files.ts';
import { parseFlatKeyed, parseStall, parseStallShare } from './figures.ts';

/** What the versions of control groups call the same things. */
interface Words {
  /** Ends of the names of files. */
  readonly usage: string;
  readonly peak: string;
  readonly limit: string;
  readonly swapLimit: string;
  /** What a limit file accepts for no limit. */
  readonly unlimited: string;
}

/** How long all processes of a group stalled on memory at once. */
export interface Pressure {
  /** Microseconds, from an arbitrary start; undefined if the kernel does not count them. */
  readonly stallUsec: number | undefined;
  /** Per cent of the last ten seconds. */
  readonly stallShare: number;
}

/**
 * The memory of one control group, whether or not it is a guest's. Amounts are in bytes; 2^64-1 means
 * no limit. Reading throws ENOENT or ENODEV if the group has gone.
 */
export abstract class MemoryGroup {
  abstract readonly version: 1 | 2;
  readonly directory: string;
  protected abstract readonly words: Words;

  constructor(directory: string) {
    this.directory = directory;
  }

  file(name: string): string {
    return join(this.directory, `memory.${name}`);
  }

  /** Undefined if the kernel has no such file. */
  protected optional(name: string): bigint | undefined {
    const text = tryReadFile(this.file(name));
    return text === undefined ? undefined : parseKernelLimit(text);
  }

  /** A limit in bytes as a file of this version accepts it. */
  limitText(limit: bigint): string {
    return limit === unlimited ? this.words.unlimited : limit.toString();
  }

  protected write(name: string, limit: bigint): Promise<void> {
    return writeFile(this.file(name), this.limitText(limit));
  }

  /** The files that hold the limits, that of memory first. Some of them may not exist. */
  get limitFiles(): readonly [string, string] {
    return [this.file(this.words.limit), this.file(this.words.swapLimit)];
  }

  usage(): bigint {
    return BigInt(readFile(this.file(this.words.usage)).trim());
  }

  /** The most that it ever used; undefined if the kernel does not say, as before Linux 5.19 on v2. */
  peak(): bigint | undefined {
    return this.optional(this.words.peak);
  }

  limit(): bigint {
    return parseKernelLimit(readFile(this.file(this.words.limit)));
  }

  setLimit(limit: bigint): Promise<void> {
    return this.write(this.words.limit, limit);
  }

  abstract swapUsage(): bigint;
  /** Swap that it may use; undefined if the kernel does not account for swap. */
  abstract swapLimit(): bigint | undefined;

  /** The lines of memory.stat by their names. */
  stat(): ReadonlyMap<string, bigint> {
    return parseFlatKeyed(readFile(this.file('stat')));
  }

  protected pressureFile(): string | undefined {
    return this.file('pressure');
  }

  /** Undefined if there is no pressure file for the group. */
  pressure(): Pressure | undefined {
    const file = this.pressureFile();
    const text = file === undefined ? undefined : tryReadFile(file);
    if (text === undefined) return undefined;
    return { stallUsec: parseStall(text), stallShare: parseStallShare(text) };
  }
}

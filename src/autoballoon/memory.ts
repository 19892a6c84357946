import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupRoot, read, write } from '../cgroup/guest.ts';
import { parseFlatKeyed, parseMeminfo } from '../cgroup/figures.ts';
import { unlimited } from '../model/memory-limit.ts';
import { isBallooning } from '../balloon/state.ts';
import { codeOf } from '../model/errno.ts';
import type { Supply } from './policy.ts';
import { fullBelow, reserveOf } from './policy.ts';

/** What the control group of a container's unit says, in bytes. */
export interface UnitFigures {
  readonly usage: bigint;
  /** The part of the usage that reclaim would take first. */
  readonly cold: bigint;
  /** memory.high and memory.max; 2^64-1 for none. */
  readonly high: bigint;
  readonly limit: bigint;
}

export interface Memory {
  /** Undefined where the control group is gone. */
  unit(controlGroup: string): UnitFigures | undefined;
  supply(): Supply;
  /** Whether the kernel has to take memory back from somebody before it gives any. */
  isFull(): boolean;
  /** Takes back so many bytes at most; false when the kernel found less. */
  reclaim(controlGroup: string, bytes: bigint): Promise<boolean>;
  /** Whether a balloon that somebody asked for is under way. */
  isBallooning(unit: string): boolean;
}

function limitIn(file: string): bigint {
  const word = read(file).trim();
  return word === 'max' ? unlimited : BigInt(word);
}

function least(...amounts: readonly bigint[]): bigint {
  return amounts.reduce((a, b) => (a < b ? a : b));
}

/** What is missing for an automatic balloon on this host, with the remedy; undefined for nothing. */
export function whatIsMissing(root: string = cgroupRoot): string | undefined {
  const has = (file: string): boolean => {
    try {
      return statSync(file).isFile();
    } catch {
      return false;
    }
  };
  if (!has(join(root, 'cgroup.controllers'))) {
    return 'it needs cgroup v2, and this host has cgroup v1; boot with systemd.unified_cgroup_hierarchy=1';
  }
  if (!has('/proc/pressure/memory')) {
    return 'the kernel does not measure pressure; boot with psi=1';
  }
  if (!has(join(root, 'system.slice/memory.reclaim'))) {
    return 'the kernel has no memory.reclaim; it needs Linux 5.19 or later';
  }
  return undefined;
}

/** Memory as cgroups(7) version 2 and proc(5) have it. */
export const kernelMemory: Memory = {
  unit(controlGroup) {
    const file = (name: string): string => join(cgroupRoot, controlGroup, `memory.${name}`);
    try {
      const stat = parseFlatKeyed(read(file('stat')));
      const get = (name: string): bigint => stat.get(name) ?? 0n;
      // The kernel moves what is not used from the active list to the inactive one when it comes to
      // reclaim, until both are equal.
      const half = (get('inactive_file') + get('active_file')) / 2n;
      const files = get('inactive_file') > half ? get('inactive_file') : half;
      const swapFree = parseMeminfo(read('/proc/meminfo'), 'SwapFree');
      // Where swap is not accounted for, there is no such file.
      const swapMax = existsSync(file('swap.max')) ? limitIn(file('swap.max')) : unlimited;
      return {
        usage: BigInt(read(file('current')).trim()),
        cold: files + least(get('inactive_anon'), swapFree, swapMax),
        high: limitIn(file('high')),
        limit: limitIn(file('max')),
      };
    } catch (error) {
      if (['ENOENT', 'ENODEV'].includes(codeOf(error) ?? '')) return undefined;
      throw error;
    }
  },

  supply() {
    const meminfo = read('/proc/meminfo');
    const total = parseMeminfo(meminfo, 'MemTotal');
    const reserve = reserveOf(total);
    return { budget: total - reserve, spare: parseMeminfo(meminfo, 'MemAvailable') - reserve };
  },

  isFull() {
    const meminfo = read('/proc/meminfo');
    return parseMeminfo(meminfo, 'MemFree') < fullBelow(parseMeminfo(meminfo, 'MemTotal'));
  },

  async reclaim(controlGroup, bytes) {
    try {
      await write(join(cgroupRoot, controlGroup, 'memory.reclaim'), bytes.toString());
      return true;
    } catch (error) {
      if (['EAGAIN', 'ENOENT', 'ENODEV'].includes(codeOf(error) ?? '')) return false;
      throw error;
    }
  },

  isBallooning,
};

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { isBallooning } from '../balloon/balloon-state.ts';
import { isGone } from '../cgroup/control-files.ts';
import { GroupV2 } from '../cgroup/group-v2.ts';
import { cgroupRoot, hierarchies } from '../cgroup/hierarchy.ts';
import { readHostMemory } from '../cgroup/host-memory.ts';
import { leastOf } from '../model/memory-limit.ts';
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

/** The host's memory and the containers', as the kernel has it. */
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

/** What is missing for an automatic balloon on this host, with the remedy; undefined for nothing. */
export function whatIsMissing(root: string = cgroupRoot): string | undefined {
  const has = (file: string): boolean => {
    try {
      return statSync(file).isFile();
    } catch {
      return false;
    }
  };
  if (hierarchies(root).version === 1) {
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

function groupOf(controlGroup: string): GroupV2 {
  return new GroupV2(join(cgroupRoot, controlGroup));
}

/** The part of a group's usage that reclaim would take first, in bytes. */
function coldPart(group: GroupV2): bigint {
  const stat = group.stat();
  const get = (name: string): bigint => stat.get(name) ?? 0n;
  // The kernel moves what is not used from the active list to the inactive one when it comes to
  // reclaim, until both are equal.
  const half = (get('inactive_file') + get('active_file')) / 2n;
  const files = get('inactive_file') > half ? get('inactive_file') : half;
  return files + leastOf(get('inactive_anon'), readHostMemory().swapFree, group.swapLimit());
}

/** Memory as cgroups(7) version 2 and proc(5) have it. */
export const kernelMemory: Memory = {
  unit(controlGroup) {
    const group = groupOf(controlGroup);
    try {
      const cold = coldPart(group);
      return { usage: group.usage(), cold, high: group.high(), limit: group.limit() };
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    }
  },

  supply() {
    const { total, available } = readHostMemory();
    const reserve = reserveOf(total);
    return { budget: total - reserve, spare: available - reserve };
  },

  isFull() {
    const { total, free } = readHostMemory();
    return free < fullBelow(total);
  },

  async reclaim(controlGroup, bytes) {
    try {
      return await groupOf(controlGroup).reclaim(bytes);
    } catch (error) {
      if (isGone(error)) return false;
      throw error;
    }
  },

  isBallooning,
};

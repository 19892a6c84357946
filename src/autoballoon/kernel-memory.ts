/**
 * Reads the memory figures of containers and the host from the kernel, and reclaims memory. It also says
 * whether the host can do all this at all, because the automatic balloon needs cgroup v2, pressure stall
 * information and memory.reclaim.
 */

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

/** Figures of the control group of a container's unit, in bytes. */
export interface UnitFigures {
  readonly usage: bigint;
  /** The part of the usage that reclaim would take first. */
  readonly cold: bigint;
  /** memory.high and memory.max; 2^64-1 for none. */
  readonly high: bigint;
  readonly limit: bigint;
}

/** The memory of the host and the containers, as the kernel reports it. */
export interface Memory {
  /** Undefined if the control group has gone. */
  unit(controlGroup: string): UnitFigures | undefined;
  supply(): Supply;
  /** Whether the kernel has so little free memory that it must soon reclaim. */
  isFull(): boolean;
  /** Reclaims at most that many bytes; false if the kernel found less or the group has gone. */
  reclaim(controlGroup: string, bytes: bigint): Promise<boolean>;
  /** Whether a requested balloon is under way for the unit. */
  isBallooning(unit: string): boolean;
}

/** What this host lacks for an automatic balloon, with the remedy; undefined if nothing. */
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
  // When the kernel reclaims, it moves unused pages from the active to the inactive list until both
  // are equal.
  const half = (get('inactive_file') + get('active_file')) / 2n;
  const files = get('inactive_file') > half ? get('inactive_file') : half;
  return files + leastOf(get('inactive_anon'), readHostMemory().swapFree, group.swapLimit());
}

/** Memory from cgroup v2 (cgroups(7)) and /proc/meminfo (proc(5)). */
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

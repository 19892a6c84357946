/**
 * The entry point of src/cgroup, the only code that reads and writes control groups of either version.
 * It contains no D-Bus and no policy: src/balloon and src/autoballoon decide who may have how much.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { tryReadFile } from './control-files.ts';
import { GroupV1 } from './group-v1.ts';
import { GroupV2 } from './group-v2.ts';
import type { GuestMemory } from './guest-memory.ts';
import { GuestV1 } from './guest-v1.ts';
import { GuestV2 } from './guest-v2.ts';
import { cgroupRoot, hierarchies } from './hierarchy.ts';
import { payloadBelow } from './lxc-groups.ts';

/**
 * The memory of a unit's control group. `controlGroup` is a path below the hierarchy's root; undefined
 * if there is no such group or the path is invalid.
 */
export function findMemoryGroup(
  controlGroup: string,
  root: string = cgroupRoot,
): GroupV1 | GroupV2 | undefined {
  if (!/^\/[^\0]+$/.test(controlGroup) || controlGroup.split('/').includes('..')) return undefined;
  const v2 = join(root, controlGroup);
  if (tryReadFile(join(v2, 'memory.events')) !== undefined) return new GroupV2(v2);
  const v1 = join(root, 'memory', controlGroup);
  if (tryReadFile(join(v1, 'memory.usage_in_bytes')) !== undefined) return new GroupV1(v1);
  return undefined;
}

/** Finds the guest of a unit by the unit's control group; undefined while it has no process there. */
export function findGuestMemory(
  controlGroup: string,
  root: string = cgroupRoot,
): GuestMemory | undefined {
  if (controlGroup === '') return undefined;
  const { version, memory, unified } = hierarchies(root);
  const unit = join(memory, controlGroup);
  const guest = payloadBelow(unit);
  if (guest === undefined) return undefined;
  if (version === 2) return new GuestV2(new GroupV2(unit), new GroupV2(guest));
  const pressureFile = join(unified, controlGroup, 'memory.pressure');
  return new GuestV1(new GroupV1(unit, pressureFile), new GroupV1(guest));
}

/** Whether a unit has a control group without the memory controller, so that no limit can hold. */
export function lacksMemory(controlGroup: string, root: string = cgroupRoot): boolean {
  const { systemd } = hierarchies(root);
  return (
    existsSync(join(systemd, controlGroup)) && findMemoryGroup(controlGroup, root) === undefined
  );
}

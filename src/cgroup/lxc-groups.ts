/**
 * Where containers' control groups are. A container that runs as its unit has the unit's group,
 * which only root can enter. Below it LXC creates `lxc.monitor.NAME` for its monitor and
 * `lxc.payload.NAME` for the guest, with a number if an old group of that name is in the way. After
 * the guest's first reboot the payload is below `lxc.pivot`, where the monitor has waited for the end
 * of the old payload. Each further reboot whose old group stays adds one level. Everything below a
 * payload belongs to the guest: any number of groups with any names.
 */
import { basename, join } from 'node:path';
import { isPayload, isPivot, pivotsMax } from '../model/lxc-group.ts';
import { firstOf, namesIn, readHead, subdirectories, tryReadFile } from './control-files.ts';
import { parseFlatKeyed } from './figures.ts';

/** Bound for the groups of a guest that are searched for a process. */
const groupsMax = 4096;
/** Enough for the unit, LXC's monitor and the guest, and the groups of a few reboots. */
const limitedMax = 16;

/** LXC's payload group that contains a group; returns a group outside any payload unchanged. */
export function payloadOf(group: string): string {
  return /^.*?\/lxc\.payload\.[^/]*/.exec(group)?.[0] ?? group;
}

/**
 * The groups of units in slices, which only root can create. `root` is a hierarchy or a slice. Their names tell
 * them from the kernel's files: asked for its kind, each would take ten times as long.
 */
export function* unitGroups(root: string): Generator<string> {
  for (const name of namesIn(root)) {
    const path = `${root}/${name}`;
    if (name.endsWith('.slice')) yield* unitGroups(path);
    else if (/\.(?:service|scope|socket|mount|swap)$/.test(name)) yield path;
  }
}

/** Whether a group or one below it has a process; undefined if there are too many groups to tell. */
function isPopulated(directory: string): boolean | undefined {
  // On cgroup v2, and in the unified hierarchy beside v1, the kernel reports it.
  const events = tryReadFile(join(directory, 'cgroup.events')) ?? '';
  const populated = parseFlatKeyed(events).get('populated');
  if (populated !== undefined) return populated !== 0n;
  const groups = [directory];
  for (let group = groups.shift(), seen = 1; group !== undefined; group = groups.shift()) {
    if (hasProcess(group)) return true;
    for (const below of subdirectories(group)) {
      if (++seen > groupsMax) return undefined;
      groups.push(below);
    }
  }
  return false;
}

function hasProcess(group: string): boolean {
  try {
    return readHead(join(group, 'cgroup.procs'), 1) !== '';
  } catch {
    return false;
  }
}

/**
 * The running guest's payload below a unit's group; undefined while it has no process. A payload with
 * too many groups to search counts as the guest's, unless another payload has a process.
 */
export function payloadBelow(unitDirectory: string): string | undefined {
  let likely: string | undefined;
  let parents = [unitDirectory];
  for (let depth = 0; depth < pivotsMax && parents.length > 0; depth++) {
    const groups = parents.flatMap((parent) => firstOf(subdirectories(parent), groupsMax));
    const those = (is: (name: string) => boolean): string[] =>
      groups.filter((group) => is(basename(group))).slice(0, pivotsMax);
    for (const group of those(isPayload)) {
      const populated = isPopulated(group);
      if (populated === true) return group;
      if (populated === undefined) likely ??= group;
    }
    parents = those(isPivot);
  }
  return likely;
}

/**
 * The groups that can have limits of a container: its unit's and LXC's. Groups below a payload are left
 * out, because a guest can create more than can be watched.
 */
export function limitedGroups(unitDirectory: string): string[] {
  const groups = [unitDirectory];
  const open = [unitDirectory];
  for (let parent = open.shift(); parent !== undefined; parent = open.shift()) {
    for (const group of subdirectories(parent)) {
      if (groups.length >= limitedMax) return groups;
      if (group.includes('\n')) continue;
      if (isPivot(basename(group))) open.push(group);
      groups.push(group);
    }
  }
  return groups;
}

import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Where control groups are mounted. Tests use another tree. */
export const cgroupRoot = '/sys/fs/cgroup';

/** Directories of a host's cgroup hierarchies. */
export interface Hierarchies {
  readonly version: 1 | 2;
  /** systemd's hierarchy, in which each unit has a group. */
  readonly systemd: string;
  /** The name of systemd's hierarchy in /proc/PID/cgroup. */
  readonly systemdName: string;
  /** The hierarchy of the memory controller. */
  readonly memory: string;
  /** The hierarchy of cgroup v1's freezer; undefined on v2. */
  readonly freezer: string | undefined;
  /** The hierarchy of cgroup v2, which systemd can also mount beside v1. */
  readonly unified: string;
}

export function hierarchies(root: string = cgroupRoot): Hierarchies {
  if (existsSync(join(root, 'cgroup.controllers'))) {
    return {
      version: 2,
      systemd: root,
      systemdName: '',
      memory: root,
      freezer: undefined,
      unified: root,
    };
  }
  return {
    version: 1,
    systemd: join(root, 'systemd'),
    systemdName: 'name=systemd',
    memory: join(root, 'memory'),
    freezer: join(root, 'freezer'),
    unified: join(root, 'unified'),
  };
}

/** What the host's control groups support, if there is no container to look at. */
export function controlGroups(root: string = cgroupRoot): {
  readonly version: 1 | 2;
  readonly swapIsAccounted: boolean;
} {
  const { version, memory } = hierarchies(root);
  if (version === 1) {
    return { version, swapIsAccounted: existsSync(join(memory, 'memory.memsw.limit_in_bytes')) };
  }
  // The root group has no limit files, so look at the group of all system services.
  const services = join(memory, 'system.slice');
  const isLimited = (name: string): boolean => existsSync(join(services, name));
  return { version, swapIsAccounted: isLimited('memory.swap.max') || !isLimited('memory.max') };
}

/** Path of a process's group in /proc/PID/cgroup; undefined if it does not list the hierarchy. */
export function groupIn(text: string, hierarchy: string): string | undefined {
  for (const line of text.split('\n')) {
    const [, controllers = '', path] = /^[0-9]+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined || !controllers.split(',').includes(hierarchy)) continue;
    // A group outside this cgroup namespace has no usable path here.
    return path.split('/').includes('..') ? undefined : path;
  }
  return undefined;
}

import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Where control groups are mounted. Tests have another tree. */
export const cgroupRoot = '/sys/fs/cgroup';

/** Where one host has its hierarchies. */
export interface Hierarchies {
  readonly version: 1 | 2;
  /** systemd's own, in which each unit has a group. */
  readonly systemd: string;
  /** What systemd's is called in /proc/PID/cgroup. */
  readonly systemdName: string;
  /** The one with memory's limits. */
  readonly memory: string;
  /** cgroup v1's freezer; undefined on v2. */
  readonly freezer: string | undefined;
  /** The one of cgroup v2, which systemd can mount beside v1 as well. */
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

/** What the host's control groups can do, where there is no container to look at. */
export function controlGroups(root: string = cgroupRoot): {
  readonly version: 1 | 2;
  readonly swapIsAccounted: boolean;
} {
  const { version, memory } = hierarchies(root);
  if (version === 1) {
    return { version, swapIsAccounted: existsSync(join(memory, 'memory.memsw.limit_in_bytes')) };
  }
  // The root has no limits. Every service below is in a group of this one.
  const services = join(memory, 'system.slice');
  const isLimited = (name: string): boolean => existsSync(join(services, name));
  return { version, swapIsAccounted: isLimited('memory.swap.max') || !isLimited('memory.max') };
}

/** Path of a group in /proc/PID/cgroup; undefined where the hierarchy is not in it. */
export function groupIn(text: string, hierarchy: string): string | undefined {
  for (const line of text.split('\n')) {
    const [, controllers = '', path] = /^[0-9]+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined || !controllers.split(',').includes(hierarchy)) continue;
    // What is outside of this cgroup namespace has no name here.
    return path.split('/').includes('..') ? undefined : path;
  }
  return undefined;
}

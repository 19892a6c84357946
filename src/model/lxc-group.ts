/** What LXC calls its control groups; see src/cgroup/lxc-groups.ts. */

export function isPayload(name: string): boolean {
  return name.startsWith('lxc.payload.');
}

export function isMonitor(name: string): boolean {
  return name.startsWith('lxc.monitor.');
}

export function isPivot(name: string): boolean {
  return name.startsWith('lxc.pivot');
}

/** Bound for the levels of `lxc.pivot` that are followed. */
export const pivotsMax = 16;

import type { Problem } from '../model/problem.ts';
import type { BootPolicy } from './boot-policy.ts';
import { parseBootPolicy } from './boot-policy.ts';
import type { HostReader } from './read.ts';

/** /etc/default/lxc, and whether lxc.service would have read it at boot at all. */
export function readBootPolicy(host: HostReader): {
  policy: BootPolicy;
  problems: readonly Problem[];
} {
  const file = '/etc/default/lxc';
  const { policy, problems } = parseBootPolicy(host.text(file) ?? '', file);
  const runs = host.lxcServiceStartsAtBoot();
  return { policy: runs ? policy : { ...policy, enabled: false, isServiceOff: true }, problems };
}

/** Paths of the runlevel links to each init script lxc.NAME (Debian's and OpenRC's), by NAME. */
export function runlevelLinks(host: HostReader): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  const look = (directory: string, pattern: RegExp): void => {
    for (const link of host.list(directory)) {
      const name = pattern.exec(link)?.[1];
      if (name === undefined) continue;
      found.set(name, [...(found.get(name) ?? []), `${directory}/${link}`]);
    }
  };
  for (const level of ['2', '3', '4', '5']) look(`/etc/rc${level}.d`, /^S\d\dlxc\.(.+)$/s);
  look('/etc/runlevels/default', /^lxc\.(.+)$/s);
  return found;
}

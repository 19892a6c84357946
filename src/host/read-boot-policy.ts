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

/** Who uses a locker, and who would miss it under its name. */

import { Files } from '../host/files.ts';
import type { Mount } from '../host/mountinfo.ts';
import { HostReader } from '../host/read.ts';
import { LockerdError } from '../model/errors.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import { isDown } from '../systemd/properties.ts';
import { hostMounts } from './context.ts';
import type { KnownLocker, LockerView } from './locker-view.ts';
import { lxcpathOf, viewContainer } from './view.ts';

/** A container that has a locker attached now. */
export interface Attached {
  readonly container: string;
  readonly readOnly: boolean;
}

/** Containers that a locker is attached to, by the mounts in their wormholes. */
export function attachedTo(
  { host: { wormholeDirectory } }: LockerView,
  locker: string,
  mounts: readonly Mount[] = hostMounts(),
): Attached[] {
  const found = new Map<string, Attached>();
  for (const { mountPoint, readOnly } of mounts) {
    if (!mountPoint.startsWith(`${wormholeDirectory}/`)) continue;
    const [container = '', name, ...more] = mountPoint
      .slice(wormholeDirectory.length + 1)
      .split('/');
    if (name === locker && more.length === 0) found.set(container, { container, readOnly });
  }
  return [...found.values()];
}

/** Targets of the boot that need a mount only for the boot. */
const bootTargets = new Set(['local-fs.target', 'remote-fs.target']);

/** Active units that would not be without the mount. */
async function neededBy(systemd: SystemdManager, unit: string): Promise<string[]> {
  const names = ['RequiredBy', 'BoundBy'] as const;
  const found = await systemd.get(unit, 'Unit', names);
  const units = [...new Set(names.flatMap((name) => found.strings(name)))];
  const active: string[] = [];
  for (const one of units.filter((name) => !bootTargets.has(name))) {
    if (!isDown(await systemd.activeState(one))) active.push(one);
  }
  return active;
}

function someOf(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}

/** Throws LockerBusy where a container has the locker, or a unit needs it. */
export async function refuseUsed(
  systemd: SystemdManager,
  view: LockerView,
  { name, unit }: KnownLocker,
): Promise<void> {
  const attached = attachedTo(view, name).map(({ container }) => container);
  if (attached.length > 0) {
    throw new LockerdError(
      'LockerBusy',
      `locker "${name}" is attached to ${someOf(attached)}; detach it first`,
    );
  }
  const units = await neededBy(systemd, unit);
  if (units.length === 0) return;
  throw new LockerdError(
    'LockerBusy',
    `locker "${name}" is needed by ${someOf(units)}; stop that first`,
  );
}

/** Containers whose settings or configuration name a locker, running or not. */
export function namedBy({ host }: LockerView, { name, mountPoint }: KnownLocker): string[] {
  const reader = new HostReader('', new Files());
  const found: string[] = [];
  for (const { name: container, configFile } of reader.containers(lxcpathOf(reader))) {
    const has = (): boolean => {
      const view = viewContainer(container);
      const choices = view.own.merged.lockers?.value ?? [];
      const attachments = view.wormholeWith(choices)?.attachments ?? [];
      return attachments.some(({ locker }) => locker === name);
    };
    const mentions = (reader.readText(configFile).text ?? '')
      .split('\n')
      .some((line) => `${line} `.includes(` ${mountPoint} `) || line.includes(`${mountPoint}/`));
    if (mentions || has()) found.push(container);
  }
  if (host.sharedLockers.some((shared) => shared.name === name)) {
    found.push('every container ("shared-lockers" in /etc/lockerd/lockerd.conf)');
  }
  return found;
}

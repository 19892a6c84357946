/**
 * What attach.ts and detach.ts share: where an attachment is mounted, the properties of its transient unit,
 * the directory it is mounted on, and what the kernel shows there. Nothing here decides whether a request
 * may be served.
 */

import { lstatSync, mkdirSync, rmdirSync } from 'node:fs';
import { bindOptions, bindSource, guardUnits, slotsPath } from '../model/attachment.ts';
import type { Attachment } from '../model/attachment.ts';
import { shellWord } from '../model/shell-quote.ts';
import { mountUnit, unitNameFits } from '../model/unit-name.ts';
import { fitsRestOfLine } from '../model/unit-syntax.ts';
import { hostMounts } from './context.ts';
import { LockerdError } from '../model/errors.ts';
import { statusOf } from './lxc.ts';
import { isSameTree, mountAt } from '../host/mountinfo.ts';
import type { Mount } from '../host/mountinfo.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import type { UnitProperty } from '../systemd/properties.ts';
import { booleanProperty, listProperty, textProperty } from '../systemd/properties.ts';
import type { ContainerView } from './view.ts';

export function modeText(readOnly: boolean): string {
  return readOnly ? 'read-only' : 'read-write';
}

/** Path of a container's wormhole; throws Failed if it has none. */
export function wormholePath(view: ContainerView): string {
  const path = view.wormholeWith([])?.path;
  if (path !== undefined) return path;
  throw new LockerdError(
    'Failed',
    `container "${view.name}" has no wormhole: ${view.whyNoWormhole}; mend that and restart it`,
  );
}

/**
 * Plans the attachment of a locker. Throws NoSuchLocker, InvalidArgs if it is read-only on the host, and
 * Failed if the container has no wormhole or a path fits no unit.
 */
export function planAttachment(view: ContainerView, locker: string, readOnly: boolean): Attachment {
  const found = view.lockers.get(locker);
  if (found === undefined) {
    const place = `${view.settings.host.lockerDirectory}/${locker}`;
    throw new LockerdError(
      'NoSuchLocker',
      `there is no locker "${locker}": nothing is mounted at ${place}; mount it, for example by a line in /etc/fstab`,
    );
  }
  if (found.readOnly && !readOnly) {
    throw new LockerdError(
      'InvalidArgs',
      `locker "${locker}" is read-only on the host; attach it read-only`,
    );
  }
  const target = `${wormholePath(view)}/${locker}`;
  const attachment = {
    locker,
    source: found.path,
    target,
    readOnly,
    readOnlyOnHost: found.readOnly,
    ...(found.volume === undefined ? {} : { volume: found.volume }),
  };
  for (const path of [target, found.path, bindSource(attachment)]) {
    if (!fitsRestOfLine(path) || !unitNameFits(mountUnit(path))) {
      throw new LockerdError(
        'Failed',
        `locker "${locker}" cannot be attached to container "${view.name}": no unit can be made ` +
          'for its path; rename the locker or the container',
      );
    }
  }
  return attachment;
}

/**
 * Properties of an attachment that has no unit file. It behaves like one that has: it ends with the
 * locker and the container, whatever stops them, and of these it starts only the locker.
 */
export function transientProperties(view: ContainerView, a: Attachment): UnitProperty[] {
  const source = mountUnit(bindSource(a));
  const guards = guardUnits(a);
  return [
    textProperty('Description', `Locker "${a.locker}" in LXC container "${view.name}"`),
    listProperty('Documentation', ['man:lockerd(7)']),
    booleanProperty('DefaultDependencies', false),
    listProperty('Conflicts', ['umount.target']),
    listProperty('Before', ['umount.target', view.unit]),
    listProperty('BindsTo', [source]),
    listProperty('Wants', guards),
    listProperty('After', [source, ...guards]),
    // BindsTo= the container would start it.
    listProperty('StopPropagatedFrom', [view.unit]),
    textProperty('CollectMode', 'inactive-or-failed'),
    textProperty('What', bindSource(a)),
    textProperty('Where', a.target),
    textProperty('Type', 'lockerd'),
    textProperty('Options', bindOptions(a, view.wormholeWith([])?.idmap)),
  ];
}

/** The locker's mount in its place, or undefined; throws Failed if something else is mounted there. */
export function mountedLocker(
  a: Pick<Attachment, 'locker' | 'source' | 'target'>,
): Mount | undefined {
  const mounts = hostMounts();
  const mount = mountAt(mounts, a.target);
  if (mount === undefined) return undefined;
  const source = mountAt(mounts, a.source);
  if (source !== undefined && !isSameTree(mount, source)) {
    throw new LockerdError(
      'Failed',
      `something else than locker "${a.locker}" is mounted at ${a.target}; unmount it`,
    );
  }
  return mount;
}

/** The path under which the directory of an attachment can be created and removed. */
function slotOf(view: ContainerView, locker: string): string {
  return `${slotsPath(view.name)}/${locker}`;
}

/** Creates the directory of an attachment. Throws Failed if something else is there. */
export function makeTarget(view: ContainerView, locker: string): void {
  const slot = slotOf(view, locker);
  try {
    mkdirSync(slot);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST' && lstatSync(slot).isDirectory()) return;
    throw new LockerdError(
      'Failed',
      `the mount point of locker "${locker}" cannot be made in the wormhole of container ` +
        `"${view.name}"; systemctl restart ${shellWord(view.unit)}`,
      { cause: error },
    );
  }
}

/** Removes the directory of a former attachment; a directory that is in use stays. */
export function removeTarget(view: ContainerView, locker: string): void {
  try {
    rmdirSync(slotOf(view, locker));
  } catch {
    // It does not exist, or something was mounted on it or put into it.
  }
}

/** Detaches exactly one mount at once; processes that use it keep it alive until they end. */
export async function unmountLazily(target: string): Promise<void> {
  const { execa } = await import('execa');
  await execa('/bin/umount', ['--no-canonicalize', '--lazy', '--', target], {
    extendEnv: false,
    env: { LC_ALL: 'C' },
    stdin: 'ignore',
    timeout: 30_000,
  }).catch((error: unknown) => {
    throw new LockerdError(
      'Failed',
      `${target} cannot be unmounted; see "systemctl status ${shellWord(mountUnit(target))}"`,
      {
        cause: error,
      },
    );
  });
}

/** Throws NotRunning unless the container runs as its unit. */
export async function requireRunning(systemd: SystemdManager, view: ContainerView): Promise<void> {
  const activeState = await systemd.activeState(view.unit);
  if (['active', 'reloading'].includes(activeState)) return;
  const { name, lxcpath } = view;
  const isDown = ['inactive', 'failed'].includes(activeState);
  if (isDown && (await statusOf({ name, lxcpath })).state !== 'STOPPED') {
    throw new LockerdError(
      'NotRunning',
      `container "${name}" runs outside its unit, where no locker can be attached; ` +
        `lxc-stop -n ${shellWord(name)} && systemctl start ${shellWord(view.unit)}`,
    );
  }
  const state = activeState === 'inactive' ? 'is not running' : `is ${activeState}`;
  throw new LockerdError(
    'NotRunning',
    `container "${view.name}" ${state}; systemctl start ${shellWord(view.unit)}`,
  );
}

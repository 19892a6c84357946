/** The unit that makes a device of a partition, and what the container's unit has to say of it. */
import { deviceUnit, escapeInstance } from '../model/unit-name.ts';
import { unitText, unitWord } from '../model/unit-syntax.ts';
import type { Container } from './container.ts';
import { command, hookDirectory } from './plan-views.ts';
import type { Planned } from './plan-views.ts';

/** Not longer than the name of a delay unit, whose length is checked. */
function partitionUnit(name: string): string {
  return `lxc-disk@${escapeInstance(name)}.service`;
}

/** Empty where the root file system is no partition. */
export function partitionUnits({ name, partition, problems }: Container): readonly string[] {
  return partition === undefined || problems.length > 0 ? [] : [partitionUnit(name)];
}

/** Where hooks/open-partition makes a link to the device. */
function partitionDevice(name: string): string {
  return `/run/lockerd/disks/${escapeInstance(name)}/device`;
}

/** Devices for check-devices, beside those of the configuration. */
export function partitionDevices(c: Container): readonly string[] {
  return partitionUnits(c).map(() => partitionDevice(c.name));
}

/** LXC takes any block device after "lvm:"; it looks at the prefix, not for LVM. */
export function partitionArguments(c: Container): string[] {
  return partitionDevices(c).flatMap((device) => ['-s', `lxc.rootfs.path=lvm:${device}`]);
}

export function planPartition(c: Container): Planned[] {
  const { partition } = c;
  if (partition === undefined) return [];
  return partitionUnits(c).map((unit) => ({
    kind: 'file',
    path: `${unit}.d/60-container.conf`,
    template: 'disk',
    view: {
      configFile: unitText(c.configFile),
      paths: c.requiredPaths.map(unitWord),
      devices: c.devices.map(deviceUnit),
      execStart: command(`${hookDirectory}/open-partition`, [
        escapeInstance(c.name),
        partition.disk,
        String(partition.number),
      ]),
    },
  }));
}

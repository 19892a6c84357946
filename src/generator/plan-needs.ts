/** The unit that makes the mounts which a container needs at its start. */
import { deviceUnit, escapeInstance, mountUnit } from '../model/unit-name.ts';
import { unitText, unitWord } from '../model/unit-syntax.ts';
import type { Container } from './container.ts';
import { partitionDevices } from './plan-partition.ts';
import { command, hookDirectory } from './plan-views.ts';
import type { Planned } from './plan-views.ts';

/** Not longer than the name of a delay unit, whose length is checked. */
function needsUnit(name: string): string {
  return `lxc-needs@${escapeInstance(name)}.service`;
}

/** Empty where the start needs no mounts beside those of the container's own unit. */
export function needsUnits({ name, startPaths, problems }: Container): readonly string[] {
  return startPaths.length === 0 || problems.length > 0 ? [] : [needsUnit(name)];
}

/** The unit that waits for what a start has lacked; its name is as long as that of a delay unit. */
export function lateUnit(name: string): string {
  return `lxc-late@${escapeInstance(name)}.service`;
}

/** The command that fails unless the devices are there. */
export function planDevicesCheck(c: Container): string {
  const devices = [...c.devices, ...partitionDevices(c)];
  if (devices.length === 0 || c.problems.length > 0) return '';
  return command(`${hookDirectory}/check-devices`, devices);
}

/** What the start cannot do without, beside what the container's own unit requires. */
export function lateNeeds(c: Container): string[] {
  if (!c.mayComeLate || c.problems.length > 0) return [];
  const strict = c.wormhole?.attachments.filter((a) => a.strict) ?? [];
  return [
    ...needsUnits(c),
    ...c.devices.map(deviceUnit),
    ...strict.map(({ source }) => mountUnit(source)),
  ];
}

export function planNeeds(c: Container): Planned[] {
  return needsUnits(c).map((unit) => ({
    kind: 'file',
    path: `${unit}.d/60-container.conf`,
    template: 'needs',
    view: { configFile: unitText(c.configFile), paths: c.startPaths.map(unitWord) },
  }));
}

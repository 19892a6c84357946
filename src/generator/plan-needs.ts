/** The unit that makes the mounts which a container needs at its start. */
import { escapeInstance } from '../model/unit-name.ts';
import { unitText, unitWord } from '../model/unit-syntax.ts';
import type { Container } from './container.ts';
import type { Planned } from './plan-views.ts';

/** Not longer than the name of a delay unit, whose length is checked. */
function needsUnit(name: string): string {
  return `lxc-needs@${escapeInstance(name)}.service`;
}

/** Empty where the start needs no mounts beside those of the container's own unit. */
export function needsUnits({ name, startPaths, problems }: Container): readonly string[] {
  return startPaths.length === 0 || problems.length > 0 ? [] : [needsUnit(name)];
}

export function planNeeds(c: Container): Planned[] {
  return needsUnits(c).map((unit) => ({
    kind: 'file',
    path: `${unit}.d/60-container.conf`,
    template: 'needs',
    view: { configFile: unitText(c.configFile), paths: c.startPaths.map(unitWord) },
  }));
}

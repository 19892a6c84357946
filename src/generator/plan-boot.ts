/** What starts containers together and one after the other: boot, groups, delays, init scripts. */
import { containerUnit, delayUnit, escapeInstance, groupTarget } from '../model/unit-name.ts';
import { fitsRestOfLine, unitText } from '../model/unit-syntax.ts';
import type { Container } from './container.ts';
import { compareText, hasDelay } from './container.ts';
import type { Planned, PlannedLink } from './plan-views.ts';
import { bootTarget, command, hookDirectory, planLink } from './plan-views.ts';

const autostartTarget = 'lxc-autostart.target';

/** The unit that stands in for an init script `lxc.NAME`, escaped as an instance is. */
export function forwardUnit(name: string): string {
  return `lxc.${escapeInstance(name)}.service`;
}

export function planAutostart(c: Container): PlannedLink[] {
  if (!c.autostart) return [];
  return [bootTarget, autostartTarget].map((target) =>
    planLink(`${target}.wants`, containerUnit(c.name), 'lxc@.service'),
  );
}

/**
 * The members of each group. Not links in `.wants/`: by those "systemctl is-enabled" would call
 * every member enabled, also one that no boot starts.
 */
export function planGroups(containers: readonly Container[]): Planned[] {
  const members = new Map<string, string[]>();
  for (const c of containers) {
    // A group is started by hand, and has no say in what a cluster runs.
    if (c.settings.managedBy !== undefined) continue;
    for (const group of c.groups) {
      const target = groupTarget(group);
      members.set(target, [...(members.get(target) ?? []), containerUnit(c.name)]);
    }
  }
  return [...members].map(([target, wants]) => ({
    kind: 'file',
    path: `${target}.d/60-members.conf`,
    template: 'group',
    view: { wants: [...wants].sort(compareText) },
  }));
}

export function planDelay(c: Container): Planned[] {
  if (!hasDelay(c)) return [];
  return [
    {
      kind: 'file',
      path: `${delayUnit(c.name)}.d/60-container.conf`,
      template: 'delay',
      view: {
        configFile: unitText(c.configFile),
        unit: containerUnit(c.name),
        seconds: c.startDelaySec,
      },
    },
  ];
}

export function planForward(c: Container): Planned {
  const initScript = `/etc/init.d/lxc.${c.name}`;
  return {
    kind: 'file',
    path: forwardUnit(c.name),
    template: 'forward',
    view: {
      initScript,
      sourcePath: fitsRestOfLine(initScript) ? unitText(initScript) : '',
      unit: containerUnit(c.name),
      description: unitText(`LXC container ${c.name} (init script name)`),
      started: `lxc-started@${escapeInstance(c.name)}.service`,
      execStart: command('/usr/bin/systemctl', ['start', containerUnit(c.name)]),
      execStop: command(`${hookDirectory}/wait-stopped`, [containerUnit(c.name)]),
    },
  };
}

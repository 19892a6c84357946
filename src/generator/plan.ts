/** The third step: which files and links there are, and what each is to say, still as data. */
import { containerUnit } from '../model/unit-name.ts';
import { unitText } from '../model/unit-syntax.ts';
import type { Container } from './container.ts';
import { planAutostart, planDelay, planForward, planGroups } from './plan-boot.ts';
import { planContainerDropIn } from './plan-container.ts';
import { planBridge, planHost, planJournal, planLate, planRescan, planWatch } from './plan-host.ts';
import { planNeeds } from './plan-needs.ts';
import { planAttachments, planReadOnly, planReturning, planWormholes } from './plan-lockers.ts';
import type { PlanContext, Planned } from './plan-views.ts';
import type { Limit } from './unit-limits.ts';

/** Plans every file and link; pure. */
export function planUnits(containers: readonly Container[], context: PlanContext): Planned[] {
  const scripts = new Set(context.initScripts);
  const bridges = new Set(
    containers.filter((c) => c.problems.length === 0).flatMap((c) => c.bridges),
  );
  return [
    ...containers.flatMap((c) => [
      planContainerDropIn(c, scripts.has(c.name)),
      ...planLimits(c),
      ...planNeeds(c),
      ...planAttachments(c),
      ...planDelay(c),
      ...planAutostart(c),
      ...(scripts.has(c.name) ? [planForward(c)] : []),
    ]),
    ...[...bridges].map((bridge) => planBridge(bridge, context.bridgeTimeout)),
    ...planGroups(containers),
    ...planWormholes(containers, context),
    ...planReadOnly(context.lockers, containers),
    ...planReturning(containers),
    ...planRescan(context),
    ...planLate(context),
    ...planWatch(context),
    ...planJournal(context),
    planHost(context),
  ];
}

function limitLine({ name, size }: Limit): { name: string; size: string } {
  return { name, size: size === 'unlimited' ? 'infinity' : size.toString() };
}

/** Files of their own: see the templates. */
function planLimits(c: Container): Planned[] {
  const { limits, held } = c.memory;
  const directory = `${containerUnit(c.name)}.d`;
  const configFile = unitText(c.configFile);
  const autoballoon = c.settings.autoballoon !== undefined;
  return [
    ...(limits.length === 0
      ? []
      : [
          {
            kind: 'file',
            path: `${directory}/40-limits.conf`,
            template: 'limits',
            view: { configFile, autoballoon, limits: limits.map(limitLine) },
          } as const,
        ]),
    ...(held.length === 0
      ? []
      : [
          {
            kind: 'file',
            path: `${directory}/~held.conf`,
            template: 'held',
            view: { limits: held.map(limitLine) },
          } as const,
        ]),
  ];
}

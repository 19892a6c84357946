/** The third step: which files and links there are, and what each is to say, still as data. */
import { containerUnit } from '../model/unit-name.ts';
import type { UnitSetting } from '../model/unit-controls.ts';
import { unitText } from '../model/unit-syntax.ts';
import { planClusterMounts } from './cluster-mounts.ts';
import type { Container } from './container.ts';
import { planAutostart, planDelay, planForward, planGroups } from './plan-boot.ts';
import { planContainerDropIn } from './plan-container.ts';
import { planBridge, planHost, planJournal, planLate, planRescan, planWatch } from './plan-host.ts';
import { planNeeds } from './plan-needs.ts';
import { planPartition } from './plan-partition.ts';
import {
  planAttachments,
  planReadOnly,
  planReturning,
  planVolumes,
  planWormholes,
} from './plan-lockers.ts';
import type { PlanContext, Planned } from './plan-views.ts';
import type { Limit } from './memory-limits.ts';

/** Plans every file and link; pure. */
export function planUnits(containers: readonly Container[], context: PlanContext): Planned[] {
  const scripts = new Set(context.initScripts);
  const planned = containers.flatMap((c) => planContainer(c, scripts.has(c.name)));
  planOthers(containers, context, (one) => planned.push(one));
  return planned;
}

/** What belongs to one container alone; pure. */
export function planContainer(c: Container, isForwarded: boolean): Planned[] {
  const planned = [planContainerDropIn(c, isForwarded)];
  // Most containers have not even half of these.
  for (const plan of [
    planLimits,
    planNeeds,
    planPartition,
    planAttachments,
    planDelay,
    planAutostart,
  ]) {
    for (const one of plan(c)) planned.push(one);
  }
  if (isForwarded) planned.push(planForward(c));
  return planned;
}

/**
 * What belongs to the host or to several containers, the file that marks completeness last; pure.
 * @param emit gets one after the other, as there may be thousands
 */
export function planOthers(
  containers: readonly Container[],
  context: PlanContext,
  emit: (planned: Planned) => void,
): void {
  const bridges = new Set<string>();
  for (const c of containers) {
    if (c.problems.length === 0) for (const bridge of c.bridges) bridges.add(bridge);
  }
  for (const bridge of bridges) emit(planBridge(bridge, context.bridgeTimeout));
  planReadOnly(context.lockers, containers, emit);
  const others = [
    ...planGroups(containers),
    ...planWormholes(containers, context),
    ...planReturning(containers),
    ...planVolumes(context.lockers),
    ...planClusterMounts(containers, context.fstab),
    ...planRescan(context),
    ...planLate(context),
    ...planWatch(context),
    ...planJournal(context),
    planHost(context),
  ];
  for (const planned of others) emit(planned);
}

function limitLine({ name, size }: Limit): UnitSetting {
  return { name, value: size === 'unlimited' ? 'infinity' : size.toString() };
}

/** Files of their own: see the templates. */
function planLimits(c: Container): Planned[] {
  const { held } = c.memory;
  const limits = [...c.memory.limits.map(limitLine), ...c.controls.settings];
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
            view: { configFile, autoballoon, limits },
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

/**
 * The second step: what each container's unit is to do, from facts alone. The order of containers,
 * what they wait for and how they stop have files of their own.
 */
import type { KeyedLine, LxcConfig } from '../model/lxc-config.ts';
import type { Problem } from '../model/problem.ts';
import { shellWord } from '../model/shell-quote.ts';
import {
  containerUnit,
  delayUnit,
  escapeInstance,
  groupTarget,
  unitNameFits,
} from '../model/unit-name.ts';
import { fitsUnitFile, printable } from '../model/unit-syntax.ts';
import type { Writable } from '../model/writable.ts';
import type { BootPolicy } from '../host/boot-policy.ts';
import { bootPass, decideBoot, startsAtBoot } from '../host/boot-policy.ts';
import type { Wormhole } from '../host/lockers.ts';
import { decideLockers } from '../host/lockers.ts';
import { preStartHook } from '../host/lxc-values.ts';
import type { Container, ContainerFacts, HostFacts } from './container.ts';
import { planHalt } from './decide-halt.ts';
import { decideCompanions } from './decide-companions.ts';
import { findNeeds } from './decide-needs.ts';
import type { RankedContainer } from './decide-order.ts';
import { orderContainers } from './decide-order.ts';
import { decidePartition } from './decide-partition.ts';
import { behindLinks } from './decide-places.ts';
import { decideControls } from './control-limits.ts';
import type { MemoryLimits } from './memory-limits.ts';
import { decideMemory } from './memory-limits.ts';

/** What decoding leaves where a name's bytes are not UTF-8. */
const replacementCharacter = '\ufffd';

export interface Model {
  /** Sorted by rank, then name. */
  readonly containers: readonly Container[];
  /** Containers that cannot have a unit at all. */
  readonly nameless: readonly Problem[];
}

/** Decides everything about all containers; pure. */
export function modelContainers(all: readonly ContainerFacts[], host: HostFacts): Model {
  const nameless: Problem[] = [];
  const ranked: RankedContainer[] = [];
  for (const facts of all) {
    const decided = modelContainer(facts, host);
    if ('rank' in decided) ranked.push(decided);
    else nameless.push(decided);
  }
  return { containers: orderContainers(decideCompanions(ranked)), nameless };
}

/** Decides everything about one container but its order; or why it cannot have a unit at all. */
export function modelContainer(facts: ContainerFacts, host: HostFacts): RankedContainer | Problem {
  return nameProblem(facts.name, facts.config.file) ?? withPartition(modelOne(facts, host), facts);
}

function withPartition(
  { container, rank }: RankedContainer,
  facts: ContainerFacts,
): RankedContainer {
  if (facts.settings.rootfsPartition === undefined) return { container, rank };
  const { partition, problems } = decidePartition(facts);
  return {
    container: {
      ...container,
      problems: container.problems.concat(problems),
      ...(partition === undefined ? {} : { partition }),
    },
    rank,
  };
}

function groupFits(group: string): boolean {
  return fitsUnitFile(group) && unitNameFits(groupTarget(group));
}

function groupWarning(group: string, config: LxcConfig): Problem {
  return {
    file: config.file,
    line: 0,
    reason: `no unit can be named after the group "${printable(group.slice(0, 80))}"`,
    remedy: 'choose a shorter name without control characters',
  };
}

function heldWarning(
  { name: limit, lowered }: MemoryLimits['held'][number],
  { name, config }: ContainerFacts,
): Problem {
  const now =
    limit === 'MemoryMax' ? `; to lower it now: lockerctl balloon ${shellWord(name)}` : '';
  return {
    file: lowered?.file ?? config.file,
    line: lowered?.line ?? 0,
    reason: `container "${printable(name)}" runs with a higher ${limit}= and keeps it until it stops`,
    remedy: `for the lower one: systemctl restart ${shellWord(containerUnit(name))}${now}`,
  };
}

/** Elsewhere, neither limits of the unit nor a balloon would find the guest. */
function groupDirectoryWarning({ key, located: { file, line } }: KeyedLine): Problem {
  return {
    file,
    line,
    reason: `${key} has no effect: the container's control groups are in its unit's`,
    remedy: 'remove the line; for another slice, set Slice= in the unit by "systemctl edit"',
  };
}

/** What the unit's control group makes of a configuration. */
function decideGroups(
  facts: ContainerFacts,
  host: HostFacts,
): Pick<Container, 'memory' | 'controls' | 'clearedKeys' | 'warnings' | 'hasPreStart'> {
  const { config, settings, runningLimits: running = {}, setElsewhere = [] } = facts;
  const { groupDirectories = [], makers = [], limits = [] } = config;
  const ceiling = settings.autoballoon?.ceiling;
  const memory = decideMemory({ entries: config.memory, ceiling, running, setElsewhere });
  const controls = decideControls(limits, host.hasCgroup1 ?? (() => false));
  const isPlain = memory.limits.length + memory.held.length + limits.length === 0;
  if (isPlain && groupDirectories.length === 0 && makers.length === 0) {
    const { taken, warnings } = memory;
    return { memory, controls, clearedKeys: taken, warnings, hasPreStart: false };
  }
  return {
    memory,
    controls,
    clearedKeys: [...memory.taken, ...controls.taken, ...groupDirectories.map(({ key }) => key)],
    warnings: [
      ...memory.warnings,
      ...controls.warnings,
      ...memory.held.map((held) => heldWarning(held, facts)),
      ...groupDirectories.map(groupDirectoryWarning),
    ],
    hasPreStart: makers.some(({ key }) => key === preStartHook),
  };
}

/** Whether a link of ours starts it at boot, and what happens then, whoever decided it. */
function decideAutostart(
  { config, settings, hasRunlevelLink, unitLinks }: ContainerFacts,
  policy: BootPolicy,
): Pick<Container, 'autostart' | 'boot'> {
  const isManaged = settings.managedBy !== undefined;
  const setting = isManaged ? 'cluster' : settings.autostart;
  return {
    autostart:
      !isManaged && (hasRunlevelLink || (settings.autostart ?? startsAtBoot(policy, config))),
    boot: decideBoot(policy, config, unitLinks, hasRunlevelLink, setting),
  };
}

const noPaths: ReadonlyMap<string, string> = new Map();

function sorted(texts: ReadonlySet<string>): string[] {
  const list = [...texts];
  return list.length > 1 ? list.sort() : list;
}

/** Whether something that the start cannot do without may be there only after the boot. */
function mayComeLate(
  needs: ReturnType<typeof findNeeds>,
  paths: readonly string[],
  wormhole: Wormhole | undefined,
): boolean {
  if (needs.devices.size > 0 || needs.mayComeLate(paths)) return true;
  return wormhole?.attachments.some(({ strict }) => strict) === true;
}

function modelOne(facts: ContainerFacts, host: HostFacts): RankedContainer {
  const { config, settings } = facts;
  const needs = findNeeds(facts, host);
  const { wants, after } = needs;
  const behind = behindLinks(facts.realPaths ?? noPaths, needs, host.fstab);
  for (const mount of behind.mounts) (settings.strictNeeds === true ? wants : after).add(mount);
  const groups = sorted(new Set(config.groups));
  const controlGroup = decideGroups(facts, host);
  const mapsIds = settings.idmapLockers === true && host.mountMapsIds?.() === true;
  const decided = decideLockers(facts, host.lockers, host.settings, mapsIds);
  for (const path of behind.paths) needs.paths.add(path);
  for (const path of behind.startPaths) needs.startPaths.add(path);
  const requiredPaths = sorted(needs.paths);
  // What holds for as long as the container runs holds at its start.
  const startPaths = sorted(needs.startPaths).filter((path) => !needs.paths.has(path));
  const { wormhole } = decided;
  const { autostart, boot } = decideAutostart(facts, host.boot);
  const container: Writable<RankedContainer['container']> = {
    memory: controlGroup.memory,
    controls: controlGroup.controls,
    clearedKeys: controlGroup.clearedKeys,
    hasPreStart: controlGroup.hasPreStart,
    name: facts.name,
    instance: escapeInstance(facts.name),
    configFile: config.file,
    problems: facts.problems.concat(config.problems, needs.problems, decided.problems),
    warnings: config.warnings.concat(
      decided.warnings,
      needs.warnings,
      controlGroup.warnings,
      groups.filter((group) => !groupFits(group)).map((group) => groupWarning(group, config)),
    ),
    hasLogFile: config.logFile !== undefined,
    init: facts.init,
    halt: planHalt(config.haltSignal?.value, facts.init, settings.ready),
    requiredPaths,
    startPaths,
    // What comes late must not start it on a second host.
    mayComeLate:
      settings.managedBy === undefined &&
      mayComeLate(needs, requiredPaths.concat(startPaths), wormhole),
    devices: sorted(needs.devices),
    wants: sorted(wants),
    after: sorted(after).filter((unit) => !wants.has(unit)),
    bridges: sorted(needs.bridges),
    autostart,
    boot,
    groups: groups.filter(groupFits),
    startDelaySec: config.startDelaySec,
    settings,
  };
  if (config.rebootSignal !== undefined) container.rebootSignal = config.rebootSignal.value;
  if (wormhole !== undefined) container.wormhole = wormhole;
  return { container, rank: [bootPass(host.boot, config.groups), config.startOrder] };
}

/** Whether unit files can hold the name and unit names can carry it. */
function nameProblem(name: string, configFile: string): Problem | undefined {
  const remedy = 'rename the container, for example with lxc-copy --rename';
  const at = { file: configFile, line: 0 };
  if (!unitNameFits(containerUnit(name)) || !unitNameFits(delayUnit(name))) {
    return { ...at, reason: "the container's name is too long for a unit name", remedy };
  }
  if (name.includes(replacementCharacter)) {
    return { ...at, reason: "the container's name is not valid UTF-8", remedy };
  }
  if (!fitsUnitFile(name)) {
    return { ...at, reason: "the container's name has control characters", remedy };
  }
  return undefined;
}

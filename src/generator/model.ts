import type { GuestInit } from '../model/sight.ts';
import type { FstabEntry } from '../model/fstab.ts';
import { parseFstab, parseFstabLine } from '../model/fstab.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { cleanAbsolutePath, isAtOrBelow } from '../model/path.ts';
import type { Located, Problem } from '../model/problem.ts';
import type { Rootfs } from '../model/rootfs.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { signalName, whyNotForwarded } from '../model/signal.ts';
import {
  containerUnit,
  delayUnit,
  deviceUnit,
  escapeInstance,
  groupTarget,
  mountUnit,
  netDeviceUnit,
  unitNameFits,
} from '../model/unit-name.ts';
import { fitsUnitFile, printable } from '../model/unit-syntax.ts';
import type { BootPolicy } from '../host/boot-policy.ts';
import { bootPass, startsAtBoot } from '../host/boot-policy.ts';
import type { Lockers, Wormhole } from '../host/lockers.ts';
import { decideLockers } from '../host/lockers.ts';
import type { MemoryLimits } from './unit-limits.ts';
import { decideMemory } from './unit-limits.ts';
import type { ContainerSettings, HostSettings } from '../host/settings.ts';

/** Everything known about one container before any decision is made. */
export interface ContainerFacts {
  readonly name: string;
  /** The container's directory on the host. */
  readonly directory: string;
  readonly config: LxcConfig;
  readonly init: GuestInit;
  /** Text of the file that lxc.mount.fstab names. */
  readonly mountFstabText?: string;
  readonly settings: ContainerSettings;
  /** Problems found outside the configuration: the directory, the settings file. */
  readonly problems: readonly Problem[];
  readonly hasRunlevelLink: boolean;
}

/** What concerns all containers alike. */
export interface HostFacts {
  readonly fstab: readonly FstabEntry[];
  readonly boot: BootPolicy;
  readonly settings: HostSettings;
  readonly lockers: Lockers;
  /** Whether mount(8) can bind with ids mapped. */
  readonly mountMapsIds?: boolean;
  /** The containers' directory, and what it is with symbolic links resolved. */
  readonly lxcpath: { readonly path: string; readonly real: string };
}

/** How a guest is told to shut down. */
export interface HaltPlan {
  /** KillSignal=, which lxc-start passes on to the guest's init. */
  readonly signal: string;
  /** Signals whose handling in the guest means that a stop will be heard, the best one first. */
  readonly heardBy: readonly number[];
  /** Send it at stop time as well, because only then can the guest be looked at. */
  readonly isSentAtStop: boolean;
}

/** One container as its unit needs it: the decisions, without any unit syntax. */
export interface Container {
  readonly name: string;
  readonly instance: string;
  readonly configFile: string;
  /** When not empty, the unit refuses to start and says so. */
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
  readonly halt: HaltPlan;
  readonly memory: MemoryLimits;
  /** Undefined where the configuration does not say. */
  readonly rebootSignal?: number;
  /** The configuration names a log file of its own, which must not be replaced by ours. */
  readonly hasLogFile: boolean;
  /** Paths whose mounts the container cannot do without. */
  readonly requiredPaths: readonly string[];
  /** Units required and ordered before the container. */
  readonly requires: readonly string[];
  /** Units pulled in and ordered before the container, which starts without them if need be. */
  readonly wants: readonly string[];
  /** Host network interfaces among `wants`. */
  readonly bridges: readonly string[];
  readonly autostart: boolean;
  readonly groups: readonly string[];
  readonly startDelaySec: number;
  /** Containers ordered before this one, and the delays that must have passed. */
  readonly startsAfter: readonly string[];
  /** Undefined for a container that has none. */
  readonly wormhole?: Wormhole;
  readonly settings: ContainerSettings;
}

/** What decoding leaves where a name's bytes are not UTF-8. */
const replacementCharacter = '\ufffd';

const SIGCONT = 18;
export const SIGPWR = 30;
export const SIGRTMIN_3 = 37;

/**
 * Chooses the halt signal. lxc-start in the foreground forwards what it receives, so KillSignal=
 * does the work; stop-guest chooses at stop time where the signal cannot travel so or the guest
 * cannot be known yet.
 */
export function planHalt(
  signal: number | undefined,
  init: GuestInit,
  ready: ContainerSettings['ready'],
): HaltPlan {
  if (signal !== undefined) {
    if (whyNotForwarded(signal) !== undefined) {
      // SIGCONT follows stop-guest's signal and means nothing to a guest that runs already.
      return { signal: signalName(SIGCONT), heardBy: [signal], isSentAtStop: true };
    }
    return { signal: signalName(signal), heardBy: [signal], isSentAtStop: false };
  }
  if (init === 'systemd') {
    return { signal: signalName(SIGRTMIN_3), heardBy: [SIGRTMIN_3], isSentAtStop: false };
  }
  if (init === 'other')
    return { signal: signalName(SIGPWR), heardBy: [SIGPWR], isSentAtStop: false };
  // Only systemd reports that it has booted, and a stop before that report runs no ExecStop=.
  if (ready === 'booted') {
    return { signal: signalName(SIGRTMIN_3), heardBy: [SIGRTMIN_3], isSentAtStop: true };
  }
  // systemd handles SIGPWR as well, but does not shut down on it.
  return { signal: signalName(SIGPWR), heardBy: [SIGRTMIN_3, SIGPWR], isSentAtStop: true };
}

/** PATH_MAX of the kernel, without the NUL. */
const pathMax = 4095;

/** What the container waits for, gathered from its root file system, mounts and network. */
class Needs {
  readonly paths = new Set<string>();
  readonly requires = new Set<string>();
  readonly wants = new Set<string>();
  readonly bridges = new Set<string>();
  readonly problems: Problem[] = [];
  private readonly fstab: readonly FstabEntry[];
  private readonly lxcpath: HostFacts['lxcpath'];

  constructor(host: HostFacts) {
    this.fstab = host.fstab;
    this.lxcpath = host.lxcpath;
  }

  requirePath(path: string, from: Located<string>): void {
    const shown = printable(path.slice(0, 80));
    const at = { file: from.file, line: from.line };
    if (!fitsUnitFile(path)) {
      const reason = `the path "${shown}" has control characters`;
      this.problems.push({ ...at, reason, remedy: 'rename it' });
    } else if (path.length > pathMax) {
      // Beyond a mebibyte systemd would not even load the unit.
      const reason = `the path "${shown}..." is longer than ${pathMax} characters`;
      this.problems.push({ ...at, reason, remedy: 'shorten it' });
    } else {
      this.paths.add(path);
      // systemd compares paths by their text and would miss the mount behind a link.
      const { path: lxcpath, real } = this.lxcpath;
      if (isAtOrBelow(path, lxcpath)) this.paths.add(real + path.slice(lxcpath.length));
    }
  }

  /** RequiresMountsFor= would stop the container where the mount is allowed to fail. */
  wantMountsFor(path: string): void {
    for (const entry of this.fstab) {
      const target = cleanAbsolutePath(entry.target);
      if (target === undefined || target === '/' || entry.options.includes('noauto')) continue;
      if (isAtOrBelow(path, target)) this.wants.add(mountUnit(target));
    }
  }

  device(path: string, optional: boolean): void {
    (optional ? this.wants : this.requires).add(deviceUnit(path));
  }
}

function needRootfs(needs: Needs, rootfsPath: Located<string>): Rootfs | undefined {
  const result = parseRootfs(rootfsPath.value);
  if ('reason' in result) {
    needs.problems.push({
      file: rootfsPath.file,
      line: rootfsPath.line,
      reason: `lxc.rootfs.path: ${result.reason}`,
      remedy: 'see lxc.container.conf(5), "ROOT FILE SYSTEM"',
    });
    return undefined;
  }
  for (const path of result.rootfs.paths) needs.requirePath(path, rootfsPath);
  for (const device of result.rootfs.devices) needs.device(device, false);
  if (result.rootfs.type === 'zfs') {
    // zfs-mount.service may fail for a dataset of somebody else, so it is not required.
    needs.requires.add('zfs-import.target');
    needs.wants.add('zfs-mount.service');
  }
  return result.rootfs;
}

/** File systems of the kernel: their paths are there before any unit starts. */
const kernelPaths = ['/proc', '/sys', '/dev'];

function needMount(needs: Needs, entry: FstabEntry, from: Located<string>): void {
  const source = cleanAbsolutePath(entry.source);
  if (source === undefined) return;
  const optional = entry.options.includes('optional');
  const isBind = entry.options.some((option) => option === 'bind' || option === 'rbind');
  if (isBind) {
    if (kernelPaths.some((path) => isAtOrBelow(source, path))) return;
    if (optional) needs.wantMountsFor(source);
    else needs.requirePath(source, from);
  } else if (source.startsWith('/dev/')) {
    needs.device(source, optional);
  }
}

function needMounts(needs: Needs, config: LxcConfig, mountFstabText: string | undefined): void {
  for (const item of config.mountEntries) {
    const entry = parseFstabLine(item.value, item.line);
    if (entry !== undefined) needMount(needs, entry, item);
  }
  if (config.mountFstab === undefined) return;
  const file = config.mountFstab.value;
  const clean = cleanAbsolutePath(file);
  if (clean !== undefined) needs.requirePath(clean, config.mountFstab);
  for (const entry of parseFstab(mountFstabText ?? '')) {
    needMount(needs, entry, { value: entry.source, file, line: entry.line });
  }
}

/** The bridge that lxc-net.service of the lxc package sets up. */
const lxcNetBridge = 'lxcbr0';
/** IFNAMSIZ of the kernel, without the NUL. */
const interfaceNameMax = 15;
/** What dev_valid_name() of the kernel refuses, and control characters, which no unit file holds. */
const notInterfaceName = /^\.\.?$|[/:\s\u0000-\u001f\u007f]/;

function needNetwork(needs: Needs, config: LxcConfig): void {
  for (const { link, type } of config.nets) {
    // These two types use no interface of the host, whatever their link says.
    const isUsed = !['empty', 'none'].includes(type?.value ?? '');
    if (link === undefined || link.value === '' || !isUsed) continue;
    if (link.value.length > interfaceNameMax || notInterfaceName.test(link.value)) {
      needs.problems.push({
        file: link.file,
        line: link.line,
        reason: `"${printable(link.value)}" is no name of a network interface`,
        remedy: 'name a bridge or interface of the host, at most 15 characters',
      });
      continue;
    }
    needs.bridges.add(link.value);
    needs.wants.add(netDeviceUnit(link.value));
    if (link.value === lxcNetBridge) needs.wants.add('lxc-net.service');
  }
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

/** A container before the others are known: all but the order between containers. */
interface RankedContainer {
  readonly container: Omit<Container, 'startsAfter'>;
  /** Pass of lxc-autostart, then lxc.start.order. */
  readonly rank: readonly [number, number];
}

function modelOne(facts: ContainerFacts, host: HostFacts): RankedContainer {
  const { config, settings } = facts;
  const needs = new Needs(host);
  needs.requirePath(facts.directory, { value: facts.directory, file: config.file, line: 0 });
  if (config.rootfsPath !== undefined) needRootfs(needs, config.rootfsPath);
  needMounts(needs, config, facts.mountFstabText);
  needNetwork(needs, config);
  const groups = [...new Set(config.groups)].sort();
  const memory = decideMemory(config.memory, settings.autoballoon?.ceiling);
  const { wormhole, ...decided } = decideLockers(
    facts,
    host.lockers,
    host.settings,
    host.mountMapsIds,
  );
  const problems = [...facts.problems, ...config.problems, ...needs.problems, ...decided.problems];
  return {
    container: {
      name: facts.name,
      instance: escapeInstance(facts.name),
      configFile: config.file,
      problems,
      warnings: [
        ...config.warnings,
        ...decided.warnings,
        ...memory.warnings,
        ...groups.filter((group) => !groupFits(group)).map((group) => groupWarning(group, config)),
      ],
      memory,
      hasLogFile: config.logFile !== undefined,
      halt: planHalt(config.haltSignal?.value, facts.init, settings.ready),
      ...(config.rebootSignal === undefined ? {} : { rebootSignal: config.rebootSignal.value }),
      requiredPaths: [...needs.paths].sort(),
      requires: [...needs.requires].sort(),
      wants: [...needs.wants].sort(),
      bridges: [...needs.bridges].sort(),
      autostart: facts.hasRunlevelLink || startsAtBoot(host.boot, config),
      groups: groups.filter(groupFits),
      startDelaySec: config.startDelaySec,
      ...(wormhole === undefined ? {} : { wormhole }),
      settings,
    },
    rank: [bootPass(host.boot, config.groups), config.startOrder],
  };
}

/** Whether there is a delay unit: what refuses to start lets nobody wait. */
export function hasDelay(c: Pick<Container, 'startDelaySec' | 'problems'>): boolean {
  return c.startDelaySec > 0 && c.problems.length === 0;
}

function compareRanks(a: readonly [number, number], b: readonly [number, number]): number {
  return a[0] - b[0] || a[1] - b[1];
}

/** Byte order, so that the output does not depend on a locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Puts the containers in lxc-autostart's order: boot group, then lxc.start.order; equals run in
 * parallel. A container is ordered after every earlier one, not only the nearest, because systemd
 * orders jobs and an earlier container may have none.
 */
function orderContainers(ranked: readonly RankedContainer[]): Container[] {
  const sorted = [...ranked].sort(
    (a, b) => compareRanks(a.rank, b.rank) || compareText(a.container.name, b.container.name),
  );
  const earlier: string[] = [];
  let sameRank: string[] = [];
  let previous: readonly [number, number] | undefined;
  return sorted.map(({ container, rank }) => {
    if (previous !== undefined && compareRanks(previous, rank) !== 0) {
      earlier.push(...sameRank);
      sameRank = [];
    }
    previous = rank;
    sameRank.push(containerUnit(container.name));
    if (hasDelay(container)) sameRank.push(delayUnit(container.name));
    return { ...container, startsAfter: [...earlier] };
  });
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
    const problem = nameProblem(facts.name, facts.config.file);
    if (problem === undefined) ranked.push(modelOne(facts, host));
    else nameless.push(problem);
  }
  return { containers: orderContainers(ranked), nameless };
}

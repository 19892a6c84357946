import type { FstabEntry } from '../model/fstab.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import type { Problem } from '../model/problem.ts';
import type { GuestInit } from '../model/sight.ts';
import type { BootDecision, BootPolicy, UnitLinks } from '../host/boot-policy.ts';
import type { Opened } from '../model/crypttab.ts';
import type { Lockers, Wormhole } from '../host/lockers.ts';
import type { ContainerSettings, HostSettings } from '../host/settings.ts';
import type { ControlLimits } from './control-limits.ts';
import type { MemoryFacts, MemoryLimits } from './memory-limits.ts';

/** Everything known about one container before any decision is made. */
export interface ContainerFacts {
  readonly name: string;
  /** The container's directory on the host. */
  readonly directory: string;
  readonly config: LxcConfig;
  readonly init: GuestInit;
  /** Text of the file that lxc.mount.fstab names. */
  readonly mountFstabText?: string;
  /** Paths that the container needs, each with what it is without symbolic links. */
  readonly realPaths?: ReadonlyMap<string, string>;
  readonly settings: ContainerSettings;
  /** Problems found outside the configuration: the directory, the settings file. */
  readonly problems: readonly Problem[];
  /** Limits with which the container runs; see {@link MemoryFacts}. */
  readonly runningLimits?: MemoryFacts['running'];
  readonly setElsewhere?: MemoryFacts['setElsewhere'];
  readonly hasRunlevelLink: boolean;
  readonly unitLinks: UnitLinks;
}

/** What concerns all containers alike. */
export interface HostFacts {
  readonly fstab: readonly FstabEntry[];
  /** Devices that a line of crypttab(5) makes, by path. */
  readonly crypttab?: ReadonlyMap<string, Opened>;
  /** Where mount units mount something. */
  readonly mountUnits?: readonly string[];
  /** Whether the network configuration of the host speaks of an interface. */
  readonly namesInterface?: (name: string) => boolean;
  /** Whether the installed LXC may know what this program does not. */
  readonly isLxcNewer?: () => boolean;
  /** Whether a block device is there under a name for which systemd has no unit. */
  readonly isWithoutUnit?: (path: string) => boolean;
  readonly boot: BootPolicy;
  readonly settings: HostSettings;
  readonly lockers: Lockers;
  /** Whether control groups are those of cgroup v1. */
  readonly hasCgroup1?: () => boolean;
  /** Whether mount(8) can bind with ids mapped. */
  readonly mountMapsIds?: () => boolean;
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

/** LXC can only mount whole disks, so the host makes a device of the partition first. */
export interface Partition {
  /** Counted from 1, as in the partition table; logical ones of an MBR from 5. */
  readonly number: number;
  /** The image file or block device that has the partition table. */
  readonly disk: string;
}

/** One container as its unit needs it: the decisions, without any unit syntax. */
export interface Container {
  readonly name: string;
  readonly instance: string;
  readonly configFile: string;
  /** When not empty, the unit refuses to start and says so. */
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
  readonly init: GuestInit;
  readonly halt: HaltPlan;
  readonly memory: MemoryLimits;
  /** Limits of other things than memory. */
  readonly controls: ControlLimits;
  /** Keys of the configuration that LXC must not see, because the unit has what they say. */
  readonly clearedKeys: readonly string[];
  /** Undefined where the configuration does not say. */
  readonly rebootSignal?: number;
  /** It has hooks that may leave processes behind before LXC makes its control groups. */
  readonly hasPreStart: boolean;
  /** The configuration names a log file of its own, which must not be replaced by ours. */
  readonly hasLogFile: boolean;
  /** Paths whose mounts the container cannot do without. */
  readonly requiredPaths: readonly string[];
  /** Paths whose mounts the start cannot do without, while the container can. */
  readonly startPaths: readonly string[];
  /** Block devices that the start cannot do without; their units are among `wants`. */
  readonly devices: readonly string[];
  /** Undefined unless the root file system is a partition of what lxc.rootfs.path names. */
  readonly partition?: Partition;
  /** Units pulled in and ordered before the container, which starts without them if need be. */
  readonly wants: readonly string[];
  /** Units ordered before the container where something else starts them. */
  readonly after: readonly string[];
  /** Its start may lack a mount or a device, which may come later. */
  readonly mayComeLate: boolean;
  /** Host network interfaces among `wants`. */
  readonly bridges: readonly string[];
  /** Started at boot by a link of ours. */
  readonly autostart: boolean;
  /** What will happen at boot, whoever decided it. */
  readonly boot: BootDecision;
  readonly groups: readonly string[];
  readonly startDelaySec: number;
  /** Units of the containers that it needs, and of those that only start first. */
  readonly companions?: { readonly needs: readonly string[]; readonly wants: readonly string[] };
  /** Containers ordered before this one, and the delays that must have passed. */
  readonly startsAfter: readonly string[];
  /** Undefined for a container that has none. */
  readonly wormhole?: Wormhole;
  readonly settings: ContainerSettings;
}

/** Whether there is a delay unit: what refuses to start lets nobody wait. */
export function hasDelay(c: Pick<Container, 'startDelaySec' | 'problems'>): boolean {
  return c.startDelaySec > 0 && c.problems.length === 0;
}

/** Byte order, so that the output does not depend on a locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

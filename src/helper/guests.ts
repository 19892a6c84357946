import { lstatSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { firstOf, readHead, subdirectories } from '../cgroup/control-files.ts';
import { freezeStateFile, freezeStateOf } from '../cgroup/freezer.ts';
import { cgroupRoot, groupIn, type Hierarchies, hierarchies } from '../cgroup/hierarchy.ts';
import { isMonitor, isPayload, payloadOf, unitGroups } from '../cgroup/lxc-groups.ts';
import { containerUnit } from '../model/unit-name.ts';

/** LXC's words for what the kernel shows. */
export type GuestState = 'STOPPED' | 'STARTING' | 'RUNNING' | 'FREEZING' | 'FROZEN' | 'STOPPING';

export interface LxcStatus {
  readonly state: GuestState;
  /** Host pid of the container's init; 0 where there is none. */
  readonly leader: number;
}

const stopped: LxcStatus = { state: 'STOPPED', leader: 0 };

/** A process; its pid may be another one's later, its start is not. */
export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** Clock ticks since the boot. */
  readonly started: string;
  /** It runs a program of its own since it was made. */
  readonly hasExecuted: boolean;
}

/** Flags of linux/sched.h. */
const exiting = 0x4;
const notExecuted = 0x40;

/** Reads /proc/PID/stat; undefined for a process that ends. */
export function parseProcess(stat: string): Process | undefined {
  // The name in parentheses is whatever the process likes.
  const pid = Number.parseInt(stat, 10);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = '', parent] = fields;
  const flags = Number(fields[6]);
  const started = fields[19];
  if (started === undefined || !Number.isInteger(flags) || !(pid > 0)) return undefined;
  if (/^[ZXx]/.test(state) || (flags & exiting) !== 0) return undefined;
  return { pid, parent: Number(parent), started, hasExecuted: (flags & notExecuted) === 0 };
}

/** Whether /proc/PID/status is that of a root process of the host, in no PID namespace of its own. */
export function isHostRoot(status: string): boolean {
  return /^Uid:\t0\t0\t0\t/m.test(status) && /^NSpid:\t[0-9]+$/m.test(status);
}

/** Whether /proc/PID/status is that of the first process of a PID namespace below the host's. */
export function isInit(status: string): boolean {
  return /^NSpid:\t[0-9]+\t([0-9]+\t)*1$/m.test(status);
}

/** Groups of root's that are looked through for LXC's monitor, and processes in them. */
const groupsMax = 64;
const processesMax = 64;
/** Long enough for so many pids. */
const processListBytes = 1024;

/** Groups of the host that are looked through for monitors outside of units, the upper ones first. */
const hostGroupsMax = 1000;

/**
 * The container in the title that LXC gives a monitor in the background; undefined where it is
 * another directory's, or no title. A title is trusted only where root's groups hold the process.
 */
export function containerInTitle(title: string, lxcpath: string): string | undefined {
  const start = '[lxc monitor] ';
  if (!title.startsWith(`${start}${lxcpath}`)) return undefined;
  // LXC repeats the path as it was given.
  return /^\/* (.+)$/s.exec(title.slice(start.length + lxcpath.length))?.[1];
}

interface Guest {
  readonly monitor: Process;
  /** Undefined while it comes or goes. */
  readonly leader: Process | undefined;
  readonly hadLeader: boolean;
  /** Files that tell of freezing. */
  readonly freezers: readonly string[];
}

interface GuestsOptions {
  readonly proc?: string;
  readonly cgroup?: string;
}

/**
 * Containers' guests as the kernel shows them. Nobody else is asked, because everybody can answer
 * in the place of LXC: names of abstract sockets belong to who is first.
 *
 * LXC's monitor of a container that runs as its unit is in the unit's control group, which only root
 * can enter. The guest's init is the monitor's child that is the first of another PID namespace.
 */
export class Guests {
  readonly #proc: string;
  readonly #hierarchies: Hierarchies;
  readonly #guests = new Map<string, Guest>();
  /** Monitors of containers that run outside their units. */
  readonly #outside = new Map<string, Process>();

  constructor({ proc = '/proc', cgroup = cgroupRoot }: GuestsOptions = {}) {
    this.#proc = proc;
    this.#hierarchies = hierarchies(cgroup);
  }

  /** States of some containers. What the others are is forgotten with `isAll`. */
  look(names: Iterable<string>, isAll = false): Map<string, LxcStatus> {
    const found = new Map<string, LxcStatus>();
    let units: Map<string, string> | undefined;
    for (const name of names) {
      let guest = this.#same(this.#guests.get(name));
      if (guest === undefined) {
        units ??= this.#units();
        guest = this.#find(name, units.get(containerUnit(name)));
      }
      if (guest === undefined) this.#guests.delete(name);
      else this.#guests.set(name, guest);
      found.set(name, guest === undefined ? stopped : this.#statusOf(guest));
    }
    if (isAll) {
      for (const map of [this.#guests, this.#outside]) {
        for (const name of map.keys()) if (!found.has(name)) map.delete(name);
      }
    }
    return found;
  }

  /**
   * Takes the process that has begun to listen at a container's command socket for its monitor, if
   * it is the host's root's. One in the background has begun as another process, which is gone.
   */
  setOutside(name: string, pid: number): 'monitor' | 'stranger' | 'gone' {
    const process = this.#process(pid);
    if (process === undefined) return 'gone';
    if (!this.#isHostRoot(pid)) return 'stranger';
    this.#outside.set(name, process);
    return 'monitor';
  }

  /** Finds the monitors that root has started in the background, outside of units. */
  findOutside(lxcpath: string, names: ReadonlySet<string>): string[] {
    const found: string[] = [];
    for (const pid of this.#monitorsOfHost()) {
      const title = this.#read(pid, 'cmdline').split('\0', 1)[0] ?? '';
      const name = containerInTitle(title, lxcpath);
      if (name !== undefined && names.has(name) && this.setOutside(name, pid) === 'monitor') {
        found.push(name);
      }
    }
    return found;
  }

  /** Processes in LXC's groups for monitors that only root can enter. */
  #monitorsOfHost(): number[] {
    const pids: number[] = [];
    const groups = [this.#hierarchies.systemd];
    for (const group of groups) {
      for (const directory of subdirectories(group)) {
        const name = basename(directory);
        // A group that root has given away can have any name. Guests are in some as well.
        if (isPayload(name) || !isOfRoot(directory)) continue;
        if (isMonitor(name)) pids.push(...processesIn(directory));
        else if (groups.length < hostGroupsMax) groups.push(directory);
      }
    }
    return pids;
  }

  #read(...path: (string | number)[]): string {
    try {
      return readFileSync([this.#proc, ...path].join('/'), 'utf8');
    } catch {
      // It has just ended.
      return '';
    }
  }

  #process(pid: number): Process | undefined {
    return parseProcess(this.#read(pid, 'stat'));
  }

  #isHostRoot(pid: number): boolean {
    return isHostRoot(this.#read(pid, 'status'));
  }

  #lives(process: Process): boolean {
    return this.#process(process.pid)?.started === process.started;
  }

  /** A guest that runs goes on to be the same one as long as its init and its monitor do. */
  #same(guest: Guest | undefined): Guest | undefined {
    const { leader, monitor } = guest ?? {};
    if (leader?.hasExecuted !== true || monitor === undefined) return undefined;
    return this.#lives(leader) && this.#lives(monitor) ? guest : undefined;
  }

  /** Directories of the units of containers, by unit. Only root can make groups in a slice. */
  #units(): Map<string, string> {
    const units = new Map<string, string>();
    for (const directory of unitGroups(this.#hierarchies.systemd)) {
      const name = basename(directory);
      if (name.startsWith('lxc@')) units.set(name, directory);
    }
    return units;
  }

  #find(name: string, unit: string | undefined): Guest | undefined {
    const before = this.#guests.get(name);
    const group = unit?.slice(this.#hierarchies.systemd.length);
    const isInUnit = (path: string): boolean => path.startsWith(`${group}/`);
    const inUnit =
      unit === undefined ? undefined : this.#guestOf(this.#monitorsIn(unit), isInUnit, before);
    if (inUnit !== undefined) return inUnit;
    const monitor = this.#outside.get(name);
    if (monitor === undefined) return undefined;
    if (!this.#lives(monitor)) {
      this.#outside.delete(name);
      return undefined;
    }
    const own = groupIn(this.#read(monitor.pid, 'cgroup'), this.#hierarchies.systemdName);
    return this.#guestOf([monitor.pid], (path) => path !== own, before);
  }

  /** Processes in the groups of LXC's below a unit's that are not the guest's. */
  #monitorsIn(unit: string): number[] {
    const pids: number[] = [];
    let groups = 0;
    const walk = (directory: string, isUnit: boolean): void => {
      groups += 1;
      // What the unit itself runs, such as ExecStartPre=, is no monitor.
      if (!isUnit) pids.push(...processesIn(directory));
      for (const below of subdirectories(directory)) {
        if (groups >= groupsMax) return;
        if (!isPayload(basename(below))) walk(below, false);
      }
    };
    walk(unit, true);
    return pids.slice(0, processesMax);
  }

  #guestOf(
    monitors: readonly number[],
    isItsGroup: (path: string) => boolean,
    before: Guest | undefined,
  ): Guest | undefined {
    let alone: Process | undefined;
    for (const pid of monitors) {
      const monitor = this.#process(pid);
      if (monitor === undefined || !this.#isHostRoot(pid)) continue;
      const leader = this.#leaderOf(pid, isItsGroup);
      if (leader !== undefined) {
        const freezers = this.#freezersOf(leader.pid);
        return { monitor, leader, hadLeader: leader.hasExecuted, freezers };
      }
      alone ??= monitor;
    }
    if (alone === undefined) return undefined;
    const isSame = before?.monitor.pid === alone.pid && before.monitor.started === alone.started;
    const hadLeader = isSame && before.hadLeader;
    return { monitor: alone, leader: undefined, hadLeader, freezers: [] };
  }

  #leaderOf(monitor: number, isItsGroup: (path: string) => boolean): Process | undefined {
    for (const pid of this.#childrenOf(monitor)) {
      const process = this.#process(pid);
      if (process?.parent !== monitor || !isInit(this.#read(pid, 'status'))) continue;
      const group = groupIn(this.#read(pid, 'cgroup'), this.#hierarchies.systemdName);
      if (group !== undefined && isItsGroup(group)) return process;
    }
    return undefined;
  }

  #childrenOf(pid: number): number[] {
    const children: number[] = [];
    for (const task of firstOf(
      subdirectories(join(this.#proc, String(pid), 'task')),
      processesMax,
    )) {
      children.push(...numbersIn(this.#read(pid, 'task', basename(task), 'children')));
    }
    return children.slice(0, processesMax);
  }

  #freezersOf(leader: number): string[] {
    const text = this.#read(leader, 'cgroup');
    const { freezer, unified } = this.#hierarchies;
    const v1 = groupIn(text, 'freezer');
    const v2 = groupIn(text, '');
    return [
      ...(v1 === undefined || freezer === undefined
        ? []
        : [freezeStateFile(join(freezer, payloadOf(v1)), 1)]),
      ...(v2 === undefined ? [] : [freezeStateFile(join(unified, payloadOf(v2)), 2)]),
    ];
  }

  #statusOf({ leader, hadLeader, freezers }: Guest): LxcStatus {
    if (leader === undefined) return { state: hadLeader ? 'STOPPING' : 'STARTING', leader: 0 };
    if (!leader.hasExecuted) return { state: 'STARTING', leader: leader.pid };
    const words = new Set(freezers.map(freezeStateOf));
    const state = (['FROZEN', 'FREEZING'] as const).find((word) => words.has(word)) ?? 'RUNNING';
    return { state, leader: leader.pid };
  }
}

function numbersIn(text: string): number[] {
  return text.split(/\s+/).flatMap((word) => (/^[1-9][0-9]*$/.test(word) ? [Number(word)] : []));
}

function isOfRoot(directory: string): boolean {
  try {
    return lstatSync(directory).uid === 0;
  } catch {
    return false;
  }
}

/** None for a group that has just gone. */
function processesIn(directory: string): number[] {
  try {
    const text = readHead(join(directory, 'cgroup.procs'), processListBytes);
    return numbersIn(text).slice(0, processesMax);
  } catch {
    return [];
  }
}

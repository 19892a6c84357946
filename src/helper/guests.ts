import { lstatSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { firstOf, readHead, subdirectories } from '../cgroup/control-files.ts';
import { freezeStateFile, freezeStateOf } from '../cgroup/freezer.ts';
import { cgroupRoot, groupIn, type Hierarchies, hierarchies } from '../cgroup/hierarchy.ts';
import { payloadOf, unitGroups } from '../cgroup/lxc-groups.ts';
import { isMonitor, isPayload } from '../model/lxc-group.ts';
import { containerUnit } from '../model/unit-name.ts';

/** A guest's state in LXC's words. */
export type GuestState = 'STOPPED' | 'STARTING' | 'RUNNING' | 'FREEZING' | 'FROZEN' | 'STOPPING';

export interface LxcStatus {
  readonly state: GuestState;
  /** Host pid of the container's init; 0 if there is none. */
  readonly leader: number;
}

const stopped: LxcStatus = { state: 'STOPPED', leader: 0 };

/** A process. Its pid may be reused later; pid and start time together are unique. */
export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** Start time in clock ticks since boot. */
  readonly started: string;
  /** Whether the process has called execve(2) since it was forked. */
  readonly hasExecuted: boolean;
}

/** Flags of linux/sched.h. */
const exiting = 0x4;
const notExecuted = 0x40;

/** Parses /proc/PID/stat; undefined for a process that is ending. */
export function parseProcess(stat: string): Process | undefined {
  // The process chooses the name in parentheses, which may itself contain parentheses.
  const pid = Number.parseInt(stat, 10);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = '', parent] = fields;
  const flags = Number(fields[6]);
  const started = fields[19];
  if (started === undefined || !Number.isInteger(flags) || !(pid > 0)) return undefined;
  if (/^[ZXx]/.test(state) || (flags & exiting) !== 0) return undefined;
  return { pid, parent: Number(parent), started, hasExecuted: (flags & notExecuted) === 0 };
}

/** Whether /proc/PID/status belongs to a root process in the host's PID namespace. */
export function isHostRoot(status: string): boolean {
  return /^Uid:\t0\t0\t0\t/m.test(status) && /^NSpid:\t[0-9]+$/m.test(status);
}

/** Whether /proc/PID/status belongs to the init of a PID namespace below the host's. */
export function isInit(status: string): boolean {
  return /^NSpid:\t[0-9]+\t([0-9]+\t)*1$/m.test(status);
}

/** Bounds for the search for LXC's monitor: groups of a unit, and processes in them. */
const groupsMax = 64;
const processesMax = 64;
/** Enough for that many pids. */
const processListBytes = 1024;

/** Bound for the host's groups that are searched for monitors outside units, top down. */
const hostGroupsMax = 1000;

/**
 * The container in the title that LXC gives a background monitor; undefined for another directory's
 * container or no such title. Callers trust a title only if the process is in a group of root's.
 */
export function containerInTitle(title: string, lxcpath: string): string | undefined {
  const start = '[lxc monitor] ';
  if (!title.startsWith(`${start}${lxcpath}`)) return undefined;
  // LXC repeats the path as it was given.
  return /^\/* (.+)$/s.exec(title.slice(start.length + lxcpath.length))?.[1];
}

interface Guest {
  readonly monitor: Process;
  /** Undefined while the guest starts or stops. */
  readonly leader: Process | undefined;
  readonly hadLeader: boolean;
  /** Control files that show whether the guest is frozen. */
  readonly freezers: readonly string[];
}

interface GuestsOptions {
  readonly proc?: string;
  readonly cgroup?: string;
}

/**
 * Containers' guests as the kernel shows them. LXC's command sockets are not asked, because any user
 * can answer in LXC's place: an abstract socket name belongs to the first process that binds it.
 *
 * If a container runs as its unit, LXC's monitor is in the unit's control group, which only root can
 * enter. The guest's init is the monitor's child that is the init of another PID namespace.
 */
export class Guests {
  readonly #proc: string;
  readonly #hierarchies: Hierarchies;
  readonly #guests = new Map<string, Guest>();
  /** Monitors of containers that run outside their units, by container. */
  readonly #outside = new Map<string, Process>();

  constructor({ proc = '/proc', cgroup = cgroupRoot }: GuestsOptions = {}) {
    this.#proc = proc;
    this.#hierarchies = hierarchies(cgroup);
  }

  /** Reads the states of some containers. With `isAll`, forgets every other container. */
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
   * Accepts the process that called listen(2) on a container's command socket as its monitor, if it is
   * a root process of the host. `gone`: it has ended, as the parent of a background monitor does.
   */
  setOutside(name: string, pid: number): 'monitor' | 'stranger' | 'gone' {
    const process = this.#process(pid);
    if (process === undefined) return 'gone';
    if (!this.#isHostRoot(pid)) return 'stranger';
    this.#outside.set(name, process);
    return 'monitor';
  }

  /** Finds background monitors that root has started outside units. */
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

  /** Processes in LXC's monitor groups that only root can enter. */
  #monitorsOfHost(): number[] {
    const pids: number[] = [];
    const groups = [this.#hierarchies.systemd];
    for (const group of groups) {
      for (const directory of subdirectories(group)) {
        const name = basename(directory);
        // Skip guests' groups, and delegated groups, which can have any name.
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

  /** A running guest stays the same as long as its init and its monitor live. */
  #same(guest: Guest | undefined): Guest | undefined {
    const { leader, monitor } = guest ?? {};
    if (leader?.hasExecuted !== true || monitor === undefined) return undefined;
    return this.#lives(leader) && this.#lives(monitor) ? guest : undefined;
  }

  /** Group directories of containers' units, by unit. Only root can create groups in a slice. */
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

  /** Processes in the groups below a unit's group, except the guest's; first those in LXC's own. */
  #monitorsIn(unit: string): number[] {
    const pids: number[] = [];
    const others: number[] = [];
    let groups = 0;
    const walk = (directory: string, isUnit: boolean): void => {
      groups += 1;
      // A process in the unit's own group, such as ExecStartPre=, is no monitor.
      if (!isUnit) (isMonitor(basename(directory)) ? pids : others).push(...processesIn(directory));
      for (const below of subdirectories(directory)) {
        if (groups >= groupsMax) return;
        if (!isPayload(basename(below))) walk(below, false);
      }
    };
    walk(unit, true);
    return [...pids, ...others].slice(0, processesMax);
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

/** Empty for a group that has just gone. */
function processesIn(directory: string): number[] {
  try {
    const text = readHead(join(directory, 'cgroup.procs'), processListBytes);
    return numbersIn(text).slice(0, processesMax);
  } catch {
    return [];
  }
}

/**
 * Watches containers for OOM on cgroup v1. A scan finds the groups that have limits, and the hook oom-watch,
 * which can wait on the kernel's eventfds, reports each OOM in them.
 */

import type { ChildProcessByStdio } from 'node:child_process';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { cgroupRoot } from '../cgroup/hierarchy.ts';
import { limitedGroups, unitGroups } from '../cgroup/lxc-groups.ts';
import { containerUnit } from '../model/unit-name.ts';

/** The memory hierarchy of cgroup v1; on v2 any user can watch for kills without help. */
const v1Directory = join(cgroupRoot, 'memory');
const program = '/usr/lib/lockerd/hooks/oom-watch';

/** For groups that appear without a state change of LXC's, and for a hook that has ended. */
const scanMs = 5000;
/** LXC reports a state a little before or after it has created the guest's groups. */
const settleMs = 50;
/** The listener counts kills for longer than this after each announcement. */
const quietMs = 250;

interface OomOptions {
  /** All containers. */
  readonly names: () => readonly string[];
  /** Called when the kernel is about to kill a process in the container. */
  readonly tell: (container: string) => void;
  readonly directory?: string;
  readonly program?: string;
  readonly scanMs?: number;
}

interface Group {
  readonly directory: string;
  readonly container: string;
}

/**
 * Announces when a container hits a limit and is out of memory on cgroup v1. This needs root:
 * cgroup.event_control was once writable for all users, but is not on Linux 6.18.
 */
export class OomWatch {
  readonly #options: OomOptions;
  readonly #directory: string;
  readonly #scanMs: number;
  readonly #groups = new Map<string, Group>();
  readonly #quietUntil = new Map<string, number>();
  readonly #timer: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
  /** Containers to look for in the next scan, unless that is of all. */
  readonly #due = new Set<string>();
  #child: ChildProcessByStdio<Writable, Readable, null> | undefined;
  #startedAt = -Infinity;
  #last = 0;

  constructor(options: OomOptions) {
    this.#options = options;
    this.#directory = options.directory ?? v1Directory;
    this.#scanMs = options.scanMs ?? scanMs;
    if (!existsSync(join(this.#directory, 'cgroup.event_control'))) return;
    this.#timer = setInterval(() => {
      this.#scan();
    }, this.#scanMs);
  }

  /** Scans soon for the groups of a container that is starting or has started. */
  scanSoon(container: string): void {
    if (this.#timer === undefined) return;
    this.#due.add(container);
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      const due = new Set(this.#due);
      this.#due.clear();
      this.#scan(due);
    }, settleMs);
  }

  close(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
    this.#child?.stdin.end();
  }

  /** @param only these containers, or all */
  #scan(only?: ReadonlySet<string>): void {
    const wanted = this.#find(only);
    if (this.#child === undefined && (wanted.size === 0 || !this.#start())) return;
    for (const [id, { directory, container }] of this.#groups) {
      if (only?.has(container) === false || wanted.delete(directory)) continue;
      this.#groups.delete(id);
      this.#child?.stdin.write(`remove ${id}\n`);
    }
    for (const [directory, container] of wanted) {
      const id = String(++this.#last);
      this.#groups.set(id, { directory, container });
      this.#child?.stdin.write(`add ${id} ${directory}\n`);
    }
  }

  /** Maps the groups of containers that run as their units to the containers. */
  #find(only: ReadonlySet<string> | undefined): Map<string, string> {
    const names = this.#options.names().filter((name) => only?.has(name) !== false);
    const containers = new Map(names.map((name) => [containerUnit(name), name]));
    const found = new Map<string, string>();
    for (const directory of unitGroups(this.#directory)) {
      const container = containers.get(basename(directory));
      if (container === undefined) continue;
      // A group gets events for its own limit and for the limits above it.
      for (const group of limitedGroups(directory)) found.set(group, container);
    }
    return found;
  }

  /** Starts the hook, at most once per scan interval, even if the hook keeps failing. */
  #start(): boolean {
    if (performance.now() - this.#startedAt < this.#scanMs) return false;
    this.#startedAt = performance.now();
    const child = spawn(this.#options.program ?? program, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {},
    });
    this.#child = child;
    const ended = (): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#groups.clear();
    };
    child.once('error', ended);
    child.once('exit', ended);
    // The `exit` event already handles a hook that has ended.
    child.stdin.on('error', () => undefined);
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.#hear(line);
    });
    return true;
  }

  #hear(line: string): void {
    const [, id = '', gone] = /^(\d+)( gone .*)?$/.exec(line) ?? [];
    const group = this.#groups.get(id);
    if (group === undefined) return;
    // The next scan tries again if the group still exists.
    if (gone !== undefined) this.#groups.delete(id);
    else this.#announce(group.container);
  }

  /** Limits the rate: all groups of a container report the same event, and OOM can repeat endlessly. */
  #announce(container: string): void {
    const now = performance.now();
    if (now < (this.#quietUntil.get(container) ?? 0)) return;
    this.#quietUntil.set(container, now + quietMs);
    this.#options.tell(container);
  }
}

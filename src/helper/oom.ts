import type { ChildProcessByStdio } from 'node:child_process';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { cgroupRoot } from '../cgroup/hierarchy.ts';
import { limitedGroups, unitGroups } from '../cgroup/lxc-groups.ts';
import { containerUnit } from '../model/unit-name.ts';

/** The memory hierarchy of cgroup v1; on v2 everybody can be told of kills without help. */
const v1Directory = join(cgroupRoot, 'memory');
const program = '/usr/lib/lockerd/hooks/oom-watch';

/** For what comes without a state of LXC's, and for a program that has ended. */
const scanMs = 5000;
/** LXC tells of a state a little before or after it has made the guest's groups. */
const settleMs = 50;
/** Who is told goes on counting for longer than this. */
const quietMs = 250;

interface OomOptions {
  /** All containers. */
  readonly names: () => readonly string[];
  /** The kernel is about to kill in the container. */
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
 * Announcements of OOM by limits of containers on cgroup v1. Only root is sure to get them:
 * cgroup.event_control was writable for everybody once, and is not on Linux 6.18.
 */
export class OomWatch {
  readonly #options: OomOptions;
  readonly #directory: string;
  readonly #scanMs: number;
  readonly #groups = new Map<string, Group>();
  readonly #quietUntil = new Map<string, number>();
  readonly #timer: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
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

  /** Finds the groups of a container that starts or has started. */
  scanSoon(): void {
    if (this.#timer === undefined) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#scan();
    }, settleMs);
  }

  close(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
    this.#child?.stdin.end();
  }

  #scan(): void {
    const wanted = this.#find();
    if (this.#child === undefined && (wanted.size === 0 || !this.#start())) return;
    for (const [id, { directory }] of this.#groups) {
      if (wanted.delete(directory)) continue;
      this.#groups.delete(id);
      this.#child?.stdin.write(`remove ${id}\n`);
    }
    for (const [directory, container] of wanted) {
      const id = String(++this.#last);
      this.#groups.set(id, { directory, container });
      this.#child?.stdin.write(`add ${id} ${directory}\n`);
    }
  }

  /** The groups of all containers that run as their units, each with its container. */
  #find(): Map<string, string> {
    const containers = new Map(this.#options.names().map((name) => [containerUnit(name), name]));
    const found = new Map<string, string>();
    for (const directory of unitGroups(this.#directory)) {
      const container = containers.get(basename(directory));
      if (container === undefined) continue;
      // A group hears of its own limit and of those above it.
      for (const group of limitedGroups(directory)) found.set(group, container);
    }
    return found;
  }

  /** Not more often than it is looked for new groups, whatever is wrong with the program. */
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
    // Its end says it all.
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
    // Tried again by the next scan when it is still there.
    if (gone !== undefined) this.#groups.delete(id);
    else this.#announce(group.container);
  }

  /** Each group of a container hears of the same, and a guest can run out of memory all the time. */
  #announce(container: string): void {
    const now = performance.now();
    if (now < (this.#quietUntil.get(container) ?? 0)) return;
    this.#quietUntil.set(container, now + quietMs);
    this.#options.tell(container);
  }
}

/**
 * Reports the states of all containers to a client until it goes. The watcher looks at the kernel at regular
 * intervals and after hints from lxc-monitor(1); a hint only makes a look come sooner, because any local user
 * can fake one. OOM events on cgroup v1 go to the same stream.
 */

import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { HostReader } from '../host/read.ts';
import { LockerdError } from '../model/errors.ts';
import type { LxcStatus } from './guests.ts';
import { Guests } from './guests.ts';
import { findOutside, lxcEnvironment } from './lxc.ts';
import { OomWatch } from './oom.ts';
import { isName } from './request.ts';
import type { SocketOwner } from './socket-owner.ts';
import { lxcpathOf } from './view.ts';

/** A line of lxc-monitor(1) about a state change: the container and its state, as two words of LXC's. */
export function parseMonitorLine(line: string): [name: string, state: string] | undefined {
  const [, name, state] = /^'(.*)' changed state to \[([A-Z]+)\]$/.exec(line) ?? [];
  return name === undefined || state === undefined ? undefined : [name, state];
}

/** A client with more unread bytes than this has stopped reading. */
const unreadMaxBytes = 1024 * 1024;

/** How often all containers are looked at, for changes that came without a hint. */
const lookMs = 2000;
/** Minimum time between looks at all for unknown names: new containers, or a stranger's hints. */
const unknownMs = 1000;
/**
 * When to look after a hint and after each look, until the change is seen. Most hints come a little before it,
 * and when many containers start, those of several are followed by one look.
 */
const looksAfterHintMs: readonly number[] = [25, 50, 120, 400, 1200];
const firstLookMs = looksAfterHintMs[0] ?? 0;
/**
 * Rest between looks, as a multiple of the processor time of the last look, because strangers can send
 * any number of hints. Wall-clock time is no measure, because a busy host prolongs it.
 */
const restFactor = 10;
/** Longest rest before a hint is followed, so that a slow host still sees a guest in time. */
const restMaxMs = 3000;
/** How often to look for containers outside their units, and the minimum gap between looks. */
const outsideMs = 5000;
const outsideGapMs = 200;

/** lxc-monitor's output is read in intervals; a longer rest of a line is cut. */
const hintsEveryMs = 50;
const hintMaxBytes = 64 * 1024;
const restartMinMs = 1000;
const restartMaxMs = 60_000;

interface Hint {
  step: number;
  atMs: number;
  /** What a container is said to be now; empty if nobody has said it. */
  readonly state: string;
}

export interface WatcherPorts {
  /** Names of all containers, from root's directory of containers. */
  readonly list: () => readonly string[];
  readonly guests: Pick<Guests, 'look'>;
  /** Finds those containers that run outside their units; see findOutside(). */
  readonly findOutside: (names: readonly string[]) => ReturnType<typeof findOutside>;
  readonly tell: (container: string, status: LxcStatus, squatter?: SocketOwner) => void;
  readonly failed: (error: unknown) => void;
}

/**
 * Reports each container's state once, and again after each change. Reports only what the kernel
 * shows. Hints say when to look; they may come from any user, so each costs little.
 */
export class Watcher {
  readonly #ports: WatcherPorts;
  readonly #told = new Map<string, LxcStatus>();
  readonly #hints = new Map<string, Hint>();
  /** The last reported process that keeps LXC from starting a container, by container. */
  readonly #squatters = new Map<string, SocketOwner>();
  #timer: NodeJS.Timeout | undefined;
  #nextAllMs = 0;
  #lastAllMs = -Infinity;
  #restUntilMs = 0;
  readonly #toAsk = new Set<string>();
  #isAsking = false;
  #nextAskMs = 0;
  #nextAskAllMs = 0;
  #isClosed = false;

  constructor(ports: WatcherPorts) {
    this.#ports = ports;
  }

  /** Names of all containers at the last look. */
  get names(): string[] {
    return [...this.#told.keys()];
  }

  /** Reports all containers, then keeps watching until close(). */
  async start(): Promise<void> {
    this.#look();
    await this.#ask();
    this.#plan();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** Says that a container of this name, if there is one, may have this state now, or some other. */
  hint(name: string, state = ''): void {
    const now = performance.now();
    if (this.#told.has(name)) this.#hints.set(name, { step: 0, atMs: now + firstLookMs, state });
    else this.#nextAllMs = Math.min(this.#nextAllMs, Math.max(now, this.#lastAllMs + unknownMs));
    this.#plan();
  }

  #plan(): void {
    if (this.#isClosed) return;
    clearTimeout(this.#timer);
    const next = Math.min(this.#nextAllMs, ...[...this.#hints.values()].map(({ atMs }) => atMs));
    const delay = Math.max(next, this.#restUntilMs) - performance.now();
    this.#timer = setTimeout(
      () => {
        try {
          this.#look();
          this.#ask().catch(this.#ports.failed);
        } catch (error) {
          this.#ports.failed(error);
        }
        this.#plan();
      },
      Math.max(0, delay),
    );
  }

  #look(): void {
    const start = performance.now();
    const before = process.cpuUsage();
    if (start >= this.#nextAllMs) {
      const names = this.#ports.list();
      this.#tell(this.#ports.guests.look(names, true));
      const listed = new Set(names);
      for (const name of this.#told.keys()) if (!listed.has(name)) this.#forget(name);
      this.#lastAllMs = start;
      this.#nextAllMs = start + lookMs;
    }
    const due = [...this.#hints].filter(([, { atMs }]) => atMs <= start);
    this.#tell(this.#ports.guests.look(due.map(([name]) => name)));
    for (const [name, hint] of due) {
      // The look above cannot find a new guest outside its unit.
      const isFirst = hint.step === 0;
      hint.step += 1;
      // Nothing more is to come of a change that is seen. The next one has a hint of its own.
      const isSeen = this.#told.get(name)?.state === hint.state;
      const laterMs = isSeen ? undefined : looksAfterHintMs[hint.step];
      if (laterMs === undefined) this.#hints.delete(name);
      else hint.atMs = start + laterMs;
      if (isFirst || laterMs === undefined) this.#toAsk.add(name);
    }
    const { user, system } = process.cpuUsage(before);
    const end = performance.now();
    const restMs = ((user + system) / 1000) * restFactor;
    this.#restUntilMs = end + Math.min(restMs, restMaxMs);
    this.#nextAllMs = Math.max(this.#nextAllMs, end + restMs);
  }

  #tell(found: ReadonlyMap<string, LxcStatus>): void {
    for (const [name, status] of found) {
      const before = this.#told.get(name);
      if (before?.state === status.state && before.leader === status.leader) continue;
      this.#told.set(name, status);
      this.#squatters.delete(name);
      this.#ports.tell(name, status);
    }
  }

  #tellSquatter(name: string, squatter: SocketOwner | undefined): void {
    const told = this.#told.get(name);
    const before = this.#squatters.get(name);
    if (told?.state !== 'STOPPED' || before?.pid === squatter?.pid) return;
    if (squatter === undefined) this.#squatters.delete(name);
    else this.#squatters.set(name, squatter);
    this.#ports.tell(name, told, squatter);
  }

  /** Forgets a container that no longer exists. */
  #forget(name: string): void {
    this.#hints.delete(name);
    this.#tell(new Map([[name, { state: 'STOPPED', leader: 0 }]]));
    this.#told.delete(name);
  }

  /** Looks outside units for the guests of containers that seem stopped. */
  async #ask(): Promise<void> {
    const start = performance.now();
    if (this.#isAsking || start < this.#nextAskMs) return;
    const isAll = start >= this.#nextAskAllMs;
    const names = [...this.#told].flatMap(([name, { state }]) =>
      state === 'STOPPED' && (isAll || this.#toAsk.has(name)) ? [name] : [],
    );
    this.#toAsk.clear();
    if (isAll) this.#nextAskAllMs = start + outsideMs;
    if (names.length === 0) return;
    this.#isAsking = true;
    try {
      const { found: all, squatters } = await this.#ports.findOutside(names);
      const found = all.filter((name) => this.#told.has(name));
      if (this.#isClosed) return;
      this.#tell(this.#ports.guests.look(found));
      for (const name of names) this.#tellSquatter(name, squatters.get(name));
      // The guest starts a moment after its monitor.
      for (const name of found) {
        this.#hints.set(name, { step: 1, atMs: performance.now(), state: '' });
      }
    } finally {
      this.#isAsking = false;
      const took = performance.now() - start;
      this.#nextAskMs = performance.now() + Math.max(outsideGapMs, took * restFactor);
    }
    this.#plan();
  }
}

/**
 * Runs lxc-monitor(1) for its hints. They come from lxc-monitord(8), which any local user can
 * impersonate. So its output is read slowly, and can only affect how soon a change is seen.
 */
class Hints {
  readonly #lxcpath: string;
  readonly #hint: (name: string, state: string) => void;
  #monitor: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #restartMs = restartMinMs;
  #isClosed = false;

  constructor(lxcpath: string, hint: (name: string, state: string) => void) {
    this.#lxcpath = lxcpath;
    this.#hint = hint;
    this.#start();
  }

  #start(): void {
    const monitor = spawn('/usr/bin/lxc-monitor', ['-P', this.#lxcpath, '-n', '.*'], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: lxcEnvironment,
    });
    this.#monitor = monitor;
    const startedMs = performance.now();
    let rest = '';
    monitor.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = (lines.pop() ?? '').slice(-hintMaxBytes);
      // Of each container the last one.
      const hints = new Map(lines.map(parseMonitorLine).filter((hint) => hint !== undefined));
      for (const [name, state] of hints) this.#hint(name, state);
      monitor.stdout.pause();
      setTimeout(() => monitor.stdout.resume(), hintsEveryMs);
    });
    const ended = (): void => {
      if (this.#isClosed || this.#monitor !== monitor) return;
      this.#monitor = undefined;
      if (performance.now() - startedMs > restartMaxMs) this.#restartMs = restartMinMs;
      this.#timer = setTimeout(() => {
        this.#start();
      }, this.#restartMs);
      this.#restartMs = Math.min(this.#restartMs * 2, restartMaxMs);
    };
    monitor.once('error', ended);
    monitor.once('exit', ended);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#monitor?.kill();
  }
}

/**
 * Writes the state of each container, then each change and each OOM event of cgroup v1, one JSON
 * object per line, until the client goes.
 */
export async function watch(input: Readable, output: Writable): Promise<void> {
  const lxcpath = lxcpathOf(new HostReader(''));
  const gone = Promise.race([once(input, 'end'), once(input, 'close'), once(output, 'error')]);
  input.resume();
  let failed: (error: unknown) => void = () => undefined;
  const failure = new Promise<never>((_, reject) => (failed = reject));
  const write = (event: object): void => {
    output.write(`${JSON.stringify(event)}\n`);
    if (output.writableLength > unreadMaxBytes) {
      failed(new LockerdError('Failed', 'the client does not read what it asked for'));
    }
  };
  const guests = new Guests();
  const watcher = new Watcher({
    list: () =>
      new HostReader('').containers(lxcpath).flatMap(({ name }) => (isName(name) ? [name] : [])),
    guests,
    findOutside: (names) => findOutside(guests, lxcpath, names),
    tell: (container, { state, leader }, squatter) => {
      write({ event: 'state', container, state, leader, ...(squatter && { squatter }) });
      if (state === 'STARTING' || state === 'RUNNING') oom.scanSoon(container);
    },
    failed,
  });
  const oom = new OomWatch({
    names: () => watcher.names,
    tell: (container) => {
      write({ event: 'oom', container });
    },
  });
  const hints = new Hints(lxcpath, (name, state) => {
    watcher.hint(name, state);
  });
  const look = async (): Promise<never> => {
    await watcher.start();
    write({ event: 'ready' });
    return failure;
  };
  try {
    await Promise.race([look(), failure, gone]);
  } finally {
    watcher.close();
    hints.close();
    oom.close();
  }
}

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Turns } from '../core/limits.ts';
import { HostReader } from '../host/read.ts';
import { HelperError } from './errors.ts';
import type { LxcStatus } from './lxc.ts';
import { lxcEnvironment, Monitors, statusWithin } from './lxc.ts';
import { OomWatch } from './oom.ts';
import { lxcpathOf } from './view.ts';

export interface StateChange {
  readonly container: string;
  readonly state: string;
}

/** A line of lxc-monitor(1) about a state; undefined for what it says besides. */
export function parseMonitorLine(line: string): StateChange | undefined {
  const [, container, state] = /^'(.*)' changed state to \[([A-Z]+)\]$/.exec(line) ?? [];
  return container === undefined || state === undefined ? undefined : { container, state };
}

/** More than this unread by the client means that it does not read. */
const unreadMaxBytes = 1024 * 1024;

/** lxc-monitor does not say when it listens: what changed until then is looked for again. */
const secondLookMs = 1500;

/** A container that answers does so in less, though perhaps not on a busy host. */
const firstPatienceMs = 1000;
const longestPatienceMs = 16_000;
/** How long the first report waits for those that do not answer. */
const readyMs = 3000;
/** Programs of LXC's at a time; the unit has a TasksMax=. */
const questionsAtATime = 16;

/** States without a guest that could be asked for. */
const withoutGuest = ['STOPPED', 'STARTING', 'ABORTING'];

/** Tells each state once, and again when it has changed. */
class Teller {
  readonly #output: Writable;
  readonly #lxcpath: string;
  readonly #turns = new Turns(questionsAtATime);
  readonly #told = new Map<string, LxcStatus>();
  /** How often the monitor has spoken of each: an answer from before is out of date. */
  readonly #changes = new Map<string, number>();
  /** Those that LXC has not answered about. */
  readonly silent = new Set<string>();

  constructor(output: Writable, lxcpath: string) {
    this.#output = output;
    this.#lxcpath = lxcpath;
  }

  get names(): string[] {
    return [...this.#told.keys()];
  }

  write(event: object): void {
    this.#output.write(`${JSON.stringify(event)}\n`);
    if (this.#output.writableLength > unreadMaxBytes) {
      throw new HelperError('Failed', 'the client does not read what it asked for');
    }
  }

  #tell(container: string, { state, leader }: LxcStatus): void {
    const before = this.#told.get(container);
    if (before?.state === state && before.leader === leader) return;
    this.#told.set(container, { state, leader });
    this.write({ event: 'state', container, state, leader });
  }

  /** Asks about a container and tells the answer, when there is one in time. */
  async #ask(name: string, withinMs: number, word?: string): Promise<void> {
    const changes = this.#changes.get(name);
    this.silent.add(name);
    const container = { name, lxcpath: this.#lxcpath };
    const status = await this.#turns.run(() => statusWithin(container, withinMs));
    if (this.#changes.get(name) !== changes) return;
    if (status !== undefined) {
      this.silent.delete(name);
      this.#tell(name, { state: word ?? status.state, leader: status.leader });
    } else if (word !== undefined) {
      // It comes or goes, and its leader has to follow.
      this.#tell(name, { state: word, leader: 0 });
      await this.#ask(name, longestPatienceMs);
    }
  }

  /** Tells of all containers; those with a monitor are asked side by side. */
  async tellAll(): Promise<void> {
    const monitors = new Monitors(this.#lxcpath);
    const known = new HostReader('').containers(this.#lxcpath).map(({ name }) => name);
    const names = [...new Set([...known, ...monitors.names])];
    for (const name of names) {
      if (!monitors.has(name)) this.#tell(name, { state: 'STOPPED', leader: 0 });
    }
    const asked = names.filter((name) => monitors.has(name));
    await Promise.all(asked.map((name) => this.#ask(name, firstPatienceMs)));
  }

  /** Asks those that have not answered, again and again. */
  async askSilent(): Promise<void> {
    let patienceMs = firstPatienceMs;
    for (;;) {
      await sleep(patienceMs);
      const { silent } = this;
      patienceMs =
        silent.size === 0 ? firstPatienceMs : Math.min(patienceMs * 2, longestPatienceMs);
      await Promise.all([...silent].map((name) => this.#ask(name, patienceMs)));
    }
  }

  /** Tells what the monitor says, with the leader; asks without waiting for the answer. */
  change({ container, state }: StateChange, failed: (error: unknown) => void): void {
    this.#changes.set(container, (this.#changes.get(container) ?? 0) + 1);
    this.silent.delete(container);
    const leader = this.#told.get(container)?.leader ?? 0;
    if (withoutGuest.includes(state)) this.#tell(container, { state, leader: 0 });
    // A guest that runs may be another one than before.
    else if (state !== 'RUNNING' && leader > 0) this.#tell(container, { state, leader });
    else this.#ask(container, firstPatienceMs, state).catch(failed);
  }
}

/**
 * Writes the state of each container and then each change, one JSON object a line, until the client
 * goes; and where it is told of OOM on cgroup v1. Throws when LXC's monitor ends before.
 */
export async function watch(input: Readable, output: Writable): Promise<void> {
  const lxcpath = lxcpathOf(new HostReader(''));
  const gone = Promise.race([once(input, 'end'), once(input, 'close'), once(output, 'error')]);
  input.resume();
  const monitor = spawn('/usr/bin/lxc-monitor', ['-P', lxcpath, '-n', '.*'], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: lxcEnvironment,
  });
  const ended = once(monitor, 'exit');
  const lines = createInterface({ input: monitor.stdout });
  const teller = new Teller(output, lxcpath);
  let failed: (error: unknown) => void = () => undefined;
  const failure = new Promise<never>((_, reject) => (failed = reject));
  const oom = new OomWatch({
    names: () => teller.names,
    tell: (container) => {
      try {
        teller.write({ event: 'oom', container });
      } catch (error) {
        failed(error);
      }
    },
  });
  const follow = async (): Promise<void> => {
    const reading = (async () => {
      for await (const line of lines) {
        const change = parseMonitorLine(line);
        if (change === undefined) continue;
        teller.change(change, failed);
        if (change.state === 'STARTING' || change.state === 'RUNNING') oom.scanSoon();
      }
      await ended;
      throw new HelperError('Failed', 'lxc-monitor ended; see "journalctl -t lockerd-helper"');
    })();
    await Promise.race([reading, failure]);
  };
  const look = async (): Promise<void> => {
    const first = teller.tellAll();
    await Promise.race([first, sleep(readyMs)]);
    // They are not stopped, and told of when they answer.
    for (const container of teller.silent) teller.write({ event: 'silent', container });
    teller.write({ event: 'ready' });
    await first;
    oom.scanSoon();
    await sleep(secondLookMs);
    await teller.tellAll();
    await teller.askSilent();
  };
  try {
    await Promise.race([look(), follow(), gone]);
  } finally {
    monitor.kill();
    oom.close();
  }
}

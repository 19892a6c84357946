import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { HostReader } from '../generator/read.ts';
import { HelperError } from './errors.ts';
import type { LxcStatus } from './lxc.ts';
import { activeContainers, lxcEnvironment, statusOf } from './lxc.ts';
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

/** Tells each state once, and again when it has changed. */
class Teller {
  readonly #output: Writable;
  readonly #told = new Map<string, string>();

  constructor(output: Writable) {
    this.#output = output;
  }

  write(event: object): void {
    this.#output.write(`${JSON.stringify(event)}\n`);
    if (this.#output.writableLength > unreadMaxBytes) {
      throw new HelperError('Failed', 'the client does not read what it asked for');
    }
  }

  tell(container: string, { state, leader }: LxcStatus): void {
    const now = `${state} ${leader}`;
    if (this.#told.get(container) === now) return;
    this.#told.set(container, now);
    this.write({ event: 'state', container, state, leader });
  }
}

async function tellAll(teller: Teller, lxcpath: string): Promise<void> {
  const active = await activeContainers(lxcpath);
  const known = new HostReader('').containers(lxcpath).map(({ name }) => name);
  for (const name of new Set([...known, ...active])) {
    if (name === '') continue;
    const status = active.has(name)
      ? await statusOf({ name, lxcpath })
      : { state: 'STOPPED', leader: 0 };
    teller.tell(name, status);
  }
}

async function follow(teller: Teller, lines: AsyncIterable<string>, lxcpath: string) {
  for await (const line of lines) {
    const change = parseMonitorLine(line);
    if (change === undefined) continue;
    const { container: name, state } = change;
    const isGone = ['STOPPED', 'STARTING', 'ABORTING'].includes(state);
    const leader = isGone ? 0 : (await statusOf({ name, lxcpath })).leader;
    teller.tell(name, { state, leader });
  }
}

/**
 * Writes the state of each container and then each change, one JSON object a line, until the client
 * goes. Throws when LXC's monitor ends before.
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
  const teller = new Teller(output);
  const work = async (): Promise<void> => {
    await tellAll(teller, lxcpath);
    teller.write({ event: 'ready' });
    const following = follow(teller, lines, lxcpath);
    await sleep(secondLookMs);
    await tellAll(teller, lxcpath);
    await following;
    await ended;
    throw new HelperError('Failed', 'lxc-monitor ended; see "journalctl -t lockerd-helper"');
  };
  try {
    await Promise.race([work(), gone]);
  } finally {
    monitor.kill();
  }
}

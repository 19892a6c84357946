import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';

/** What a supervisor reports, one JSON object a line; a kind of host adds events of its own. */
export interface SupervisorEvent {
  event: string;
}

interface SupervisorPlace {
  /** The supervisor's program. */
  program: string;
  /** Name of the host. */
  name: string;
  /** Path of the image; a file beside it, with `.lock` at its end, keeps it. */
  image: string;
  /** Directory of all running hosts of this kind. */
  hosts: string;
  /** Further arguments of the supervisor. */
  settings?: string[];
}

/** The process that keeps one host; it removes the host when this process ends, however it ends. */
export class Supervisor {
  onEvent: (event: SupervisorEvent) => void = () => undefined;
  onEnd: (error: Error) => void = () => undefined;
  readonly #process: ChildProcessWithoutNullStreams;

  constructor({ program, name, image, hosts, settings = [] }: SupervisorPlace) {
    fs.mkdirSync(hosts, { recursive: true });
    // The shared lock keeps the image, the other one says that this host has a living supervisor.
    const locked = ['flock', '--no-fork', path.join(hosts, `${name}.lock`)];
    const supervise = [process.execPath, program, name, image, hosts, ...settings];
    this.#process = spawn(
      'flock',
      ['--shared', '--no-fork', `${image}.lock`, ...locked, ...supervise],
      // Its own session: an interrupt typed at the test run must not reach it.
      { detached: true, stdio: ['pipe', 'pipe', 'pipe'] },
    );
    let complaints = '';
    this.#process.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
    // Writing to a supervisor that ended is answered by its exit event.
    this.#process.stdin.on('error', () => undefined);
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      this.onEvent(JSON.parse(line) as SupervisorEvent);
    });
    this.#process.once('error', (error) => {
      this.onEnd(error);
    });
    this.#process.once('exit', (code) => {
      this.onEnd(new Error(`supervisor of test host ${name} ended (${code}): ${complaints}`));
    });
  }

  /** The first event, which tells that the host was made; rejects when it could not be. */
  made<Event extends SupervisorEvent>(expected: string): Promise<Event> {
    return new Promise((resolve, reject) => {
      this.onEvent = (event) => {
        if (event.event === expected) resolve(event as Event);
        else if (isError(event)) reject(new Error(`test host: ${event.message}`));
      };
      this.onEnd = reject;
    });
  }

  send(word: string): void {
    this.#process.stdin.write(`${word}\n`);
  }

  /** Whether all of the host could be removed. */
  close(): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.#process.exitCode !== null || this.#process.signalCode !== null) {
        resolve(true);
        return;
      }
      this.#process.once('exit', (code) => {
        resolve(code === 0);
      });
      this.#process.stdin.end('close\n');
    });
  }
}

export function isError(event: SupervisorEvent): event is SupervisorEvent & { message: string } {
  return event.event === 'error';
}

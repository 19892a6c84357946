import type { ChildProcessByStdio } from 'node:child_process';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

const program = '/usr/lib/lockerd/hooks/pressure-watch';

export interface PressureHandlers {
  readonly fired: () => void;
  /** No more events will come, because the control group has gone or cannot be watched. */
  readonly gone: (why: string) => void;
}

export interface Pressure {
  /** Watches a pressure stall file with a kernel trigger such as "some 100000 1000000". */
  watch(file: string, trigger: string, handlers: PressureHandlers): () => void;
}

/** Watches pressure through a child process, which can poll(2) for the kernel's triggers. */
export class PressureWatch implements Pressure {
  /** Resolves when the child process has ended, which it never should. */
  readonly ended: Promise<Error>;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #watched = new Map<string, PressureHandlers>();
  #last = 0;

  constructor(path: string = program) {
    this.#child = spawn(path, { stdio: ['pipe', 'pipe', 'inherit'], env: {} });
    // `ended` already reports a child that has gone.
    this.#child.stdin.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      this.#child.once('error', resolve);
      this.#child.once('exit', (code, signal) => {
        resolve(new Error(`pressure-watch ended (${signal ?? code})`));
      });
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const [, id = '', why] = /^(\d+)(?: gone (.*))?$/.exec(line) ?? [];
      const handlers = this.#watched.get(id);
      if (why === undefined) {
        handlers?.fired();
        return;
      }
      this.#watched.delete(id);
      handlers?.gone(why);
    });
  }

  watch(file: string, trigger: string, handlers: PressureHandlers): () => void {
    const id = String(++this.#last);
    this.#watched.set(id, handlers);
    this.#child.stdin.write(`add ${id} ${file} ${trigger}\n`);
    return () => {
      if (this.#watched.delete(id)) this.#child.stdin.write(`remove ${id}\n`);
    };
  }

  close(): void {
    this.#child.stdin.end();
  }
}

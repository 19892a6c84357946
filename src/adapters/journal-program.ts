import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

const program = '/usr/lib/lockerd/hooks/write-journal';
/** How long an entry may take. */
const defaultTimeoutMs = 10_000;

interface Child {
  readonly process: ChildProcessByStdio<Writable, Readable, null>;
  readonly ended: Promise<void>;
}

/**
 * Passes entries to the journal through a child process, one at a time. The child is started for the
 * first entry, and once more for the next entry after it has failed.
 */
export class JournalProgram {
  readonly #path: string;
  readonly #timeoutMs: number;
  #child: Child | undefined;
  /** Settles the entry that is under way. */
  #answer: (problem: string) => void = () => undefined;

  constructor(path = program, timeoutMs = defaultTimeoutMs) {
    this.#path = path;
    this.#timeoutMs = timeoutMs;
  }

  /** Settles when the journal has the entry. @throws Error with the reason why it has not */
  async send(entry: Uint8Array): Promise<void> {
    const child = (this.#child ??= this.#start());
    const length = Buffer.alloc(4);
    length.writeUInt32LE(entry.length);
    const answered = new Promise<string>((resolve) => (this.#answer = resolve));
    child.process.stdin.write(Buffer.concat([length, entry]));
    const problem = await this.#within(child, answered);
    if (problem !== '') throw new Error(problem);
  }

  /** Settles when the child has ended. */
  async end(): Promise<void> {
    const child = this.#child;
    child?.process.stdin.end();
    if (child !== undefined) await this.#within(child, child.ended);
  }

  #start(): Child {
    // The child needs nothing of ours.
    const child = spawn(this.#path, { stdio: ['pipe', 'pipe', 'inherit'], env: {} });
    // Its end says why nothing can be written.
    child.stdin.on('error', () => undefined);
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.#answer(line);
    });
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => {
        resolve(error.message);
      });
      child.once('close', (code, signal) => {
        resolve(`write-journal ended (${signal ?? code})`);
      });
    }).then((why) => {
      if (this.#child?.process === child) this.#child = undefined;
      this.#answer(why);
    });
    return { process: child, ended };
  }

  /** The child is killed when something takes too long. */
  async #within<T>({ process }: Child, task: Promise<T>): Promise<T> {
    const timer = setTimeout(() => process.kill('SIGKILL'), this.#timeoutMs);
    try {
      return await task;
    } finally {
      clearTimeout(timer);
    }
  }
}

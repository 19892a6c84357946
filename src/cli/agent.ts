/** Passwords for polkit, asked for on the terminal. */

import { spawn, type ChildProcess } from 'node:child_process';
import { finished } from 'node:stream/promises';
import type { Readable } from 'node:stream';

/** An agent that does not come up must not hold up what needs no password. */
const registrationTimeoutMs = 5000;

/** polkit's agent for terminals, pkttyagent(1), for as long as a command runs. */
export class PasswordAgent {
  readonly #process: ChildProcess;
  readonly #end = (): void => {
    this.close();
  };

  private constructor(process_: ChildProcess) {
    this.#process = process_;
    process.once('exit', this.#end);
  }

  /**
   * Starts the agent for this process and waits until polkit knows it. Without pkttyagent nobody is
   * asked, and the service says that a password is needed.
   */
  static async open(): Promise<PasswordAgent> {
    // It opens the terminal by itself; what it complains of follows from the service's answer.
    const child = spawn('pkttyagent', ['--notify-fd=3', '--fallback'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    const agent = new PasswordAgent(child);
    const failed = new Promise<void>((resolve) => {
      child.once('error', () => {
        resolve();
      });
    });
    const notification = child.stdio[3] as Readable;
    notification.resume();
    // It closes the descriptor when it is registered; its death closes it too.
    const signal = AbortSignal.timeout(registrationTimeoutMs);
    await Promise.race([failed, finished(notification, { signal }).catch(() => undefined)]);
    notification.destroy();
    child.unref();
    return agent;
  }

  close(): void {
    process.off('exit', this.#end);
    this.#process.kill('SIGTERM');
    // One that was stopped on the terminal would not end before it goes on.
    this.#process.kill('SIGCONT');
  }
}

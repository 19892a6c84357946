/**
 * Mounts that nobody else sees and that end with the process that made them, whatever ends it: a mount
 * namespace that cat(1) keeps for as long as its standard input is open.
 */

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { LockerdError } from '../model/errors.ts';
import type { Program, RunOptions, Tools } from './tools.ts';

/** Where something is mounted in there: a directory that is there on the host, and whose content is not needed. */
export const privatePlace = '/run/lockerd/stores';

const readyMs = 30_000;

export class PrivateMounts {
  readonly #tools: Tools;
  readonly #keeper: ChildProcess;

  private constructor(tools: Tools, keeper: ChildProcess) {
    this.#tools = tools;
    this.#keeper = keeper;
  }

  private static async open(tools: Tools): Promise<PrivateMounts> {
    // A slave: what the host unmounts is unmounted in here too, and keeps no device busy.
    const keeper = tools.start('unshare', [
      '--mount',
      '--propagation',
      'slave',
      '--',
      '/usr/bin/cat',
    ]);
    let complaint = '';
    keeper.stderr?.on('data', (chunk: Buffer) => (complaint += chunk.toString('utf8')));
    keeper.stdin?.on('error', () => undefined);
    keeper.stdin?.write('\n');
    const failed = new AbortController();
    const timer = setTimeout(() => {
      failed.abort();
    }, readyMs);
    keeper.once('error', () => {
      failed.abort();
    });
    keeper.once('exit', () => {
      failed.abort();
    });
    try {
      // What it gives back tells that the namespace is there.
      if (keeper.stdout !== null) await once(keeper.stdout, 'data', { signal: failed.signal });
    } catch (error) {
      keeper.kill('SIGKILL');
      const why = complaint.trim() || 'it did not answer';
      throw new LockerdError('Failed', `no mount namespace could be made: ${why}`, {
        cause: error,
      });
    } finally {
      clearTimeout(timer);
    }
    return new PrivateMounts(tools, keeper);
  }

  /** Calls `use` with a namespace of its own, and ends that afterwards. */
  static async with<T>(tools: Tools, use: (mounts: PrivateMounts) => Promise<T>): Promise<T> {
    const mounts = await PrivateMounts.open(tools);
    try {
      return await use(mounts);
    } finally {
      await mounts.#close();
    }
  }

  /** Runs a program that sees these mounts. */
  run(program: Program, args: readonly string[], options?: RunOptions): Promise<string> {
    return this.#tools.runIn(this.#keeper.pid ?? 0, program, args, options);
  }

  /** Mounts a device at {@link privatePlace} for as long as `use` takes. */
  async mounted<T>(
    device: string,
    type: string,
    use: () => Promise<T>,
    options: readonly string[] = [],
  ): Promise<T> {
    const all = ['nosuid', 'nodev', 'noexec', ...options].join(',');
    await this.run('mount', ['-t', type, '-o', all, '--', device, privatePlace]);
    try {
      return await use();
    } finally {
      await this.run('umount', ['--', privatePlace]);
    }
  }

  async #close(): Promise<void> {
    if (this.#keeper.exitCode !== null || this.#keeper.signalCode !== null) return;
    const ended = once(this.#keeper, 'exit');
    this.#keeper.stdin?.end();
    this.#keeper.stdout?.resume();
    await ended;
  }
}

/**
 * Runs the tools of admins: fixed programs by their full paths, never a shell, in the C locale, each with a
 * time of its own. What a tool complains of comes back in the error.
 */

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { LockerdError } from '../model/errors.ts';
import { printable } from '../model/unit-syntax.ts';

/** Every program that is run, with the package that has it. */
const programs = {
  lvs: ['/usr/sbin/lvs', 'lvm2'],
  vgs: ['/usr/sbin/vgs', 'lvm2'],
  lvcreate: ['/usr/sbin/lvcreate', 'lvm2'],
  lvchange: ['/usr/sbin/lvchange', 'lvm2'],
  lvextend: ['/usr/sbin/lvextend', 'lvm2'],
  lvrename: ['/usr/sbin/lvrename', 'lvm2'],
  lvremove: ['/usr/sbin/lvremove', 'lvm2'],
  'mkfs.ext4': ['/usr/sbin/mkfs.ext4', 'e2fsprogs'],
  e2fsck: ['/usr/sbin/e2fsck', 'e2fsprogs'],
  resize2fs: ['/usr/sbin/resize2fs', 'e2fsprogs'],
  tune2fs: ['/usr/sbin/tune2fs', 'e2fsprogs'],
  chattr: ['/usr/bin/chattr', 'e2fsprogs'],
  lsattr: ['/usr/bin/lsattr', 'e2fsprogs'],
  'mkfs.xfs': ['/usr/sbin/mkfs.xfs', 'xfsprogs'],
  xfs_growfs: ['/usr/sbin/xfs_growfs', 'xfsprogs'],
  xfs_admin: ['/usr/sbin/xfs_admin', 'xfsprogs'],
  btrfs: ['/usr/bin/btrfs', 'btrfs-progs'],
  setquota: ['/usr/sbin/setquota', 'quota'],
  repquota: ['/usr/sbin/repquota', 'quota'],
  cryptsetup: ['/usr/sbin/cryptsetup', 'cryptsetup-bin'],
  systemctl: ['/usr/bin/systemctl', 'systemd'],
  'systemd-ask-password': ['/usr/bin/systemd-ask-password', 'systemd'],
  mount: ['/usr/bin/mount', 'mount'],
  umount: ['/usr/bin/umount', 'mount'],
  unshare: ['/usr/bin/unshare', 'util-linux'],
  nsenter: ['/usr/bin/nsenter', 'util-linux'],
  cat: ['/usr/bin/cat', 'coreutils'],
  chown: ['/usr/bin/chown', 'coreutils'],
  chmod: ['/usr/bin/chmod', 'coreutils'],
  cp: ['/usr/bin/cp', 'coreutils'],
  stat: ['/usr/bin/stat', 'coreutils'],
} as const;

export type Program = keyof typeof programs;

/** lvm2 complains of descriptors that it did not open itself, such as that of our lock. */
const environment = {
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C',
  LVM_SUPPRESS_FD_WARNINGS: '1',
} as const;

const outputMaxBytes = 8 * 1024 * 1024;
const complaintMaxBytes = 16 * 1024;

/** A tool that failed; `complaint` is what it wrote to standard error. */
export class ToolError extends LockerdError {
  readonly complaint: string;
  readonly status: number | undefined;

  constructor(program: Program, complaint: string, status: number | undefined, reason: string) {
    const lines = complaint.split('\n').map((line) => printable(line.trim()));
    const last = lines.filter((line) => line !== '').slice(-3);
    const words = last.length === 0 ? reason : last.join('; ').slice(0, 600);
    super('Failed', `${program} failed: ${words}`);
    this.complaint = complaint;
    this.status = status;
  }
}

/** Calls `use` while no other change is in such a part, which is a short one. */
export type Alone = <T>(use: () => Promise<T> | T) => Promise<T>;

interface ToolsOptions {
  /**
   * Descriptors of the locks under which a change is made. Each tool has them as well: what outlives a helper
   * that was killed keeps the next one waiting.
   */
  readonly locks?: readonly number[];
  readonly alone?: Alone;
  /** Of a program for which nothing else is said. */
  readonly timeoutMs?: number;
}

export interface RunOptions {
  readonly timeoutMs?: number;
  /** Ends the tool; run() then throws Cancelled. */
  readonly signal?: AbortSignal | undefined;
  /** What it reads from its standard input, such as a secret, which no other process can see there. */
  readonly input?: string | Uint8Array;
  /** Exit statuses besides 0 that are no failure. */
  readonly fine?: readonly number[];
}

/** What tools are run with: the layers know no more of them than this. */
export interface Runner {
  /** Runs a program to its end and returns its output. Throws ToolError and Cancelled. */
  readonly run: (
    program: Program,
    args: readonly string[],
    options?: RunOptions,
  ) => Promise<string>;
}

function pathOf(program: Program): string {
  return programs[program][0];
}

function gather(child: ChildProcess): { output: () => string; complaint: () => string } {
  const output: Buffer[] = [];
  let length = 0;
  let complaint = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length <= outputMaxBytes) output.push(chunk);
    else child.kill('SIGKILL');
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    complaint = (complaint + chunk.toString('utf8')).slice(-complaintMaxBytes);
  });
  return {
    output: () => Buffer.concat(output).toString('utf8'),
    complaint: () => complaint,
  };
}

/** Why a program did not start. */
function notStarted(program: Program, error: NodeJS.ErrnoException): LockerdError {
  const [path, debianPackage] = programs[program];
  return error.code === 'ENOENT'
    ? new LockerdError('Failed', `there is no ${path}; install the package ${debianPackage}`)
    : new LockerdError('Failed', `${path} cannot be run: ${error.message}`, { cause: error });
}

export class Tools implements Runner {
  readonly #locks: readonly number[];
  readonly #timeoutMs: number;
  /** For what lockers of a store share. Not to be called within itself. */
  readonly alone: Alone;

  constructor({
    locks = [],
    alone = async (use) => use(),
    timeoutMs = 120_000,
  }: ToolsOptions = {}) {
    this.#locks = locks;
    this.#timeoutMs = timeoutMs;
    this.alone = alone;
  }

  /** Starts a program that lasts, such as one that keeps a mount namespace. */
  start(program: Program, args: readonly string[]): ChildProcess {
    return spawn(pathOf(program), args, {
      stdio: ['pipe', 'pipe', 'pipe', ...this.#locks],
      env: environment,
      cwd: '/',
    });
  }

  readonly run: Runner['run'] = (program, args, options = {}) =>
    this.runAt(pathOf(program), program, args, options);

  /** Runs a program in the mount namespace of another process. */
  runIn(
    pid: number,
    program: Program,
    args: readonly string[],
    options: RunOptions = {},
  ): Promise<string> {
    const all = ['--target', String(pid), '--mount', '--', pathOf(program), ...args];
    return this.runAt(pathOf('nsenter'), program, all, options);
  }

  private runAt(
    path: string,
    program: Program,
    args: readonly string[],
    { timeoutMs = this.#timeoutMs, signal, input, fine = [] }: RunOptions,
  ): Promise<string> {
    if (signal?.aborted === true) return Promise.reject(cancelled());
    return new Promise((resolve, reject) => {
      const child = spawn(path, args, {
        stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe', ...this.#locks],
        env: environment,
        cwd: '/',
      });
      // It may end without reading it.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
      const { output, complaint } = gather(child);
      const stop = (): void => void child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
      signal?.addEventListener('abort', stop);
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', stop);
      };
      child.once('error', (error) => {
        end();
        reject(notStarted(program, error));
      });
      child.once('close', (status, by) => {
        end();
        if (status !== null && (status === 0 || fine.includes(status))) resolve(output());
        else if (signal?.aborted === true) reject(cancelled());
        else {
          const reason =
            by === null
              ? `exit status ${status ?? 0}`
              : `it was ended by ${by}, maybe after ${timeoutMs / 1000} s`;
          reject(new ToolError(program, complaint(), status ?? undefined, reason));
        }
      });
    });
  }
}

function cancelled(): LockerdError {
  return new LockerdError('Cancelled', 'the caller has left, and nothing was changed');
}

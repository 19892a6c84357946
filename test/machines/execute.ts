/** Programs that run in a host, started from the machine. */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface RunOptions {
  /** Fail on an exit status other than 0. */
  reject?: boolean;
  /** Bound of the whole call, also when something in the background holds the output open. */
  timeoutMs?: number;
  input?: string | Buffer;
  env?: Record<string, string>;
}

export interface RunResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

export const environment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
};

/** Programs that go into the tree of a host that is off. */
export function enterTree(root: string): string[] {
  // cp and others need /proc; the mount ends with the namespace.
  const script = 'mount -t proc proc "$1/proc"; exec chroot "$@"';
  const unshare = ['unshare', '--mount', '--pid', '--fork', '--kill-child'];
  return [...unshare, 'sh', '-euc', script, 'sh', root];
}

/**
 * Runs a program as {@link TestHost.run} does, through one that enters the host.
 * @param enter the entering program with its arguments; the program's own follow
 * @param variables environment of the entering program
 */
export async function execute(
  host: string,
  enter: string[],
  program: string,
  args: string[],
  { reject = true, timeoutMs = 60_000, input = '', env = {} }: RunOptions,
  variables: Record<string, string> = {},
): Promise<RunResult> {
  const clean = Object.entries({ ...environment, ...env }).map(([key, value]) => `${key}=${value}`);
  const [command = '', ...rest] = [...enter, 'env', '-i', ...clean, program, ...args];
  const child = spawn(command, rest, {
    // Its own session: an interrupt typed at the test run must not kill nsenter before its child.
    detached: true,
    env: { ...environment, ...variables },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  // A program may end without reading its input.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const what = [program, ...args].join(' ');
  const closed = new Promise((resolve) => child.once('close', resolve));
  const exitCode = await new Promise<number>((resolve, fail) => {
    const timer = setTimeout(() => {
      if (child.pid !== undefined) killDescendants(child.pid);
      child.stdout.destroy();
      child.stderr.destroy();
      fail(new Error(`${what}: no end after ${timeoutMs} ms\n${stdout}${stderr}`));
    }, timeoutMs);
    child.once('error', fail);
    child.once('exit', (code) => {
      clearTimeout(timer);
      resolve(code ?? 129);
    });
  });
  // Something left in the background may hold the output open for ever.
  await Promise.race([closed, sleep(500, undefined, { ref: false })]);
  if (reject && exitCode !== 0) {
    throw new Error(`${what}: exit status ${exitCode} on ${host}\n${stdout}${stderr}`);
  }
  return { stdout, stderr, exitCode };
}

/**
 * Kills what a process started. The process itself (nsenter, which ends with its child) must reap
 * it: a zombie left in the host's PID namespace would hold up the host's shutdown.
 */
function killDescendants(pid: number) {
  for (const child of childrenOf(pid)) {
    killDescendants(child);
    try {
      process.kill(child, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
}

function childrenOf(pid: number): number[] {
  try {
    const list = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return list.split(' ').map(Number).filter(Boolean);
  } catch {
    // It ended.
    return [];
  }
}

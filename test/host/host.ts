import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheDirectory, ensureImage } from './machine.mjs';
import {
  environment,
  identify,
  installBuild,
  Supervisor,
  TestHost,
  uniqueName,
  type HostOptions,
  type RunOptions,
  type RunResult,
  type SupervisorEvent,
} from './test-host.ts';

export type { GuestKind } from './test-host.ts';

type HostEvent =
  | { event: 'mounted'; root: string }
  | { event: 'leader'; pid: number }
  | { event: 'rebooting' }
  | { event: 'off'; code: number; signal: string | null }
  | { event: 'error'; message: string };

/** A test host: Debian 12 with systemd as PID 1, D-Bus, polkit, udev and LXC. */
export class Host extends TestHost {
  /** The host's root tree as the machine sees it, also while the host is off; not its tmpfs. */
  readonly root: string;
  #leader: number | undefined;

  private constructor(name: string, supervisor: Supervisor, root: string) {
    super(name, supervisor);
    this.root = root;
  }

  /** Makes the host's tree, powered off. */
  static async create(name: string): Promise<Host> {
    const image = await ensureImage();
    const unique = uniqueName(name);
    const supervisor = new Supervisor({
      program: path.join(import.meta.dirname, 'supervisor.mjs'),
      name: unique,
      image,
      hosts: path.join(cacheDirectory(), 'hosts'),
    });
    const { root } = await supervisor.made<HostEvent & { event: 'mounted' }>('mounted');
    identify(root, unique);
    return new Host(unique, supervisor, root);
  }

  protected override onEvent(event: SupervisorEvent): void {
    const known = event as HostEvent;
    switch (known.event) {
      case 'leader':
        this.#leader = known.pid;
        this.booted();
        break;
      case 'rebooting':
      case 'off':
        this.#leader = undefined;
        this.wentDown(known.event === 'off');
        break;
      case 'error':
        this.fail(new Error(`test host ${this.name}: ${known.message}`));
        break;
      case 'mounted':
        break;
    }
  }

  protected override fail(error: Error): void {
    this.#leader = undefined;
    super.fail(error);
  }

  override get isOn(): boolean {
    return this.#leader !== undefined;
  }

  override async run(
    program: string,
    args: string[] = [],
    options: RunOptions = {},
  ): Promise<RunResult> {
    this.throwFailure();
    if (this.#leader === undefined) {
      throw new Error(`test host ${this.name} is off: cannot run ${program}`);
    }
    // Joining the cgroups first makes /proc/self/cgroup of the program point into the host.
    const enter = [
      ...['sh', '-c', 'for c in $CGROUPS; do echo $$ > "$c/cgroup.procs"; done; exec "$@"', 'sh'],
      ...['nsenter', '--target', String(this.#leader), '--all'],
    ];
    return this.#execute(enter, cgroupsOfHost(this.#leader), program, args, options);
  }

  /** Arguments of nsenter(1) for a program that owns the terminal; the program's own follow. */
  enterArguments(): string[] {
    const join = 'for f in /sys/fs/cgroup/*/cgroup.procs; do echo 0 > "$f"; done';
    const script = `[ -e /sys/fs/cgroup/cgroup.controllers ] || { ${join}; }; exec "$@"`;
    const variables = Object.entries({ ...environment, TERM: process.env['TERM'] ?? 'linux' });
    const clean = ['env', '-i', ...variables.map(([key, value]) => `${key}=${value}`)];
    return ['--target', String(this.#leader), '--all', ...clean, 'sh', '-c', script, 'sh'];
  }

  protected override async runInTree(
    program: string,
    args: string[],
    options: RunOptions = {},
  ): Promise<RunResult> {
    if (this.isOn) return this.run(program, args, options);
    // cp and others need /proc; the mount ends with the namespace.
    const script = 'mount -t proc proc "$1/proc"; exec chroot "$@"';
    const unshare = ['unshare', '--mount', '--pid', '--fork', '--kill-child'];
    const enter = [...unshare, 'sh', '-euc', script, 'sh', this.root];
    return this.#execute(enter, [], program, args, options);
  }

  async #execute(
    enter: string[],
    cgroups: string[],
    program: string,
    args: string[],
    { reject = true, timeoutMs = 60_000, input = '', env = {} }: RunOptions,
  ): Promise<RunResult> {
    const clean = Object.entries({ ...environment, ...env }).map(
      ([key, value]) => `${key}=${value}`,
    );
    const [command = '', ...rest] = [...enter, 'env', '-i', ...clean, program, ...args];
    const child = spawn(command, rest, {
      // Its own session: an interrupt typed at the test run must not kill nsenter before its child.
      detached: true,
      env: { ...environment, CGROUPS: cgroups.join(' ') },
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
      throw new Error(`${what}: exit status ${exitCode} on ${this.name}\n${stdout}${stderr}`);
    }
    return { stdout, stderr, exitCode };
  }

  override console(): string {
    const file = path.join(path.dirname(this.root), 'console.log');
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  }
}

/** Where a command must be to be inside the host in each of the machine's cgroup hierarchies. */
function cgroupsOfHost(leader: number): string[] {
  const mountPoint = '/sys/fs/cgroup';
  const unified = fs.existsSync(`${mountPoint}/cgroup.controllers`);
  const lines = fs.readFileSync(`/proc/${leader}/cgroup`, 'utf8').trim().split('\n');
  return lines.flatMap((line) => {
    const [, controllers = '', ...rest] = line.split(':');
    const cgroup = rest.join(':');
    // In a cgroup v2 tree processes may only be in leaves, and PID 1 sits in one.
    if (unified) return controllers === '' ? [mountPoint + cgroup] : [];
    const hierarchy = controllers === '' ? 'unified' : controllers.replace(/^name=/, '');
    const root = cgroup.replace(/\/init\.scope$/, '');
    return fs.existsSync(`${mountPoint}/${hierarchy}`) ? [`${mountPoint}/${hierarchy}${root}`] : [];
  });
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

/** Makes a test host and boots it (seconds; minutes when the image must be built first). */
export async function bootHost(options: HostOptions = {}): Promise<Host> {
  const { name = 'host', install = true, boot = true } = options;
  const host = await Host.create(name);
  try {
    if (install) await installBuild(host.root);
    if (boot) await host.boot();
    return host;
  } catch (error) {
    await host.close();
    throw error;
  }
}

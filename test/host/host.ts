import fs from 'node:fs';
import path from 'node:path';
import { cacheDirectory } from '../machines/images.mjs';
import { ensureImage } from './image.mjs';
import {
  enterTree,
  environment,
  execute,
  type RunOptions,
  type RunResult,
} from '../machines/execute.ts';
import { Supervisor, type SupervisorEvent } from '../machines/supervisor.ts';
import { TestHost, type HostOptions } from '../machines/test-host.ts';
import { identify, installBuild, makeUser, uniqueName } from '../machines/tree.ts';

export type { GuestKind } from '../machines/test-host.ts';

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

  /** Makes the host's tree, powered off; it is that of an image. */
  static async create(name: string, image: string): Promise<Host> {
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

  /** Its first process as the machine numbers it: `/proc/LEADER/root` is the host with its tmpfs. */
  get leader(): number {
    if (this.#leader === undefined) throw new Error(`test host ${this.name} is off`);
    return this.#leader;
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
    const cgroups = { CGROUPS: cgroupsOfHost(this.#leader).join(' ') };
    return execute(this.name, enter, program, args, options, cgroups);
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
    return execute(this.name, enterTree(this.root), program, args, options);
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

interface NamespaceHostOptions extends HostOptions {
  /** Another tree than the usual one. */
  image?: string;
}

/** Makes a test host and boots it (seconds; minutes when the image must be built first). */
export async function bootHost(options: NamespaceHostOptions = {}): Promise<Host> {
  const { name = 'host', install = true, boot = true, image = await ensureImage() } = options;
  const host = await Host.create(name, image);
  try {
    if (install) {
      await installBuild(host.root);
      await makeUser(host.root);
    }
    if (boot) await host.boot();
    return host;
  } catch (error) {
    await host.close();
    throw error;
  }
}

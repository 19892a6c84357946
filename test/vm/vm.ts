import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { cacheDirectory } from '../machines/images.mjs';
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
import { Agent } from './agent.mjs';
import { defaultMemoryMiB, ensureState, ensureVmImage, ensureVmToolsImage } from './image.mjs';
import { filesOf, machineSettings, nodeOptions, type Machine } from './qemu.mjs';

export { disks } from './qemu.mjs';

export interface VmOptions extends HostOptions {
  /** Memory of the VM; each other amount than the default costs a boot before the first use. */
  memoryMiB?: number;
  /** Whether AppArmor enforces its profiles, as on a stock Debian. */
  apparmor?: boolean;
  /** Whether it has sshd, rsync and an end of a wire, see {@link VirtualHost.sendTo}. */
  isNetworked?: boolean;
}

type VmEvent =
  | { event: 'made'; directory: string; root: string }
  | { event: 'on' | 'tree' }
  | { event: 'off'; code: number | null; signal: string | null }
  | { event: 'error'; message: string };

const runProgram = promisify(execFile);

/** A start of the service takes ten seconds here, and the bus waits for no more than 25. */
const stays = '[Service]\nEnvironment=LOCKERD_IDLE_EXIT=no\n';

/**
 * A virtual test host: Debian 13 with its own kernel, cgroup v2 alone, LXC, LVM and Node. It has
 * two blank disks besides its own, `/dev/vdb` for volume groups and `/dev/vdc` for swap.
 */
export class VirtualHost extends TestHost {
  protected override readonly patience = 6;
  readonly #directory: string;
  readonly #root: string;
  readonly #warm: boolean;
  #agent: Agent | undefined;
  #boot: string | undefined;
  #onTree: (() => void) | undefined;
  #wasOn = false;

  private constructor(
    name: string,
    supervisor: Supervisor,
    made: { directory: string; root: string },
    warm: boolean,
  ) {
    super(name, supervisor);
    this.#directory = made.directory;
    this.#root = made.root;
    this.#warm = warm;
  }

  /** Makes a VM, powered off. A warm one goes on from a saved state when it is booted first. */
  static async create(name: string, machine: Machine, warm: boolean): Promise<VirtualHost> {
    const image = await (machine.isNetworked ? ensureVmToolsImage() : ensureVmImage());
    const start = warm ? await ensureState(image, machine) : 'cold';
    const unique = uniqueName(name);
    const supervisor = new Supervisor({
      program: path.join(import.meta.dirname, 'supervisor.mjs'),
      name: unique,
      image,
      hosts: path.join(cacheDirectory(), 'vms'),
      settings: [...machineSettings(machine), start],
    });
    const made = await supervisor.made<VmEvent & { event: 'made' }>('made');
    return new VirtualHost(unique, supervisor, made, warm);
  }

  protected override onEvent(event: SupervisorEvent): void {
    const known = event as VmEvent;
    switch (known.event) {
      case 'on':
        this.#connect().catch((error: unknown) => {
          this.fail(error instanceof Error ? error : new Error(String(error)));
        });
        break;
      case 'off':
        this.#disconnect();
        this.wentDown(true);
        break;
      case 'tree':
        this.#onTree?.();
        break;
      case 'error':
        this.fail(new Error(`test host ${this.name}: ${known.message}`));
        break;
      case 'made':
        break;
    }
  }

  protected override fail(error: Error): void {
    this.#disconnect();
    super.fail(error);
  }

  async #connect() {
    const agent = await Agent.connect(filesOf(this.#directory).agent);
    this.#agent = agent;
    agent.on('begin', (boot: string) => {
      if (boot === this.#boot) return;
      if (this.#boot !== undefined) this.wentDown(false);
      this.#begin(agent, boot).catch((error: unknown) => {
        this.fail(error instanceof Error ? error : new Error(String(error)));
      });
    });
    // A saved state's agent has begun already.
    agent.hello();
  }

  async #begin(agent: Agent, boot: string) {
    const goesOn = this.#warm && !this.#wasOn;
    this.#wasOn = true;
    // The clock of a saved state stands at the time when it was saved.
    if (goesOn) {
      const now = `@${(Date.now() / 1000).toFixed(3)}`;
      await agent.execute(['date', '--set', now], { timeoutMs: 600_000, env: environment });
    }
    this.#boot = boot;
    this.booted();
  }

  #disconnect() {
    this.#agent?.close();
    this.#agent = undefined;
    this.#boot = undefined;
  }

  override get isOn(): boolean {
    return this.#boot !== undefined;
  }

  override async run(
    program: string,
    args: string[] = [],
    { reject = true, timeoutMs = 60_000, input = '', env = {} }: RunOptions = {},
  ): Promise<RunResult> {
    this.throwFailure();
    if (!this.#agent || !this.isOn) {
      throw new Error(`test host ${this.name} is off: cannot run ${program}`);
    }
    const result = await this.#agent.execute([program, ...args], {
      timeoutMs: timeoutMs * this.patience,
      input,
      env: { ...environment, NODE_OPTIONS: nodeOptions, ...env },
    });
    const { stdout, stderr, exitCode } = result;
    if (reject && exitCode !== 0) {
      const what = [program, ...args].join(' ');
      throw new Error(`${what}: exit status ${exitCode} on ${this.name}\n${stdout}${stderr}`);
    }
    return result;
  }

  protected override async runInTree(
    program: string,
    args: string[],
    options: RunOptions = {},
  ): Promise<RunResult> {
    if (this.isOn) return this.run(program, args, options);
    return execute(this.name, enterTree(await this.tree()), program, args, options);
  }

  /**
   * The root tree on the machine while the VM is off. Mounts its disk, which does to the file
   * system what the next boot would do after a power cut.
   */
  async tree(): Promise<string> {
    this.throwFailure();
    if (this.isOn) throw new Error(`test host ${this.name} is on: its tree is its own`);
    await new Promise<void>((resolve, reject) => {
      this.#onTree = resolve;
      this.supervisor.onEnd = (error) => {
        this.fail(error);
        reject(error);
      };
      this.supervisor.send('tree');
    });
    return this.#root;
  }

  /**
   * Puts the built lockerd where a package would put it, and does what its installation does, but for a
   * reload of systemd: each costs seconds, and whoever makes containers needs one after that.
   */
  async install(): Promise<void> {
    if (!this.isOn) {
      const root = await this.tree();
      await installBuild(root);
      await makeUser(root);
      return;
    }
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-build-'));
    try {
      await installBuild(directory);
      const dropIn = path.join(directory, 'etc/systemd/system/lockerd.service.d/test.conf');
      fs.mkdirSync(path.dirname(dropIn), { recursive: true });
      fs.writeFileSync(dropIn, stays);
      const { stdout } = await runProgram('tar', ['-C', directory, '-cz', '.'], {
        encoding: 'buffer',
        maxBuffer: 1 << 28,
      });
      // The directories that are there keep their modes; that of the temporary one lets nobody in.
      const extract = ['-C', '/', '--no-same-owner', '--no-overwrite-dir', '-xz'];
      await this.run('tar', extract, { input: stdout });
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
    // The bus and polkit notice new files by themselves.
    await this.shell(
      `
      for file in /usr/lib/sysusers.d/lockerd*.conf; do test ! -e $file || systemd-sysusers $file; done
      for file in /usr/lib/tmpfiles.d/lockerd*.conf; do
        test ! -e $file || systemd-tmpfiles --create $file
      done`,
      { timeoutMs: 180_000 },
    );
  }

  /** Has what this VM sends come to another one, as long as both are on; nothing else, and nothing back. */
  sendTo(other: VirtualHost): void {
    const peer = this.unplug();
    fs.symlinkSync(filesOf(other.#directory).wire.own, peer);
  }

  /** What this VM sends is lost from now on, and it cannot know. */
  unplug(): string {
    const { peer } = filesOf(this.#directory).wire;
    fs.rmSync(peer, { force: true });
    return peer;
  }

  override console(): string {
    const { console: file } = filesOf(this.#directory);
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  }
}

/**
 * Makes a virtual test host. Booted at once, it goes on from a saved state within seconds; where
 * its tree is to be prepared first, the boot that follows is a real one, a minute or more.
 */
export async function bootVm(options: VmOptions = {}): Promise<VirtualHost> {
  const { name = 'vm', install = true, boot = true } = options;
  const { memoryMiB = defaultMemoryMiB, apparmor = false, isNetworked = false } = options;
  const vm = await VirtualHost.create(name, { memoryMiB, apparmor, isNetworked }, boot);
  try {
    if (boot) await vm.boot();
    else identify(await vm.tree(), vm.name);
    if (install) await vm.install();
    return vm;
  } catch (error) {
    await vm.close();
    throw error;
  }
}

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheDirectory, ensureImage } from './machine.mjs';

interface HostOptions {
  /** Start of the host's name; a random end makes it unique. */
  name?: string;
  /** Install the built lockerd where a package would put it, before the first boot. */
  install?: boolean;
  /** Boot at once. Without it the tree can be prepared first: see {@link Host.boot}. */
  boot?: boolean;
}

interface RunOptions {
  /** Fail on an exit status other than 0. */
  reject?: boolean;
  /** Bound of the whole call, also when something in the background holds the output open. */
  timeoutMs?: number;
  input?: string;
  env?: Record<string, string>;
}

interface RunResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

export type GuestKind = 'busybox' | 'sysvinit' | 'systemd';

interface ContainerOptions {
  /** Lines appended to the container's config. */
  config?: string[];
  lxcpath?: string;
  /**
   * How a busybox guest answers its halt signal: at once, never, or with a shutdown that takes
   * that many seconds and leaves its marker at the end.
   */
  shutdown?: 'prompt' | 'ignored' | { seconds: number };
}

type SupervisorEvent =
  | { event: 'mounted'; root: string }
  | { event: 'leader'; pid: number }
  | { event: 'rebooting' }
  | { event: 'off'; code: number; signal: string | null }
  | { event: 'error'; message: string };

const checkout = path.resolve(import.meta.dirname, '../..');
const bootTimeoutMs = 180_000;
const environment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
};

/** A test host: Debian 12 with systemd as PID 1, D-Bus, polkit, udev and LXC. */
export class Host {
  readonly name: string;
  /** The host's root tree as the machine sees it, also while the host is off; not its tmpfs. */
  readonly root: string;
  readonly #supervisor: ChildProcessWithoutNullStreams;
  readonly #events = new EventEmitter();
  #leader: number | undefined;
  #boots = 0;
  #ends = 0;
  #failure: Error | undefined;
  #closed: Promise<void> | undefined;

  private constructor(name: string, supervisor: ChildProcessWithoutNullStreams, root: string) {
    this.name = name;
    this.#supervisor = supervisor;
    this.root = root;
  }

  /** Makes the host's tree, powered off. */
  static async create(name: string): Promise<Host> {
    const image = await ensureImage();
    const unique = `${name}-${randomBytes(3).toString('hex')}`;
    const hosts = path.join(cacheDirectory(), 'hosts');
    fs.mkdirSync(hosts, { recursive: true });
    // The shared lock keeps the image, the other one says that this host has a living supervisor.
    const locked = ['flock', '--no-fork', path.join(hosts, `${unique}.lock`)];
    const supervise = [process.execPath, path.join(import.meta.dirname, 'supervisor.mjs')];
    const supervisor = spawn(
      'flock',
      ['--shared', '--no-fork', `${image}.lock`, ...locked, ...supervise, unique, image, hosts],
      // Its own session: an interrupt typed at the test run must not reach it.
      { detached: true, stdio: ['pipe', 'pipe', 'pipe'] },
    );
    let complaints = '';
    supervisor.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
    // Writing to a supervisor that ended is answered by its exit event.
    supervisor.stdin.on('error', () => undefined);
    const lines = createInterface({ input: supervisor.stdout });
    return new Promise((resolve, reject) => {
      let host: Host | undefined;
      supervisor.once('error', reject);
      lines.on('line', (line) => {
        const event = JSON.parse(line) as SupervisorEvent;
        if (event.event === 'mounted') {
          host = new Host(unique, supervisor, event.root);
          // /etc/machine-id must be a host's own, and given: an empty one means "first boot".
          fs.writeFileSync(`${host.root}/etc/machine-id`, `${randomBytes(16).toString('hex')}\n`);
          fs.writeFileSync(`${host.root}/etc/hostname`, `${unique}\n`);
          resolve(host);
        } else if (host) host.#on(event);
        else if (event.event === 'error') reject(new Error(`test host: ${event.message}`));
      });
      supervisor.once('exit', (code) => {
        const error = new Error(`supervisor of test host ${unique} ended (${code}): ${complaints}`);
        reject(error);
        if (host) host.#fail(error);
      });
    });
  }

  #on(event: SupervisorEvent) {
    switch (event.event) {
      case 'leader':
        this.#leader = event.pid;
        this.#boots++;
        break;
      case 'rebooting':
        this.#leader = undefined;
        break;
      case 'off':
        this.#ends++;
        this.#leader = undefined;
        break;
      case 'error':
        this.#fail(new Error(`test host ${this.name}: ${event.message}`));
        break;
      case 'mounted':
        break;
    }
    this.#events.emit('change');
  }

  #fail(error: Error) {
    this.#leader = undefined;
    this.#failure ??= error;
    this.#events.emit('change');
  }

  async #until(description: string, condition: () => boolean, timeoutMs = bootTimeoutMs) {
    const signal = AbortSignal.timeout(timeoutMs);
    while (!condition()) {
      if (this.#failure) throw this.#failure;
      try {
        await once(this.#events, 'change', { signal });
      } catch {
        throw new Error(
          `test host ${this.name}: not ${description} after ${timeoutMs} ms\n${this.console()}`,
        );
      }
    }
  }

  /** Whether PID 1 lives. */
  get isOn(): boolean {
    return this.#leader !== undefined;
  }

  /** Ends when the host is `running` or `degraded`. */
  async boot(): Promise<void> {
    const boots = this.#boots;
    this.#supervisor.stdin.write('boot\n');
    await this.#untilBooted(boots);
  }

  async #untilBooted(boots: number) {
    const ends = this.#ends;
    await this.#until('booted', () => this.#boots > boots || this.#ends > ends);
    const states = new Set(['running', 'degraded']);
    await this.waitFor(
      `test host ${this.name} is running`,
      async () => {
        if (!this.isOn) throw new Error(`it went off while it booted\n${this.console()}`);
        const { stdout } = await this.run('systemctl', ['is-system-running'], { reject: false });
        return states.has(stdout.trim());
      },
      bootTimeoutMs,
    );
  }

  /** `systemctl reboot`; ends when the host is up again. */
  async reboot(): Promise<void> {
    const boots = this.#boots;
    // The connection breaks when the host goes down, so the status tells nothing.
    await this.run('systemctl', ['reboot'], { reject: false });
    await this.#untilBooted(boots);
  }

  /** `systemctl poweroff`; afterwards the tree can be read and changed, and booted again. */
  async powerOff(): Promise<void> {
    await this.run('systemctl', ['poweroff'], { reject: false });
    await this.#until('powered off', () => !this.isOn);
  }

  /** A power cut: every process of the host ends at once, nothing is told. */
  async crash(): Promise<void> {
    this.#supervisor.stdin.write('crash\n');
    await this.#until('crashed', () => !this.isOn, 30_000);
  }

  /** Removes the host with all its processes, mounts, cgroups and files. */
  close(): Promise<void> {
    this.#closed ??= new Promise((resolve, reject) => {
      if (this.#supervisor.exitCode !== null || this.#supervisor.signalCode !== null) {
        resolve();
        return;
      }
      this.#supervisor.once('exit', (code) => {
        if (code === 0) resolve();
        else reject(this.#failure ?? new Error(`test host ${this.name} was not removed`));
      });
      this.#supervisor.stdin.end('close\n');
    });
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Runs a program as root inside the host, with a clean environment. Rejects with its output on
   * an exit status other than 0; a signal counts as 128 + 1 and up.
   */
  async run(program: string, args: string[] = [], options: RunOptions = {}): Promise<RunResult> {
    if (this.#failure) throw this.#failure;
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

  /** Like {@link run}, but works on the tree alone while the host is off. */
  async #runInTree(program: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
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

  /** Runs a POSIX shell script that ends at the first failing command. */
  async shell(script: string, options: RunOptions = {}): Promise<RunResult> {
    return this.run('sh', ['-euc', script], options);
  }

  /** Writes a file, with its missing parent directories. */
  async writeFile(file: string, text: string, mode = 0o644): Promise<void> {
    const script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"';
    const args = ['-euc', script, 'sh', file, mode.toString(8)];
    await this.#runInTree('sh', args, { input: text });
  }

  async readFile(file: string): Promise<string> {
    return (await this.#runInTree('cat', ['--', file])).stdout;
  }

  async exists(file: string): Promise<boolean> {
    const { exitCode } = await this.#runInTree('test', ['-e', file], { reject: false });
    return exitCode === 0;
  }

  /** Creates a stopped container from one of the image's guests; works while the host is off. */
  async createContainer(
    name: string,
    kind: GuestKind,
    { config = [], lxcpath = defaultLxcpath, shutdown = 'prompt' }: ContainerOptions = {},
  ): Promise<void> {
    if (shutdown !== 'prompt' && kind !== 'busybox') {
      throw new Error(`only a busybox guest can have its shutdown changed, not ${kind}`);
    }
    const directory = `${lxcpath}/${name}`;
    const guest = `/usr/share/testguests/${kind}`;
    const script = 'mkdir -p "$2" && chmod 711 "$2" && cp -a "$1" "$2/$3"';
    await this.#runInTree('sh', ['-euc', script, 'sh', guest, lxcpath, name]);
    const template = await this.readFile(`${guest}/config`);
    const own = template.replaceAll('@ROOTFS@', `${directory}/rootfs`).replaceAll('@NAME@', name);
    await this.writeFile(`${directory}/config`, [own.trimEnd(), ...config, ''].join('\n'));
    if (shutdown === 'ignored') {
      const deaf =
        "#!/bin/sh\ntrap '' USR1 USR2 TERM PWR INT HUP\n: > /dev/booted\nwhile :; do sleep 1; done\n";
      // The name is a link to busybox itself.
      await this.#runInTree('rm', ['-f', `${directory}/rootfs/sbin/init`]);
      await this.writeFile(`${directory}/rootfs/sbin/init`, deaf, 0o755);
    } else if (shutdown !== 'prompt') {
      const program = `${directory}/rootfs/sbin/write-shutdown-marker`;
      const [first = '', ...rest] = (await this.readFile(program)).split('\n');
      await this.writeFile(
        program,
        [first, `sleep ${shutdown.seconds}`, ...rest].join('\n'),
        0o755,
      );
    }
  }

  /** Ends when a started guest of {@link createContainer} has booted and takes orders. */
  async waitForGuest(name: string, lxcpath = defaultLxcpath): Promise<void> {
    const script = 'init=$(lxc-info -P "$1" -n "$2" -pH) && test -e "/proc/$init/root/dev/booted"';
    await this.waitFor(`guest ${name} has booted`, async () => {
      const args = ['-euc', script, 'sh', lxcpath, name];
      return (await this.run('sh', args, { reject: false })).exitCode === 0;
    });
  }

  /** What the guest's own shutdown wrote last, different each time; undefined if it never ran. */
  async marker(name: string, lxcpath = defaultLxcpath): Promise<string | undefined> {
    const file = markerFile(name, lxcpath);
    return (await this.exists(file)) ? (await this.readFile(file)).trim() : undefined;
  }

  async clearMarker(name: string, lxcpath = defaultLxcpath): Promise<void> {
    await this.#runInTree('rm', ['-f', markerFile(name, lxcpath)]);
  }

  /** All properties of a unit, as `systemctl show` prints them; repeated ones one a line. */
  async unit(name: string): Promise<Record<string, string>> {
    const { stdout } = await this.run('systemctl', ['show', '--', name]);
    const properties: Record<string, string> = {};
    for (const line of stdout.split('\n')) {
      const at = line.indexOf('=');
      if (at < 1) continue;
      const [key, value] = [line.slice(0, at), line.slice(at + 1)];
      const before = properties[key];
      properties[key] = before === undefined ? value : `${before}\n${value}`;
    }
    return properties;
  }

  /** Repeats the question until the answer is true; the error names the description. */
  async waitFor(
    description: string,
    question: () => Promise<boolean>,
    timeoutMs = 30_000,
  ): Promise<void> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      if (await question()) return;
      if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${description}`);
      await sleep(100);
    }
  }

  /** The journal of this boot, or of one unit in it. */
  async journal(unit?: string): Promise<string> {
    const only = unit === undefined ? [] : ['--unit', unit];
    const args = ['--no-pager', '--boot', '--output=short-precise', ...only];
    return (await this.run('journalctl', args)).stdout;
  }

  /** What PID 1 printed on its console since the host was made. */
  console(): string {
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

const defaultLxcpath = '/var/lib/lxc';

function markerFile(name: string, lxcpath: string): string {
  return `${lxcpath}/${name}/rootfs/shutdown-marker`;
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
    if (install) await installBuild(host);
    if (boot) await host.boot();
    return host;
  } catch (error) {
    await host.close();
    throw error;
  }
}

async function installBuild(host: Host): Promise<void> {
  const installer = path.join(checkout, 'src/build/install.mjs');
  if (!fs.existsSync(installer)) {
    throw new Error(`${installer} is missing: a host without lockerd needs {install: false}`);
  }
  // The second is what the package's postinst does before the first boot.
  for (const [command = '', ...args] of [
    [process.execPath, installer, '--destdir', host.root],
    ['chroot', host.root, '/usr/bin/systemd-sysusers', 'lockerd.conf'],
  ]) {
    const child = spawn(command, args, { cwd: checkout });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const [status] = (await once(child, 'close')) as [number | null];
    if (status !== 0) throw new Error(`lockerd was not installed (exit ${status}):\n${output}`);
  }
}

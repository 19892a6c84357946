import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export interface HostOptions {
  /** Start of the host's name; a random end makes it unique. */
  name?: string;
  /** Install the built lockerd where a package would put it, before the first boot. */
  install?: boolean;
  /** Boot at once. Without it the tree can be prepared first: see {@link TestHost.boot}. */
  boot?: boolean;
}

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

/** What a supervisor reports, one JSON object a line; a kind of host adds events of its own. */
export interface SupervisorEvent {
  event: string;
}

export const environment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
};

/**
 * A host that tests boot, drive and throw away. Its supervisor, a process of its own, holds all
 * that the host has on the machine; how a kind of host starts and runs programs is its class's.
 */
export abstract class TestHost {
  readonly name: string;
  protected readonly supervisor: Supervisor;
  /** How many times longer things take here than on a host that runs at the machine's speed. */
  protected readonly patience: number = 1;
  readonly #events = new EventEmitter();
  #boots = 0;
  #ends = 0;
  #failure: Error | undefined;
  #closed: Promise<void> | undefined;

  protected constructor(name: string, supervisor: Supervisor) {
    this.name = name;
    this.supervisor = supervisor;
    supervisor.onEvent = (event) => {
      this.onEvent(event);
    };
    supervisor.onEnd = (error) => {
      this.fail(error);
    };
  }

  /** Whether programs can be run. */
  abstract get isOn(): boolean;

  /**
   * Runs a program as root inside the host, with a clean environment. Rejects with its output on
   * an exit status other than 0; a signal counts as 128 + 1 and up.
   */
  abstract run(program: string, args?: string[], options?: RunOptions): Promise<RunResult>;

  /** Like {@link run}, but works on the tree alone while the host is off. */
  protected abstract runInTree(
    program: string,
    args: string[],
    options?: RunOptions,
  ): Promise<RunResult>;

  /** What PID 1 printed on its console since the host was made. */
  abstract console(): string;

  protected abstract onEvent(event: SupervisorEvent): void;

  /** To be called when the host takes programs, after each boot. */
  protected booted(): void {
    this.#boots++;
    this.#events.emit('change');
  }

  /** To be called when the host goes down: to boot again by itself, or for good. */
  protected wentDown(forGood: boolean): void {
    if (forGood) this.#ends++;
    this.#events.emit('change');
  }

  protected fail(error: Error): void {
    this.#failure ??= error;
    this.#events.emit('change');
  }

  protected throwFailure(): void {
    if (this.#failure) throw this.#failure;
  }

  async #until(description: string, condition: () => boolean, timeoutMs = 180_000) {
    const limitMs = timeoutMs * this.patience;
    const signal = AbortSignal.timeout(limitMs);
    while (!condition()) {
      this.throwFailure();
      try {
        await once(this.#events, 'change', { signal });
      } catch {
        throw new Error(
          `test host ${this.name}: not ${description} after ${limitMs} ms\n${this.console()}`,
        );
      }
    }
  }

  /** Ends when the host is `running` or `degraded`. */
  async boot(): Promise<void> {
    const boots = this.#boots;
    this.supervisor.send('boot');
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
        // An emergency shell, which nobody will ever leave.
        if (stdout.trim() === 'maintenance') {
          throw new Error(`test host ${this.name} could not boot\n${this.console()}`);
        }
        return states.has(stdout.trim());
      },
      180_000,
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
    const ends = this.#ends;
    await this.run('systemctl', ['poweroff'], { reject: false });
    await this.#until('powered off', () => this.#ends > ends);
  }

  /** A power cut: every process of the host ends at once, nothing is told. */
  async crash(): Promise<void> {
    const ends = this.#ends;
    this.supervisor.send('crash');
    await this.#until('crashed', () => this.#ends > ends, 30_000);
  }

  /** Removes the host with all its processes, mounts, cgroups and files. */
  close(): Promise<void> {
    this.#closed ??= this.supervisor.close().then((clean) => {
      if (!clean) throw this.#failure ?? new Error(`test host ${this.name} was not removed`);
    });
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Runs a POSIX shell script that ends at the first failing command. */
  async shell(script: string, options: RunOptions = {}): Promise<RunResult> {
    return this.run('sh', ['-euc', script], options);
  }

  /** Writes a file, with its missing parent directories. */
  async writeFile(file: string, text: string, mode = 0o644): Promise<void> {
    const script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"';
    const args = ['-euc', script, 'sh', file, mode.toString(8)];
    await this.runInTree('sh', args, { input: text });
  }

  async readFile(file: string): Promise<string> {
    return (await this.runInTree('cat', ['--', file])).stdout;
  }

  async exists(file: string): Promise<boolean> {
    const { exitCode } = await this.runInTree('test', ['-e', file], { reject: false });
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
    await this.runInTree('sh', ['-euc', script, 'sh', guest, lxcpath, name]);
    const template = await this.readFile(`${guest}/config`);
    const own = template.replaceAll('@ROOTFS@', `${directory}/rootfs`).replaceAll('@NAME@', name);
    await this.writeFile(`${directory}/config`, [own.trimEnd(), ...config, ''].join('\n'));
    if (shutdown === 'ignored') {
      const deaf =
        "#!/bin/sh\ntrap '' USR1 USR2 TERM PWR INT HUP\n: > /dev/booted\nwhile :; do sleep 1; done\n";
      // The name is a link to busybox itself.
      await this.runInTree('rm', ['-f', `${directory}/rootfs/sbin/init`]);
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
    const script =
      'init=$(timeout 15 lxc-info -P "$1" -n "$2" -pH) && test -e "/proc/$init/root/dev/booted"';
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
    await this.runInTree('rm', ['-f', markerFile(name, lxcpath)]);
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
    const limitMs = timeoutMs * this.patience;
    const end = Date.now() + limitMs;
    for (;;) {
      if (await question()) return;
      if (Date.now() > end) throw new Error(`not within ${limitMs} ms: ${description}`);
      await sleep(100 * this.patience);
    }
  }

  /** The journal of this boot, or of one unit in it. */
  async journal(unit?: string): Promise<string> {
    const only = unit === undefined ? [] : ['--unit', unit];
    const args = ['--no-pager', '--boot', '--output=short-precise', ...only];
    return (await this.run('journalctl', args)).stdout;
  }
}

interface SupervisorPlace {
  /** The supervisor's program. */
  program: string;
  /** Name of the host. */
  name: string;
  /** Path of the image; a file beside it, with `.lock` at its end, keeps it. */
  image: string;
  /** Directory of all running hosts of this kind. */
  hosts: string;
  /** Further arguments of the supervisor. */
  settings?: string[];
}

/** The process that keeps one host; it removes the host when this process ends, however it ends. */
export class Supervisor {
  onEvent: (event: SupervisorEvent) => void = () => undefined;
  onEnd: (error: Error) => void = () => undefined;
  readonly #process: ChildProcessWithoutNullStreams;

  constructor({ program, name, image, hosts, settings = [] }: SupervisorPlace) {
    fs.mkdirSync(hosts, { recursive: true });
    // The shared lock keeps the image, the other one says that this host has a living supervisor.
    const locked = ['flock', '--no-fork', path.join(hosts, `${name}.lock`)];
    const supervise = [process.execPath, program, name, image, hosts, ...settings];
    this.#process = spawn(
      'flock',
      ['--shared', '--no-fork', `${image}.lock`, ...locked, ...supervise],
      // Its own session: an interrupt typed at the test run must not reach it.
      { detached: true, stdio: ['pipe', 'pipe', 'pipe'] },
    );
    let complaints = '';
    this.#process.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
    // Writing to a supervisor that ended is answered by its exit event.
    this.#process.stdin.on('error', () => undefined);
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      this.onEvent(JSON.parse(line) as SupervisorEvent);
    });
    this.#process.once('error', (error) => {
      this.onEnd(error);
    });
    this.#process.once('exit', (code) => {
      this.onEnd(new Error(`supervisor of test host ${name} ended (${code}): ${complaints}`));
    });
  }

  /** The first event, which tells that the host was made; rejects when it could not be. */
  made<Event extends SupervisorEvent>(expected: string): Promise<Event> {
    return new Promise((resolve, reject) => {
      this.onEvent = (event) => {
        if (event.event === expected) resolve(event as Event);
        else if (isError(event)) reject(new Error(`test host: ${event.message}`));
      };
      this.onEnd = reject;
    });
  }

  send(word: string): void {
    this.#process.stdin.write(`${word}\n`);
  }

  /** Whether all of the host could be removed. */
  close(): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.#process.exitCode !== null || this.#process.signalCode !== null) {
        resolve(true);
        return;
      }
      this.#process.once('exit', (code) => {
        resolve(code === 0);
      });
      this.#process.stdin.end('close\n');
    });
  }
}

export function isError(event: SupervisorEvent): event is SupervisorEvent & { message: string } {
  return event.event === 'error';
}

/** A name for one host. */
export function uniqueName(name: string): string {
  return `${name}-${randomBytes(3).toString('hex')}`;
}

/** Gives a tree an identity of its own. */
export function identify(root: string, name: string): void {
  // /etc/machine-id must be a host's own, and given: an empty one means "first boot".
  fs.writeFileSync(`${root}/etc/machine-id`, `${randomBytes(16).toString('hex')}\n`);
  fs.writeFileSync(`${root}/etc/hostname`, `${name}\n`);
}

const checkout = path.resolve(import.meta.dirname, '../..');

/** Puts the built lockerd where a package would put it in a tree. */
export async function installBuild(root: string): Promise<void> {
  await runHere(process.execPath, [
    path.join(checkout, 'src/build/install.mjs'),
    '--destdir',
    root,
  ]);
}

/** What the package's postinst does before the first boot: makes the user of the service. */
export async function makeUser(root: string): Promise<void> {
  await runHere('chroot', [root, '/usr/bin/systemd-sysusers', 'lockerd.conf']);
}

async function runHere(program: string, args: string[]): Promise<void> {
  const child = spawn(program, args, { cwd: checkout });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new Error(`lockerd was not installed (exit ${status}):\n${output}`);
}

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

const defaultLxcpath = '/var/lib/lxc';

function markerFile(name: string, lxcpath: string): string {
  return `${lxcpath}/${name}/rootfs/shutdown-marker`;
}

/**
 * What tests see of a host, whatever kind of machine it is. This folder has what all kinds share:
 * images, supervisors, guests and helpers. What only one kind needs is in test/host or test/vm.
 */

import { EventEmitter, once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunOptions, RunResult } from './execute.ts';
import type { Supervisor, SupervisorEvent } from './supervisor.ts';

export interface HostOptions {
  /** Start of the host's name; a random end makes it unique. */
  name?: string;
  /** Install the built lockerd where a package would put it, before the first boot. */
  install?: boolean;
  /** Boot at once. Without it the tree can be prepared first: see {@link TestHost.boot}. */
  boot?: boolean;
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
    // LXC is asked for the first process once: an emulated guest boots slower while that is done again and again.
    const script = `
      init=$(timeout 15 lxc-info -P "$1" -n "$2" -pH)
      test -n "$init"
      for try in 1 2 3 4 5 6 7 8 9 10; do
        test ! -e "/proc/$init/root/dev/booted" || exit 0
        test -d "/proc/$init"
        sleep "$3"
      done
      exit 1`;
    const args = ['-euc', script, 'sh', lxcpath, name, String(this.patience / 10)];
    await this.waitFor(`guest ${name} has booted`, async () => {
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
    for (let pauseMs = 100; ;) {
      if (await question()) return;
      if (Date.now() > end) throw new Error(`not within ${limitMs} ms: ${description}`);
      await sleep(pauseMs * this.patience);
      // Where each question costs an emulated processor time, what is waited for comes later.
      if (this.patience > 1) pauseMs = Math.min(pauseMs * 1.25, 250);
    }
  }

  /** The journal of this boot, or of one unit in it. */
  async journal(unit?: string): Promise<string> {
    const only = unit === undefined ? [] : ['--unit', unit];
    const args = ['--no-pager', '--boot', '--output=short-precise', ...only];
    return (await this.run('journalctl', args)).stdout;
  }
}

const defaultLxcpath = '/var/lib/lxc';

function markerFile(name: string, lxcpath: string): string {
  return `${lxcpath}/${name}/rootfs/shutdown-marker`;
}

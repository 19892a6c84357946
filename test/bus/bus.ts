import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectBus, type ServiceConnection } from '../../src/bus/connection.ts';

interface BusOptions {
  /** Well-known names whose owners anybody may call; like on the system bus, no other ones. */
  names?: readonly string[];
  /** Limits of dbus-daemon, such as max_message_size. */
  limits?: Readonly<Record<string, number>>;
  /** Programs that the bus starts when somebody calls their names. */
  services?: Readonly<Record<string, readonly string[]>>;
}

interface RunOptions {
  /** Runs with this uid and gid and no groups; nobody has to exist with them. */
  uid?: number;
  input?: string;
  timeoutMs?: number;
  env?: Readonly<Record<string, string>>;
}

export interface RunResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

interface PolkitOptions {
  /** Takes the place of /usr/share/polkit-1/actions; world-readable, as the directory of rules. */
  actionsDir: string;
  /** Takes the place of /etc/polkit-1/rules.d; the packaged rules are hidden. */
  rulesDir: string;
}

/** The names that the tests' services have. */
const defaultNames = [
  'org.lockerd1',
  'org.lockerd1.Test',
  'org.freedesktop.PolicyKit1',
  'org.freedesktop.systemd1',
];

const startTimeoutMs = 30_000;

/** The message bus that the tests run on: each project of theirs says which one. */
export const busDaemon = process.env['LOCKERD_TEST_BUS'] ?? 'dbus-daemon';

/** Starts it, in the foreground; its first line of output comes when clients can connect. */
function daemonCommand(config: string, socket: string): string[] {
  if (busDaemon === 'dbus-daemon') {
    const options = ['--nofork', '--nopidfile', '--nosyslog', '--print-address'];
    return [busDaemon, `--config-file=${config}`, ...options];
  }
  const script = `
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 none /run
    exec /usr/bin/python3 "$@"`;
  const program = path.join(import.meta.dirname, 'broker.py');
  return ['unshare', '-m', 'sh', '-ec', script, 'sh', program, socket, config];
}

/** The policy of /usr/share/dbus-1/system.conf, but anybody may own names. */
function configuration(directory: string, { names = defaultNames, limits = {} }: BusOptions) {
  const calls = names.map((name) => `<allow send_destination="${name}"/>`);
  const limitLines = Object.entries(limits).map(
    ([name, value]) => `<limit name="${name}">${value}</limit>`,
  );
  return `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
<type>system</type>
<auth>EXTERNAL</auth>
<listen>unix:path=${path.join(directory, 'socket')}</listen>
<servicedir>${directory}</servicedir>
<policy context="default">
<allow user="*"/>
<allow own="*"/>
<deny send_type="method_call"/>
<allow send_type="signal"/>
<allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/>
<allow receive_type="method_call"/>
<allow receive_type="method_return"/>
<allow receive_type="error"/>
<allow receive_type="signal"/>
<allow send_destination="org.freedesktop.DBus"/>
<allow send_interface="org.freedesktop.PolicyKit1.AuthenticationAgent"/>
${calls.join('\n')}
</policy>
${limitLines.join('\n')}
</busconfig>
`;
}

/** Ends with this process, however that ends. */
function spawnBound(
  argv: readonly string[],
  options: { uid?: number; env?: NodeJS.ProcessEnv; stdio?: ('pipe' | 'inherit' | 'ignore')[] },
): ChildProcess {
  const { uid, env = process.env, stdio = ['pipe', 'pipe', 'pipe'] } = options;
  const identity =
    uid === undefined ? [] : ['--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups'];
  return spawn('setpriv', [...identity, '--pdeathsig', 'KILL', '--', ...argv], {
    env,
    stdio,
    cwd: '/',
  });
}

async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}

/** A message bus of its own, with the policy of the system bus. */
export class PrivateBus {
  readonly directory: string;
  readonly socket: string;
  readonly address: string;
  #daemon: ChildProcess | undefined;
  readonly #cleanups: (() => Promise<void> | void)[] = [];

  constructor(options: BusOptions) {
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-bus-'));
    // Clients have other uids.
    fs.chmodSync(this.directory, 0o755);
    this.socket = path.join(this.directory, 'socket');
    this.address = `unix:path=${this.socket}`;
    fs.writeFileSync(path.join(this.directory, 'bus.conf'), configuration(this.directory, options));
    for (const [name, command] of Object.entries(options.services ?? {})) {
      const variables = [`DBUS_SYSTEM_BUS_ADDRESS=${this.address}`];
      const exec = ['/usr/bin/env', ...variables, ...command].join(' ');
      const lines = ['[D-BUS Service]', `Name=${name}`, `Exec=${exec}`, 'User=root', ''];
      fs.writeFileSync(path.join(this.directory, `${name}.service`), lines.join('\n'));
    }
  }

  /** Starts the daemon; again at the same address after stop(). */
  async start(): Promise<void> {
    fs.rmSync(this.socket, { force: true });
    const config = path.join(this.directory, 'bus.conf');
    const daemon = spawnBound(daemonCommand(config, this.socket), {
      env: this.environment,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.#daemon = daemon;
    if (daemon.stdout === null) throw new Error(`${busDaemon} has no output`);
    const lines = createInterface(daemon.stdout);
    const failed = once(daemon, 'exit').then(([code]) => {
      throw new Error(`${busDaemon} ended with ${String(code)}`);
    });
    await Promise.race([once(lines, 'line'), failed]);
    failed.catch(() => undefined);
  }

  /** Kills the daemon, as a crash would. */
  async stop(): Promise<void> {
    if (this.#daemon !== undefined) await stop(this.#daemon, 'SIGKILL');
  }

  get environment(): NodeJS.ProcessEnv {
    return { ...process.env, DBUS_SYSTEM_BUS_ADDRESS: this.address, LC_ALL: 'C.UTF-8' };
  }

  /** A connection of this process, closed with the bus. */
  async connect(log?: (problem: string, error: unknown) => void): Promise<ServiceConnection> {
    const connection = await connectBus({ address: this.address, ...(log && { log }) });
    this.onClose(() => {
      connection.close();
    });
    return connection;
  }

  /** Runs a client program to its end. */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const { uid, input = '', timeoutMs = 60_000, env } = options;
    const child = spawnBound(argv, {
      env: { ...this.environment, ...env },
      ...(uid !== undefined && { uid }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdin?.on('error', () => undefined).end(input);
    const timeout = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    clearTimeout(timeout);
    if (code === null) throw new Error(`${argv.join(' ')}: ended by ${signal}\n${stdout}${stderr}`);
    return { stdout, stderr, exitCode: code };
  }

  /** Starts a program that stays; it is killed with the bus. */
  spawn(argv: readonly string[], options: { uid?: number; env?: NodeJS.ProcessEnv } = {}) {
    const child = spawnBound(argv, { ...options, env: { ...this.environment, ...options.env } });
    this.onClose(() => stop(child, 'SIGKILL'));
    return child;
  }

  /** Resolves when somebody owns the name. */
  async waitForName(name: string): Promise<void> {
    const connection = await connectBus({ address: this.address });
    try {
      const end = Date.now() + startTimeoutMs;
      for (;;) {
        const [owned] = await connection.call({
          destination: 'org.freedesktop.DBus',
          path: '/org/freedesktop/DBus',
          interface: 'org.freedesktop.DBus',
          member: 'NameHasOwner',
          signature: 's',
          body: [name],
        });
        if (owned === true) return;
        if (Date.now() > end) throw new Error(`nobody owns ${name}`);
        await sleep(30);
      }
    } finally {
      connection.close();
    }
  }

  onClose(cleanup: () => Promise<void> | void): void {
    this.#cleanups.push(cleanup);
  }

  async close(): Promise<void> {
    for (const cleanup of this.#cleanups.splice(0).reverse()) await cleanup();
    await this.stop();
    fs.rmSync(this.directory, { recursive: true });
  }
}

/** A private bus; close() it. */
export async function startPrivateBus(options: BusOptions = {}): Promise<PrivateBus> {
  const bus = new PrivateBus(options);
  await bus.start();
  return bus;
}

/** The real polkitd with actions and rules of its own. Ends with the bus. */
export async function startPolkit(bus: PrivateBus, options: PolkitOptions): Promise<ChildProcess> {
  if (process.getuid?.() !== 0) throw new Error('polkitd needs root: run the tests as root');
  for (const directory of Object.values(options) as string[]) {
    // polkitd runs as user polkitd, and ignores what that user cannot read.
    const { mode } = fs.statSync(directory);
    if ((mode & 0o005) !== 0o005) throw new Error(`${directory} has to be readable for polkitd`);
  }
  const script = `
    mount --make-rprivate /
    mount --bind "$1" /usr/share/polkit-1/actions
    mount --bind "$2" /etc/polkit-1/rules.d
    if [ -d /usr/share/polkit-1/rules.d ]; then mount -t tmpfs -o mode=755 none /usr/share/polkit-1/rules.d; fi
    exec /usr/lib/polkit-1/polkitd --no-debug`;
  const { actionsDir, rulesDir } = options;
  const argv = ['unshare', '-m', 'sh', '-ec', script, 'sh', actionsDir, rulesDir];
  const polkitd = bus.spawn(argv);
  let problem = '';
  polkitd.stderr?.setEncoding('utf8').on('data', (text: string) => (problem += text));
  polkitd.stdout?.resume();
  const failed = once(polkitd, 'exit').then(() => {
    throw new Error(`polkitd ended: ${problem}`);
  });
  await Promise.race([bus.waitForName('org.freedesktop.PolicyKit1'), failed]);
  failed.catch(() => undefined);
  return polkitd;
}

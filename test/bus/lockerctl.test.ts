import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pMap from 'p-map';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Variant, type VariantMap } from '../../src/bus/values.ts';
import type { Limits } from '../../src/core/user-quota.ts';
import type { Decision } from '../../src/core/ports.ts';
import { LockerdError, type ErrorCode } from '../../src/model/errors.ts';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { collect, type Run } from './support.ts';
import { LockerdOnFakes, never, type ContainerSetup } from './lockerd-on-fakes.ts';
import { copyLockerctl } from './installed.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
const program = join(project, 'dist/lockerctl');
const gigabyte = 2n ** 30n;
const nobody = 65534;
const jobVerbs = [
  ...['balloon', 'freeze', 'mount-locker', 'reboot', 'set-autostart', 'start', 'stop', 'thaw'],
  'unmount-locker',
];

let bus: PrivateBus;
let service: LockerdOnFakes;
/** In front of PATH: programs that lockerctl calls. */
let bin: string;

interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
}

const children = new Set<ChildProcess>();

function environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  return {
    PATH: `${bin}:${process.env['PATH'] ?? '/usr/bin:/bin'}`,
    DBUS_SYSTEM_BUS_ADDRESS: bus.address,
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    HOME: bus.directory,
    ...extra,
  };
}

function start(command: string, args: readonly string[], options: RunOptions = {}): ChildProcess {
  const child = spawn(command, args, {
    env: environment(options.env),
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

function lockerctl(args: readonly string[], options?: RunOptions): Promise<Run> {
  return collect(start(process.execPath, [join(bin, 'lockerctl'), ...args], options));
}

/** On a terminal of 80 columns; all that it shows is in stdout. */
function onTerminal(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const words = [process.execPath, join(bin, 'lockerctl'), ...args];
  const command = `stty cols 80 rows 24; exec ${words.map((word) => `'${word}'`).join(' ')}`;
  const env = { TERM: 'xterm', ...options.env };
  return collect(start('script', ['-qec', command, '/dev/null'], { ...options, env }));
}

function withoutColours(text: string): string {
  return text.replaceAll(/\u001b\[[0-9;]*m/g, '').replaceAll('\r\n', '\n');
}

/** A program of this test in front of the real one. */
function shadow(name: string, script: string): void {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, name), 0o755);
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never so: ${condition.toString()}`);
    await sleep(20);
  }
}

/** So many containers that do not run. */
function stopped(count: number, prefix: string): Record<string, ContainerSetup> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`${prefix}${index}`, {}]));
}

/** Fails as the outside does. */
function failing(message: string, code: ErrorCode = 'Failed'): () => never {
  return () => {
    throw new LockerdError(code, message);
  };
}

/** Names of the methods that were called and change something. */
function changes(): string[] {
  return service.calls
    .map(({ member }) => member)
    .filter((member) => !/^(Get|List|Wait|Introspect)/.test(member));
}

function optionsOf(member: string): Record<string, unknown> {
  const call = service.calls.find((made) => made.member === member);
  if (call === undefined) throw new Error(`${member} was not called`);
  const options = call.args.at(-1) as VariantMap;
  return Object.fromEntries(Object.entries(options).map(([name, { value }]) => [name, value]));
}

async function serviceWithContainers(limits?: Partial<Limits>): Promise<LockerdOnFakes> {
  const started = new LockerdOnFakes(bus.address, limits);
  await started.start();
  await started.defineLockers({ web_vol: '/dev/vg0/web', sandbox: 'tmpfs', data: '/dev/vg0/data' });
  await started.define({
    web: {
      state: 'running',
      leader: 1234,
      autostart: true,
      autostartReasons: ['config', 'enabled'],
      sinceUsec: 1_700_000_000_000_000n,
      memoryMax: 2n * gigabyte,
      lockers: [
        { name: 'web_vol', readOnly: false },
        { name: 'sandbox', readOnly: true },
      ],
    },
    db: {},
    mail: { state: 'frozen', leader: 77 },
  });
  return started;
}

beforeEach(async () => {
  expect(existsSync(program), 'run first: npm run build').toBe(true);
  bus = await startPrivateBus();
  bin = join(bus.directory, 'bin');
  mkdirSync(bin);
  copyLockerctl(join(bin, 'lockerctl'));
  service = await serviceWithContainers();
});

afterEach(async () => {
  // What one of them runs, such as an agent, ends with its terminal.
  for (const child of children) child.kill('SIGKILL');
  service.stop();
  await bus.close();
});

describe('list', () => {
  test('prints the whole table into a pipe', async () => {
    const { stdout, status } = await lockerctl(['list']);
    expect(stdout).toBe(
      `CONTAINER STATE   AUTOSTART    LEADER MEMORY LIMIT LOCKERS
db        stopped no                -      -     - -
mail      frozen  no               77 120.5M     - -
web       running yes (config)   1234 120.5M    2G sandbox:ro,web_vol

3 containers listed.
`,
    );
    expect(status).toBe(0);
  });

  test('is what is done without a command', async () => {
    expect(await lockerctl([])).toEqual(await lockerctl(['list']));
  });

  test('--no-legend, --state and --quiet', async () => {
    const bare = await lockerctl(['list', '--no-legend', '--state=running']);
    expect(bare.stdout).toBe('web running yes (config) 1234 120.5M 2G sandbox:ro,web_vol\n');
    const names = await lockerctl(['list', '-q', '--state=running,frozen']);
    expect(names.stdout).toBe('mail\nweb\n');
    const empty = await lockerctl(['list', '--state=broken']);
    expect(empty.stdout).toBe('No containers listed.\n');
  });

  test('--json', async () => {
    const { stdout } = await lockerctl(['list', '--json']);
    const containers = JSON.parse(stdout) as Record<string, unknown>[];
    expect(containers.map(({ container }) => container)).toEqual(['db', 'mail', 'web']);
    expect(containers[2]).toMatchObject({
      state: 'running',
      autostart: true,
      autostart_reasons: ['config', 'enabled'],
      leader: 1234,
      memory: 126_353_408,
      memory_limit: Number(2n * gigabyte),
      swap_limit: null,
      lockers: [
        { locker: 'sandbox', read_only: true },
        { locker: 'web_vol', read_only: false },
      ],
    });
    expect(containers[0]).toMatchObject({ leader: null, memory: null, memory_limit: null });
  });

  describe('guests', () => {
    const seen = {
      addresses: [
        { interface: 'eth0', address: '192.0.2.5' },
        { interface: '', address: '198.51.100.7' },
        { interface: 'eth0', address: 'fe80::5' },
      ],
      ...{ hasMoreAddresses: false, sharesNetwork: false, hostName: 'front', isUnprivileged: true },
      os: { name: 'Tiny Linux 1', id: 'tiny', version: '1' },
    };

    test('are looked at together, and only where a column needs it', async () => {
      service.guests = { web: { ...seen, startUsec: BigInt(Date.now() - 3_723_500) * 1000n } };
      await lockerctl(['list']);
      await lockerctl(['list', '--json']);
      await lockerctl(['list', '-q', '--wide']);
      await lockerctl(['list', '--columns=container,groups,memory']);
      await lockerctl(['status', '-q', 'web']);
      expect(service.looks).toEqual([]);
      const columns = '--columns=CONTAINER,addresses,hostname,os,uptime,unprivileged,groups';
      const { stdout } = await lockerctl(['list', columns]);
      expect(stdout).toBe(
        `CONTAINER ADDRESSES              HOSTNAME OS            UPTIME UNPRIVILEGED GROUPS
db        -                      -        -                  - -            -
mail      -                      -        -                  - -            -
web       192.0.2.5,198.51.100.7 front    Tiny Linux 1 1h 2min yes          -

3 containers listed.
`,
      );
      expect(service.looks).toEqual([['mail', 'web']]);
      const wide = await lockerctl(['list', '--wide', '--json']);
      expect((JSON.parse(wide.stdout) as unknown[])[2]).toMatchObject({
        ...{ container: 'web', groups: [], host_name: 'front', os: 'Tiny Linux 1', os_id: 'tiny' },
        ...{ os_version: '1', unprivileged: true, more_addresses: false },
        addresses: [
          { interface: 'eth0', address: '192.0.2.5' },
          { interface: null, address: '198.51.100.7' },
          { interface: 'eth0', address: 'fe80::5' },
        ],
      });
      expect((JSON.parse(wide.stdout) as unknown[])[0]).toMatchObject({
        addresses: null,
        os: null,
      });
    });

    test('are a part of the status', async () => {
      service.guests = {
        web: { ...seen, hasMoreAddresses: true, startUsec: BigInt(Date.now() - 3_723_500) * 1000n },
        mail: { sharesNetwork: true, os: { id: 'x' } },
      };
      const { stdout } = await lockerctl(['status', 'web']);
      expect(stdout).toContain(`       Leader: 1234
    Host name: front
           OS: Tiny Linux 1
       Uptime: 1h 2min
         Root: unprivileged
    Addresses: 192.0.2.5 (eth0)
               198.51.100.7
               fe80::5 (eth0)
               and more
`);
      const mail = (await lockerctl(['status', 'mail'])).stdout;
      expect(mail).toContain('    Addresses: those of the host, whose network it shares\n');
      expect(mail).toContain('           OS: x\n');
    });

    test('that nobody can look at are a warning', async () => {
      service.lookFailure = new LockerdError('Failed', 'the helper is away');
      const { status, stdout, stderr } = await lockerctl(['status', 'web']);
      expect(status).toBe(0);
      expect(stdout).toContain('● web');
      expect(stderr).toBe('lockerctl: warning: guests cannot be looked at: the helper is away\n');
    });

    test('write nothing to a terminal but text', async () => {
      const evil = 'e\u001b]0;t\u0007\u202e\n\u{e0041}';
      service.guests = {
        web: {
          addresses: [{ interface: evil, address: evil }],
          ...{ hostName: evil, os: { name: evil, id: evil, version: evil } },
        },
      };
      for (const command of [
        ['list', '--wide'],
        ['status', 'web'],
        ['list', '--wide', '--json'],
      ]) {
        const { stdout } = await lockerctl(command);
        expect(stdout).toContain('e\\');
        expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e\u{e0041}]/u);
      }
    });

    test.each([
      ['--columns=adresses', '"adresses" is not a column', 'Did you mean "addresses"?'],
      ['--columns=toString', '"toString" is not a column', ''],
      ['--columns=,', 'option --columns needs the name of a column', ''],
    ])('%s is wrong usage', async (option, message, guess) => {
      const { status, stderr } = await lockerctl(['list', option]);
      expect(status).toBe(2);
      expect(stderr).toContain(message);
      expect(stderr).toContain(guess);
    });
  });

  test('-j is for people on a terminal and for programs elsewhere', async () => {
    const short = (await lockerctl(['-j', 'lockers'])).stdout;
    expect(short.trimEnd().split('\n')).toHaveLength(1);
    expect((await lockerctl(['lockers', '--json=off'])).stdout).toMatch(/^LOCKER /);
    const shown = withoutColours((await onTerminal(['lockers', '-j'])).stdout);
    expect(shown).toBe(`${JSON.stringify(JSON.parse(short), null, 2)}\n`);
    expect((await onTerminal(['lockers', '--json=short'])).stdout.trimEnd()).toBe(short.trimEnd());
  });

  test('a hostile service sends nothing to a terminal but text', async () => {
    const evil = 'e\u001b]0;t\u0007\u001b[2J\u009b31m\r\n\u202e\u2028\u061c\u{e0041}z';
    const states = [evil, `running${evil}`];
    await service.defineLockers({ [evil]: evil });
    const onContainers: [ContainerSetup['state'], (name: string) => string[]][] = [
      ['stopped', (name) => ['start', name]],
      ['running', (name) => ['stop', name]],
      ['running', (name) => ['restart', name]],
      ['running', (name) => ['reboot', name]],
      ['running', (name) => ['freeze', name]],
      ['frozen', (name) => ['thaw', name]],
      ['running', (name) => ['balloon', name, '1G']],
      ['running', (name) => ['attach', name, evil]],
      ['running', (name) => ['detach', name, evil, '--persist']],
      ['stopped', (name) => ['enable', name]],
      ['stopped', (name) => ['start', name, '--json']],
      ['stopped', (name) => ['start', name, '--no-block']],
      // Refused: nothing is to be done.
      ['running', (name) => ['start', name]],
      ['stopped', (name) => ['reboot', name]],
      ['running', (name) => ['status', name]],
      ['running', (name) => ['permissions', name]],
    ];
    const inGeneral = [
      ...[['list'], ['status'], ['lockers'], ['jobs'], ['permissions'], ['cancel', '7']],
      ...[
        ['list', '--json'],
        ['list', '-q'],
        ['status', '--json'],
        ['lockers', '--json'],
        ['permissions', '--json'],
        ['start', evil],
      ],
    ];
    const bad = /[\0-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u{e0041}]/u;
    const plain = (text: string): string =>
      withoutColours(text)
        .replaceAll('\r\u001b[K', '')
        .replaceAll(/\r(?=[^\n]*\u001b\[K)/g, '');
    const failure = new LockerdError('Failed', evil);
    for (const [index, state] of states.entries()) {
      service.forge = (key, value) => {
        if (key.startsWith('org.lockerd1.')) return [evil, evil];
        if (key === 'State') return [key, new Variant('s', state)];
        if (key === 'Phase' || key === 'Description') return [key, new Variant('s', evil)];
        if (key === 'Warnings') return [key, new Variant('as', [evil])];
        return [key, value];
      };
      service.work = () => {
        if (index === 0) throw failure;
        return undefined;
      };
      const setups = onContainers.map(([setup], at) => [
        `web${index}${at}${evil}`,
        {
          state: setup,
          problem: setup === 'stopped' ? '' : `${evil}\n${evil}`,
          lockers: at === 0 ? [{ name: evil, readOnly: true }] : [],
        },
      ]);
      const containers = Object.fromEntries(setups) as Record<string, ContainerSetup>;
      await service.define(containers);
      const names = Object.keys(containers);
      const commands = [
        ...onContainers.map(([, command], at) => command(names[at] ?? '')),
        ...inGeneral,
      ];
      const showsText = async (command: readonly string[]): Promise<void> => {
        const { stdout, stderr } = await onTerminal(command);
        const shown = plain(stdout + stderr).replaceAll('\u001b[K', '');
        const said = `${command.join(' ')}: ${JSON.stringify(shown)}`;
        expect(bad.exec(shown)?.[0], said).toBe(undefined);
      };
      await pMap(commands, showsText, { concurrency: 4 });
      // Whatever is done with a container, its job must have been reached.
      const verbs = new Set(service.jobs.map(({ verb }) => verb));
      expect([...verbs].sort()).toEqual(jobVerbs);
    }
    service.outside.decide = () => {
      throw failure;
    };
    for (const run of [await lockerctl(['start', 'db']), await onTerminal(['start', 'db'])]) {
      expect(bad.test(plain(run.stdout + run.stderr))).toBe(false);
      expect(run.stdout + run.stderr).toContain('\\x1b]0;t');
    }
    const { stdout } = await lockerctl(['status', '--json']);
    const found = JSON.parse(stdout) as { container: string; state: string }[];
    // What is no terminal's gets the very text back.
    expect(found.find(({ container }) => container.startsWith('web1'))?.state).toBe(states[1]);
  }, 180_000);

  test('control characters in names are escaped, on a terminal and in a pipe', async () => {
    await service.define({ 'evil\u001b[31m\nname': {} });
    for (const args of [['list'], ['list', '-q'], ['status'], ['list', '--json']]) {
      const { stdout } = await lockerctl(args);
      expect(stdout).toMatch(/evil\\(x|u00)1b\[31m\\(x0a|n)name/);
      expect(stdout).not.toContain('\u001b');
    }
  });

  test('fits a terminal of 80 columns, cut only there', async () => {
    const lockers = Array.from({ length: 9 }, (_, index) => ({
      name: `a-locker-with-a-long-name-${index}`,
      readOnly: false,
    }));
    await service.define({
      'a-container-whose-name-has-quite-some-length': {
        state: 'running',
        leader: 4_194_303,
        lockers,
      },
    });
    const terminal = await onTerminal(['list']);
    const lines = withoutColours(terminal.stdout).trimEnd().split('\n');
    expect(lines.length).toBe(7);
    expect(Math.max(...lines.map((line) => line.length))).toBe(80);
    expect(lines[1]).toMatch(/^a-container-whose\S*… +running .*…$/);
    const pipe = await lockerctl(['list']);
    expect(pipe.stdout).toContain(lockers.map(({ name }) => name).join(','));
  });

  test('has colours on a terminal, but not with NO_COLOR', async () => {
    const coloured = await onTerminal(['list']);
    expect(coloured.stdout).toContain('\u001b[1;32mrunning\u001b[0m');
    const plain = await onTerminal(['list'], { env: { NO_COLOR: '1' } });
    expect(plain.stdout).not.toContain('\u001b');
    expect(withoutColours(coloured.stdout)).toBe(withoutColours(plain.stdout));
  });

  test('whoever reads only the beginning gets no complaint', async () => {
    await service.define(stopped(2000, 'container-number-'));
    const command = `"$0" "$1" list | head -n 1; exit "\${PIPESTATUS[0]}"`;
    const args = ['-c', command, process.execPath, join(bin, 'lockerctl')];
    const { stdout, stderr, status } = await collect(start('bash', args));
    expect(stdout).toMatch(/^CONTAINER .*\n$/);
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  });
});

describe('status', () => {
  test('shows everything about a container that runs', async () => {
    service.work = ({ progress }) => {
      progress('reclaiming', 0.4);
      return never();
    };
    const waiting = lockerctl(['balloon', 'web', '1G']);
    await until(() => service.jobs[0]?.phase === 'reclaiming');
    const { stdout, status } = await lockerctl(['status', 'web']);
    expect(stdout.replace(/; .* ago$/m, '; some time ago')).toBe(
      `● web
      State: running since Tue 2023-11-14 22:13:20 UTC; some time ago
       Unit: lxc@web.service (starts at boot: lxc.start.auto; enabled with systemctl)
     Config: /var/lib/lxc/web/config
     Leader: 1234
     Memory: 120.5M (limit: 2G, peak: 300M, pressure: 0.25%)
        CPU: 1min 30s
      Tasks: 12
      Disks: 7M read, 3M written
    Lockers: sandbox:ro
             web_vol
       Jobs: 1 balloon running reclaiming 40%
`,
    );
    expect(status).toBe(0);
    const json = await lockerctl(['status', 'web', '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject([
      { container: 'web', jobs: [{ job: 1, verb: 'balloon', progress: 0.4, uid: 0 }] },
    ]);
    service.stop();
    await waiting;
  });

  test('shows what a start waits for, or lacks', async () => {
    service.outside.unit('db', { heldStart: 'waiting', heldBy: 'srv-db.mount' });
    const { stdout, status } = await lockerctl(['status', 'db']);
    expect(stdout).toMatch(/^● db\n +State: waiting since .*\n +Needs: srv-db\.mount\n/);
    expect(status).toBe(3);
    const stopped = await lockerctl(['stop', 'db', '--no-block']);
    expect(stopped.status).toBe(0);
    service.outside.unit('db', { heldStart: 'unmet' });
    const list = await lockerctl(['list', '--state=unmet', '-q']);
    expect(list.stdout).toBe('db\n');
    const json = await lockerctl(['list', '--state=unmet', '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject([{ waits_for: ['srv-db.mount'] }]);
  });

  test.each([
    [['web'], 0],
    [['mail'], 0],
    [['db'], 3],
    [['web', 'db'], 3],
    [['gone'], 4],
    [['web', 'gone', 'db'], 4],
    [[], 0],
  ])('of %j ends with %i', async (names, status) => {
    expect((await lockerctl(['status', ...names])).status).toBe(status);
    expect((await lockerctl(['status', '-q', ...names])).status).toBe(status);
  });

  test('says what is wrong, in whole also on a terminal', async () => {
    const problem =
      '/var/lib/lxc/bad/config:3: unknown key "lxc.network.type", which LXC 2 had; run: ' +
      'lxc-update-config -c /var/lib/lxc/bad/config\nline two';
    await service.define({ bad: { problem } });
    const pipe = await lockerctl(['status', 'bad']);
    expect(pipe.status).toBe(3);
    expect(pipe.stdout).toContain(`    Problem: ${problem.split('\n')[0] ?? ''}\n`);
    const terminal = await onTerminal(['status', 'bad']);
    const shown = withoutColours(terminal.stdout);
    for (const line of shown.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
    expect(shown.replaceAll(/\n {13}/g, ' ')).toContain(problem.replace('\n', ' '));
  });
});

describe('lockers, jobs and permissions', () => {
  test('lockers', async () => {
    service.outside.lockerLooks = {
      data: {
        ...{ health: 'nearly-full', size: gigabyte, used: gigabyte - 5n, available: 5n },
        ...{ store: 'fast', creator: 1000, fileSystem: 'ext4', snapshots: ['a', 'b'] },
      },
      web_vol: { health: 'hung' },
    };
    expect((await lockerctl(['lockers'])).stdout).toBe(
      `LOCKER  STATE   SIZE    USED AVAIL STORE HEALTH      CONTAINERS
data    mounted   1G 1023.9M    5B fast  nearly-full -
sandbox mounted    -       -     - -     unknown     web:ro
web_vol mounted    -       -     - -     hung        web

3 lockers listed.
`,
    );
    const wide = await lockerctl(['lockers', '--wide', '--no-legend']);
    expect(wide.stdout.split('\n').slice(0, 2)).toEqual([
      'data    mounted 1G 1023.9M 5B fast nearly-full -      /dev/vg0/data ext4 1000 a,b comes with no container',
      'sandbox mounted  -       -  - -    unknown     web:ro tmpfs         -       - -   comes with web',
    ]);
    const { stdout } = await lockerctl(['lockers', '--json']);
    expect(JSON.parse(stdout)).toMatchObject([
      {
        ...{ locker: 'data', mounted: true, attached_to: [], size: Number(gigabyte) },
        ...{ health: 'nearly-full', store: 'fast', creator: 1000, snapshots: ['a', 'b'] },
      },
      { locker: 'sandbox', size: null, attached_to: [{ container: 'web', read_only: true }] },
      { locker: 'web_vol', mounted: true, source: '/dev/vg0/web', description: 'comes with web' },
    ]);
    const looks = service.outside.lockerAsks.length;
    expect((await lockerctl(['lockers', '--quiet'])).stdout).toBe('data\nsandbox\nweb_vol\n');
    expect(service.outside.lockerAsks).toHaveLength(looks);
    service.outside.lockerFailure = new LockerdError('Failed', 'no helper');
    // What was seen a moment ago is not looked at again.
    await sleep(1100);
    const blind = await lockerctl(['lockers', '--no-legend']);
    expect(blind.stdout).toContain('data    mounted');
    expect(blind.stderr).toBe('lockerctl: warning: lockers cannot be looked at: no helper\n');
  });

  test('jobs, and cancel', async () => {
    service.work = ({ verb }) => (verb === 'start' ? never() : undefined);
    const starting = lockerctl(['start', 'db']);
    await until(() => service.jobs[0]?.phase === 'starting');
    expect((await lockerctl(['jobs', '--no-legend'])).stdout).toBe(
      '1 db start - running starting - 0\n',
    );
    expect((await lockerctl(['jobs', '-q'])).stdout).toBe('1\n');
    const { stdout } = await lockerctl(['jobs', '--json']);
    expect(JSON.parse(stdout)).toMatchObject([{ job: 1, container: 'db', locker: null }]);

    expect(await lockerctl(['cancel', '1'])).toEqual({
      status: 0,
      stdout: '1: cancelled\n',
      stderr: '',
    });
    expect(await starting).toEqual({
      status: 1,
      stdout: '',
      stderr: 'lockerctl: cannot start "db": job 1 (start of container "db") was cancelled\n',
    });
    expect((await lockerctl(['jobs'])).stdout).toBe('No jobs listed.\n');
    const gone = await lockerctl(['cancel', '99']);
    expect(gone).toMatchObject({
      status: 5,
      stderr: 'lockerctl: cannot cancel job 99: there is no such job\n',
    });
    expect((await lockerctl(['cancel', 'web'])).status).toBe(2);
    expect((await lockerctl(['cancel', '4294967296'])).status).toBe(2);
  });

  test('permissions of a container and in general', async () => {
    service.outside.decide = ({ action }) =>
      action === 'org.lockerd1.start' ? 'yes' : 'challenge';
    const { stdout } = await lockerctl(['permissions', 'web', '--no-legend']);
    expect(stdout).toContain('org.lockerd1.start                yes\n');
    expect(stdout).toContain('org.lockerd1.stop                 challenge\n');
    const general = await lockerctl(['permissions', '--json']);
    expect(JSON.parse(general.stdout)).toMatchObject({
      'org.lockerd1.start': 'yes',
      'org.lockerd1.stop': 'challenge',
    });
    const asked = service.calls.filter(({ member }) => member === 'GetPermissions');
    expect(asked.map(({ args }) => args)).toEqual([
      ['/org/lockerd1/container/web'],
      ['/org/lockerd1'],
    ]);
    expect((await lockerctl(['permissions', 'gone'])).status).toBe(5);
  });
});

describe('commands that make jobs', () => {
  test.each([
    [['start', 'db'], 'StartContainer', 'db: started\n'],
    [['stop', 'web'], 'StopContainer', 'web: stopped\n'],
    [['reboot', 'web'], 'RebootContainer', 'web: rebooted\n'],
    [['freeze', 'web'], 'FreezeContainer', 'web: frozen\n'],
    [['thaw', 'mail'], 'ThawContainer', 'mail: thawed\n'],
    [['attach', 'web', 'data'], 'MountLocker', 'web: attached data\n'],
    [['detach', 'web', 'web_vol'], 'UnmountLocker', 'web: detached web_vol\n'],
  ])('%j', async (args, member, said) => {
    expect(await lockerctl(args)).toEqual({ status: 0, stdout: said, stderr: '' });
    expect(changes()).toEqual([member]);
    expect(optionsOf(member)).toEqual({});
    const call = service.calls.find((made) => made.member === member);
    expect(call?.args.slice(0, -1)).toEqual(args.slice(1));
    expect(call?.interactive).toBe(true);
  });

  test.each([
    [['stop', 'web', '--force'], 'StopContainer', { force: true }],
    [['reboot', '--force', 'web'], 'RebootContainer', { force: true }],
    [['balloon', 'web', '1G', '--force', '--persist'], 'Balloon', { force: true, persist: true }],
    [['balloon', 'web', '1G', '--swap', '512M'], 'Balloon', { swap: gigabyte / 2n }],
    [
      ['attach', 'web', 'data', '--read-only', '--persist'],
      'MountLocker',
      { 'read-only': true, persist: true },
    ],
    [
      ['detach', 'web', 'data', '--force', '--persist'],
      'UnmountLocker',
      { force: true, persist: true },
    ],
    [['start', 'db', '--timeout=90s'], 'StartContainer', { 'timeout-usec': 90_000_000n }],
  ])('%j passes its options', async (args, member, options) => {
    expect((await lockerctl(args)).status).toBe(0);
    expect(optionsOf(member)).toEqual(options);
  });

  test.each([
    ['enable', true, 'starts at boot'],
    ['disable', false, 'does not start at boot'],
  ])('%s says what the next boot will do', async (command, autostart, what) => {
    expect(await lockerctl([command, 'db', 'web', 'db'])).toEqual({
      status: 0,
      stdout: ['db', 'web']
        .map((name) => `${name}: ${what}: "autostart" in its settings\n`)
        .join(''),
      stderr: '',
    });
    const made = service.calls.filter(({ member }) => member === 'SetAutostart');
    expect(made.map(({ args }) => args)).toEqual([
      ['db', autostart, {}],
      ['web', autostart, {}],
    ]);
    const { stdout } = await lockerctl([command, 'db', '--json']);
    expect(JSON.parse(stdout)).toEqual([
      {
        ...{ container: 'db', verb: command, result: 'done', job: expect.any(Number) as number },
        ...{ autostart, autostart_reasons: ['setting'], error: null, message: null },
      },
    ]);
    expect((await lockerctl(['list', '--no-legend'])).stdout).toMatch(
      autostart ? /^db .* yes \(setting\)/m : /^db .* no \(setting\)/m,
    );
  });

  test('whoever else decides about the boot is named, and the status says so', async () => {
    const message = 'nothing was changed, as container "db" would start at boot still: why; run: x';
    service.work = () => {
      throw new LockerdError('Failed', message);
    };
    expect(await lockerctl(['disable', 'db'])).toEqual({
      status: 1,
      stdout: '',
      stderr: `lockerctl: cannot disable "db": ${message}\n`,
    });
  });

  test('what a job warns of is told, and is no failure', async () => {
    service.work = () => ({ lazy: true });
    const warning =
      'locker "web_vol" is out of sight in container "web", but what used it there goes on ' +
      'using it until it lets go';
    expect(await lockerctl(['detach', 'web', 'web_vol', '--force'])).toEqual({
      status: 0,
      stdout: 'web: detached web_vol\n',
      stderr: `lockerctl: warning: ${warning}\n`,
    });
    await lockerctl(['attach', 'web', 'web_vol']);
    const { stdout } = await lockerctl(['detach', 'web', 'web_vol', '--force', '--json']);
    expect(JSON.parse(stdout)).toMatchObject([{ warnings: [warning] }]);
  });

  test.each([
    [['start', 'wbe'], 5, 'Did you mean "web"?'],
    [['start', '--no-block', 'wbe'], 5, 'Did you mean "web"?'],
    [['balloon', 'mial', '1G'], 5, 'Did you mean "mail"?'],
    [['attach', 'web', 'dta'], 5, 'Did you mean "data"?'],
    [['attach', 'wbe', 'data'], 5, 'Did you mean "web"?'],
    [['status', 'DB'], 4, 'Did you mean "db"?'],
    [['permissions', 'wbe'], 5, 'Did you mean "web"?'],
    [['permissions', 'printer'], 5, undefined],
  ])('%j names what was probably meant', async (args, status, guess) => {
    const run = await lockerctl(args);
    expect(run.status).toBe(status);
    const [, ...rest] = run.stderr.trimEnd().split('\n');
    expect(rest).toEqual(guess === undefined ? [] : [guess]);
  });

  test('one snapshot is enough to guess many names', async () => {
    await lockerctl(['start', 'wbe', 'mial', 'dbb']);
    const asked = service.calls.filter(({ member }) => member === 'GetManagedObjects');
    expect(asked.length).toBeLessThanOrEqual(1);
  });

  test('--no-ask-password lets nobody be asked', async () => {
    await lockerctl(['start', 'db', '--no-ask-password']);
    const call = service.calls.find(({ member }) => member === 'StartContainer');
    expect(call?.interactive).toBe(false);
  });

  test('restart stops, then starts, and --force is for the stop', async () => {
    expect(await lockerctl(['restart', 'web', '--force'])).toMatchObject({
      status: 0,
      stdout: 'web: restarted\n',
    });
    expect(changes()).toEqual(['StopContainer', 'StartContainer']);
    expect(optionsOf('StopContainer')).toEqual({ force: true });
    expect(optionsOf('StartContainer')).toEqual({});
  });

  test('restart starts what does not run, and starts nothing that does not stop', async () => {
    expect((await lockerctl(['restart', 'db'])).status).toBe(0);
    expect(service.stateOf('db')).toBe('running');
    service.calls.length = 0;
    service.work = failing('the guest does not want to');
    const { status, stderr } = await lockerctl(['restart', 'web']);
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: 'lockerctl: cannot restart "web": the guest does not want to\n',
    });
    expect(changes()).toEqual(['StopContainer']);
  });

  test.each([['start'], ['restart'], ['reboot', '--force']])(
    '%s %s of a container whose data is not there says that it starts later',
    async (command, ...options) => {
      const name = command === 'reboot' ? 'web' : 'db';
      service.work = ({ verb }) => (verb === 'stop' ? {} : { lacks: 'srv-db.mount' });
      const message =
        `container "${name}" did not ${command === 'reboot' ? 'restart' : 'start'}: the host lacks ` +
        'srv-db.mount; the container starts by itself when the host has that, unless it is stopped before';
      const args = [command, name, ...options];
      expect(await lockerctl(args)).toEqual({
        status: 7,
        stdout: '',
        stderr:
          `lockerctl: cannot ${command} "${name}": ${message}\n` +
          'To end the waiting: "lockerctl stop NAME".\n',
      });
      expect((await lockerctl(['status', name])).stdout).toContain('Needs: srv-db.mount\n');
      expect(await lockerctl(['stop', name])).toMatchObject({ status: 0 });
    },
  );

  test('a start that begins again by itself has an error of its own in JSON', async () => {
    service.work = () => ({ lacks: 'srv-db.mount' });
    const { stdout, status } = await lockerctl(['start', 'db', '--json']);
    expect(status).toBe(7);
    expect(JSON.parse(stdout)).toMatchObject([
      {
        container: 'db',
        result: 'failed',
        error: 'org.lockerd1.Error.StartsLater',
        message: expect.stringContaining('the host lacks srv-db.mount') as string,
      },
    ]);
  });

  test('what is so already is no failure, as with systemctl', async () => {
    const started = await lockerctl(['start', 'web']);
    expect(started).toEqual({ status: 0, stdout: 'web: runs already\n', stderr: '' });
    const stopped = await lockerctl(['stop', 'db']);
    expect(stopped).toEqual({ status: 0, stdout: 'db: does not run\n', stderr: '' });
    expect((await lockerctl(['freeze', 'db'])).status).toBe(1);
  });

  test('several containers at the same time, each reported', async () => {
    const names = ['one', 'two', 'three'];
    await service.define({ one: {}, two: {}, three: {} });
    const ends: (() => void)[] = [];
    service.work = async ({ container }) => {
      await new Promise<void>((resolve) => {
        ends.push(resolve);
        // Only a client that does not wait for the first gets here with the last.
        if (ends.length === names.length) for (const end of ends) end();
      });
      if (container === 'two') throw new LockerdError('Failed', 'no init');
      return undefined;
    };
    const { status, stdout, stderr } = await lockerctl(['start', ...names, 'gone', 'one']);
    expect(status).toBe(1);
    expect(stdout.split('\n').sort()).toEqual(['', 'one: started', 'three: started']);
    expect(stderr.split('\n').sort()).toEqual([
      '',
      'lockerctl: cannot start "gone": there is no container "gone"; for a new one: systemctl daemon-reload',
      'lockerctl: cannot start "two": no init',
    ]);
    expect(changes()).toHaveLength(4);
  });

  test('a hundred containers', async () => {
    const containers = stopped(100, 'c');
    await service.define(containers);
    service.work = () => sleep(20);
    const { status, stdout } = await lockerctl(['start', ...Object.keys(containers)]);
    expect(status).toBe(0);
    expect(stdout.trimEnd().split('\n')).toHaveLength(100);
  });

  test('--json reports each in the order of the names', async () => {
    const { status, stdout } = await lockerctl(['start', '--json', 'gone', 'db']);
    expect(status).toBe(5);
    expect(JSON.parse(stdout)).toEqual([
      {
        container: 'gone',
        verb: 'start',
        result: 'failed',
        job: null,
        error: 'org.lockerd1.Error.NoSuchContainer',
        message: 'there is no container "gone"; for a new one: systemctl daemon-reload',
      },
      { container: 'db', verb: 'start', result: 'done', job: 1, error: null, message: null },
    ]);
  });

  test('--no-block names the job and does not wait for it', async () => {
    service.work = never;
    const { status, stdout } = await lockerctl(['start', 'db', '--no-block']);
    expect({ status, stdout }).toEqual({ status: 0, stdout: 'db: job 1 start\n' });
    expect(service.calls.map(({ member }) => member)).toEqual(['StartContainer']);
  });

  test('--quiet says nothing of what went well', async () => {
    expect((await lockerctl(['start', 'db', '-q'])).stdout).toBe('');
  });

  test('what comes of a job that takes too long', async () => {
    service.work = ({ verb }) => (verb === 'start' ? never() : undefined);
    expect(await lockerctl(['start', 'db', '--timeout=1s'])).toMatchObject({
      status: 1,
      stderr:
        'lockerctl: cannot start "db": job 1 (start of container "db") took too long and was given up\n',
    });
  });

  test('asks again where the service has too much to do', async () => {
    service.stop();
    service = await serviceWithContainers({ jobs: 1 });
    let end: (value: undefined) => void = () => undefined;
    const ended = new Promise<undefined>((resolve) => (end = resolve));
    service.work = ({ verb }) => (verb === 'stop' ? ended : undefined);
    const stopping = lockerctl(['stop', 'web']);
    await until(() => service.jobs.length === 1);
    const starting = lockerctl(['start', 'db']);
    await until(() => changes().filter((member) => member === 'StartContainer').length === 2);
    end(undefined);
    expect((await stopping).status).toBe(0);
    expect(await starting).toEqual({ status: 0, stdout: 'db: started\n', stderr: '' });
    expect(service.jobs).toHaveLength(2);
  });

  const start = 'org.lockerd1.start';
  test.each<[Decision, string, RegExp]>([
    ['no', `polkit does not allow you ${start}`, /\npolkit rules decide/],
    ['challenge', `${start} takes a password; call it `, /\nIt takes a password/],
    ['dismissed', `the password prompt for ${start} was closed`, /was closed\n$/],
  ])('polkit’s "%s" ends with 4 and says what to do', async (decision, message, hint) => {
    service.outside.decide = () => decision;
    const refused = await lockerctl(['start', 'db']);
    expect(refused.status).toBe(4);
    expect(refused.stderr.startsWith(`lockerctl: cannot start "db": ${message}`)).toBe(true);
    expect(refused.stderr).toMatch(hint);
    expect(refused.stdout).toBe('');
  });

  test('a container that is busy is a failure, without a hint of lockerctl’s', async () => {
    service.work = ({ verb }) => (verb === 'start' ? never() : undefined);
    await lockerctl(['start', 'db', '--no-block']);
    expect(await lockerctl(['start', 'db'])).toEqual({
      status: 1,
      stdout: '',
      stderr:
        'lockerctl: cannot start "db": container "db" is busy with job 1 (start of container ' +
        '"db"); wait for its end or cancel it\n',
    });
  });

  test('a message from the service cannot write to the terminal', async () => {
    service.outside.decide = failing('a\u001b]0;title\u0007\nb');
    const { stderr } = await lockerctl(['start', 'db']);
    expect(stderr).toBe('lockerctl: cannot start "db": a\\x1b]0;title\\x07\\x0ab\n');
  });
});

describe('balloon', () => {
  test.each([
    ['1G', gigabyte, 'memory limit 2G → 1G'],
    ['+512M', 2n * gigabyte + gigabyte / 2n, 'memory limit 2G → 2.5G'],
    ['-25%', (3n * gigabyte) / 2n, 'memory limit 2G → 1.5G'],
    ['max', 2n ** 64n - 1n, 'memory limit 2G → max'],
  ])('%s', async (size, limit, said) => {
    const { status, stdout } = await lockerctl(['balloon', 'web', size]);
    expect({ status, stdout }).toEqual({ status: 0, stdout: `web: ${said}\n` });
    const call = service.calls.find(({ member }) => member === 'Balloon');
    expect(call?.args.slice(0, 2)).toEqual(['web', limit]);
  });

  test.each([
    ['0', 'max → 0B'],
    ['1.5G', 'max → 1.5G'],
    ['max', 'max → max'],
  ])('--swap=%s', async (size, said) => {
    expect(await lockerctl(['balloon', `--swap=${size}`, 'web', '1G'])).toEqual({
      status: 0,
      stdout: `web: memory limit 2G → 1G, swap limit ${said}\n`,
      stderr: '',
    });
  });

  test('tells how long a shrink made the guest stand still', async () => {
    service.work = () => ({ stallUsec: 12_345_678n });
    const said = async (size: string) => (await lockerctl(['balloon', 'web', size])).stdout;
    expect(await said('1G')).toBe('web: memory limit 2G → 1G, guest stalled 12.3 s\n');
    expect(await said('2G')).toBe('web: memory limit 1G → 2G\n');
    service.work = () => ({ stallUsec: 1_600n });
    expect(await said('1G')).toBe('web: memory limit 2G → 1G, guest stalled 2 ms\n');
    const { stdout } = await lockerctl(['balloon', 'web', '512M', '--swap=0', '--json']);
    expect(JSON.parse(stdout)).toMatchObject([
      { stall_usec: 1600, swap_before: null, swap_after: 0 },
    ]);
  });

  test('--json has bytes before and after', async () => {
    const { stdout } = await lockerctl(['balloon', 'web', 'max', '--json']);
    expect(JSON.parse(stdout)).toMatchObject([{ before: Number(2n * gigabyte), after: null }]);
  });

  test.each([
    [['web', 'lots'], 2, /"lots" is not a size: write it as 2G/],
    [['web', '1G', '--swap=lots'], 2, /"lots" is not a size of swap: write --swap=512M/],
    [['web', '25%'], 2, /Write \+25% or -25% of the present limit/],
    [['db', '+1G'], 1, /container "db": it has no memory limit to start from/],
    [['gone', '1G'], 5, /there is no container "gone"/],
  ])('%j is refused', async (args, status, message) => {
    const refused = await lockerctl(['balloon', ...args]);
    expect(refused.status).toBe(status);
    expect(refused.stderr).toMatch(message);
    expect(changes()).toEqual([]);
  });

  test('a limit below what is in use is refused with what would do', async () => {
    service.work = failing('the lowest limit now is 300M', 'LimitBelowUsage');
    expect(await lockerctl(['balloon', 'web', '100M'])).toEqual({
      status: 1,
      stdout: '',
      stderr: 'lockerctl: cannot balloon "web": the lowest limit now is 300M\n',
    });
  });
});

describe('progress', () => {
  beforeEach(() => {
    service.work = ({ progress }) => {
      progress('reclaiming', 0.42);
      return sleep(300);
    };
  });

  test('is shown on a terminal and taken away at the end', async () => {
    const { stdout, status } = await onTerminal(['balloon', 'web', '1G']);
    expect(stdout).toContain('ballooning web: reclaiming 42%');
    expect(stdout).toMatch(/\r\u001b\[K(\r\u001b\[K)?web: memory limit 2G → 1G\r\n$/);
    expect(status).toBe(0);
  });

  test.each([['--no-progress'], ['--quiet']])('is not shown with %s', async (option) => {
    expect((await onTerminal(['balloon', 'web', '1G', option])).stdout).not.toContain('reclaiming');
  });

  test('is not shown in a pipe', async () => {
    const { stdout, stderr } = await lockerctl(['balloon', 'web', '1G']);
    expect({ stdout, stderr }).toEqual({ stdout: 'web: memory limit 2G → 1G\n', stderr: '' });
  });

  test('of many containers stays on one line of 80 columns', async () => {
    const containers = stopped(12, 'container-number-');
    await service.define(containers);
    const { stdout } = await onTerminal(['start', ...Object.keys(containers)]);
    const shown = stdout.split(/[\r\n]/).map((line) => line.replaceAll('\u001b[K', ''));
    expect(Math.max(...shown.map((line) => line.length))).toBeLessThan(80);
    expect(shown.some((line) => /^\[\d+\/\d+\] .*…$/.test(line))).toBe(true);
  });
});

describe('without a service', () => {
  test('nobody owns the name', async () => {
    service.stop();
    for (const args of [['list'], ['start', 'web'], ['status', 'web'], ['monitor']]) {
      const { status, stderr } = await lockerctl(args);
      expect(status).toBe(1);
      expect(stderr).toMatch(/^lockerctl: .*org\.lockerd1.*\nlockerd is not on the bus/);
    }
  });

  test('there is no bus', async () => {
    const address = `unix:path=${bus.directory}/none`;
    const { status, stderr } = await lockerctl(['list'], {
      env: { DBUS_SYSTEM_BUS_ADDRESS: address },
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^lockerctl: cannot connect to the bus at .*\/none/);
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test('the service ends in the middle of a job', async () => {
    service.work = never;
    const starting = lockerctl(['start', 'db']);
    await until(() => service.calls.some(({ member }) => member === 'Wait'));
    service.stop();
    const { status, stdout, stderr } = await starting;
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^lockerctl: cannot start "db": lockerd ended while job 1 ran/);
    expect(stderr).toContain('lockerctl status NAME');
  });

  test('the bus ends in the middle of a job', async () => {
    service.work = never;
    const starting = lockerctl(['start', 'db']);
    await until(() => service.calls.some(({ member }) => member === 'Wait'));
    await bus.stop();
    const { status, stderr } = await starting;
    expect(status).toBe(1);
    expect(stderr).toMatch(/^lockerctl: .*the connection to the bus is lost/);
  });

  test('a service of another version is told apart from a defect', async () => {
    service.forge = () => undefined;
    const { status, stderr } = await lockerctl(['list']);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^lockerctl: cannot understand lockerd: a container has no property/);
  });
});

describe('monitor', () => {
  async function watched(args: readonly string[]): Promise<[ChildProcess, Promise<Run>]> {
    const child = start(process.execPath, [join(bin, 'lockerctl'), 'monitor', ...args]);
    const run = collect(child);
    const before = service.calls.length;
    await until(() => service.calls.length > before);
    return [child, run];
  }

  test('shows jobs, states, comings and goings until it is interrupted', async () => {
    const [child, run] = await watched([]);
    service.work = ({ progress }) => {
      progress('reclaiming', 0.5);
      return undefined;
    };
    await lockerctl(['balloon', 'web', '1G']);
    await lockerctl(['stop', 'web']);
    service.stop();
    await service.start();
    // Whatever came before a reply of the service has been printed when that is there.
    await lockerctl(['list']);
    await sleep(500);
    child.kill('SIGINT');
    const { status, stdout, stderr } = await run;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const lines = stdout.trimEnd().split('\n');
    for (const line of lines) expect(line).toMatch(/^\d\d:\d\d:\d\d /);
    const expected = [
      'job 1 new: balloon web',
      'web: jobs 1',
      'job 1: state running',
      'job 1: phase reclaiming',
      'job 1: progress 50%',
      'web: memory limit 1G',
      'job 1: result done',
      'job 1 done: balloon web',
      'job 2 new: stop web',
      'web: lockers none',
      'locker web_vol: attached to none',
      'web: leader 0',
      'web: state stopped',
      'job 2 done: stop web',
      'lockerd went',
      'lockerd came',
    ];
    const shown = lines.map((line) => line.slice(9));
    expect(shown.filter((line) => expected.includes(line))).toEqual(expected);
  });

  test('--json, a line for each signal', async () => {
    const [child, run] = await watched(['--json']);
    await lockerctl(['stop', 'web']);
    await sleep(500);
    child.kill('SIGTERM');
    const { stdout, status } = await run;
    expect(status).toBe(0);
    const signals = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const told = signals.filter(({ signal, changed }) => {
      if (signal === 'PropertiesChanged')
        return (changed as { State?: string }).State === 'stopped';
      return signal === 'JobNew' || signal === 'JobRemoved';
    });
    expect(told).toMatchObject([
      { signal: 'JobNew', job: 1, verb: 'stop', container: 'web' },
      {
        signal: 'PropertiesChanged',
        object: 'web',
        changed_interface: 'org.lockerd1.Container',
        changed: { State: 'stopped' },
      },
      { signal: 'JobRemoved', job: 1, result: 'done', error: '' },
    ]);
    expect(signals[0]?.['time_usec']).toBeGreaterThan(1e15);
  });
});

describe('passwords', () => {
  const agent = `
    echo "start $*" >>$HOME/agent
    # The terminal goes while the shell still waits for sleep.
    trap '' HUP
    trap 'echo end >>$HOME/agent; exit' TERM
    sleep 0.5
    echo registered >>$HOME/agent
    exec 3>&-
    while :; do sleep 0.1; done`;

  function agentLog(): string {
    const file = join(bus.directory, 'agent');
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  beforeEach(() => {
    // Somebody other than root writes there.
    chmodSync(bus.directory, 0o777);
    shadow('pkttyagent', agent);
  });

  test('are asked for by an agent that is there before the call and gone afterwards', async () => {
    let before = '';
    service.work = () => {
      before = agentLog();
      return undefined;
    };
    const { stdout, status } = await onTerminal(['start', 'db'], { uid: nobody });
    expect(withoutColours(stdout)).toContain('db: started\n');
    expect(status).toBe(0);
    expect(before).toBe('start --notify-fd=3 --fallback\nregistered\n');
    await until(() => agentLog().endsWith('end\n'));
  });

  test.each([
    ['with --no-ask-password', ['start', 'db', '--no-ask-password'], nobody],
    ['for what is free', ['list'], nobody],
    ['for root', ['start', 'db'], undefined],
  ])('are not asked for %s', async (_, args, uid) => {
    const { status } = await onTerminal(args, uid === undefined ? {} : { uid });
    expect(status).toBe(0);
    expect(agentLog()).toBe('');
  });

  test('are not asked for without a terminal', async () => {
    expect((await lockerctl(['start', 'db'], { uid: nobody })).status).toBe(0);
    expect(agentLog()).toBe('');
  });

  test.each([['exit 1'], [undefined]])(
    'an agent that cannot run (%s) is no failure',
    async (script) => {
      if (script === undefined) rmSync(join(bin, 'pkttyagent'));
      else shadow('pkttyagent', script);
      const env = { PATH: `${bin}:/bin` };
      const options = script === undefined ? { uid: nobody, env } : { uid: nobody };
      expect((await onTerminal(['start', 'db'], options)).status).toBe(0);
    },
  );

  test('somebody is asked about one container after the other', async () => {
    await service.define({ db2: {} });
    const order: string[] = [];
    const release: (() => void)[] = [];
    // The reply stands for the password that somebody types.
    service.outside.decide = ({ interactive, details: { container } }) => {
      if (!interactive) return 'challenge';
      order.push(`asked ${container}`);
      return new Promise((resolve) => {
        release.push(() => {
          order.push(`answered ${container}`);
          resolve('yes');
        });
      });
    };
    const starting = lockerctl(['start', 'db', 'db2']);
    await until(() => release.length === 1);
    await sleep(300);
    release[0]?.();
    await until(() => release.length === 2);
    release[1]?.();
    expect((await starting).status).toBe(0);
    expect(order).toEqual(['asked db', 'answered db', 'asked db2', 'answered db2']);
  });
});

describe('another host', () => {
  test('is reached by ssh and systemd-stdio-bridge', async () => {
    // Only the network is missing: the bridge is systemd's own.
    shadow('ssh', `echo "$*" >$HOME/ssh; for last; do :; done; exec "$last" --bus-path="$REMOTE"`);
    const env = { DBUS_SYSTEM_BUS_ADDRESS: 'unix:path=/nonexistent', REMOTE: bus.address };
    const listed = await lockerctl(['-H', 'root@other:2222', 'list', '-q'], { env });
    expect(listed).toEqual({ status: 0, stdout: 'db\nmail\nweb\n', stderr: '' });
    expect(readFileSync(join(bus.directory, 'ssh'), 'utf8')).toBe(
      '-xT -p 2222 -- root@other systemd-stdio-bridge\n',
    );
    const started = await lockerctl(['--host=other', 'start', 'db'], { env });
    expect(started).toEqual({ status: 0, stdout: 'db: started\n', stderr: '' });
  });

  test.each([
    ['exit 255', /ssh to other ended with status 255\nDoes "ssh other systemd-stdio-bridge" run/],
    ['echo "Welcome!"; sleep 5', /other does not speak D-Bus/],
  ])('that answers by "%s"', async (script, message) => {
    shadow('ssh', script);
    const { status, stderr } = await lockerctl(['-H', 'other', 'list']);
    expect(status).toBe(1);
    expect(stderr).toMatch(message);
  });

  test('is one of several, which are asked at once', async () => {
    // Each waits until the others are there, as nobody does who is asked in turn.
    shadow(
      'ssh',
      `echo "$*" >>$HOME/ssh-all; case $* in *dead*) echo 'no route' >&2; exit 255 ;; esac
       : >"$HOME/asked-$$"
       while [ "$(ls "$HOME" | grep -c '^asked-')" -lt 3 ]; do sleep 0.05; done
       for last; do :; done; exec "$last" --bus-path="$REMOTE"`,
    );
    const env = { DBUS_SYSTEM_BUS_ADDRESS: 'unix:path=/nonexistent', REMOTE: bus.address };
    const fleet = ['-H', 'one,dead,root@two:2222,three'];
    const listed = await lockerctl([...fleet, 'list', '--quiet'], { env });
    expect(listed).toMatchObject({
      status: 1,
      stdout: ['one', 'root@two:2222', 'three']
        .flatMap((host) => ['db', 'mail', 'web'].map((name) => `${host} ${name}\n`))
        .join(''),
    });
    expect(listed.stderr).toContain('lockerctl: dead: ssh to dead ended with status 255');
    expect(readFileSync(join(bus.directory, 'ssh-all'), 'utf8')).toContain(
      '-xT -o BatchMode=yes -o ConnectTimeout=15 -p 2222 -- root@two systemd-stdio-bridge\n',
    );
    const table = await lockerctl(['-H', 'one,three', 'list', '--columns=container'], { env });
    expect(table.stdout).toMatch(
      /^HOST +CONTAINER\none +db\none +mail\none +web\nthree +db\n[^]*6 containers listed\.\n$/,
    );
    const json = await lockerctl(['-H', 'one,three', 'lockers', '--json'], { env });
    expect(JSON.parse(json.stdout)).toEqual(
      expect.arrayContaining([expect.objectContaining({ host: 'three', locker: 'data' })]),
    );
  });

  test('whose connection breaks in the middle of a job', async () => {
    shadow('ssh', `echo $$ >$HOME/pid; for last; do :; done; exec "$last" --bus-path="$REMOTE"`);
    service.work = never;
    const env = { REMOTE: bus.address };
    const starting = lockerctl(['-H', 'other', 'start', 'db'], { env });
    await until(() => service.calls.some(({ member }) => member === 'Wait'));
    process.kill(Number(readFileSync(join(bus.directory, 'pid'), 'utf8')), 'SIGKILL');
    const { status, stderr } = await starting;
    expect(status).toBe(1);
    expect(stderr).toMatch(/the connection to the bus is lost/);
  });
});

describe('console and shell', () => {
  const recorder = `printf '%s|' "$0" "$@" >$HOME/ran; exit 7`;

  test.each([
    [['shell', 'web', '--', 'ls', '-l'], 'lxc-attach|-n|web|--clear-env|--keep-var=TERM|--|ls|-l|'],
    [['console', 'web'], 'lxc-console|-n|web|'],
    [['-H', 'other', 'shell', 'my web'], "ssh|-xt|--|other|lockerctl shell 'my web'|"],
  ])('%j', async (args, words) => {
    for (const name of ['lxc-attach', 'lxc-console', 'ssh']) shadow(name, recorder);
    expect((await lockerctl(args)).status).toBe(7);
    expect(readFileSync(join(bus.directory, 'ran'), 'utf8')).toBe(join(bin, words));
  });

  test('are root’s', async () => {
    const { status, stderr } = await lockerctl(['shell', 'web'], { uid: nobody });
    expect(status).toBe(4);
    expect(stderr).toBe('lockerctl: only root can use "shell"\nTry "sudo lockerctl shell web".\n');
  });

  test('a signal that ends the program shows in the status', async () => {
    shadow('lxc-attach', 'kill -KILL $$');
    expect((await lockerctl(['shell', 'web'])).status).toBe(128 + 9);
  });
});

describe('usage', () => {
  test('help and version', async () => {
    const help = await lockerctl(['--help']);
    expect(help).toMatchObject({ status: 0, stderr: '' });
    expect(help.stdout).toMatch(/^lockerctl \[OPTION\.\.\.\] COMMAND/);
    expect(await lockerctl(['help'])).toEqual(help);
    const start = await lockerctl(['start', '--help']);
    expect(start.stdout).toMatch(/^lockerctl start \[OPTION\.\.\.\] NAME/);
    expect(await lockerctl(['help', 'start'])).toEqual(start);
    const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as {
      version: string;
    };
    expect((await lockerctl(['--version'])).stdout).toBe(`lockerctl ${version}\n`);
  });

  test('wrong usage ends with 2, and nothing is called', async () => {
    const { status, stderr, stdout } = await lockerctl(['strat', 'web']);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toBe(
      'lockerctl: unknown command "strat"\nDid you mean "start"? See "lockerctl --help" or lockerctl(1).\n',
    );
    expect(service.calls).toEqual([]);
  });
});

describe('the examples', () => {
  const examples = join(project, 'src/examples');

  test('in bash, with busctl', async () => {
    const args = [join(examples, 'start-and-balloon.sh'), 'db', String(gigabyte)];
    expect(await collect(start('bash', args))).toEqual({
      status: 0,
      stdout: `State: s "running"\nMemoryLimit: t ${gigabyte}\nMemoryCurrent: t 126353408\n`,
      stderr: '',
    });
  });

  test('in Python, with dasbus', async () => {
    const args = [join(examples, 'attach-locker.py'), 'web', 'data'];
    expect(await collect(start('/usr/bin/python3', args))).toEqual({
      status: 0,
      stdout: 'web: done\n  data (read-only)\n  sandbox (read-only)\n  web_vol\n',
      stderr: '',
    });
    service.outside.decide = () => 'no';
    const refused = await collect(start('/usr/bin/python3', args));
    expect(refused).toMatchObject({ status: 1, stdout: '' });
    expect(refused.stderr).toContain('polkit does not allow you org.lockerd1.mount-locker');
  });

  /** What a program prints, line by line; it may still run. */
  function linesOf(child: ChildProcess): () => string[] {
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()));
    return () => text.split('\n').filter((line) => line !== '');
  }

  test('in Python, with signals', async () => {
    const child = start('/usr/bin/python3', [join(examples, 'watch-container.py'), 'db']);
    const lines = linesOf(child);
    await until(() => lines().length > 0);
    service.guests = { db: { addresses: [{ interface: 'eth0', address: '10.0.3.7' }] } };
    await service.define({ db: { state: 'running', memoryMax: gigabyte } });
    await until(() => lines().at(-1) === `State=running MemoryLimit=${gigabyte} eth0=10.0.3.7`);
    expect(lines()[0]).toBe(`State=stopped MemoryLimit=${2n ** 64n - 1n}`);
    child.kill();
  });

  test('in bash, with signals', async () => {
    const args = [join(examples, 'limit-when-running.sh'), 'db', '150', '500'];
    const child = start('bash', args);
    const lines = linesOf(child);
    const ended = collect(child);
    await until(() => lines().includes('db: s "stopped"'));
    expect(changes()).toEqual([]);
    await service.define({ db: { state: 'running' } });
    expect(await ended).toMatchObject({ status: 0, stderr: '' });
    expect(lines().slice(-3)).toEqual(['s "running"', 't 1500000', 't 500']);
    expect(changes()).toEqual(['SetLimits']);
  });
});

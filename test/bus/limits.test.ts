import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Variant, type VariantMap } from '../../src/bus/values.ts';
import { LockerdError } from '../../src/model/errors.ts';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { collect, type Run } from './support.ts';
import { LockerdOnFakes } from './lockerd-on-fakes.ts';

const program = join(fileURLToPath(new URL('../..', import.meta.url)), 'dist/lockerctl');
const mebibyte = 2n ** 20n;

let bus: PrivateBus;
let service: LockerdOnFakes;
const children = new Set<ChildProcess>();

beforeEach(async () => {
  expect(existsSync(program), 'run first: npm run build').toBe(true);
  bus = await startPrivateBus();
  service = new LockerdOnFakes(bus.address);
  await service.start();
  await service.define({
    web: { state: 'running', leader: 1234 },
    idle: { state: 'running', leader: 77 },
    db: {},
  });
});
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  service.stop();
  await bus.close();
});

function start(command: string, args: readonly string[], env = {}): ChildProcess {
  const child = spawn(command, args, {
    env: {
      PATH: process.env['PATH'] ?? '/usr/bin:/bin',
      DBUS_SYSTEM_BUS_ADDRESS: bus.address,
      LANG: 'C.UTF-8',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

function lockerctl(...args: string[]): Promise<Run> {
  return collect(start(process.execPath, [program, ...args]));
}

/** On a terminal of 80 columns and 24 lines. */
function onTerminal(...args: string[]): ChildProcess {
  const words = [process.execPath, program, ...args].map((word) => `'${word}'`).join(' ');
  const command = `stty cols 80 rows 24; exec ${words}`;
  return start('script', ['-qec', command, '/dev/null'], { TERM: 'xterm' });
}

describe('SetLimits', () => {
  const call = async (limits: VariantMap, options: VariantMap = {}): Promise<unknown> => {
    const client = await bus.connect();
    try {
      return await client.call({
        destination: 'org.lockerd1',
        path: '/org/lockerd1',
        interface: 'org.lockerd1.Manager',
        member: 'SetLimits',
        signature: 'sa{sv}a{sv}',
        body: ['web', limits, { wait: new Variant('b', true), ...options }],
      });
    } finally {
      client.close();
    }
  };
  const number = (value: bigint) => new Variant('t', value);

  test('asks polkit with each limit and has the helper do it', async () => {
    const rates = new Variant('a{st}', { '8:0': mebibyte });
    await call({ tasks: number(500n), 'io-read-bytes': rates, cpus: new Variant('s', '1,0') });
    expect(service.outside.checks.at(-1)).toMatchObject({
      action: 'org.lockerd1.set-limits',
      details: {
        verb: 'set-limits',
        limits: 'cpus io-read-bytes tasks',
        tasks: '500',
        cpus: '0-1',
        'io-read-bytes': '8:0=1048576',
        'cpu-quota': '',
      },
    });
    const { stdout } = await lockerctl('status', 'web');
    expect(stdout).toContain('Tasks: 12 (limit: 500)');
    expect(stdout).toContain('CPU: 1min 30s (processors: 0-1)');
    expect(stdout).toContain('limit of 8:0: reads 1M/s');
  });

  test.each<[string, VariantMap, VariantMap]>([
    ['none at all', {}, {}],
    ['an unknown one', { memory: number(5n) }, {}],
    ['one of another type', { tasks: new Variant('u', 500) }, {}],
    ['one too low', { tasks: number(3n) }, {}],
    ['one among the options', { tasks: number(500n) }, { tasks: number(5n) }],
    ['an option among the limits', { persist: new Variant('b', true) }, {}],
    ['a path', { 'io-read-bytes': new Variant('a{st}', { '/dev/sda': 1n }) }, {}],
    ['a name that objects have', { 'io-read-bytes': new Variant('a{st}', { toString: 1n }) }, {}],
  ])('refuses %s, and asks nobody', async (_, limits, options) => {
    await expect(call(limits, options)).rejects.toMatchObject({
      errorName: expect.stringMatching(/InvalidArgs$/) as string,
    });
    expect(service.outside.checks).toEqual([]);
  });

  test('is refused by polkit like everything else', async () => {
    service.outside.decide = () => 'no';
    await expect(call({ tasks: number(500n) })).rejects.toMatchObject({
      errorName: expect.stringMatching(/AccessDenied$/) as string,
    });
  });
});

describe('lockerctl set', () => {
  test('sets several limits in one job', async () => {
    expect(await lockerctl('set', 'web', 'cpu=150%', 'tasks=500', 'io-read=8:0:10M')).toEqual({
      status: 0,
      stdout: 'web: set cpu=150% tasks=500 io-read=8:0:10M\n',
      stderr: '',
    });
    const { stdout } = await lockerctl('status', 'web', '--json=short');
    expect(JSON.parse(stdout)).toMatchObject([
      {
        cpu_quota: 1_500_000,
        tasks: 12,
        tasks_limit: 500,
        cpu_usec: 90_500_000,
        io_limits: [{ device: '8:0', read_bytes: 10_485_760, written_bytes: null }],
      },
    ]);
  });

  test('says as JSON what was set, and tells of persist and of warnings', async () => {
    service.work = ({ verb }) => (verb === 'set-limits' ? { warnings: ['careful'] } : {});
    const { stdout, status } = await lockerctl('set', 'web', 'tasks=max', '--persist', '--json');
    expect(JSON.parse(stdout)).toMatchObject([
      {
        container: 'web',
        verb: 'set',
        result: 'done',
        limits: ['tasks=max'],
        warnings: ['careful'],
      },
    ]);
    expect(status).toBe(0);
    expect(service.outside.checks.at(-1)?.details).toMatchObject({ tasks: 'max', persist: 'true' });
  });

  test.each([
    [['web', 'cpu=150'], '"cpu=150": write cpu=PERCENT%|max'],
    [['web', 'cpu'], '"cpu": write cpu=PERCENT%|max'],
    [['web', 'task=5'], 'there is no limit "task": Did you mean "tasks"?'],
    [['web', 'tasks=50', 'tasks=60'], '"tasks" is given twice'],
    [['web', 'io-read=no-such-disk:5M'], '/dev/no-such-disk is no block device'],
    [['web', 'io-read=10M'], '"io-read=10M": write io-read=DISK:SIZE|max'],
    [['web'], '"set" needs NAME LIMIT=VALUE...'],
  ])('%j is wrong usage, and asks nobody', async (words, message) => {
    const { status, stderr, stdout } = await lockerctl('set', ...words);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toContain(message);
    expect(service.outside.checks).toEqual([]);
  });

  test('ends with the status of what the service says', async () => {
    service.work = () => {
      throw new LockerdError('Failed', 'the kernel does not take it');
    };
    expect(await lockerctl('set', 'web', 'tasks=50')).toMatchObject({
      status: 1,
      stderr: 'lockerctl: cannot set "web": the kernel does not take it\n',
    });
    expect(await lockerctl('set', 'wbe', 'tasks=50')).toMatchObject({ status: 5 });
    service.outside.decide = () => 'no';
    expect(await lockerctl('set', 'web', 'tasks=50')).toMatchObject({ status: 4 });
  });
});

describe('lockerctl top', () => {
  /** Has the container use half a processor and write at some pace from now on. */
  function use(): void {
    const begun = performance.now();
    // Counts only grow, also beyond what the service has just read.
    const { cpuUsec = 0n, tasks, io } = service.usage;
    service.usage = {
      get cpuUsec() {
        return cpuUsec + BigInt(Math.round((performance.now() - begun) * 500));
      },
      tasks,
      get io() {
        const written = BigInt(Math.round(performance.now() - begun)) * 512n;
        return io && { ...io, writtenBytes: io.writtenBytes + written };
      },
    };
  }

  test('prints tables one after the other where the output is no terminal', async () => {
    use();
    const { status, stdout, stderr } = await lockerctl('top', '-n', '2', '-d', '300ms');
    expect([status, stderr]).toEqual([0, '']);
    const tables = stdout.split('\n\n');
    expect(tables).toHaveLength(2);
    for (const table of tables) {
      const [header, ...rows] = table.trim().split('\n');
      expect(header).toMatch(/^CONTAINER +STATE +CPU +MEMORY +TASKS +READ +WRITTEN$/);
      expect(rows.map((row) => row.split(/ +/)[0]).sort()).toEqual(['idle', 'web']);
      const [, percent, written] =
        /^web +running +(\S+)% +120.5M +12 +0B\/s +(\S+)K\/s$/m.exec(table) ?? [];
      // Both were measured over the same time, however long that was.
      expect(Number(percent)).toBeGreaterThan(25);
      expect(Number(percent)).toBeLessThan(100);
      expect(Number(written) / Number(percent)).toBeCloseTo(10, -1);
    }
  });

  test('prints lines of JSON', async () => {
    use();
    const { stdout } = await lockerctl('top', '--iterations=2', '--delay=200ms', '--json=short');
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { containers: object[] });
    expect(lines).toHaveLength(2);
    for (const { containers } of lines) {
      expect(containers).toHaveLength(2);
      expect(containers[0]).toMatchObject({
        state: 'running',
        tasks: 12,
        read_bytes_per_second: 0,
      });
    }
  });

  test('on a terminal draws at once, again when a container stops, and ends when interrupted', async () => {
    const child = onTerminal('top', '--delay=1h');
    let shown = '';
    child.stdout?.on('data', (chunk: Buffer) => (shown += chunk.toString()));
    const until = async (condition: () => boolean): Promise<void> => {
      const deadline = Date.now() + 30_000;
      while (!condition()) {
        if (Date.now() > deadline) throw new Error(`never so: ${shown}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    const frames = () => shown.split('\u001b[H').slice(1);
    await until(() => frames().some((frame) => /web +running +- /.test(frame)));
    await lockerctl('stop', 'web');
    await until(() => frames().some((frame) => frame.includes('idle') && !frame.includes('web')));
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
  });

  test('says so where nothing runs', async () => {
    await lockerctl('stop', 'web', 'idle');
    const { stdout, status } = await lockerctl('top', '-n1', '-d100ms');
    expect([status, stdout]).toEqual([0, 'No container runs.\n']);
    const json = await lockerctl('top', '-n1', '-d100ms', '--json=short');
    expect(json.stdout).toBe('{"containers":[]}\n');
  });

  test.each([['-n0'], ['--iterations=x'], ['--delay=0'], ['--delay=infinity'], ['--delay=1ms']])(
    '%s is wrong usage',
    async (option) => {
      expect(await lockerctl('top', option)).toMatchObject({ status: 2, stdout: '' });
    },
  );
});

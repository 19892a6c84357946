// What lockerctl does with lockers as such, with the real service on a private bus.

import { existsSync, mkdirSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { spawn } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Store } from '../../src/core/locker-ports.ts';
import { LockerdError } from '../../src/model/errors.ts';
import type { VariantMap } from '../../src/bus/values.ts';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { LockerdOnFakes, never } from './lockerd-on-fakes.ts';
import { collect, type Run } from './support.ts';
import { copyLockerctl } from './installed.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
const program = join(project, 'dist/lockerctl');
const gibibyte = 2n ** 30n;
const nobody = 65534;

let bus: PrivateBus;
let service: LockerdOnFakes;
let bin: string;

interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
}

function lockerctl(args: readonly string[], { env = {}, uid }: RunOptions = {}): Promise<Run> {
  const child = spawn(process.execPath, [join(bin, 'lockerctl'), ...args], {
    env: {
      ...{ PATH: process.env['PATH'] ?? '', LANG: 'C.UTF-8', TZ: 'UTC', HOME: bus.directory },
      DBUS_SYSTEM_BUS_ADDRESS: bus.address,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  return collect(child);
}

async function json(...args: string[]): Promise<unknown> {
  const { stdout } = await lockerctl(['--json=short', ...args]);
  return JSON.parse(stdout);
}

const store = (name: string, change: Partial<Store> = {}): Store => ({
  ...{ name, type: 'lvm', fileSystem: 'ext4', problem: '', isDefault: false, forgotten: [] },
  ...{ size: 10n * gibibyte, free: 5n * gibibyte, maxSize: undefined },
  ...change,
});

beforeEach(async () => {
  expect(existsSync(program), 'run first: npm run build').toBe(true);
  bus = await startPrivateBus();
  bin = join(bus.directory, 'bin');
  mkdirSync(bin);
  copyLockerctl(join(bin, 'lockerctl'));
  service = new LockerdOnFakes(bus.address);
  service.outside.stores = [store('fast', { isDefault: true }), store('slow')];
  await service.start();
  await service.defineLockers({ data: '/dev/fast/data' });
  service.outside.lockerLooks['data'] = { health: 'good', size: gibibyte, store: 'fast' };
  await service.define({ web: { state: 'running' } });
});
afterEach(async () => {
  service.stop();
  await bus.close();
});

/** Arguments of the only call of a method, its options last, without their types. */
function called(member: string): unknown[] {
  const calls = service.calls.filter((made) => made.member === member);
  expect(calls).toHaveLength(1);
  const args = [...(calls[0]?.args ?? [])];
  const options = args.pop() as VariantMap;
  return [
    ...args,
    Object.fromEntries(Object.entries(options).map(([key, { value }]) => [key, value])),
  ];
}

const done = (stdout: string): Run => ({ status: 0, stdout, stderr: '' });

describe('create-locker', () => {
  test('makes one, as it was asked for', async () => {
    expect(await lockerctl(['create-locker', 'music', '1.5G'])).toEqual(
      done('music: created, 1.5G of store fast\n'),
    );
    expect(called('CreateLocker')).toEqual(['music', (3n * gibibyte) / 2n, {}]);
  });

  test('passes what the options say', async () => {
    const options = ['--store=slow', '--owner=33:34', '--mode=2770', '--for=web', '--encrypt'];
    expect(await lockerctl(['create-locker', ...options, 'music', '1G'])).toEqual(
      done('music: created, 1G of store slow\n'),
    );
    expect(called('CreateLocker').at(-1)).toEqual({
      ...{ store: 'slow', owner: '33:34', mode: 0o2770, container: 'web', encrypt: 'key-file' },
    });
  });

  test.each([
    [['music', '+1G'], '"+1G" is not a size'],
    [['music', '0'], '"0" is not a size'],
    [['--owner=root', 'music', '1G'], '"root" is no owner'],
    [['--mode=rwx', 'music', '1G'], '"rwx" is no mode'],
    [['--encrypt=rot13', 'music', '1G'], '"rot13" is no encryption'],
    [['--freeze', 'music', '1G'], '"create-locker" has no option --freeze'],
    [['-music', '1G'], 'unknown option "-m'],
  ])('%j is wrong usage, and asks nobody', async (args, message) => {
    const { status, stderr } = await lockerctl(['create-locker', ...args]);
    expect({ status, stderr }).toMatchObject({ status: 2 });
    expect(stderr).toContain(message);
    expect(service.calls).toEqual([]);
  });

  test.each([
    [['create-locker', 'data', '1G'], 1, 'there is a locker "data" already'],
    [['create-locker', 'a/b', '1G'], 2, 'a new locker cannot be named "a/b"'],
    [['create-locker', '--store=none', 'a', '1G'], 5, 'there is no store "none"'],
    [['create-locker', '--for=wep', 'a', '1G'], 5, 'Did you mean "web"?'],
    [['grow-locker', 'dada', '2G'], 5, 'Did you mean "data"?'],
    [['grow-locker', 'data', '512M'], 2, 'has 1G already; lockers only grow'],
    [['restore-locker', 'data', 'a', 'b'], 1, 'no such'],
    [['snapshots', 'dada'], 5, 'Did you mean "data"?'],
  ])('%j ends with status %i', async (args, status, message) => {
    service.work = () => {
      throw new LockerdError('Failed', 'no such');
    };
    const run = await lockerctl(args);
    expect({ ...run }).toMatchObject({ status, stdout: '' });
    expect(run.stderr).toContain(message);
  });

  test('says what the caller may not, and nothing else', async () => {
    service.outside.decide = () => 'no';
    const { status, stderr } = await lockerctl(['create-locker', 'data', '1G']);
    expect({ status, stderr }).toMatchObject({ status: 4 });
    expect(stderr).toContain('polkit does not allow you org.lockerd1.create-locker');
    expect(stderr).not.toContain('already');
  });

  test('is shown among the jobs, and cancelled', async () => {
    service.work = () => never();
    const making = lockerctl(['create-locker', '--no-block', 'music', '1G']);
    expect(await making).toEqual(done('music: job 1 create-locker\n'));
    expect((await lockerctl(['jobs', '--no-legend'])).stdout).toBe(
      '1 - create-locker music running creating - 0\n',
    );
    expect(await json('jobs')).toMatchObject([{ container: null, locker: 'music' }]);
    expect((await lockerctl(['cancel', '1'])).status).toBe(0);
  });
});

test('a locker grows, and JSON says from what to what', async () => {
  expect(await lockerctl(['grow-locker', 'data', '+1G'])).toEqual(done('data: grown to 2G\n'));
  expect(called('GrowLocker')).toEqual(['data', gibibyte, { by: true }]);
  expect(await json('grow-locker', 'data', '3G')).toMatchObject([
    { locker: 'data', result: 'done', before: Number(2n * gibibyte), after: Number(3n * gibibyte) },
  ]);
});

test('snapshots are made, listed, and become lockers', async () => {
  expect(await lockerctl(['snapshot-locker', '--freeze', 'data', 'before'])).toEqual(
    done('data: snapshot before\n'),
  );
  expect(called('SnapshotLocker')).toEqual(['data', 'before', { freeze: true }]);
  const named = await lockerctl(['snapshot-locker', 'data']);
  expect(named.stdout).toMatch(/^data: snapshot \d{8}-\d{6}\n$/);
  service.outside.snapshots['data'] = [
    { name: 'before', createdUsec: 1_700_000_000_000_000n, size: gibibyte, used: 4096n },
    { name: 'after', createdUsec: undefined, size: undefined, used: undefined },
  ];
  expect((await lockerctl(['snapshots', 'data'])).stdout)
    .toBe(`SNAPSHOT CREATED                     SIZE USED
after    -                              -    -
before   Tue 2023-11-14 22:13:20 UTC   1G   4K

2 snapshots listed.
`);
  expect(await json('snapshots', 'data')).toMatchObject([
    { snapshot: 'after', size: null },
    { snapshot: 'before', size: Number(gibibyte), used: 4096 },
  ]);
  expect(await lockerctl(['restore-locker', 'data', 'before', 'copy'])).toEqual(
    done('data: before restored as copy\n'),
  );
  expect(called('RestoreLocker')).toEqual(['data', 'before', 'copy', {}]);
  expect((await lockerctl(['lockers', '-q'])).stdout).toBe('copy\ndata\n');
});

test('a locker is renamed and forgotten, and its data is named', async () => {
  expect(await lockerctl(['rename-locker', 'data', 'songs'])).toEqual(
    done('data: renamed to songs\n'),
  );
  expect(await lockerctl(['forget-locker', 'songs'])).toEqual({
    status: 0,
    stdout: 'songs: forgotten\n',
    stderr: 'lockerctl: warning: the data of locker "songs" stays in its store\n',
  });
  expect((await lockerctl(['lockers', '-q'])).stdout).toBe('');
});

test('a locker that was forgotten is taken back', async () => {
  const forgotten = [{ name: 'old', size: gibibyte, creator: 7 }];
  service.outside.stores = [store('fast', { forgotten }), store('slow')];
  expect(await lockerctl(['adopt-locker', 'old'])).toEqual(
    done('old: taken back from store fast\n'),
  );
  expect(called('AdoptLocker')).toEqual(['old', {}]);
  const failed = await lockerctl(['adopt-locker', '--store=slow', 'older']);
  expect(failed).toMatchObject({ status: 5, stdout: '' });
  expect(failed.stderr).toContain('store "slow" does not have a locker "older" that was forgotten');
});

test('stores', async () => {
  const forgotten = [{ name: 'old', size: gibibyte, creator: 7 }];
  service.outside.stores = [
    store('fast', { isDefault: true, maxSize: gibibyte, forgotten }),
    store('bad', { type: '', fileSystem: '', size: undefined, free: undefined, problem: 'gone' }),
  ];
  expect((await lockerctl(['stores'])).stdout)
    .toBe(`STORE          TYPE FILESYSTEM SIZE FREE MAX FORGOTTEN PROBLEM
bad            -    -             -    -   - -         gone
fast (default) lvm  ext4        10G   5G  1G old       -

2 stores listed.
`);
  expect(await json('stores')).toMatchObject([
    { store: 'bad', size: null, problem: 'gone' },
    { store: 'fast', default: true, forgotten: [{ locker: 'old', size: Number(gibibyte) }] },
  ]);
  expect((await lockerctl(['stores', '-q'])).stdout).toBe('bad\nfast\n');
});

describe('destroy-locker', () => {
  let server: net.Server;
  let requests: Record<string, unknown>[];
  let answers: Record<string, object[]>;
  const socket = () => join(bus.directory, 'stores.sock');
  const run = (...args: string[]) =>
    lockerctl(['destroy-locker', ...args], { env: { LOCKERD_STORES_SOCKET: socket() } });

  beforeEach(async () => {
    requests = [];
    answers = {
      'look-lockers': [{ locker: 'data', seen: { health: 'good', store: 'fast' } }, { ok: true }],
      'list-stores': [{ ok: true, stores: [] }],
      'destroy-locker': [{ ok: true }],
    };
    server = net.createServer((connection) => {
      connection.once('data', (chunk) => {
        const request = JSON.parse(chunk.toString()) as Record<string, unknown>;
        requests.push(request);
        const lines = answers[String(request['verb'])] ?? [];
        connection.end(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
      });
    });
    await new Promise<void>((resolve) => server.listen(socket(), resolve));
  });
  afterEach(() => new Promise((resolve) => server.close(resolve)));

  test('asks the root side, and neither the service nor polkit', async () => {
    expect(await run('--yes', 'data', 'data')).toEqual(done('data: destroyed\n'));
    expect(await run('--yes', '--snapshot=a', '--json=short', 'data', 'data')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('"snapshot":"a"') as string,
    });
    expect(requests).toEqual([
      { verb: 'look-lockers', lockers: ['data'] },
      { verb: 'destroy-locker', locker: 'data', store: 'fast' },
      { verb: 'look-lockers', lockers: ['data'] },
      { verb: 'destroy-locker', locker: 'data', store: 'fast', snapshot: 'a' },
    ]);
    expect(service.calls).toEqual([]);
  });

  test('finds what was forgotten, unless two stores have it', async () => {
    const has = (name: string) => ({ name, type: 'lvm', forgotten: [{ name: 'old' }] });
    answers['look-lockers'] = [{ ok: true }];
    answers['list-stores'] = [{ ok: true, stores: [has('slow'), { name: 'fast' }] }];
    expect((await run('--yes', 'old', 'old')).status).toBe(0);
    expect(requests.at(-1)).toEqual({ verb: 'destroy-locker', locker: 'old', store: 'slow' });
    answers['list-stores'] = [{ ok: true, stores: [has('slow'), has('fast')] }];
    const two = await run('--yes', 'old', 'old');
    expect({ ...two }).toMatchObject({ status: 2 });
    expect(two.stderr).toContain('--store=slow or fast');
    expect((await run('--yes', '--store=fast', 'old', 'old')).status).toBe(0);
    expect(requests.at(-1)).toEqual({ verb: 'destroy-locker', locker: 'old', store: 'fast' });
    expect((await run('--yes', 'none', 'none')).status).toBe(5);
  });

  test.each([
    [['--yes', 'data', 'date'], 'are two names'],
    [['data', 'data'], 'only with --yes'],
    [['--yes', 'data'], 'needs NAME NAME'],
  ])('%j is wrong usage, and asks nobody', async (args, message) => {
    const { status, stderr } = await run(...args);
    expect({ status, stderr }).toMatchObject({ status: 2 });
    expect(stderr).toContain(message);
    expect(requests).toEqual([]);
  });

  test('is for root alone, and says why root cannot', async () => {
    const other = await lockerctl(['destroy-locker', '--yes', 'data', 'data'], { uid: nobody });
    expect({ ...other }).toMatchObject({ status: 4, stdout: '' });
    expect(other.stderr).toContain('only root can use "destroy-locker"');
    answers['destroy-locker'] = [{ ok: false, error: 'LockerBusy', message: 'it is attached' }];
    expect(await run('--yes', 'data', 'data')).toMatchObject({
      status: 1,
      stderr: 'lockerctl: cannot destroy-locker "data": it is attached\n',
    });
  });
});

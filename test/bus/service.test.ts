import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { BusClients } from '../../src/adapters/clients.ts';
import { PolkitAuthority } from '../../src/adapters/polkit.ts';
import type { ServiceConnection } from '../../src/bus/connection.ts';
import { escapeLabel } from '../../src/model/object-label.ts';
import { Variant, type VariantMap } from '../../src/bus/values.ts';
import type { Core } from '../../src/core/core.ts';
import { LockerdError } from '../../src/model/errors.ts';
import { defaultLimits } from '../../src/core/user-quota.ts';
import { systemClock } from '../../src/service/system-clock.ts';
import { startService } from '../../src/service/bus-service.ts';
import {
  caller,
  definition,
  definitions,
  FakeOutside,
  options,
  settled,
} from '../unit/core-fakes.ts';
import { startPolkit, startPrivateBus, type PrivateBus } from './bus.ts';
import { errorOf } from './support.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const checkout = path.resolve(import.meta.dirname, '../..');
const contract = fs.readFileSync(path.join(checkout, 'units/dbus/org.lockerd1.xml'), 'utf8');
const actions = path.join(checkout, 'units/polkit/org.lockerd1.policy');
const nobody = 65534;
const name = 'org.lockerd1';
const manager = '/org/lockerd1';

/** Rules that look at the action, the caller and every kind of detail. */
const rules = `
polkit.addRule(function (action, subject) {
  if (action.id.indexOf("org.lockerd1.") !== 0 || subject.user !== "nobody") return;
  var detail = function (key) { return action.lookup(key); };
  if (detail("container") === "web" && detail("verb") === "start") return polkit.Result.YES;
  if (detail("container") === "db") return polkit.Result.NO;
  if (detail("locker") === "data" && detail("mode") === "ro") return polkit.Result.YES;
  if (detail("locker") === "data" && detail("mode") === "rw") return polkit.Result.NO;
  if (detail("memory-direction") === "shrink") return polkit.Result.YES;
});
`;

let bus: PrivateBus;
let outside: FakeOutside;
let connection: ServiceConnection;
let client: ServiceConnection;
let core: Core;
let polkitd: Awaited<ReturnType<typeof startPolkit>>;
let rulesDir: string;

beforeAll(async () => {
  bus = await startPrivateBus();
  const actionsDir = path.join(bus.directory, 'actions');
  rulesDir = path.join(bus.directory, 'rules.d');
  for (const directory of [actionsDir, rulesDir]) {
    fs.mkdirSync(directory);
    fs.chmodSync(directory, 0o755);
  }
  fs.copyFileSync(actions, path.join(actionsDir, 'org.lockerd1.policy'));
  fs.writeFileSync(path.join(rulesDir, '10-test.rules'), rules);
  polkitd = await startPolkit(bus, { actionsDir, rulesDir });
});
afterAll(() => bus.close());

beforeEach(async () => {
  outside = new FakeOutside();
  outside.definitions = definitions(definition('web'), definition('db'), definition('my web'));
  connection = await bus.connect();
  const authority = await PolkitAuthority.connect(connection, { checkMs: 3_000 });
  ({ core } = await startService({
    connection,
    clock: systemClock,
    version: '1.2.3',
    logging: outside.logging,
    limits: { ...defaultLimits, 'finished-job-seconds': 1 },
    ports: { ...outside.ports(), authority, clients: new BusClients(connection) },
  }));
  await connection.requestName(name);
  client = await bus.connect();
  // Here no activation file tells of polkit, so that it is found by its first answer.
  await ask('GetPermissions', 'o', manager);
  return () => {
    client.close();
    connection.close();
  };
});

function call(
  object: string,
  iface: string,
  member: string,
  signature = '',
  ...body: unknown[]
): Promise<readonly unknown[]> {
  const target = { destination: name, path: object, interface: iface };
  return client.call({ ...target, member, signature, body });
}

function ask(member: string, signature = '', ...body: unknown[]): Promise<readonly unknown[]> {
  return call(manager, 'org.lockerd1.Manager', member, signature, ...body);
}

const containerPath = (container: string) => `${manager}/container/${escapeLabel(container)}`;

async function properties(object: string, kind: string): Promise<Record<string, unknown>> {
  const iface = `org.lockerd1.${kind}`;
  const [values] = await call(object, 'org.freedesktop.DBus.Properties', 'GetAll', 's', iface);
  return Object.fromEntries(
    Object.entries(values as VariantMap).map(([key, { value }]) => [key, value]),
  );
}

/** Calls as a user whom nothing but polkit's rules allows anything. */
async function asNobody(member: string, ...args: string[]): Promise<string> {
  const target = [name, manager, 'org.lockerd1.Manager', member, ...args];
  const options = [`--address=${bus.address}`, '--allow-interactive-authorization=no'];
  const argv = ['busctl', ...options, '--timeout=20', 'call', ...target];
  const { stdout, stderr } = await bus.run(argv, { uid: nobody });
  return (stdout + stderr).trim();
}

/** Every signal of the service, as one line each, and what the test adds. */
async function listen(): Promise<string[]> {
  const lines: string[] = [];
  await client.subscribe({ sender: name }, ({ path: object, member, body }) => {
    const changed =
      member === 'PropertiesChanged' ? ` ${Object.keys(body[1] as object).join()}` : '';
    lines.push(`${object.slice(manager.length)} ${member}${changed}`);
  });
  return lines;
}

/** Elements of an introspection by their place in it, with their attributes. */
function elementsOf(xml: string): Set<string> {
  const found = new Set<string>();
  const open: string[] = [];
  let argument = 0;
  for (const [, end, tag, attributes = '', empty] of xml.matchAll(
    /<(\/?)([a-z]+)((?:\s+[a-z]+="[^"]*")*)\s*(\/?)>/g,
  )) {
    if (end === '/') {
      open.pop();
      continue;
    }
    const named = [...attributes.matchAll(/([a-z]+)="([^"]*)"/g)].map(([pair]) => pair).sort();
    // The order of arguments is theirs.
    argument = tag === 'arg' ? argument + 1 : 0;
    const place = [...open, `${tag}${argument || ''} ${named.join(' ')}`];
    found.add(place.join(' / '));
    if (empty !== '/') open.push(place.at(-1) ?? '');
  }
  return found;
}

async function liveInterfaces(object: string): Promise<string> {
  const [xml] = await call(object, 'org.freedesktop.DBus.Introspectable', 'Introspect');
  const interfaces = (xml as string).matchAll(
    /<interface name="org\.lockerd1\.[^]*?<\/interface>/g,
  );
  return [...interfaces].map(([text]) => text).join('\n');
}

describe('the interface', () => {
  test('is the contract, to the letter', async () => {
    const [job] = await ask('StartContainer', 'sa{sv}', 'web', {});
    const objects = [manager, containerPath('web'), `${manager}/locker/data`, job as string];
    const live = [];
    for (const object of objects) live.push(await liveInterfaces(object));
    const expected = elementsOf(contract);
    expect(expected.size).toBeGreaterThan(150);
    expect(elementsOf(`<node>${live.join('\n')}</node>`)).toEqual(expected);
  });

  test('lists what there is', async () => {
    outside.run('web');
    outside.mount('/lockers/data');
    expect(await ask('ListContainers')).toEqual([
      [
        ['db', 'stopped', `${manager}/container/db`],
        ['my web', 'stopped', `${manager}/container/my_20web`],
        ['web', 'running', `${manager}/container/web`],
      ],
    ]);
    expect(await ask('ListLockers')).toEqual([
      [
        ['data', 'mounted', `${manager}/locker/data`],
        ['sandbox', 'unmounted', `${manager}/locker/sandbox`],
        ['web_vol', 'unmounted', `${manager}/locker/web_5fvol`],
      ],
    ]);
    expect(await ask('GetContainer', 's', 'my web')).toEqual([containerPath('my web')]);
    expect((await errorOf(ask('GetContainer', 's', 'nope'))).errorName).toBe(
      'org.lockerd1.Error.NoSuchContainer',
    );
    expect((await errorOf(ask('GetLocker', 's', 'nope'))).errorName).toBe(
      'org.lockerd1.Error.NoSuchLocker',
    );
    expect((await errorOf(ask('GetPermissions', 'o', '/org'))).errorName).toBe(
      'org.freedesktop.DBus.Error.UnknownObject',
    );
  });

  test('describes guests to everybody, one look for all, and only where somebody asks', async () => {
    outside.run('web', 100);
    outside.run('my web', 200);
    await properties(containerPath('web'), 'Container');
    const manyLooks = ['Describe', 'Describe'].map((member) =>
      call(containerPath('web'), 'org.lockerd1.Container', member),
    );
    const asked = () => outside.done.filter((what) => what.startsWith('look'));
    await vi.waitFor(() => {
      expect(asked()).toEqual(['look web']);
    });
    const addresses = [{ interface: 'eth0', address: '192.0.2.5' }];
    outside.answer('look web', new Map([['web', { addresses, isUnprivileged: true, os: {} }]]));
    const expected = {
      Addresses: new Variant('a(ss)', [['eth0', '192.0.2.5']]),
      Unprivileged: new Variant('b', true),
    };
    const answers = await Promise.all(manyLooks);
    expect(answers).toEqual([[expected], [expected]]);
    const off = call(containerPath('db'), 'org.lockerd1.Container', 'Describe');
    expect(await off).toEqual([{}]);

    const rest = asNobody('DescribeContainers', 'as', '0');
    await vi.waitFor(() => {
      expect(asked()).toHaveLength(2);
    });
    // The other one was seen less than a second ago, or is seen again.
    const seen = new Map([['my web', { hostName: 'mine', startUsec: 7n, lowestLimit: 96n }]]);
    outside.answer(asked().at(-1) ?? '', seen);
    expect(await rest).toContain(
      '"my web" 3 "HostName" s "mine" "StartTimestamp" t 7 "LowestMemoryLimit" t 96',
    );
    const none = ask('DescribeContainers', 'as', ['db', 'nobody']);
    expect(await none).toEqual([{}]);
    const gone = call(containerPath('nobody'), 'org.lockerd1.Container', 'Describe');
    expect((await errorOf(gone)).errorName).toBe('org.freedesktop.DBus.Error.UnknownObject');
  });

  test('a look that fails is an error, and nothing else', async () => {
    outside.run('web', 100);
    const look = errorOf(call(containerPath('web'), 'org.lockerd1.Container', 'Describe'));
    await vi.waitFor(() => {
      expect(outside.done).toEqual(['look web']);
    });
    outside.fail('look web', new LockerdError('Failed', 'the helper is away'));
    expect(await look).toMatchObject({
      errorName: 'org.lockerd1.Error.Failed',
      message: 'the helper is away',
    });
  });

  test('shows every property with the value it has', async () => {
    outside.mount('/lockers/data', { source: '/dev/data' });
    outside.mount('/var/locker-mappings/web/data', { readOnly: true });
    outside.run('web', 100);
    outside.unit('web', { memoryMax: 5n, memorySwapMax: 6n });
    expect(await properties(containerPath('web'), 'Container')).toEqual({
      Name: 'web',
      Unit: 'lxc@web.service',
      ConfigFile: '/var/lib/lxc/web/config',
      State: 'running',
      Problem: '',
      Autostart: false,
      AutostartReasons: [],
      Groups: [],
      WaitsFor: [],
      Leader: 100,
      StateChangeTimestamp: expect.any(BigInt) as bigint,
      Lockers: [['data', `${manager}/locker/data`, true]],
      MemoryLimit: 5n,
      SwapLimit: 6n,
      MemoryCurrent: 2n ** 64n - 1n,
      MemoryPeak: 2n ** 64n - 1n,
      SwapCurrent: 2n ** 64n - 1n,
      MemoryPressure: 0,
      OomKills: 0n,
      CpuTime: 2n ** 64n - 1n,
      Tasks: 2n ** 64n - 1n,
      IoReadBytes: 2n ** 64n - 1n,
      IoWrittenBytes: 2n ** 64n - 1n,
      IoReads: 2n ** 64n - 1n,
      IoWrites: 2n ** 64n - 1n,
      CpuQuota: 2n ** 64n - 1n,
      CpuWeight: 2n ** 64n - 1n,
      Cpus: '',
      MemoryNodes: '',
      IoWeight: 2n ** 64n - 1n,
      IoLimits: [],
      TasksLimit: 2n ** 64n - 1n,
      Jobs: [],
    });
    const unseen = {
      Name: 'data',
      Description: 'comes with no container',
      Mounted: true,
      Source: '/dev/data',
      AttachedTo: [[containerPath('web'), true]],
      ...{ Size: 2n ** 64n - 1n, Used: 2n ** 64n - 1n, Available: 2n ** 64n - 1n },
      ...{ FileSystem: '', Device: '', Store: '', Health: 'unknown', Creator: 2 ** 32 - 1 },
      ...{ Snapshots: [], Jobs: [] },
    };
    const data = `${manager}/locker/data`;
    expect(await properties(data, 'Locker')).toEqual(unseen);
    outside.lockerLooks['data'] = {
      ...{ size: 9n, used: 8n, available: 1n, fileSystem: 'xfs', device: '/dev/dm-1' },
      ...{ store: 'fast', health: 'nearly-full', creator: 1000, snapshots: ['a'] },
    };
    await core.lockers.looks.refresh(['data']);
    await call(data, 'org.lockerd1.Locker', 'Look');
    const seen = {
      ...{ Size: 9n, Used: 8n, Available: 1n, FileSystem: 'xfs', Device: '/dev/dm-1' },
      ...{ Store: 'fast', Health: 'nearly-full', Creator: 1000, Snapshots: ['a'] },
    };
    expect(await properties(data, 'Locker')).toEqual({ ...unseen, ...seen });
    expect(await properties(manager, 'Manager')).toMatchObject({
      Version: '1.2.3',
      Authority: 'polkit',
      Limits: { 'jobs-per-uid': 64 },
    });
  });
});

describe('signals', () => {
  test('tell of a job and what it changed before its reply', async () => {
    const lines = await listen();
    const reply = ask('StartContainer', 'sa{sv}', 'web', { wait: new Variant('b', true) });
    void reply.then(() => lines.push('reply'));
    await vi.waitFor(() => {
      expect(outside.pending).toHaveLength(1);
    });
    outside.run('web', 321);
    outside.answer('start lxc@web.service', 'done');
    const [job] = await reply;
    await settled();
    const own = (job as string).slice(manager.length);
    expect(lines).toEqual([
      ' InterfacesAdded',
      ' JobNew',
      '/container/web PropertiesChanged Jobs',
      `${own} PropertiesChanged State`,
      `${own} PropertiesChanged Phase`,
      '/container/web PropertiesChanged State',
      '/container/web PropertiesChanged Leader',
      `${own} PropertiesChanged State,Phase,Progress,Cancelable,Result`,
      '/container/web PropertiesChanged Jobs',
      ' JobRemoved',
      'reply',
    ]);
    expect(await properties(job as string, 'Job')).toMatchObject({
      Result: 'done',
      Error: ['', ''],
      StartedByUid: 0,
    });
    await vi.waitFor(
      () => {
        expect(lines.at(-1)).toBe(' InterfacesRemoved');
      },
      { timeout: 10_000 },
    );
    expect((await errorOf(properties(job as string, 'Job'))).errorName).toBe(
      'org.freedesktop.DBus.Error.UnknownObject',
    );
  });

  test('tell of containers and lockers that come and go', async () => {
    const lines = await listen();
    outside.definitions = definitions(definition('web'), definition('new'));
    outside.reload();
    await vi.waitFor(() => {
      expect(lines.sort()).toEqual([
        ' InterfacesAdded',
        ' InterfacesRemoved',
        ' InterfacesRemoved',
      ]);
    });
    const [objects] = await call(
      manager,
      'org.freedesktop.DBus.ObjectManager',
      'GetManagedObjects',
    );
    expect(Object.keys(objects as object).sort()).toEqual([
      `${manager}/container/new`,
      `${manager}/container/web`,
      `${manager}/locker/data`,
      `${manager}/locker/sandbox`,
      `${manager}/locker/web_5fvol`,
    ]);
  });
});

describe('jobs', () => {
  test('fail with the name and the words of what went wrong', async () => {
    const [job] = await ask('StartContainer', 'sa{sv}', 'web', {});
    const waiting = call(job as string, 'org.lockerd1.Job', 'Wait', 't', 0n);
    outside.unit('web', { activeState: 'failed', result: 'exit-code' });
    outside.answer('start lxc@web.service', 'failed');
    expect(await waiting).toEqual([
      'failed',
      'org.lockerd1.Error.Failed',
      `container "web" did not start (exit-code); see: journalctl -u lxc@web`,
    ]);
  });

  test('can be waited for and cancelled', async () => {
    const [path] = await ask('StartContainer', 'sa{sv}', 'web', {});
    const job = path as string;
    const late = call(job, 'org.lockerd1.Job', 'Wait', 't', 20_000n);
    expect((await errorOf(late)).errorName).toBe('org.lockerd1.Error.TimedOut');
    await call(job, 'org.lockerd1.Job', 'Cancel', 'a{sv}', {});
    outside.answer('start lxc@web.service', 'canceled');
    await vi.waitFor(() => {
      outside.answer('stop lxc@web.service', 'done');
    });
    const [result, errorName] = await call(job, 'org.lockerd1.Job', 'Wait', 't', 0n);
    expect([result, errorName]).toEqual(['cancelled', 'org.lockerd1.Error.Cancelled']);
  });

  test('options that nobody knows are an error', async () => {
    const options = { Force: new Variant('b', true) };
    expect((await errorOf(ask('StopContainer', 'sa{sv}', 'web', options))).errorName).toBe(
      'org.freedesktop.DBus.Error.InvalidArgs',
    );
  });
});

test('whoever is asked for a password is waited for like a job', async () => {
  const own = await bus.connect();
  let answer: (decision: 'no') => void = () => undefined;
  outside.decide = () => new Promise((resolve) => (answer = resolve));
  const { core: asking, occupation } = await startService({
    connection: own,
    clock: systemClock,
    version: '1.2.3',
    logging: outside.logging,
    ports: { ...outside.ports(), clients: new BusClients(own) },
  });
  const seen: boolean[] = [];
  occupation.onLess(() => seen.push(occupation.hasJobs()));
  expect(occupation.hasJobs()).toBe(false);
  const request = { verb: 'start', container: 'web' } as const;
  const refused = expect(asking.request(caller(), request, options())).rejects.toThrow('allow');
  await settled();
  expect(occupation.hasJobs()).toBe(true);
  answer('no');
  await refused;
  expect(seen.at(-1)).toBe(false);
  own.close();
});

test('who calls too often is refused, whatever is called', async () => {
  const busy = vi.spyOn(core.quota, 'takeCall').mockImplementation((uid) => {
    throw new LockerdError('LimitsExceeded', `uid ${uid} must slow down`);
  });
  const bus = 'org.freedesktop.DBus';
  for (const refused of [
    call(manager, `${bus}.ObjectManager`, 'GetManagedObjects'),
    call(manager, `${bus}.Properties`, 'GetAll', 's', `${name}.Manager`),
    call(manager, `${bus}.Introspectable`, 'Introspect'),
    ask('ListContainers'),
    ask('GetPermissions', 'o', manager),
    ask('StartContainer', 'sa{sv}', 'web', {}),
  ]) {
    const { errorName, message } = await errorOf(refused);
    expect([errorName, message]).toEqual([`${bus}.Error.LimitsExceeded`, 'uid 0 must slow down']);
  }
  expect(outside.pending).toEqual([]);
  expect(busy).toHaveBeenCalledTimes(6);
  busy.mockRestore();
  expect(await ask('ListJobs')).toEqual([[]]);
});

describe('with the real polkit', () => {
  test('rules decide by container, verb, locker, mode and direction', async () => {
    outside.run('my web');
    expect(await asNobody('StartContainer', 'sa{sv}', 'web', '0')).toMatch(/^o "\/org/);
    expect(await asNobody('StartContainer', 'sa{sv}', 'db', '0')).toContain('denied');
    expect(await asNobody('StopContainer', 'sa{sv}', 'my web', '0')).toContain('takes a password');
    const mount = ['MountLocker', 'ssa{sv}', 'my web', 'data'] as const;
    expect(await asNobody(...mount, '0')).toContain('denied');
    expect(await asNobody(...mount, '1', 'read-only', 'b', 'true')).toMatch(/^o "\/org/);
    expect(outside.done).toEqual(['start lxc@web.service', 'attach ["my web","data",true,false]']);
    expect(core.jobs.all.map(({ uid }) => uid)).toEqual([nobody, nobody]);
  });

  test('permissions are what calls would get', async () => {
    outside.run('web');
    const answer = await asNobody('GetPermissions', 'o', containerPath('web'));
    const permissions: Record<string, string> = {};
    for (const [, action = '', how = ''] of answer.matchAll(
      /"org\.lockerd1\.([a-z-]+)" "([a-z]+)"/g,
    )) {
      permissions[action] = how;
    }
    expect(permissions).toEqual({
      start: 'yes',
      stop: 'challenge',
      'stop-force': 'challenge',
      reboot: 'challenge',
      freeze: 'challenge',
      balloon: 'yes',
      'set-limits': 'challenge',
      // Read-only is allowed.
      'mount-locker': 'yes',
      // The rule knows no locker but one, and none is there.
      'unmount-locker': 'challenge',
      'unmount-locker-force': 'challenge',
      'set-autostart': 'challenge',
    });
    expect(outside.journal).toEqual([]);
  });

  test('changed rules are told, and count', async () => {
    const lines = await listen();
    const file = path.join(rulesDir, '00-first.rules');
    const denied = 'polkit.addRule(function (action) { return polkit.Result.NO; });';
    fs.writeFileSync(file, denied);
    try {
      await vi.waitFor(
        () => {
          expect(lines).toContain(' PermissionsChanged');
        },
        { timeout: 20_000 },
      );
      expect(await asNobody('StartContainer', 'sa{sv}', 'web', '0')).toContain('denied');
    } finally {
      fs.rmSync(file);
    }
    await vi.waitFor(
      async () => {
        expect(await asNobody('StartContainer', 'sa{sv}', 'web', '0')).toMatch(/^o "\/org/);
      },
      { timeout: 20_000 },
    );
  });

  test('nobody is let in while it hangs, not even root', async () => {
    polkitd.kill('SIGSTOP');
    try {
      const asRoot = await errorOf(ask('StartContainer', 'sa{sv}', 'web', {}));
      expect(asRoot.errorName).toBe('org.lockerd1.Error.AuthorityUnavailable');
      expect(await asNobody('StartContainer', 'sa{sv}', 'web', '0')).toContain('polkit');
      // Reading needs no polkit.
      expect(await asNobody('ListJobs')).toBe('a(usso) 0');
    } finally {
      polkitd.kill('SIGCONT');
    }
    expect(outside.done).toEqual([]);
    await vi.waitFor(
      async () => {
        expect(await asNobody('StartContainer', 'sa{sv}', 'web', '0')).toMatch(/^o "\/org/);
      },
      { timeout: 20_000 },
    );
  });
});

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { BusClients } from '../../src/adapters/clients.ts';
import { GeneratedDefinitions } from '../../src/adapters/definitions.ts';
import { CgroupMemory } from '../../src/adapters/cgroup-memory.ts';
import { SystemdManager } from '../../src/systemd/manager.ts';
import { encodeJournalEntry } from '../../src/adapters/journal-entry.ts';
import { SystemdMounts } from '../../src/adapters/mount-units.ts';
import { SystemdUnits } from '../../src/adapters/units.ts';
import { type BusConnection, connectBus } from '../../src/bus/connection.ts';
import type { MountPoint, UnitStatus, Unwatch } from '../../src/core/ports.ts';
import { containerUnit } from '../../src/model/unit-name.ts';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { guestPid, offline, systemctl, trySystemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

const many = Array.from({ length: 50 }, (_, index) => `c${String(index + 1).padStart(2, '0')}`);
const never = new AbortController().signal;

let host: Host;
let bus: BusConnection;
let manager: SystemdManager;
let units: SystemdUnits;
let mounts: SystemdMounts;
let memory: CgroupMemory;
const unwatches: Unwatch[] = [];

beforeAll(async () => {
  host = await bootHost({ name: 'adapters', boot: false });
  await host.createContainer('web', 'busybox', { config: [...offline, 'lxc.start.auto = 0'] });
  await host.createContainer('my 50%n', 'busybox', {
    config: [...offline, 'lxc.signal.reboot = SIGHUP', 'lxc.group = a b'],
  });
  await host.writeFile('/var/lib/lxc/broken/config', 'lxc.foo = 1\n');
  await host.createContainer('slow', 'busybox', {
    config: [...offline, 'lxc.hook.pre-start = /usr/local/sbin/slow'],
  });
  await host.writeFile('/usr/local/sbin/slow', '#!/bin/sh\nexec sleep 30\n', 0o755);
  await host.writeFile(
    '/etc/fstab',
    'web /lockers/web tmpfs size=1m 0 0\nshared /lockers/sandbox tmpfs noauto,size=1m 0 0\n' +
      'my /lockers/my\\040data%n tmpfs noauto,size=1m 0 0\n',
  );
  await host.writeFile('/etc/lockerd/lockerd.conf', 'root-without-polkit = yes\n');
  await host.writeFile(
    '/etc/systemd/system/toy@.service',
    '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n',
  );
  await host.boot();
  // The host's bus, seen from here: its own file system is that of its first process.
  const address = `unix:path=/proc/${host.leader}/root/run/dbus/system_bus_socket`;
  bus = await connectBus({ address });
  manager = await SystemdManager.connect(bus);
  memory = new CgroupMemory(`/proc/${host.leader}/root/sys/fs/cgroup`, { pollMs: 500 });
  units = new SystemdUnits(manager, memory, `/proc/${host.leader}/root`);
  mounts = new SystemdMounts(manager);
});
afterAll(async () => {
  bus.close();
  await host.close();
});
afterEach(async () => {
  await Promise.all(unwatches.splice(0).map((unwatch) => unwatch()));
});
attachJournalOnFailure(() => host);

/** Everything reported of a unit so far; the last one is how it is. */
async function follow(unit: string): Promise<UnitStatus[]> {
  const seen: UnitStatus[] = [];
  unwatches.push(await units.watch(unit, (status) => seen.push(status)));
  return seen;
}

async function untilState(seen: readonly UnitStatus[], state: string): Promise<UnitStatus> {
  await vi.waitFor(
    () => {
      expect(seen.at(-1)?.activeState).toBe(state);
    },
    { timeout: 60_000 },
  );
  const last = seen.at(-1);
  if (last === undefined) throw new Error('nothing was reported');
  return last;
}

describe('units', () => {
  test('a container starts, and its status is told before the job ends', async () => {
    const seen = await follow('lxc@web.service');
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({ activeState: 'inactive', controlGroup: '' });
    const before = Date.now() * 1000;
    expect(await units.start('lxc@web.service', never)).toBe('done');
    const status = seen.at(-1);
    expect(status).toMatchObject({
      activeState: 'active',
      result: 'success',
      memoryMax: 2n ** 64n - 1n,
    });
    expect(status?.controlGroup).toMatch(/lxc@web\.service$/);
    expect(Number(status?.stateChangeUsec)).toBeGreaterThan(before);
    await host.waitForGuest('web');
    expect(await units.stop('lxc@web.service', never)).toBe('done');
    expect(seen.at(-1)).toMatchObject({ activeState: 'inactive', controlGroup: '' });
    expect(Number(seen.at(-1)?.stateChangeUsec)).toBeGreaterThan(Number(status?.stateChangeUsec));
  });

  test('what systemctl and the guest do is seen', async () => {
    const seen = await follow('lxc@web.service');
    await systemctl(host, 'start', 'lxc@web.service');
    await untilState(seen, 'active');
    await host.waitForGuest('web');
    await systemctl(host, 'set-property', '--runtime', 'lxc@web.service', 'MemoryMax=123M');
    await vi.waitFor(
      () => {
        expect(seen.at(-1)?.memoryMax).toBe(123n * 1024n * 1024n);
      },
      { timeout: 30_000 },
    );
    await host.run('lxc-attach', ['-n', 'web', '--', '/sbin/poweroff']);
    await untilState(seen, 'inactive');
  });

  test('a start that fails says so', async () => {
    const seen = await follow('lxc@broken.service');
    expect(await units.start('lxc@broken.service', never)).toBe('failed');
    expect(seen.at(-1)).toMatchObject({ activeState: 'failed', result: 'exit-code' });
    await systemctl(host, 'reset-failed', 'lxc@broken.service');
    await untilState(seen, 'inactive');
  });

  test('what systemd refuses is told with its remedy', async () => {
    await systemctl(host, 'mask', '--runtime', 'lxc@web.service');
    await expect(units.start('lxc@web.service', never)).rejects.toMatchObject({
      code: 'Failed',
      message: 'lxc@web.service is masked; unmask it with "systemctl unmask lxc@web.service"',
    });
    await systemctl(host, 'unmask', '--runtime', 'lxc@web.service');
    await expect(units.kill('lxc@web.service', 'main', 15)).rejects.toMatchObject({
      code: 'NotRunning',
      message: 'lxc@web.service is not running',
    });
  });

  test('a start is cancelled', async () => {
    const cancel = new AbortController();
    const job = units.start('lxc@slow.service', cancel.signal);
    const seen = await follow('lxc@slow.service');
    await untilState(seen, 'activating');
    cancel.abort();
    expect(await job).toBe('canceled');
    expect(await units.stop('lxc@slow.service', never)).toBe('done');
    expect(await units.start('lxc@slow.service', cancel.signal)).toBe('canceled');
  });

  test('kill reaches the guest’s init, a restart gives a new one', async () => {
    const seen = await follow('lxc@web.service');
    await units.start('lxc@web.service', never);
    await host.waitForGuest('web');
    const mainPid = async () => (await host.unit('lxc@web.service'))['MainPID'];
    const before = await mainPid();
    expect(await units.restart('lxc@web.service', never)).toBe('done');
    expect(await mainPid()).not.toBe(before);
    await host.waitForGuest('web');
    const guest = await guestPid(host, 'web');
    expect(guest).toBeGreaterThan(0);
    await units.kill('lxc@web.service', 'all', 9);
    await untilState(seen, 'failed');
    expect(seen.at(-1)?.result).toBe('signal');
    await systemctl(host, 'reset-failed', 'lxc@web.service');
  });

  test('a unit that systemd unloads and loads again stays in sight', async () => {
    const unit = 'toy@gone.service';
    const seen = await follow(unit);
    for (let round = 0; round < 3; round++) {
      await systemctl(host, 'start', unit);
      await untilState(seen, 'active');
      await systemctl(host, 'stop', unit);
      const status = await untilState(seen, 'inactive');
      expect(status.stateChangeUsec).toBeGreaterThan(0n);
      await sleep(200);
    }
  });

  test('daemon-reload is told, and what it changed', async () => {
    let reloads = 0;
    units.onReloaded(() => reloads++);
    const seen = await follow('toy@limited.service');
    await host.writeFile(
      '/etc/systemd/system/toy@limited.service.d/limit.conf',
      '[Service]\nMemoryMax=7M\n',
    );
    await systemctl(host, 'daemon-reload');
    await vi.waitFor(
      () => {
        expect(seen.at(-1)?.memoryMax).toBe(7n * 1024n * 1024n);
      },
      { timeout: 30_000 },
    );
    expect(reloads).toBeGreaterThan(0);
  });

  test('daemon-reexec in the middle of a job, and again', async () => {
    let reloads = 0;
    units.onReloaded(() => reloads++);
    const seen = await follow('lxc@web.service');
    const slow = await follow('lxc@slow.service');
    for (let round = 0; round < 3; round++) {
      const job = units.start('lxc@web.service', never);
      await trySystemctl(host, 'daemon-reexec');
      expect(await job).toBe('done');
      await untilState(seen, 'active');
      expect(await units.stop('lxc@web.service', never)).toBe('done');
      await untilState(seen, 'inactive');
    }
    expect(reloads).toBeGreaterThanOrEqual(3);
    // Another unit, which nothing was asked about, is in sight as well.
    await systemctl(host, 'start', '--no-block', 'lxc@slow.service');
    await untilState(slow, 'activating');
    await systemctl(host, 'stop', 'lxc@slow.service');
    await untilState(slow, 'inactive');
  });

  test('fifty units at once', async () => {
    const start = performance.now();
    const seen = await Promise.all(many.map((name) => follow(`toy@${name}.service`)));
    const watchedMs = performance.now() - start;
    const results = await Promise.all(
      many.map((name) => units.start(`toy@${name}.service`, never)),
    );
    expect(new Set(results)).toEqual(new Set(['done']));
    expect(new Set(seen.map((each) => each.at(-1)?.activeState))).toEqual(new Set(['active']));
    await systemctl(host, 'stop', ...many.map((name) => `toy@${name}.service`));
    await Promise.all(seen.map((each) => untilState(each, 'inactive')));
    expect(watchedMs).toBeLessThan(20_000);
  });
});

test('a unit that is not loaded is loaded once to be read, and not at all where no file limits it', async () => {
  const loaded: string[] = [];
  const unlisten = manager.listen({
    unitNew: (unit) => {
      if (/^toy@(?:once|never)-/.test(unit)) loaded.push(unit);
    },
  });
  for (const name of many) {
    const file = `/etc/systemd/system/toy@once-${name}.service.d/limit.conf`;
    await host.writeFile(file, '[Service]\nMemoryMax=7M\n');
  }
  await systemctl(host, 'daemon-reload');
  // What is read before the reload is known here is read once more afterwards.
  await manager.listLoaded(['toy@*']);
  const limits = new Set<bigint | undefined>();
  for (const kind of ['once', 'never']) {
    const seen = await Promise.all(many.map((name) => follow(`toy@${kind}-${name}.service`)));
    for (const statuses of seen) limits.add(statuses.at(-1)?.memoryMax);
  }
  // Its answer comes after every signal from before.
  await manager.listLoaded(['toy@*']);
  unlisten();
  expect(limits).toEqual(new Set([7n * 1024n * 1024n, 2n ** 64n - 1n]));
  expect(loaded.filter((unit) => unit.startsWith('toy@never-'))).toEqual([]);
  expect(new Set(loaded).size).toBe(many.length);
  expect(loaded.length).toBeLessThan(2 * many.length);
});

describe('mounts', () => {
  test('come and go, whoever makes them', async () => {
    await systemctl(host, 'stop', 'lockers-sandbox.mount');
    const seen = new Map<string, MountPoint>();
    unwatches.push(
      await mounts.watch('/lockers', ({ mounted, gone }) => {
        for (const path of gone) seen.delete(path);
        for (const point of mounted) seen.set(point.path, point);
      }),
    );
    const now = () => [...seen.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
    const expectMounts = async (expected: MountPoint[]): Promise<void> => {
      await vi.waitFor(
        () => {
          expect(now()).toEqual(expected);
        },
        { timeout: 30_000 },
      );
    };
    const web = { path: '/lockers/web', source: 'web', readOnly: false };
    const odd = { path: '/lockers/my data%n', source: 'my', readOnly: false };
    expect(now()).toEqual([web]);
    await systemctl(host, 'start', 'lockers-my\\x20data\\x25n.mount');
    await expectMounts([odd, web]);
    await host.run('mount', ['-o', 'remount,ro', '/lockers/web']);
    await expectMounts([odd, { ...web, readOnly: true }]);
    await host.run('mount', ['-o', 'remount,rw', '/lockers/web']);
    await host.shell('mkdir -p /lockers/by/hand && mount -t tmpfs hand /lockers/by/hand');
    const hand = { path: '/lockers/by/hand', source: 'hand', readOnly: false };
    await expectMounts([hand, odd, web]);
    // Read-only for this mount alone: what is mounted is not.
    await host.shell(
      'mount --bind /lockers/web /lockers/by && mount -o remount,bind,ro /lockers/by',
    );
    await vi.waitFor(
      () => {
        expect(seen.get('/lockers/by')?.readOnly).toBe(true);
      },
      { timeout: 30_000 },
    );
    await host.run('umount', ['/lockers/by']);
    await host.run('umount', ['/lockers/by/hand']);
    await expectMounts([odd, web]);
    await trySystemctl(host, 'daemon-reexec');
    await host.run('umount', ['/lockers/my data%n']);
    await expectMounts([web]);
  });
});

describe('definitions', () => {
  test('are what the generator wrote', async () => {
    const definitions = new GeneratedDefinitions(`/proc/${host.leader}/root/run/systemd/generator`);
    const { containers, lockers, rootNeedsNoAuthority } = await definitions.read();
    expect(containers.map(({ name }) => name).sort()).toEqual(['broken', 'my 50%n', 'slow', 'web']);
    expect(containers.find(({ name }) => name === 'my 50%n')).toEqual({
      name: 'my 50%n',
      unit: containerUnit('my 50%n'),
      configFile: '/var/lib/lxc/my 50%n/config',
      autostart: false,
      autostartReasons: [],
      neededBy: [],
      groups: ['a', 'b'],
      problem: '',
      wormhole: '/var/locker-mappings/my 50%n',
      lockers: [{ name: 'sandbox', readOnly: false, strict: false }],
      rebootSignal: 1,
    });
    expect(containers.find(({ name }) => name === 'web')).toMatchObject({
      // As LXC's template for busybox has it.
      rebootSignal: 15,
      lockers: [
        { name: 'sandbox', readOnly: false, strict: false },
        { name: 'web', readOnly: false, strict: true },
      ],
    });
    const broken = containers.find(({ name }) => name === 'broken');
    expect(broken?.problem).toContain('lxc.foo');
    expect(broken?.rebootSignal).toBe(2);
    expect(lockers).toEqual([
      { name: 'my data%n', path: '/lockers/my data%n' },
      { name: 'sandbox', path: '/lockers/sandbox' },
      { name: 'web', path: '/lockers/web' },
    ]);
    expect(rootNeedsNoAuthority).toBe(true);
  });

  test('are none where the generator wrote nothing', async () => {
    expect(await new GeneratedDefinitions('/nonexistent', { settleMs: 0 }).read()).toMatchObject({
      containers: [],
      lockers: [],
      rootNeedsNoAuthority: false,
    });
  });
});

describe('clients', () => {
  test('have the uid that the kernel says', async () => {
    const clients = new BusClients(bus);
    expect(await clients.uidOf(bus.uniqueName)).toBe(0);
    await expect(clients.uidOf(':1.999999')).rejects.toThrow();
  });
});

describe('memory', () => {
  test('of a running container, and its OOM kills', async () => {
    const seen = await follow('lxc@web.service');
    await units.start('lxc@web.service', never);
    await host.waitForGuest('web');
    const group = seen.at(-1)?.controlGroup ?? '';
    await host.run('lxc-attach', [
      ...['-n', 'web', '--', '/bin/sh', '-c', 'dd if=/dev/zero of=/file bs=1M count=20'],
    ]);
    const figures = await memory.read(group);
    const unit = await host.unit('lxc@web.service');
    expect(Number(figures.current)).toBeGreaterThan(1024 * 1024);
    expect(Math.abs(Number(figures.current) - Number(unit['MemoryCurrent']))).toBeLessThan(2 ** 26);
    expect(figures.peak).toBeGreaterThanOrEqual(figures.current);
    expect(figures.oomKills).toBe(0n);

    const kills: bigint[] = [];
    unwatches.push(await memory.watchOomKills(group, (count) => kills.push(count)));
    expect(kills).toEqual([0n]);
    await systemctl(host, 'set-property', '--runtime', 'lxc@web.service', 'MemoryMax=60M');
    // More than the limit, and in one process: its tail(1) keeps what has no end of a line.
    const eater = 'tail /dev/zero; true';
    await host.run('lxc-attach', ['-n', 'web', '--', '/bin/sh', '-c', eater], {
      timeoutMs: 120_000,
    });
    await vi.waitFor(
      () => {
        expect(Number(kills.at(-1))).toBeGreaterThan(0);
      },
      { timeout: 60_000 },
    );
    expect((await memory.read(group)).oomKills).toBe(kills.at(-1));
    await systemctl(host, 'stop', 'lxc@web.service');
    await expect(memory.read(group)).rejects.toThrow('no control group');
  });

  test('has no way out of its control groups', async () => {
    await expect(memory.read('/../../etc')).rejects.toThrow('no control group');
    await expect(memory.read('')).rejects.toThrow('no control group');
  });
});

describe('the journal', () => {
  test('has what it was given, field by field', async () => {
    const messageId = '0123456789abcdef0123456789abcdef';
    const entry = encodeJournalEntry({
      messageId,
      priority: 5,
      message: 'two\nlines',
      fields: { CONTAINER: 'my web=1', LOCKER: 'ü', EVIL: 'a\nMESSAGE=evil\n\nPRIORITY=0' },
    });
    const length = Buffer.alloc(4);
    length.writeUInt32LE(entry.length);
    const input = Buffer.concat([length, entry]);
    const { stdout: answer } = await host.run('/usr/lib/lockerd/hooks/write-journal', [], {
      input,
    });
    expect(answer).toBe('\n');
    await host.run('journalctl', ['--sync']);
    const { stdout } = await host.run('journalctl', [`MESSAGE_ID=${messageId}`, '--output=json']);
    expect(stdout.trim().split('\n')).toHaveLength(1);
    expect(JSON.parse(stdout)).toMatchObject({
      MESSAGE: 'two\nlines',
      PRIORITY: '5',
      SYSLOG_IDENTIFIER: 'lockerd',
      LOCKERD_CONTAINER: 'my web=1',
      LOCKERD_LOCKER: 'ü',
      LOCKERD_EVIL: 'a?MESSAGE=evil??PRIORITY=0',
    });
  });
});

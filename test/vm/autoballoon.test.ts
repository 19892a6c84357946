import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { messageIds } from '../../src/core/message-ids.ts';
import { MemoryGuest, mib } from '../machines/memory-guest.ts';
import { offline, systemctl } from '../machines/support.ts';
import { bootVm, type VirtualHost } from './vm.ts';

// One emulated processor: whoever fills memory takes his time.
vi.setConfig({ testTimeout: 900_000, hookTimeout: 1_800_000 });

const service = 'lockerd-autoballoon.service';
/** Floor and ceiling, in MiB; the ceilings together are more than the host has. */
const ranges = { idle: [64, 1200], other: [64, 600], busy: [64, 1000] } as const;

type Name = keyof typeof ranges;
const names = Object.keys(ranges) as Name[];

let host: VirtualHost;
let guests: Record<Name, MemoryGuest>;

beforeAll(async () => {
  host = await bootVm({ name: 'autoballoon' });
  const made = names.map((name) => [name, new MemoryGuest(host, name)] as const);
  guests = Object.fromEntries(made) as typeof guests;
  for (const [name, guest] of made) {
    await host.createContainer(name, 'sysvinit', { config: offline });
    const [floor, ceiling] = ranges[name];
    const file = `/etc/lockerd/containers/${name}.conf`;
    await host.writeFile(file, `autoballoon = ${floor}M ${ceiling}M\n`);
    await guest.prepare();
  }
  await host.shell('systemctl daemon-reload; systemctl start lockerd-helper.socket');
});
afterAll(() => host.close());
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return;
  const who = [
    'SYSLOG_IDENTIFIER=lockerd',
    '+',
    `_SYSTEMD_UNIT=${service}`,
    '+',
    `UNIT=${service}`,
  ];
  console.log((await host.run('journalctl', ['-b', ...who])).stdout);
});

/** What each container may use, in bytes; Infinity for no limit. Kernel and systemd must agree. */
async function shares(): Promise<Record<Name, number>> {
  // In one go, because each call takes its time here, and what is waited for goes on slower meanwhile.
  const all = Object.values(guests);
  const files = all.map((guest) => `'${guest.group()}/memory.high'`).join(' ');
  const units = all.map(({ unit }) => `'${unit}'`).join(' ');
  const script = `cat ${files}; systemctl show -p MemoryHigh --value ${units} | grep .`;
  let lines: string[] = [];
  // The kernel is told first, and systemd then.
  await host.waitFor('kernel and systemd agree', async () => {
    const { stdout } = await host.shell(script);
    lines = stdout.replaceAll('max', 'infinity').trim().split('\n');
    return names.every((_, index) => lines[index] === lines[index + names.length]);
  });
  const bytes = (line = ''): number => (line === 'infinity' ? Infinity : Number(line));
  return Object.fromEntries(names.map((name, index) => [name, bytes(lines[index])])) as Record<
    Name,
    number
  >;
}

async function meminfo(field: string): Promise<number> {
  const [, kib] =
    new RegExp(`^${field}: +(\\d+)`, 'm').exec(await host.readFile('/proc/meminfo')) ?? [];
  return Number(kib) * 1024;
}

function sum(all: Record<string, number>): number {
  return Object.values(all).reduce((a, b) => a + b, 0);
}

/** An eighth is kept back. */
async function budget(): Promise<number> {
  return ((await meminfo('MemTotal')) * 7) / 8;
}

interface Entry {
  readonly LOCKERD_CONTAINER: string;
  readonly LOCKERD_BEFORE: string;
  readonly LOCKERD_AFTER: string;
  readonly LOCKERD_REASON: string;
}

/** What the journal has of its decisions, the oldest first. */
async function decisions(): Promise<Entry[]> {
  const args = ['-b', '-o', 'json', `MESSAGE_ID=${messageIds.autoballoon}`];
  await host.run('journalctl', ['--sync']);
  const { stdout } = await host.run('journalctl', args);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Entry);
}

async function kills(): Promise<number[]> {
  return Promise.all(Object.values(guests).map((guest) => guest.kills()));
}

/** What a process that moves limits could leave behind. */
async function traces(): Promise<string> {
  const script =
    'ls -d /run/systemd/system.control/lxc@*/50-MemoryHigh.conf /run/lockerd/balloon/lxc@*/autoballoon /run/lockerd/balloon/lxc@*/50-MemoryHigh.conf 2>/dev/null || :';
  return (await host.shell(script)).stdout;
}

const nothing = { idle: Infinity, other: Infinity, busy: Infinity };

describe('an automatic balloon', () => {
  test('comes with the first container that has it, and divides what there is', async () => {
    expect((await host.unit(service))['ActiveState']).toBe('inactive');
    await systemctl(host, 'start', ...Object.values(guests).map(({ unit }) => unit));
    for (const guest of Object.values(guests)) {
      await host.waitForGuest(guest.name);
      await guest.locate();
    }
    await host.waitFor('every container has a share', async () =>
      Number.isFinite(sum(await shares())),
    );
    const found = await shares();
    for (const [name, [floor, ceiling]] of Object.entries(ranges)) {
      const share = found[name as Name];
      expect(share, name).toBeGreaterThanOrEqual(floor * mib);
      expect(share, name).toBeLessThanOrEqual(ceiling * mib);
      expect(await guests[name as Name].kernelLimit()).toBe(String(ceiling * mib));
    }
    await host.waitFor('the sum is within the budget', async () => {
      return sum(await shares()) <= (await budget());
    });
  });

  test('gives a busy container what idle ones do not need, and kills nobody', async () => {
    await host.run(
      'lxc-attach',
      [
        ...['-n', 'idle', '--clear-env', '--'],
        ...['sh', '-c', 'head -c 500M /dev/zero > /var/tmp/read-once; sync'],
      ],
      { timeoutMs: 180_000 },
    );
    // Whoever comes first has more; all at once get equal parts, which are too little for what comes.
    await systemctl(host, 'restart', service);
    await host.waitFor('every container has a share', async () =>
      Number.isFinite(sum(await shares())),
    );
    const before = await shares();
    expect(before.busy).toBeLessThan(800 * mib);
    await guests.busy.load({ kind: 'steady', processes: 1, mib: 800 });
    const after = await shares();
    expect(after.busy).toBeGreaterThan(800 * mib);
    expect(after.busy).toBeLessThanOrEqual(ranges.busy[1] * mib);
    expect(after.idle + after.other).toBeLessThan(before.idle + before.other);
    expect(Math.min(after.idle, after.other)).toBeGreaterThanOrEqual(64 * mib);
    expect(sum(after)).toBeLessThanOrEqual(await budget());
    const entries = await decisions();
    expect(entries.map((entry) => entry.LOCKERD_REASON)).toContain('needed by busy');
    expect(entries).toContainEqual(
      expect.objectContaining({ LOCKERD_CONTAINER: 'busy', LOCKERD_REASON: 'memory pressure' }),
    );
    expect(await kills()).toEqual([0, 0, 0]);
  });

  test('gives idle memory back to a host that is short', async () => {
    const ballast = '/dev/shm/ballast';
    // Somebody else takes memory until less is left than the eighth that is kept back. Where the kernel has taken
    // from the idle one for that, it then writes what it will not need.
    const script = `
      left=$(sed -n 's/^MemAvailable: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)
      fallocate -l "$((left - 200000))K" ${ballast}
      lxc-attach -n idle --clear-env -- sh -c 'head -c 64M /dev/zero >/var/tmp/read-once; sync'
      systemd-run --quiet --unit=waiting -p MemoryHigh=8M -p MemorySwapMax=0 tail /dev/zero`;
    try {
      // The last program waits for memory all the time. Whether the kernel makes anybody else wait depends on how
      // fast the machine is, and must be told again when the idle one has been idle for ten seconds.
      await host.shell(script, { timeoutMs: 180_000 });
      await host.waitFor('the idle one gave', async () =>
        (await decisions()).some(
          (entry) => entry.LOCKERD_CONTAINER === 'idle' && entry.LOCKERD_REASON === 'host is short',
        ),
      );
    } finally {
      await host.shell(`systemctl stop waiting.service || :; rm -f ${ballast}`);
    }
    expect(await kills()).toEqual([0, 0, 0]);
  });

  test('obeys a balloon that somebody asks for, down and up', async () => {
    await guests.busy.unload();
    const answer = await guests.busy.balloon(200 * mib);
    expect(answer).toMatchObject({ ok: true, limit: String(200 * mib) });
    await host.waitFor('its share is not above its limit', async () => {
      return (await shares()).busy <= 200 * mib;
    });
    await guests.busy.load({ kind: 'file', processes: 1, mib: 300 });
    const inBetween = await shares();
    expect(inBetween.busy).toBeLessThanOrEqual(200 * mib);
    expect(await guests.busy.kernelLimit()).toBe(String(200 * mib));
    await guests.busy.unload();
    expect(await guests.busy.balloon(1100 * mib)).toMatchObject({ ok: true });
    await guests.busy.load({ kind: 'steady', processes: 1, mib: 400 });
    expect((await shares()).busy).toBeGreaterThan(400 * mib);
    expect(await kills()).toEqual([0, 0, 0]);
  });

  test('leaves alone whose MemoryHigh= somebody else has set', async () => {
    await guests.busy.unload();
    const { unit } = guests.busy;
    await systemctl(host, 'set-property', '--runtime', unit, 'MemoryHigh=150M');
    await guests.busy.load({ kind: 'file', processes: 1, mib: 300 });
    expect((await shares()).busy).toBe(150 * mib);
    await systemctl(host, 'revert', unit);
    await host.waitFor('it has a share again', async () => {
      const { busy } = await shares();
      return busy !== 150 * mib && Number.isFinite(busy);
    });
    await guests.busy.unload();
  });

  test('is ended by one command, and nothing of it stays', async () => {
    await systemctl(host, 'stop', service);
    expect(await shares()).toEqual(nothing);
    expect(await traces()).toBe('');
    await systemctl(host, 'start', service);
    await host.waitFor('every container has a share', async () =>
      Number.isFinite(sum(await shares())),
    );
  });

  test('leaves nothing behind when it is killed', async () => {
    await host.writeFile(`/run/systemd/system/${service}.d/test.conf`, '[Service]\nRestart=no\n');
    await systemctl(host, 'daemon-reload');
    await systemctl(host, 'kill', '--kill-whom=main', '--signal=KILL', service);
    await host.waitFor('it has failed', async () => {
      return (await host.unit(service))['ActiveState'] === 'failed';
    });
    expect(await shares()).toEqual(nothing);
    expect(await traces()).toBe('');
    await systemctl(host, 'start', service);
  });

  test('goes with the last container that has it', async () => {
    await host.waitFor('every container has a share', async () =>
      Number.isFinite(sum(await shares())),
    );
    await systemctl(host, 'stop', ...Object.values(guests).map(({ unit }) => unit));
    await host.waitFor('it has ended', async () => {
      return (await host.unit(service))['ActiveState'] === 'inactive';
    });
    expect(await traces()).toBe('');
  });
});

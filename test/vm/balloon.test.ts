import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { cgroup2Line } from '../../src/model/cgroup1-keys.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { MemoryGuest, mib, type Load } from '../machines/memory-guest.ts';
import { configurePackage, runAs } from '../machines/service.ts';
import { offline, systemctl } from '../machines/support.ts';
import { nextRelease, vmRelease } from './image.mjs';
import { bootVm, type VirtualHost } from './vm.ts';

// One emulated processor: a balloon takes half a minute here.
vi.setConfig({ testTimeout: 900_000, hookTimeout: 1_800_000 });

/** cgroup v1's, which LXC 6 does not look at here. */
const limits: Readonly<Record<string, string>> = {
  'lxc.cgroup.memory.limit_in_bytes': '600M',
  'lxc.cgroup.memory.memsw.limit_in_bytes': '900M',
};

/** The limits as lines of a configuration; for LXC 7, which refuses them, what lockerd says to write. */
function limitLines(): string[] {
  return Object.entries(limits).map(([key, value]) => {
    if (vmRelease !== nextRelease) return `${key} = ${value}`;
    const line = cgroup2Line(key, value, (other) => limits[other]);
    if (line === undefined) throw new Error(`${key}: nothing to write instead`);
    return line;
  });
}

let host: VirtualHost;
let web: MemoryGuest;
beforeAll(async () => {
  host = await bootVm({ name: 'balloon' });
  web = new MemoryGuest(host, 'web');
  await host.createContainer(web.name, 'systemd', { config: [...offline, ...limitLines()] });
  await web.prepare();
  await configurePackage(host);
  await web.start();
  // What the bus activates has 25 seconds to come, which is too little here.
  await systemctl(host, 'start', 'polkit.service', 'lockerd.service');
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);
afterEach(async () => {
  await web.unload();
  await web.reset();
});

/** What must hold after a balloon, whatever came of it. */
async function expectSound(limit: string): Promise<void> {
  expect({
    limit: await web.limit(),
    kills: await web.kills(),
    leftovers: await web.leftovers(),
  }).toEqual({ limit, kills: 0, leftovers: [] });
}

/** A property of the container as the service has it, without its type. */
async function property(name: string): Promise<string> {
  const object = ['org.lockerd1', `/org/lockerd1/container/${web.name}`, 'org.lockerd1.Container'];
  const { stdout } = await host.run('busctl', ['get-property', ...object, name]);
  return stdout.trim().slice(2);
}

/** The limit as the service has it, and as systemd's two commands and the kernel do. */
async function views(): Promise<string[]> {
  return [await property('MemoryLimit'), await web.limit()];
}

const all = (size: number): string[] => [1, 2].map(() => String(size * mib));

async function lockerctl(...args: string[]): Promise<string> {
  const { exitCode, output } = await runAs(host, 'root', 'lockerctl', ...args);
  expect({ output, exitCode }).toMatchObject({ exitCode: 0 });
  return output;
}

async function memTotalOfGuest(): Promise<string> {
  const args = ['-n', web.name, '--', 'grep', '^MemTotal:', '/proc/meminfo'];
  return (await host.run('lxc-attach', args)).stdout.trim();
}

test('limits of the configuration are those of the unit', async () => {
  expect([await web.limit(), await web.file('memory.swap.max')]).toEqual(
    [600, 300].map((size) => String(size * mib)),
  );
  expect([await web.kernelLimit('guest'), await web.leftovers()]).toEqual(['max', []]);
});

describe('a shrink', () => {
  test('takes back page cache; the guest sees what it has, and gets it back at once', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    const answer = await web.balloon(100 * mib);
    expect(answer).toMatchObject({ ok: true, limit: String(100 * mib) });
    expect(answer.stallUsec).toBeTypeOf('number');
    await expectSound(String(100 * mib));
    // By lxcfs.
    expect(await memTotalOfGuest()).toBe('MemTotal:         102400 kB');
    expect(await web.balloon(300 * mib)).toMatchObject({ ok: true });
    await expectSound(String(300 * mib));
    expect(await memTotalOfGuest()).toBe('MemTotal:         307200 kB');
  });

  test('takes back dirty pages, or leaves all as it was', async () => {
    await web.load({ kind: 'dirty', processes: 1, mib: 200 });
    const answer = await web.balloon(100 * mib);
    if (!answer.ok) expect(answer.message).toMatch(/stand still for want of memory/);
    await expectSound(answer.ok ? String(100 * mib) : 'max');
  });

  test.for<[string, Load]>([
    ['anonymous memory', { kind: 'steady', processes: 1, mib: 150 }],
    ['locked memory', { kind: 'locked', processes: 1, mib: 150 }],
    ['a tmpfs', { kind: 'file', processes: 1, mib: 150, directory: '/dev/shm' }],
  ])('below %s is refused without swap, and the lowest limit works', async ([, load]) => {
    await web.load(load);
    const answer = await web.balloon(100 * mib);
    expect(answer).toMatchObject({ ok: false, error: 'LimitBelowUsage' });
    const lowest = Number(answer.lowest);
    expect(lowest).toBeGreaterThan(150 * mib);
    expect(lowest).toBeLessThan(280 * mib);
    await expectSound('max');
    expect(await web.balloon(lowest)).toMatchObject({ ok: true });
    await expectSound(String(lowest));
  });

  test('puts anonymous memory and a tmpfs into swap, as far as swap is allowed', async () => {
    await host.shell('mkswap /dev/vdc && swapon /dev/vdc');
    try {
      await web.load({ kind: 'steady', processes: 1, mib: 80 });
      await web.load({ kind: 'file', processes: 1, mib: 80, directory: '/dev/shm' });
      expect(await web.balloon(120 * mib, { swap: '0' })).toMatchObject({
        ...{ ok: false, error: 'LimitBelowUsage' },
      });
      expect(await web.file('memory.swap.max')).toBe('max');
      const answer = await web.balloon(120 * mib, { swap: String(200 * mib) });
      expect(answer).toMatchObject({ ok: true, swap: String(200 * mib) });
      await expectSound(String(120 * mib));
      expect(await web.file('memory.swap.max')).toBe(String(200 * mib));
      expect(Number(await property('SwapCurrent'))).toBeGreaterThan(20 * mib);
      await host.waitFor('the service knows', async () => {
        return (await property('SwapLimit')) === String(200 * mib);
      });
    } finally {
      await web.unload();
      await host.shell('swapoff /dev/vdc');
    }
  });
});

describe('a hostile guest', () => {
  test.for<[Load, number]>([
    [{ kind: 'busy', processes: 1, mib: 200 }, 270],
    [{ kind: 'saw', processes: 8, mib: 200 }, 180],
    [{ kind: 'growing', processes: 8, mib: 300 }, 200],
    [{ kind: 'saw', processes: 48, mib: 200 }, 240],
  ])('(%o) loses nobody by a shrink to %i MiB', async ([load, target]) => {
    await web.load(load);
    const answer = await web.balloon(target * mib);
    if (!answer.ok) expect(answer.error).toBe('LimitBelowUsage');
    await expectSound(answer.ok ? String(target * mib) : 'max');
  });
});

describe('when something else happens', () => {
  test('a frozen guest stays frozen, also where the helper is killed', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    await host.run('lxc-freeze', ['-n', web.name]);
    const request = web.balloon(150 * mib).catch((error: unknown) => error);
    await web.untilTried();
    // The whole unit: systemd does not come to ExecStopPost= then.
    await host.shell("systemctl kill -s KILL 'lockerd-helper@*.service'");
    await request;
    await host.waitFor('the limit of the trial is off', async () => {
      return (await web.file('memory.high', 'guest')) === 'max';
    });
    await host.waitFor('no failed unit stays', async () => {
      const args = ['list-units', '--failed', '--plain', '--no-legend', 'lockerd-*'];
      return (await host.run('systemctl', args)).stdout === '';
    });
    expect(await web.file('cgroup.freeze', 'guest')).toBe('1');
    expect(await web.balloon(150 * mib)).toMatchObject({ ok: true });
    expect(await web.file('cgroup.freeze', 'guest')).toBe('1');
    await host.run('lxc-unfreeze', ['-n', web.name]);
    await expectSound(String(150 * mib));
  });

  test('a helper that is killed leaves nothing behind, and the guest thawed', async () => {
    await web.load({ kind: 'busy', processes: 8, mib: 100 });
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    // While memory is taken back, and while the guest lives with less.
    for (const phase of ['reclaiming', 'watching']) {
      const request = web.balloon(250 * mib).catch((error: unknown) => error);
      await web.untilTried();
      if (phase === 'watching') {
        await host.waitFor('the brake is on', async () => {
          const high = await web.file('memory.high', 'guest');
          // It may be done already.
          return high !== 'max' || (await web.limit()) !== 'max';
        });
      }
      await host.shell("systemctl kill --kill-whom=main -s KILL 'lockerd-helper@*.service'");
      await request;
      await host.waitFor('all is as it was', async () => (await web.leftovers()).length === 0);
      expect(await web.file('cgroup.freeze')).toBe('0');
      expect(await web.limit()).toMatch(/^(max|262144000)$/);
      await web.reset();
    }
    expect(await web.kills()).toBe(0);
  });
});

describe('everybody agrees', () => {
  test('on the limit, over reloads, other properties, reboots of guest and service', async () => {
    expect(await lockerctl('balloon', 'web', '200M')).toMatch(/200M, guest stalled \d+ m?s\n$/);
    expect(await views()).toEqual(all(200));
    await systemctl(host, 'daemon-reload');
    await systemctl(host, 'set-property', '--runtime', web.unit, 'CPUWeight=50');
    expect(await views()).toEqual(all(200));
    await lockerctl('reboot', 'web');
    await host.waitForGuest('web');
    await web.locate();
    expect(await views()).toEqual(all(200));
    await systemctl(host, 'restart', 'lockerd.service');
    expect(await views()).toEqual(all(200));
    // Where LXC has put the guest at its reboot, it can be changed too.
    await lockerctl('balloon', 'web', '-25%');
    expect(await views()).toEqual(all(150));
    expect(await web.leftovers()).toEqual([]);
    await systemctl(host, 'set-property', '--runtime', web.unit, 'MemoryMax=170M');
    await host.waitFor('the service knows', async () => (await views())[0] === all(170)[0]);
    expect(await views()).toEqual(all(170));
  });

  test('on the figures', async () => {
    await web.load({ kind: 'steady', processes: 1, mib: 60 });
    const [current, peak, swap, kills] = await Promise.all(
      ['MemoryCurrent', 'MemoryPeak', 'SwapCurrent', 'OomKills'].map(property),
    );
    expect(Number(current)).toBeGreaterThan(60 * mib);
    expect(Number(peak)).toBeGreaterThanOrEqual(Number(current) - mib);
    expect([swap, kills]).toEqual(['0', '0']);
    expect(Number(await property('MemoryPressure'))).toBeGreaterThanOrEqual(0);
  });
});

test('a limit that is just written kills: these loads are able to fail', async () => {
  await web.load({ kind: 'saw', processes: 8, mib: 200 });
  await host.shell(`echo 120M > "${web.group()}/memory.max"`);
  await host.waitFor('a process is killed', async () => (await web.kills()) > 0, 120_000);
  await host.waitFor('the service tells', async () => Number(await property('OomKills')) > 0);
});

// That it outlasts the host's reboot is shown by vm.test.ts, which reboots anyway.
test('a lasting limit outlasts the stop, until it is taken back', async () => {
  await lockerctl('balloon', 'web', '250M', '--persist');
  await systemctl(host, 'restart', web.unit);
  await host.waitForGuest('web');
  await web.locate();
  await host.waitFor('everybody sees it', async () => {
    return (await views()).join() === all(250).join();
  });
  await systemctl(host, 'revert', web.unit);
  await host.waitFor('everybody knows', async () => {
    return (await views()).every((view) => view === all(600)[0]);
  });
});

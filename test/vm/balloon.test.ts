import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { MemoryGuest, mib, type Load } from '../host/memory-guest.ts';
import { offline } from '../host/support.ts';
import { bootVm, type VirtualHost } from './vm.ts';

// One emulated processor: a balloon takes half a minute here.
vi.setConfig({ testTimeout: 900_000, hookTimeout: 1_800_000 });

let host: VirtualHost;
let web: MemoryGuest;
beforeAll(async () => {
  host = await bootVm({ name: 'balloon' });
  web = new MemoryGuest(host, 'web');
  await host.createContainer(web.name, 'systemd', { config: offline });
  await web.prepare();
  await host.shell('systemctl daemon-reload; systemctl start lockerd-helper.socket');
  await web.start();
});
afterAll(() => host.close());
afterEach(async () => {
  await web.unload();
  await web.reset();
});

describe('a shrink on cgroup v2', () => {
  test('takes back page cache, is seen by everybody and in the guest', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    const answer = await web.balloon(100 * mib);
    expect(answer).toMatchObject({ ok: true, limit: String(100 * mib) });
    expect(answer.stallUsec).toBeTypeOf('number');
    expect(await web.limit()).toBe(String(100 * mib));
    expect([await web.kills(), await web.leftovers()]).toEqual([0, []]);
    // lxcfs
    const args = ['-n', web.name, '--', 'grep', '^MemTotal:', '/proc/meminfo'];
    expect((await host.run('lxc-attach', args)).stdout).toBe('MemTotal:         102400 kB\n');
  });

  test.for<[string, Load]>([
    ['locked memory', { kind: 'locked', processes: 1, mib: 150 }],
    ['a tmpfs', { kind: 'file', processes: 1, mib: 150, directory: '/dev/shm' }],
  ])('below %s is refused, without swap', async ([, load]) => {
    await web.load(load);
    const answer = await web.balloon(100 * mib);
    expect(answer).toMatchObject({ ok: false, error: 'LimitBelowUsage' });
    expect(Number(answer.lowest)).toBeGreaterThan(150 * mib);
    expect([await web.limit(), await web.kills(), await web.leftovers()]).toEqual(['max', 0, []]);
  });

  test.for<[Load, number]>([
    [{ kind: 'saw', processes: 8, mib: 200 }, 180],
    [{ kind: 'growing', processes: 8, mib: 300 }, 200],
    [{ kind: 'saw', processes: 48, mib: 200 }, 240],
  ])('kills nobody in a hostile guest (%o to %i MiB)', async ([load, target]) => {
    await web.load(load);
    const answer = await web.balloon(target * mib);
    if (!answer.ok) expect(answer.error).toBe('LimitBelowUsage');
    expect(await web.limit()).toBe(answer.ok ? String(target * mib) : 'max');
    expect([await web.kills(), await web.leftovers()]).toEqual([0, []]);
  });

  test('puts anonymous memory into swap where there is some', async () => {
    await host.shell('mkswap /dev/vdc && swapon /dev/vdc');
    try {
      await web.load({ kind: 'steady', processes: 1, mib: 150 });
      expect(await web.balloon(120 * mib)).toMatchObject({ ok: true });
      expect(Number(await web.file('memory.swap.current'))).toBeGreaterThan(20 * mib);
      expect([await web.kills(), await web.leftovers()]).toEqual([0, []]);
    } finally {
      await web.unload();
      await host.shell('swapoff /dev/vdc');
    }
  });

  test('of a frozen guest leaves it frozen; a helper that is killed leaves nothing', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    await host.run('lxc-freeze', ['-n', web.name]);
    const request = web.balloon(150 * mib).catch((error: unknown) => error);
    await web.untilTried();
    await host.shell("systemctl kill -s KILL 'lockerd-helper@*.service'");
    await request;
    await host.waitFor('the limit of the trial is off', async () => {
      return (await web.file('memory.high', 'guest')) === 'max';
    });
    expect(await web.file('cgroup.freeze', 'guest')).toBe('1');
    await host.run('lxc-unfreeze', ['-n', web.name]);
    expect([await web.limit(), await web.leftovers()]).toEqual(['max', []]);
  });

  test('that is just written kills: these loads are able to fail', async () => {
    await web.load({ kind: 'saw', processes: 8, mib: 200 });
    await host.shell(`echo 120M > "${web.group()}/memory.max"`);
    await host.waitFor('a process is killed', async () => (await web.kills()) > 0, 120_000);
  });
});

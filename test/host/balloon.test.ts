import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { MemoryGuest, mib, type Load, type LoadKind } from '../machines/memory-guest.ts';
import { guestPid, offline, systemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 900_000 });

/** Of each kind of hostile guest; `npm run bench` has more. */
const shrinks = Number(process.env['LOCKERD_SHRINKS'] ?? '1');

let host: Host;
let web: MemoryGuest;
let limited: MemoryGuest;
beforeAll(async () => {
  host = await bootHost({ name: 'balloon', boot: false });
  web = new MemoryGuest(host, 'web');
  limited = new MemoryGuest(host, 'limited one');
  await host.createContainer(web.name, 'systemd', { config: offline });
  await host.createContainer(limited.name, 'busybox', {
    config: [
      ...offline,
      'lxc.cgroup.memory.limit_in_bytes = 200M',
      'lxc.cgroup.memory.memsw.limit_in_bytes = 300M',
      'lxc.cgroup2.memory.max = 200M',
    ],
  });
  await web.prepare();
  await host.boot();
  await web.start();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);
afterEach(async () => {
  if ((await host.unit(web.unit))['ActiveState'] !== 'active') await web.start();
  await web.unload();
  await web.reset();
});

const anonymous: Load = { kind: 'steady', processes: 1, mib: 150 };

describe('a limit', () => {
  test('is set, raised and taken off, and everybody agrees', async () => {
    expect(await web.limit()).toBe('max');
    const set = await web.balloon(300 * mib);
    expect(set).toMatchObject({ ok: true, before: 'max', limit: String(300 * mib), warnings: [] });
    expect(await web.limit()).toBe(String(300 * mib));
    expect(await web.balloon(400 * mib)).toMatchObject({ ok: true, before: String(300 * mib) });
    expect(await web.limit()).toBe(String(400 * mib));
    expect(await web.balloon('max')).toMatchObject({ ok: true, limit: 'max' });
    expect(await web.limit()).toBe('max');
    expect(await web.leftovers()).toEqual([]);
  });

  test('is counted in whole pages, like the kernel does', async () => {
    expect(await web.balloon(300_000_000)).toMatchObject({ ok: true, limit: '299999232' });
    expect(await web.limit()).toBe('299999232');
  });

  test('may be above what the host has, with a warning', async () => {
    const answer = await web.balloon(2 ** 50);
    expect(answer).toMatchObject({ ok: true, limit: String(2 ** 50) });
    expect(answer.warnings?.join()).toMatch(/above the host's memory/);
    expect(await web.limit()).toBe(String(2 ** 50));
  });

  test('has a minimum', async () => {
    const answer = await web.balloon(mib);
    expect(answer).toMatchObject({ ok: false, error: 'InvalidArgs' });
    expect(answer.message).toMatch(/"web".*16M or more/);
    expect(await web.limit()).toBe('max');
  });

  test('below a limit of LXC’s own takes that one off when it grows', async () => {
    const file = web.isV2 ? 'memory.max' : 'memory.limit_in_bytes';
    await host.shell(`echo 314572800 > "${web.group('guest')}/${file}"`);
    await web.balloon(400 * mib);
    expect(await web.leftovers()).toEqual([]);
  });
});

describe('a shrink', () => {
  test('takes back page cache', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    expect(await web.usage()).toBeGreaterThan(190 * mib);
    const answer = await web.balloon(100 * mib);
    expect(answer).toMatchObject({ ok: true, limit: String(100 * mib) });
    expect(answer.stallUsec).toBeTypeOf('number');
    expect(Number(answer.reclaimed)).toBeGreaterThan(80 * mib);
    const phases = new Set(answer.progress.map(({ phase }) => phase));
    expect([...phases]).toEqual(['checking', 'reclaiming', 'watching', 'setting']);
    expect(await web.limit()).toBe(String(100 * mib));
    expect([await web.kills(), await web.leftovers()]).toEqual([0, []]);
  });

  test('takes back dirty pages while they are written', async () => {
    await web.load({ kind: 'dirty', processes: 1, mib: 200 });
    const answer = await web.balloon(100 * mib);
    // The one process that it has waits for a slow disk together with the guest as a whole.
    if (answer.ok) expect(await web.limit()).toBe(String(100 * mib));
    else expect(answer.message).toMatch(/stand still for want of memory/);
    expect([await web.kills(), await web.leftovers()]).toEqual([0, []]);
  });

  test.for<[string, Load]>([
    ['anonymous memory', anonymous],
    ['locked memory', { kind: 'locked', processes: 1, mib: 150 }],
    ['a tmpfs', { kind: 'file', processes: 1, mib: 150, directory: '/dev/shm' }],
  ])('to less than %s is refused, and the lowest limit works', async ([, load]) => {
    await web.load(load);
    const answer = await web.balloon(100 * mib);
    expect(answer).toMatchObject({ ok: false, error: 'LimitBelowUsage' });
    expect(answer.message).toMatch(/"web" cannot live with 100M.*lowest limit.*is \d+/);
    expect([await web.limit(), await web.leftovers()]).toEqual(['max', []]);
    const lowest = Number(answer.lowest);
    expect(lowest).toBeGreaterThan(150 * mib);
    expect(lowest).toBeLessThan(280 * mib);
    expect(await web.balloon(lowest)).toMatchObject({ ok: true, limit: String(lowest) });
    expect(await web.limit()).toBe(String(lowest));
    expect([await web.kills(), await web.leftovers()]).toEqual([0, []]);
  });

  test('by force is the kernel’s way', async () => {
    await web.load(anonymous);
    const answer = await web.balloon(100 * mib, { force: true });
    if (web.isV2) {
      expect(answer).toMatchObject({ ok: true, limit: String(100 * mib) });
      expect(await web.kills()).toBeGreaterThan(0);
    } else {
      // This kernel kills nobody for a limit, it refuses.
      expect(answer).toMatchObject({ ok: false, error: 'LimitBelowUsage' });
      expect(await web.limit()).toBe('max');
    }
  });
});

describe('a hostile guest', () => {
  const loads: [LoadKind, number, number][] = [
    ['saw', 1, 0],
    ['saw', 8, 1],
    ['saw', 48, 2],
    ['growing', 8, 3],
    ['busy', 48, 4],
  ];

  test.for(loads)('(%s, %i processes) loses nobody by a shrink', async (hostile) => {
    const [kind, processes, first] = hostile;
    const load: Load = { kind, processes, mib: 200 };
    for (let round = first; round < first + shrinks; round++) {
      await web.load(load);
      await sleep(500);
      // From far below to a little above what it wants at most.
      const target = [240, 180, 150, 270, 210][round % 5] ?? 0;
      const answer = await web.balloon(target * mib);
      if (!answer.ok) expect(answer).toMatchObject({ error: 'LimitBelowUsage' });
      await sleep(3000);
      expect(await web.limit()).toBe(answer.ok ? String(target * mib) : 'max');
      expect([await web.kills(), await web.leftovers()]).toEqual([0, []]);
      await web.unload();
      await web.reset();
    }
  });

  test('loses some when the limit is just written: these loads are able to fail', async () => {
    await web.load({ kind: 'saw', processes: 8, mib: 200 });
    await web.host.shell(`
      cd "${web.group()}"
      for f in memory.max memory.limit_in_bytes; do
        ! [ -f $f ] || for try in $(seq 50); do ! echo 150M > $f || break; sleep 0.1; done
      done`);
    await host.waitFor('a process is killed', async () => (await web.kills()) > 0);
    await systemctl(host, 'restart', web.unit);
    await host.waitForGuest(web.name);
  });
});

describe('the limit lasts', () => {
  test('over daemon-reload, other properties and the guest’s reboot; not over its stop', async () => {
    const limit = String(300 * mib);
    await web.balloon(300 * mib);
    await systemctl(host, 'daemon-reload');
    expect(await web.limit()).toBe(limit);
    await systemctl(host, 'set-property', '--runtime', web.unit, 'CPUWeight=50');
    expect(await web.limit()).toBe(limit);
    const before = await guestPid(host, web.name);
    await host.run('lxc-attach', ['-n', web.name, '--', 'systemctl', 'reboot']);
    await host.waitFor('the guest has rebooted', async () => {
      const now = await guestPid(host, web.name);
      return now !== undefined && now !== before;
    });
    await host.waitForGuest(web.name);
    expect(await web.limit()).toBe(limit);
    await systemctl(host, 'restart', web.unit);
    await host.waitForGuest(web.name);
    expect(await web.limit()).toBe('max');
    expect((await host.unit(web.unit))['NeedDaemonReload']).toBe('no');
  });

  test('and an admin’s own is respected', async () => {
    await web.balloon(300 * mib);
    await systemctl(host, 'set-property', '--runtime', web.unit, 'MemoryMax=350M');
    expect(await web.limit()).toBe(String(350 * mib));
    await systemctl(host, 'restart', web.unit);
    await host.waitForGuest(web.name);
    expect(await web.limit()).toBe(String(350 * mib));
    await systemctl(host, 'revert', web.unit);
    expect(await web.limit()).toBe('max');
  });

  test('what is persistent stands back behind what is not, and comes back', async () => {
    expect(await web.balloon(400 * mib, { persist: true })).toMatchObject({ ok: true });
    await web.balloon(300 * mib);
    await systemctl(host, 'daemon-reload');
    expect(await web.limit()).toBe(String(300 * mib));
    await systemctl(host, 'restart', web.unit);
    await host.waitForGuest(web.name);
    expect(await web.limit()).toBe(String(400 * mib));
    await systemctl(host, 'daemon-reload');
    expect(await web.limit()).toBe(String(400 * mib));
    await systemctl(host, 'revert', web.unit);
    expect(await web.limit()).toBe('max');
  });
});

describe('a limit of the configuration', () => {
  test('is the unit’s, and LXC sets none of its own', async () => {
    await limited.start();
    expect(await limited.limit()).toBe(String(200 * mib));
    expect([await limited.kernelLimit('guest'), await limited.leftovers()]).toEqual(['max', []]);
    if (!limited.isV2) {
      expect(await limited.file('memory.memsw.limit_in_bytes')).toBe(String(300 * mib));
    }
  });

  test('can be changed with swap, and is back with the next start', async () => {
    const answer = await limited.balloon(100 * mib, { swap: String(50 * mib) });
    expect(answer).toMatchObject({
      ok: true,
      before: String(200 * mib),
      limit: String(100 * mib),
      swap: String(50 * mib),
    });
    expect(await limited.limit()).toBe(String(100 * mib));
    const sum = 'memory.memsw.limit_in_bytes';
    if (!limited.isV2) expect(await limited.file(sum)).toBe(String(150 * mib));
    // Above the sum of before.
    expect(await limited.balloon(400 * mib)).toMatchObject({ ok: true, swap: String(50 * mib) });
    if (!limited.isV2) expect(await limited.file(sum)).toBe(String(450 * mib));
    await systemctl(host, 'restart', limited.unit);
    expect(await limited.limit()).toBe(String(200 * mib));
    expect((await host.unit(limited.unit))['MemorySwapMax']).toBe(String(100 * mib));
    if (!limited.isV2) expect(await limited.file(sum)).toBe(String(300 * mib));
  });
});

describe('when something else happens', () => {
  test('the second of two is refused', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    const first = web.balloon(150 * mib);
    await web.untilTried();
    // However long the second helper takes to start.
    await host.shell("systemctl kill -s STOP 'lockerd-helper@*.service'");
    expect(await web.balloon(180 * mib)).toMatchObject({ ok: false, error: 'JobConflict' });
    await host.shell("systemctl kill -s CONT 'lockerd-helper@*.service'");
    expect(await first).toMatchObject({ ok: true, limit: String(150 * mib) });
    expect(await web.limit()).toBe(String(150 * mib));
  });

  test('a helper that is killed leaves nothing behind', async () => {
    await web.load({ kind: 'busy', processes: 8, mib: 100 });
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    for (const delayMs of [0, 1000, 2500]) {
      const request = web.balloon(250 * mib).catch((error: unknown) => error);
      await web.untilTried();
      await sleep(delayMs);
      await host.shell("systemctl kill -s KILL 'lockerd-helper@*.service'");
      await request;
      await host.waitFor('all is as it was', async () => (await web.leftovers()).length === 0);
      // On a slow host it may have been done just before.
      expect(await web.limit()).toMatch(/^(max|262144000)$/);
      await web.reset();
    }
    expect(await web.balloon(250 * mib)).toMatchObject({ ok: true });
    expect(await web.kills()).toBe(0);
  });

  test('a forced one that is killed leaves no limit that systemd does not know', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    const file = `${web.group()}/${web.isV2 ? 'memory.max' : 'memory.limit_in_bytes'}`;
    // Programs would take too long to start between the kernel's limit and systemd's.
    const killer = host.shell(
      `read -r before <'${file}'
       tries=2000000
       while read -r now <'${file}' && [ "$now" = "$before" ] && [ $tries -gt 0 ]; do
         tries=$((tries - 1))
       done
       for procs in /sys/fs/cgroup/systemd/system.slice/*lockerd?helper*/cgroup.procs \
         /sys/fs/cgroup/systemd/system.slice/*/*lockerd?helper*/cgroup.procs \
         /sys/fs/cgroup/system.slice/*lockerd?helper*/cgroup.procs \
         /sys/fs/cgroup/system.slice/*/*lockerd?helper*/cgroup.procs; do
         [ ! -f "$procs" ] || while read -r pid; do kill -KILL "$pid" || :; done <"$procs"
       done`,
      { timeoutMs: 120_000 },
    );
    await sleep(500);
    await web.balloon(100 * mib, { force: true }).catch(() => undefined);
    await killer;
    await host.waitFor('all is as it was', async () => (await web.leftovers()).length === 0);
    await host.waitFor('everybody agrees', async () => /^(max|\d+)$/.test(await web.limit()));
    expect(await web.kills()).toBe(0);
  });

  test('a client that leaves cancels', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    const request = JSON.stringify({
      ...{ verb: 'balloon', container: web.name, limit: String(150 * mib) },
      ...{ force: false, persist: false },
    });
    await host.shell(`timeout 2 node /usr/local/lib/ask-helper.cjs '${request}' || :`);
    await host.waitFor('the helper has ended', async () => {
      const list = ['list-units', '--no-legend', 'lockerd-helper@*'];
      return (await systemctl(host, ...list)) === '';
    });
    expect([await web.limit(), await web.leftovers()]).toEqual(['max', []]);
  });

  test('a stop in the middle is a stop', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    const request = web.balloon(150 * mib);
    await web.untilTried();
    await systemctl(host, 'stop', web.unit);
    expect(await request).toMatchObject({ ok: false, error: 'NotRunning' });
    expect((await host.unit(web.unit))['Result']).toBe('success');
    expect(await web.systemdLimit()).toBe('max');
    await web.start();
    expect([await web.limit(), await web.leftovers()]).toEqual(['max', []]);
  });

  test('a frozen guest stays frozen', async () => {
    await web.load({ kind: 'file', processes: 1, mib: 200 });
    await host.run('lxc-freeze', ['-n', web.name]);
    expect(await web.balloon(150 * mib)).toMatchObject({ ok: true });
    const { stdout } = await host.run('lxc-info', ['-n', web.name, '-sH']);
    expect(stdout.trim()).toBe('FROZEN');
    expect(await web.limit()).toBe(String(150 * mib));
    await host.run('lxc-unfreeze', ['-n', web.name]);
  });

  test('a stopped container gets its limit with the next start, if it is to persist', async () => {
    await systemctl(host, 'stop', web.unit);
    expect(await web.balloon(300 * mib)).toMatchObject({ ok: false, error: 'NotRunning' });
    expect(await web.systemdLimit()).toBe('max');
    expect(await web.balloon(300 * mib, { persist: true })).toMatchObject({ ok: true });
    await web.start();
    expect(await web.limit()).toBe(String(300 * mib));
  });

  test('a persistent limit is there after the host’s reboot', async () => {
    expect(await web.balloon(300 * mib, { persist: true })).toMatchObject({ ok: true });
    await host.reboot();
    await web.start();
    expect(await web.limit()).toBe(String(300 * mib));
    await systemctl(host, 'revert', web.unit);
    expect(await web.limit()).toBe('max');
  });
});

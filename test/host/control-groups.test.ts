import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { MemoryGuest, mib } from '../machines/memory-guest.ts';
import { expectOldUnitIsTold, untilServiceSees } from '../machines/old-unit.ts';
import { runAs } from '../machines/service.ts';
import { journalOf, offline, systemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 900_000 });

let host: Host;
let web: MemoryGuest;
beforeAll(async () => {
  host = await bootHost({ name: 'groups', boot: false });
  web = new MemoryGuest(host, 'web');
  await host.createContainer('web', 'busybox', {
    config: [
      ...offline,
      'lxc.cgroup2.memory.max = 400M',
      'lxc.cgroup.dir.monitor = a/monitor',
      'lxc.cgroup.dir.monitor.pivot = a/pivot',
      'lxc.cgroup.dir.container = b',
      'lxc.cgroup.dir.container.inner = inner',
    ],
  });
  await host.createContainer('old', 'busybox', { config: offline });
  await web.prepare();
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

const untilSeen = (name: string) => untilServiceSees(host, name);

const lockerctl = (...args: string[]) => runAs(host, 'root', 'lockerctl', ...args);

async function setLimit(limit: string): Promise<void> {
  await host.shell(`sed -i 's/memory.max = .*/memory.max = ${limit}/' /var/lib/lxc/web/config`);
  await systemctl(host, 'daemon-reload');
}

test('directories of its own hide no guest from a balloon, also after its reboot', async () => {
  await web.start();
  expect(web.group('guest')).toMatch(/lxc@web\.service\/lxc\.payload\.web$/);
  expect(await lockerctl('balloon', 'web', '300M')).toMatchObject({ exitCode: 0 });
  expect(await web.limit()).toBe(String(300 * mib));
  expect(await lockerctl('reboot', 'web')).toMatchObject({ exitCode: 0 });
  await untilSeen('web');
  expect(await lockerctl('balloon', 'web', '350M')).toMatchObject({ exitCode: 0 });
  await systemctl(host, 'stop', web.unit);
});

test('a limit that is lowered in the configuration waits for the next start', async () => {
  await web.start();
  await setLimit('100M');
  expect(await web.limit()).toBe(String(400 * mib));
  // A balloon has the last word, for less as for more.
  expect(await lockerctl('balloon', 'web', '200M')).toMatchObject({ exitCode: 0 });
  await systemctl(host, 'daemon-reload');
  expect(await web.limit()).toBe(String(200 * mib));
  await systemctl(host, 'restart', web.unit);
  await untilSeen('web');
  expect(await web.limit()).toBe(String(100 * mib));
  await setLimit('150M');
  expect(await web.limit()).toBe(String(150 * mib));
});

test('a limit that is lowered by a drop-in waits for the next start, too', async () => {
  await web.start();
  await host.shell(`sed -i 's/memory.max = .*/memory.max = 400M/' /var/lib/lxc/web/config`);
  await systemctl(host, 'daemon-reload');
  expect(await web.limit()).toBe(String(400 * mib));
  const files = [
    '/etc/systemd/system/lxc@web.service.d/zzz.conf',
    '/etc/systemd/system/lxc@.service.d/less.conf',
    '/etc/systemd/system.control/lxc@web.service.d/50-MemoryMax.conf',
    '/usr/lib/systemd/system/service.d/less.conf',
  ];
  for (const file of files) {
    await host.writeFile(file, '[Service]\nMemoryMax=100M\n');
    await systemctl(host, 'daemon-reload');
    expect([file, await web.limit()]).toEqual([file, String(400 * mib)]);
    expect((await host.unit(web.unit))['MemoryMax']).toBe(String(400 * mib));
    if (file !== files[0]) await host.run('rm', [file]);
  }
  // Commands that work at once have the last word, for less as for more.
  await systemctl(host, 'set-property', '--runtime', web.unit, 'MemoryMax=350M');
  await systemctl(host, 'daemon-reload');
  expect(await web.limit()).toBe(String(350 * mib));
  await host.shell('rm /run/systemd/system.control/lxc@web.service.d/50-MemoryMax.conf');
  await systemctl(host, 'daemon-reload');
  expect(await web.limit()).toBe(String(350 * mib));
  await systemctl(host, 'restart', web.unit);
  await untilSeen('web');
  expect(await web.limit()).toBe(String(100 * mib));
  await host.shell('rm /etc/systemd/system/lxc@web.service.d/zzz.conf');
  await systemctl(host, 'daemon-reload');
  expect(await web.limit()).toBe(String(400 * mib));
});

test('what runs since before the installation is said to, with what to do', async () => {
  await expectOldUnitIsTold(host, 'old');
});

test('a limit that no controller can keep is warned of, and a balloon says why', async () => {
  await systemctl(host, 'stop', web.unit, 'lxc@old.service');
  await host.run('umount', ['--lazy', '/sys/fs/cgroup/memory']);
  await systemctl(host, 'start', web.unit);
  await untilSeen('web');
  expect(await journalOf(host, web.unit)).toMatch(
    /40-limits\.conf: MemoryMax=\d+ has no effect: .* no memory controller/,
  );
  const { output } = await lockerctl('balloon', 'web', '120M');
  expect(output).toMatch(/container "web" has no memory controller.*cgroup_disable=memory/);
});

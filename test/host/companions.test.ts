// Containers that need or want others, and the setting "autostart", on a host that boots.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  activeSince,
  expectState,
  guestPid,
  offline,
  systemctl,
  trySystemctl,
} from '../machines/support.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'companions', boot: false });
  const containers: Readonly<Record<string, readonly [config: string[], settings?: string]>> = {
    // Its order alone would put it first.
    app: [['lxc.start.order = 1'], 'autostart = yes\nneeds = db\nwants = cache\n'],
    db: [['lxc.start.order = 9']],
    cache: [[], 'autostart = no\n'],
    off: [['lxc.start.auto = 1'], 'autostart = no\n'],
    broken: [['lxc.nonsense = 1']],
    hopeless: [[], 'needs = broken\n'],
    hopeful: [[], 'wants = broken\n'],
  };
  for (const [name, [config, settings]] of Object.entries(containers)) {
    const kind = name === 'db' ? 'sysvinit' : 'busybox';
    await host.createContainer(name, kind, { config: [...offline, ...config] });
    if (settings !== undefined)
      await host.writeFile(`/etc/lockerd/containers/${name}.conf`, settings);
  }
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

const untilInactive = (unit: string) =>
  host.waitFor(`${unit} is inactive`, async () => {
    return (await host.unit(unit))['ActiveState'] === 'inactive';
  });

test('the boot starts what a setting starts, and first what that needs', async () => {
  for (const name of ['app', 'db', 'cache']) await expectState(host, `lxc@${name}`, 'active');
  await expectState(host, 'lxc@off', 'inactive');
  const app = await activeSince(host, 'lxc@app');
  expect(await activeSince(host, 'lxc@db')).toBeLessThan(app);
  expect(await activeSince(host, 'lxc@cache')).toBeLessThan(app);
});

test('a reboot inside what it needs leaves it alone', async () => {
  await host.waitForGuest('db');
  const [app, db] = [await guestPid(host, 'app'), await guestPid(host, 'db')];
  await host.run('lxc-attach', ['-n', 'db', '--', '/sbin/reboot'], { reject: false });
  await host.waitFor('another guest runs', async () => {
    const now = await guestPid(host, 'db');
    return now !== undefined && now !== db;
  });
  await host.waitForGuest('db');
  expect(await guestPid(host, 'app')).toBe(app);
});

test('it runs on without what it wants', async () => {
  await systemctl(host, 'stop', 'lxc@cache');
  await expectState(host, 'lxc@app', 'active');
});

test('it stops before what it needs, and both start together', async () => {
  await systemctl(host, 'stop', 'lxc@db');
  await expectState(host, 'lxc@app', 'inactive');
  const end = async (unit: string) =>
    Number((await host.unit(unit))['InactiveEnterTimestampMonotonic']);
  expect(await end('lxc@app.service')).toBeLessThan(await end('lxc@db.service'));
  await systemctl(host, 'start', 'lxc@app');
  await expectState(host, 'lxc@db', 'active');
});

test('it stops when what it needs powers itself off', async () => {
  await host.waitForGuest('db');
  await host.run('lxc-attach', ['-n', 'db', '--', '/sbin/poweroff'], { reject: false });
  await untilInactive('lxc@db.service');
  await untilInactive('lxc@app.service');
});

test('what needs a broken container does not start, and what wants one does', async () => {
  expect((await trySystemctl(host, 'start', 'lxc@hopeless')).exitCode).not.toBe(0);
  await systemctl(host, 'start', 'lxc@hopeful');
  await expectState(host, 'lxc@hopeful', 'active');
});

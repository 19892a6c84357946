import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { expectState, journalOf, offline, systemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 600_000 });

const service = 'lockerd-autoballoon.service';

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'autoballoon', boot: false });
  for (const name of ['plain', 'web']) {
    await host.createContainer(name, 'busybox', { config: offline });
  }
  await host.writeFile('/etc/lockerd/containers/web.conf', 'autoballoon = 64M 512M\n');
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

test('a container without the setting brings no automatic balloon', async () => {
  await systemctl(host, 'start', 'lxc@plain.service');
  expect(await host.unit(service)).not.toHaveProperty('InvocationID');
});

test('on cgroup v1 it says what is missing and ends, and the ceiling is the limit', async () => {
  await systemctl(host, 'start', 'lxc@web.service');
  await host.waitFor('it has ended', async () => {
    const { ActiveState, InvocationID } = await host.unit(service);
    return ActiveState === 'inactive' && InvocationID !== undefined;
  });
  expect(await host.unit(service)).toMatchObject({ Result: 'success', NRestarts: '0' });
  const said = (await journalOf(host, service)).match(/it needs cgroup v2, .*; boot with \S+/g);
  expect(said).toHaveLength(1);
  await expectState(host, 'lxc@web.service', 'active');
  expect(await host.unit('lxc@web.service')).toMatchObject({
    MemoryMax: String(512 * 2 ** 20),
    MemoryHigh: 'infinity',
  });
});

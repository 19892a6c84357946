// With the real systemd and bus: the service ends when it is idle, and the next call starts it again.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage } from '../machines/service.ts';
import { offline } from '../machines/support.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

const calls = 12;
const dropIn = '/etc/systemd/system/lockerd.service.d/idle.conf';

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'idle', boot: false });
  await host.createContainer('web', 'busybox', { config: offline });
  // Each call starts it, which is more often than systemd likes.
  const lines = [
    '[Unit]',
    'StartLimitIntervalSec=0',
    '[Service]',
    'Environment=LOCKERD_IDLE_EXIT=0',
  ];
  await host.writeFile(dropIn, `${lines.join('\n')}\n`);
  await host.boot();
  await configurePackage(host);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function show(property: string): Promise<string> {
  const args = ['show', '--value', '-p', property, 'lockerd.service'];
  return (await host.run('systemctl', args)).stdout.trim();
}

test('the service ends without a failure, and no call is lost', async () => {
  const { stdout } = await host.shell(`
    for round in $(seq ${calls}); do
      busctl call org.lockerd1 /org/lockerd1 org.lockerd1.Manager ListContainers || echo lost
      sleep 0.0$((round % 10))
    done`);
  expect(stdout.trim().split('\n')).toEqual(
    Array.from({ length: calls }, () => expect.stringContaining('"web" "stopped"') as string),
  );
  await host.waitFor('lockerd has ended', async () => (await show('ActiveState')) === 'inactive');
  expect(await show('Result')).toBe('success');
  expect(await show('NRestarts')).toBe('0');
});

test('a job is done to its end although its caller has left', async () => {
  const start = ['org.lockerd1', '/org/lockerd1', 'org.lockerd1.Manager', 'StartContainer'];
  await host.run('busctl', ['call', ...start, 'sa{sv}', 'web', '0']);
  await host.waitFor(
    'web runs',
    async () => (await host.run('lxc-info', ['-sHn', 'web'])).stdout.trim() === 'RUNNING',
  );
  // It can be looked at for a minute.
  expect(await show('ActiveState')).toBe('active');
});

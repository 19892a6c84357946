// The service on a booted host, called by clients that others wrote. The host's image has only
// busctl, so they run beside it and reach its bus through the file system of its first process.

import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage } from '../machines/service.ts';
import { expectState, offline } from '../machines/support.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

const runProgram = promisify(execFile);
const examples = path.resolve(import.meta.dirname, '../../src/examples');
const unit = 'lxc@web.service';

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'clients', boot: false });
  await host.createContainer('web', 'busybox', { config: offline });
  await host.writeFile('/etc/fstab', 'data /lockers/data tmpfs size=1m 0 0\n');
  await host.boot();
  await configurePackage(host);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

beforeEach(async () => {
  await host.run('systemctl', ['stop', unit]);
});

async function client(program: string, ...args: string[]): Promise<string> {
  const address = `unix:path=/proc/${host.leader}/root/run/dbus/system_bus_socket`;
  const env = { ...process.env, DBUS_SYSTEM_BUS_ADDRESS: address };
  return (await runProgram(program, args, { env, timeout: 150_000 })).stdout;
}

test('busctl', async () => {
  const call = ['--timeout=150', 'call', 'org.lockerd1', '/org/lockerd1', 'org.lockerd1.Manager'];
  await client('busctl', ...call, 'StartContainer', 'sa{sv}', 'web', '1', 'wait', 'b', 'true');
  await expectState(host, unit, 'active');
  expect(await client('busctl', ...call, 'ListContainers')).toContain('"web" "running"');
});

test('gdbus', async () => {
  const call = [
    ...['call', '--system', '--timeout=150', '--dest=org.lockerd1', '--object-path=/org/lockerd1'],
    '--method',
  ];
  const start = 'org.lockerd1.Manager.StartContainer';
  const job = await client('gdbus', ...call, start, 'web', "{'wait': <true>}");
  expect(job).toMatch(/^\(objectpath '\/org\/lockerd1\/job\/\d+',\)$/m);
  await expectState(host, unit, 'active');
  expect(await client('gdbus', ...call, 'org.lockerd1.Manager.ListContainers')).toContain(
    "('web', 'running', ",
  );
});

test('dbus-send', async () => {
  const call = ['--system', '--print-reply', '--dest=org.lockerd1', '/org/lockerd1'];
  // It cannot send a{sv}, but names and paths.
  expect(
    await client('dbus-send', ...call, 'org.lockerd1.Manager.GetContainer', 'string:web'),
  ).toContain('object path "/org/lockerd1/container/web"');
});

test('dasbus, by the example program', async () => {
  await host.run('systemctl', ['start', unit]);
  const args = [path.join(examples, 'attach-locker.py'), 'web', 'data'];
  expect(await client('/usr/bin/python3', ...args)).toContain('web: done\n');
  const { stdout } = await host.run('cat', ['/proc/self/mountinfo']);
  expect(stdout).toContain(' /var/locker-mappings/web/data ');
});

test('jeepney', async () => {
  const script = `
from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection
connection = open_dbus_connection(bus='SYSTEM')
manager = DBusAddress('/org/lockerd1', 'org.lockerd1', 'org.lockerd1.Manager')
start = new_method_call(manager, 'StartContainer', 'sa{sv}', ('web', {'wait': ('b', True)}))
print(connection.send_and_get_reply(start, timeout=150).body)
print(connection.send_and_get_reply(new_method_call(manager, 'ListContainers')).body)`;
  const output = await client('/usr/bin/python3', '-c', script);
  expect(output).toContain("('/org/lockerd1/job/");
  expect(output).toContain("('web', 'running', ");
  await expectState(host, unit, 'active');
});

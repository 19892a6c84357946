import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { serviceName } from '../../src/api/names.ts';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { LockerdOnFakes } from './lockerd-on-fakes.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const nobody = 65534;
let bus: PrivateBus;
let lockerd: LockerdOnFakes;

beforeAll(async () => {
  bus = await startPrivateBus();
});
afterAll(() => bus.close());

beforeEach(async () => {
  lockerd = new LockerdOnFakes(bus.address);
  await lockerd.start({ web: {} });
  return () => {
    lockerd.stop();
  };
});

/** busctl about the properties, as `systemctl service-log-level` uses them. */
async function busctl(uid: number, ...args: string[]): Promise<string> {
  const [verb = '', ...rest] = args;
  const target = [serviceName, '/org/freedesktop/LogControl1', 'org.freedesktop.LogControl1'];
  const argv = ['busctl', `--address=${bus.address}`, '--timeout=20', verb, ...target, ...rest];
  const { stdout, stderr } = await bus.run(argv, { uid });
  return (stdout + stderr).trim();
}

/** Calls that the journal tells of. */
function calls(): (string | undefined)[] {
  return lockerd.outside.journal
    .filter(({ priority }) => priority === 7)
    .map(({ fields }) => `${fields['INTERFACE']}.${fields['MEMBER']} ${fields['ERROR'] ?? ''}`);
}

test('everybody sees the level, and root changes it', async () => {
  expect(await busctl(nobody, 'get-property', 'LogLevel')).toBe('s "info"');
  expect(await busctl(nobody, 'get-property', 'LogTarget')).toBe('s "journal"');
  expect(await busctl(nobody, 'get-property', 'SyslogIdentifier')).toBe('s "lockerd"');
  expect(await busctl(0, 'set-property', 'LogLevel', 's', 'warning')).toBe('');
  expect(await busctl(0, 'get-property', 'LogLevel')).toBe('s "warning"');
  expect(await busctl(0, 'set-property', 'LogTarget', 's', 'null')).toBe('');
  expect(lockerd.outside.logging).toEqual({ level: 'warning', target: 'null' });
});

test.each(['LogLevel', 'LogTarget'])('nobody else changes %s', async (property) => {
  expect(await busctl(nobody, 'set-property', property, 's', 'debug')).toMatch(/denied|only root/);
  expect(lockerd.outside.logging).toEqual({ level: 'info', target: 'journal' });
});

test.each([
  ['LogLevel', 's', 'loud', 'lockerd knows only: emerg, alert'],
  ['LogLevel', 's', '', 'lockerd knows only'],
  ['LogLevel', 'u', '7', 'lockerd knows only'],
  ['LogTarget', 's', 'console', 'lockerd knows only: journal, null'],
  ['SyslogIdentifier', 's', 'x', 'cannot be set'],
])('%s is not set to %s %s', async (property, type, value, why) => {
  expect(await busctl(0, 'set-property', property, type, value)).toContain(why);
  expect(lockerd.outside.logging).toEqual({ level: 'info', target: 'journal' });
});

test('each call is told of while the level is "debug"', async () => {
  await busctl(nobody, 'get-property', 'LogLevel');
  expect(calls()).toEqual([]);
  await busctl(0, 'set-property', 'LogLevel', 's', 'debug');
  await busctl(nobody, 'get-property', 'LogLevel');
  await busctl(nobody, 'get-property', 'Nothing');
  const get = 'org.freedesktop.DBus.Properties.Get ';
  await vi.waitFor(() => {
    expect(calls()).toEqual([
      'org.freedesktop.DBus.Properties.Set ',
      get,
      `${get}org.freedesktop.DBus.Error.UnknownProperty`,
    ]);
  });
});

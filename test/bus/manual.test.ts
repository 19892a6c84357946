// The examples of org.lockerd1(5), as they stand there, with the service on a private bus.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readComment, readInterfaces } from '../../src/build/dbus-manual.mjs';
import { connectBus } from '../../src/bus/connection.ts';
import { defaultLimits } from '../../src/core/user-quota.ts';
import type { Variant } from '../../src/bus/values.ts';
import { startPrivateBus, type PrivateBus, type RunResult } from './bus.ts';
import { LockerdOnFakes } from './lockerd-on-fakes.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
const page = readFileSync(join(project, 'src/man/org.lockerd1.5'), 'utf8');
const xml = readFileSync(join(project, 'units/dbus/org.lockerd1.xml'), 'utf8');
const mebibyte = 2n ** 20n;

let bus: PrivateBus;
let service: LockerdOnFakes;

beforeEach(async () => {
  bus = await startPrivateBus();
  service = new LockerdOnFakes(bus.address);
  await service.start({ web: { state: 'stopped', memoryMax: 1024n * mebibyte } });
  await service.defineLockers({ music: '/dev/sdb1' });
});
afterEach(async () => {
  service.stop();
  await bus.close();
});

/** The literal text of a subsection of EXAMPLES, each block of it. */
function examples(title: string): string[] {
  const all = page.slice(page.indexOf('.Sh EXAMPLES\n'));
  const begin = all.indexOf(`.Ss ${title}\n`);
  expect(begin, title).toBeGreaterThanOrEqual(0);
  const part = all.slice(begin + 1).split(/^\.S[sh] /m)[0] ?? '';
  return [...part.matchAll(/^\.Bd -literal[^\n]*\n([^]*?)^\.Ed$|^\.Dl (.*\n)/gm)].map(
    ([, block, line]) => (block ?? line ?? '').replaceAll(String.raw`\e`, '\\'),
  );
}

async function shell(script: string): Promise<RunResult> {
  return bus.run(['sh', '-euc', script]);
}

test('busctl: a list, a property, a start', async () => {
  const [commands = '', watching] = examples('busctl');
  expect(await shell(commands)).toEqual({
    stdout:
      'a(sso) 1 "web" "stopped" "/org/lockerd1/container/web"\n' +
      's "stopped"\n' +
      'o "/org/lockerd1/job/1"\n',
    stderr: '',
    exitCode: 0,
  });
  expect(service.stateOf('web')).toBe('running');
  const [call] = service.calls.filter(({ member }) => member === 'StartContainer');
  expect(call?.interactive).toBe(true);
  const monitor = await shell(`timeout 3 ${watching ?? 'false'}`);
  expect(monitor.stderr).toContain('Monitoring bus message stream');
});

test('gdbus: a locker is attached read-only', async () => {
  const [commands = ''] = examples('gdbus');
  await service.define({ web: { state: 'running' } });
  const { stdout, stderr, exitCode } = await shell(commands);
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
  expect(stdout).toContain("(objectpath '/org/lockerd1/job/1',)");
  expect(stdout).toContain("Lockers = [('music', '/org/lockerd1/locker/music', true)];");
});

test('Python: a memory limit, and why it is refused', async () => {
  const [program = ''] = examples('Python');
  await service.define({ web: { state: 'running' } });
  service.work = () => ({ warnings: ['it was tight'] });
  const run = () => bus.run(['/usr/bin/python3', '-c', program]);
  expect(await run()).toEqual({
    stdout: `done  it was tight\nrunning ${512n * mebibyte}\n`,
    stderr: '',
    exitCode: 0,
  });
  service.outside.decide = () => 'no';
  expect(await run()).toEqual({
    stdout: 'refused: polkit does not allow you org.lockerd1.balloon\n',
    stderr: '',
    exitCode: 0,
  });
});

test('the words of Features and the keys of Limits are those of the page', async () => {
  const client = await connectBus({ address: bus.address });
  const [properties] = await client.call({
    destination: 'org.lockerd1',
    path: '/org/lockerd1',
    interface: 'org.freedesktop.DBus.Properties',
    member: 'GetAll',
    signature: 's',
    body: ['org.lockerd1.Manager'],
  });
  client.close();
  const { Features, Limits } = properties as Record<string, Variant>;
  const listed = (name: string) => {
    const member = readInterfaces(xml)[0]?.members.find((one) => one.name === name);
    const text = member === undefined ? '' : readComment(member).paragraphs.join('\n');
    return [...text.matchAll(/^- `([^`]+)`:/gm)].map(([, word]) => word);
  };
  expect(Features?.value).toEqual(listed('Features'));
  expect(Object.keys(Limits?.value as object)).toEqual(listed('Limits'));
  expect(Limits?.value).toEqual({ ...defaultLimits });
});

// The service ends when nobody needs it, and the bus starts it again. No call may be lost meanwhile.

import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { connectBus } from '../../src/bus/connection.ts';
import { marshal } from '../../src/bus/marshal.ts';
import { Service } from '../../src/cli/lockerd-client.ts';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { bundle } from './bundle.ts';
import { startFakeSystemd } from './fake-systemd.ts';
import { errorText, RawClient, type RawMessage } from './raw.ts';

const name = 'org.lockerd1';
const state: RawMessage = {
  destination: name,
  path: '/org/lockerd1/container/web',
  interface: 'org.freedesktop.DBus.Properties',
  member: 'Get',
  signature: 'ss',
  body: marshal('ss', ['org.lockerd1.Container', 'State']),
};
const start: RawMessage = {
  destination: name,
  path: '/org/lockerd1',
  interface: 'org.lockerd1.Manager',
  member: 'StartContainer',
  signature: 'sa{sv}',
  body: marshal('sa{sv}', ['web', {}]),
};

let bus: PrivateBus;
let runs: string;

async function begin(limits: Readonly<Record<string, number>> = {}): Promise<void> {
  const directory = fs.mkdtempSync(path.join(import.meta.dirname, '../../dist/idle-'));
  runs = path.join(directory, 'runs');
  const program = await bundle('test/bus/idle-service.ts', directory);
  const command = [`LOCKERD_TEST_RUNS=${runs}`, process.execPath, program];
  bus = await startPrivateBus({ services: { [name]: command }, limits });
  bus.onClose(() => {
    fs.rmSync(directory, { recursive: true });
  });
  await startFakeSystemd(bus);
}
afterEach(() => bus.close());

function runsSoFar(): string[] {
  return fs.existsSync(runs) ? fs.readFileSync(runs, 'utf8').split('\n').filter(Boolean) : [];
}

/** A caller that comes for one call. */
async function callOnce(message: RawMessage): Promise<string> {
  const client = await RawClient.connect(bus);
  try {
    const reply = await client.call(message, 60_000);
    // Where it has not ended since the last start.
    const isAnswer = reply.errorName === undefined || reply.errorName.endsWith('.AlreadyRunning');
    return isAnswer ? 'answered' : `${reply.errorName}: ${errorText(reply)}`;
  } finally {
    client.close();
  }
}

test('10,000 calls that race with its end are all answered', { timeout: 600_000 }, async () => {
  await begin();
  const calls = Number(process.env['LOCKERD_TEST_RACES'] ?? 10_000);
  const atATime = 200;
  const answers = new Map<string, number>();
  for (let count = 0; count < calls; count += atATime) {
    const burst = Array.from({ length: atATime }, async (_, index) => {
      // The service ends some milliseconds after its last caller.
      await sleep(Math.random() * (index % 2 === 0 ? 2 : 40));
      return callOnce(index === 0 ? start : state);
    });
    for (const answer of await Promise.all(burst))
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
  }
  expect([...answers]).toEqual([['answered', calls]]);
  // It did end, again and again.
  expect(runsSoFar().length).toBeGreaterThan(calls / atATime / 2);
});

test('lockerctl asks again where the service comes up later than the bus waits for', async () => {
  // Of dbus-daemon, in milliseconds.
  await begin({ service_start_timeout: 8000 });
  fs.writeFileSync(`${runs}.slow`, '');
  const connection = await connectBus({ address: bus.address });
  try {
    const service = new Service(connection, { askPassword: false, timeoutUsec: undefined });
    expect((await service.snapshot()).containers.map((container) => container.name)).toEqual([
      'web',
    ]);
  } finally {
    connection.close();
  }
  expect(runsSoFar()).toHaveLength(1);
});

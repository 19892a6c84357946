import { afterAll, beforeAll, expect, test } from 'vitest';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { fuzzMessages, garbled, targets, type FuzzTarget } from './fuzz.ts';
import { RawClient, type RawMessage } from './raw.ts';
import { service, startTestService, type TestService } from './support.ts';

// Another seed, other messages: LOCKERD_FUZZ_SEED=7 npm test bus.
const seed = Number(process.env['LOCKERD_FUZZ_SEED'] ?? 4);
const stranger = 65534;

let bus: PrivateBus;
let target: TestService;
let list: FuzzTarget[];

beforeAll(async () => {
  bus = await startPrivateBus();
  target = await startTestService(bus);
  list = await targets(await bus.connect(), service.destination);
});
afterAll(() => bus.close());

test('the attacked methods are all there are', () => {
  const names = list.map(({ path, interface: name, member }) => `${path} ${name}.${member}`);
  expect(names).toContain('/org/lockerd1 org.lockerd1.Test.Guarded');
  expect(names).toContain('/org/lockerd1 org.freedesktop.DBus.ObjectManager.GetManagedObjects');
  expect(names).toContain('/org/lockerd1/child/one org.freedesktop.DBus.Properties.Set');
  expect(list.find(({ member }) => member === 'Options')?.signature).toBe('sa{sv}');
});

test('10,000 messages that the bus passes on', async () => {
  const messages = fuzzMessages(list, seed, 10_000);
  expect(messages.length).toBeGreaterThanOrEqual(10_000);
  const perConnection = 480;
  // The bus lets 128 calls of a connection wait; beyond it they do not reach the service.
  const window = 40;
  let answered = 0;
  let refused = 0;
  for (let start = 0; start < messages.length; start += perConnection) {
    const client = await RawClient.connect(bus, stranger);
    const serials = new Set<number | undefined>();
    for (let at = start; at < start + perConnection; at += window) {
      for (const message of messages.slice(at, at + window)) serials.add(client.send(message));
      // In order: what came before has been received when this one is answered.
      await client.call({ ...service, interface: 'org.freedesktop.DBus.Peer', member: 'Ping' });
    }
    const replies = client.received.filter(({ replySerial }) => serials.has(replySerial));
    answered += replies.length;
    refused += replies.filter(({ errorName = '' }) => errorName.endsWith('LimitsExceeded')).length;
    await target.expectAlive();
    client.close();
  }
  expect(refused).toBeLessThan(messages.length / 100);
  // Signals and calls that want no reply have none; sleepers have none yet.
  expect(answered).toBeGreaterThan(messages.length * 0.45);
  await target.expectAlive();
}, 600_000);

/** Sends messages with bytes changed; tells how often the bus closed a connection or waited. */
async function sendGarbled(messages: [number, RawMessage][]): Promise<number> {
  let client = await RawClient.connect(bus);
  let closed = 0;
  for (const [index, message] of messages) {
    client.sendBytes(garbled(message, index + 100, seed + index));
    try {
      await client.call(
        {
          destination: 'org.freedesktop.DBus',
          path: '/org/freedesktop/DBus',
          interface: 'org.freedesktop.DBus.Peer',
          member: 'Ping',
        },
        500,
      );
    } catch {
      // The bus threw us out, or waits for the rest of a message whose length was changed.
      closed++;
      client.close();
      client = await RawClient.connect(bus);
    }
  }
  client.close();
  return closed;
}

test('300 messages with bytes changed at random', async () => {
  const messages = [...fuzzMessages(list, seed + 1, 300).entries()];
  // Most of the time is spent on waiting, so several callers wait at once.
  const callers = 10;
  const lists = Array.from({ length: callers }, (_, caller) =>
    messages.filter(([index]) => index % callers === caller),
  );
  const closed = await Promise.all(lists.map(sendGarbled));
  expect(closed.reduce((total, count) => total + count)).toBeGreaterThan(0);
  await target.expectAlive();
}, 300_000);

// What any local user can send must not stop a service. Each test was a hole of dbus-next 0.10.2.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { messageFlag, messageType } from '../../src/bus/frame.ts';
import { marshal } from '../../src/bus/marshal.ts';
import { unmarshal } from '../../src/bus/unmarshal.ts';
import { Variant } from '../../src/bus/values.ts';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { errorText, RawClient } from './raw.ts';
import {
  counts,
  errorOf,
  service,
  startTestService,
  unreadBytes,
  type TestService,
} from './support.ts';

const stranger = 65534;

let bus: PrivateBus;
let target: TestService;
let client: RawClient;

beforeAll(async () => {
  bus = await startPrivateBus();
  target = await startTestService(bus);
  client = await RawClient.connect(bus, stranger);
});
afterAll(() => bus.close());

const echo = { ...service, member: 'Echo' };
const options = { ...service, member: 'Options', signature: 'sa{sv}' };
const invalidArgs = 'org.freedesktop.DBus.Error.InvalidArgs';

async function uniqueName(): Promise<string> {
  const connection = await bus.connect();
  const [owner] = await connection.call({
    destination: 'org.freedesktop.DBus',
    path: '/org/freedesktop/DBus',
    interface: 'org.freedesktop.DBus',
    member: 'GetNameOwner',
    signature: 's',
    body: [service.destination],
  });
  connection.close();
  return String(owner);
}

describe('file descriptors that did not come', () => {
  const descriptor = Buffer.from([0, 0, 0, 0]);

  test('as the whole body', async () => {
    const reply = await client.call({ ...echo, signature: 'h', body: descriptor });
    expect(reply.errorName).toBe(invalidArgs);
    await target.expectAlive();
  });

  test('inside a variant', async () => {
    const body = Buffer.concat([Buffer.from([1, 0x68, 0, 0]), descriptor]);
    const reply = await client.call({ ...echo, signature: 'v', body });
    expect(reply.errorName).toBe(invalidArgs);
    expect(errorText(reply)).toContain('type "h"');
    await target.expectAlive();
  });

  test('in a signal to one receiver, which no match rule asked for', async () => {
    const destination = await uniqueName();
    for (const signature of ['h', 'ah', 'v'])
      client.send({
        type: messageType.signal,
        destination,
        path: '/',
        interface: 'org.freedesktop.DBus',
        member: 'NameOwnerChanged',
        signature,
        body: {
          h: descriptor,
          ah: Buffer.from([4, 0, 0, 0, 0, 0, 0, 0]),
          v: Buffer.from([1, 0x68, 0, 0, 0, 0, 0, 0]),
        }[signature] as Buffer,
      });
    await target.expectAlive();
  });
});

test('a signal cannot claim to come from the bus', async () => {
  const waiter = await RawClient.connect(bus);
  const serial = waiter.send({
    ...service,
    member: 'Sleep',
    signature: 'u',
    body: marshal('u', [1500]),
  });
  const [{ sender: name }] = [await waiter.call({ ...service, member: 'Bump' })].map((frame) => ({
    sender: frame.destination ?? '',
  })) as [{ sender: string }];
  client.send({
    type: messageType.signal,
    destination: await uniqueName(),
    path: '/org/freedesktop/DBus',
    interface: 'org.freedesktop.DBus',
    member: 'NameOwnerChanged',
    signature: 'sss',
    body: marshal('sss', [name, name, '']),
  });
  const reply = await waiter.receive(({ replySerial }) => replySerial === serial);
  expect(reply.type).toBe(messageType.methodReturn);
  waiter.close();
});

test('a key __proto__ in a dict', async () => {
  const body = marshal('sa{sv}', [
    'web',
    Object.fromEntries([['__proto__', new Variant('a{sv}', { polluted: new Variant('b', true) })]]),
  ]);
  const reply = await client.call({ ...options, body });
  expect(reply.errorName).toBe(invalidArgs);
  expect(errorText(reply)).toContain('__proto__');
  await target.expectAlive();
});

test.each(['constructor', 'toString', 'hasOwnProperty', 'valueOf'])(
  'a key, member, interface or property named %s is no more than a name',
  async (name) => {
    const reply = await client.call({
      ...options,
      body: marshal('sa{sv}', ['web', { [name]: new Variant('b', true) }]),
    });
    expect(unmarshal('as', reply.body ?? Buffer.alloc(0))).toEqual([[name]]);
    const call = await client.call({ ...service, member: name });
    expect(call.errorName).toBe('org.freedesktop.DBus.Error.UnknownMethod');
    for (const body of [
      [name, 'Counter'],
      ['org.lockerd1.Test', name],
    ]) {
      const get = await client.call({
        ...service,
        interface: 'org.freedesktop.DBus.Properties',
        member: 'Get',
        signature: 'ss',
        body: marshal('ss', body),
      });
      expect(get.errorName).toMatch(/Unknown(Interface|Property)$/);
    }
  },
);

test('two entries with the same key', async () => {
  const entry = Buffer.concat([marshal('su', ['k', 1]).subarray(0, 6), Buffer.from([1, 0x62, 0])]);
  const one = Buffer.concat([entry, Buffer.alloc(3), Buffer.from([1, 0, 0, 0])]);
  const body = Buffer.concat([
    marshal('s', ['web']),
    Buffer.from([2 * one.length, 0, 0, 0]),
    Buffer.alloc(4),
    one,
    one,
  ]);
  const reply = await client.call({ ...options, body });
  expect(`${reply.errorName}: ${errorText(reply)}`).toMatch(/InvalidArgs.*same key/);
});

describe('errors of ours', () => {
  test('with a NUL, half a character and too long a text', async () => {
    const reply = await client.call({ ...service, member: 'FailWithNul' });
    expect(reply.errorName).toBe('org.lockerd1.Error.Failed');
    expect(errorText(reply)).toMatch(/^a\ufffdb \ufffd x+\.\.\.$/);
    expect(errorText(reply).length).toBeLessThan(1100);
    await target.expectAlive();
  });

  test('with a name that is none', async () => {
    const body = marshal('ss', ['no name', 'text']);
    const reply = await client.call({ ...service, member: 'Fail', signature: 'ss', body });
    expect(reply.errorName).toBe('org.lockerd1.Error.Failed');
    await target.expectAlive();
  });

  test('tell strangers nothing of the program', async () => {
    const reply = await client.call({ ...service, member: 'FailBadly' });
    expect(reply.errorName).toBe('org.lockerd1.Error.Failed');
    expect(errorText(reply)).not.toMatch(/secret|TypeError|\bat\b/);
    expect(target.log()).toContain('secret of the service');
  });

  test.each(['BadPath', 'BadText'])('a reply that cannot be expressed: %s', async (member) => {
    const reply = await client.call({ ...service, member });
    expect(reply.errorName).toBe('org.lockerd1.Error.Failed');
    await target.expectAlive();
  });
});

test('Set of a read-only property does not run and says so', async () => {
  const set = (name: string) =>
    client.call({
      ...service,
      interface: 'org.freedesktop.DBus.Properties',
      member: 'Set',
      signature: 'ssv',
      body: marshal('ssv', [service.interface, name, new Variant('u', 7)]),
    });
  expect((await set('Counter')).errorName).toBe('org.freedesktop.DBus.Error.PropertyReadOnly');
  expect((await set('None')).errorName).toBe('org.freedesktop.DBus.Error.UnknownProperty');
  const connection = await bus.connect();
  const [value] = await connection.call({
    ...service,
    interface: 'org.freedesktop.DBus.Properties',
    member: 'Get',
    signature: 'ss',
    body: [service.interface, 'Counter'],
  });
  expect(value).toEqual(new Variant('u', 0));
});

test('NO_REPLY_EXPECTED is honoured, for errors too', async () => {
  const connection = await bus.connect();
  const { bumps } = await counts(connection);
  const flags = messageFlag.noReplyExpected;
  const serials = [
    client.send({ ...service, member: 'Bump', flags }),
    client.send({ ...service, member: 'FailBadly', flags }),
    client.send({ ...service, member: 'NoSuchMethod', flags }),
  ];
  await client.call({ ...service, member: 'Counts' });
  expect((await counts(connection)).bumps).toBe(bumps + 1);
  expect(client.received.filter(({ replySerial = 0 }) => serials.includes(replySerial))).toEqual(
    [],
  );
});

describe('sizes', () => {
  test('arguments of 30 MB are passed over and answered', async () => {
    const body = Buffer.alloc(30 * 2 ** 20);
    body.writeUInt32LE(body.length - 4);
    const big = { ...service, signature: 'ay', body };
    // First the signature, which needs no look at the body; then a method that takes it.
    expect((await client.call({ ...big, member: 'Bump' })).errorName).toBe(invalidArgs);
    const text = Buffer.alloc(30 * 2 ** 20, 0x61);
    text.writeUInt32LE(text.length - 5);
    text[text.length - 1] = 0;
    const say = await client.call({ ...service, member: 'Say', signature: 's', body: text });
    expect(say.errorName).toBe('org.freedesktop.DBus.Error.LimitsExceeded');
    await target.expectAlive();
  });

  test('a message of 128 MB costs its sender the connection, and nobody else', async () => {
    const giant = await RawClient.connect(bus);
    giant.send({ ...echo, signature: 'ay', body: Buffer.alloc(2 ** 27 - 4096) });
    await expect(giant.receive(() => false)).rejects.toThrow('closed the connection');
    giant.close();
    await target.expectAlive();
  });

  test.each([100 * 1024, 10 * 2 ** 20])('a path of %d bytes is refused', async (length) => {
    const path = `/${'a'.repeat(length)}`;
    const reply = await client.call({ ...echo, path });
    expect(reply.errorName).toBe('org.freedesktop.DBus.Error.LimitsExceeded');
    expect(errorText(reply)).toContain('header');
    // What comes after it is read as it is.
    const serial = client.send({ ...echo, path, signature: 's', body: marshal('s', ['x']) });
    client.send({ type: messageType.signal, ...echo, path });
    await client.receive(({ replySerial }) => replySerial === serial);
    await target.expectAlive();
  });

  test('a deeply nested variant', async () => {
    // libdbus takes 64 levels at most; so many pass the bus.
    let value = new Variant('u', 1);
    for (let depth = 0; depth < 60; depth++) value = new Variant('v', value);
    const reply = await client.call({ ...echo, signature: 'v', body: marshal('v', [value]) });
    expect(reply.type).toBe(messageType.methodReturn);
    await target.expectAlive();
  });
});

describe('floods', () => {
  test('of calls that stay: the rest is refused, other callers are not', async () => {
    const flooder = await RawClient.connect(bus, stranger);
    const body = marshal('u', [60_000]);
    for (let index = 0; index < 2000; index++)
      flooder.send({ ...service, member: 'Sleep', signature: 'u', body });
    const refused = await flooder.receive(({ type }) => type === messageType.error);
    expect(refused.errorName).toBe('org.freedesktop.DBus.Error.LimitsExceeded');
    await target.expectAlive();
    flooder.close();
  });

  test('of calls and signals, from several connections at once', async () => {
    const destination = await uniqueName();
    const flooders = await Promise.all(
      Array.from({ length: 4 }, () => RawClient.connect(bus, stranger)),
    );
    const signal = {
      type: messageType.signal,
      destination,
      path: '/a',
      interface: 'a.b',
      member: 'C',
      signature: 's',
      body: marshal('s', ['x'.repeat(1000)]),
    };
    for (let index = 0; index < 3000; index++)
      for (const flooder of flooders) {
        flooder.send({ ...echo, signature: 'h', body: Buffer.alloc(4) });
        flooder.send(signal);
      }
    await target.expectAlive();
    for (const flooder of flooders) flooder.close();
    await target.expectAlive();
  });

  test('a caller that never reads its replies', async () => {
    const deaf = await RawClient.connect(bus, stranger);
    deaf.stopReading();
    const body = marshal('u', [2 ** 20]);
    // What the bus keeps for it fills up at 127 MiB.
    for (let index = 0; index < 200; index++)
      deaf.send({ ...service, member: 'Blob', signature: 'u', body });
    await target.expectAlive();
    deaf.close();
    await target.expectAlive();
  });
});

test('what the bus keeps for callers that never read is bounded', async () => {
  const watcher = await bus.connect();
  const deaf = await RawClient.connect(bus, stranger);
  const { destination = '' } = await deaf.call({ ...service, member: 'Bump' });
  deaf.stopReading();
  const body = marshal('u', [2 ** 20]);
  const count = 60;
  for (let index = 0; index < count; index++)
    deaf.send({ ...service, member: 'Blob', signature: 'u', body });
  const mebibyte = 2 ** 20;
  // What the sockets hold comes before, and what is refused afterwards is short.
  await expect
    .poll(() => unreadBytes(watcher, destination), { timeout: 30_000 })
    .toBeGreaterThan(8 * mebibyte);
  await target.expectAlive();
  expect(await unreadBytes(watcher, destination)).toBeLessThan(20 * mebibyte);
  deaf.readAgain();
  const replies = [];
  while (replies.length < count)
    replies.push(await deaf.receive(({ replySerial }) => replySerial !== undefined));
  const refused = replies.filter(({ type }) => type === messageType.error);
  expect(refused.length).toBeGreaterThan(count / 2);
  expect(new Set(refused.map(errorText))).toEqual(
    new Set(['read the replies to your earlier calls first']),
  );
  deaf.close();
  watcher.close();
});

test('answers to callers that left are not counted as unread', async () => {
  // Less than what makes the service ask the bus for what is unread, and together more than all
  // callers may leave unread.
  const late = marshal('u', [2 ** 19]);
  for (let count = 0; count < 160; count++) {
    const leaver = await RawClient.connect(bus);
    leaver.send({ ...service, member: 'LateBlob', signature: 'u', body: late });
    await leaver.call({ ...service, member: 'Counts' });
    leaver.close();
  }
  const reader = await RawClient.connect(bus);
  reader.stopReading();
  const body = marshal('u', [2 ** 20]);
  const serials = Array.from({ length: 12 }, () =>
    reader.send({ ...service, member: 'Blob', signature: 'u', body }),
  );
  await target.expectAlive();
  reader.readAgain();
  for (const serial of serials) {
    const reply = await reader.receive(({ replySerial }) => replySerial === serial);
    expect(reply.type).toBe(messageType.methodReturn);
  }
  reader.close();
});

test('the sleepers of callers that left were woken', async () => {
  const connection = await bus.connect();
  await expect
    .poll(async () => (await counts(connection)).aborted, { timeout: 30_000 })
    .toBeGreaterThanOrEqual(64);
  const error = await errorOf(connection.call({ ...service, member: 'Nothing' }));
  expect(error.errorName).toBe('org.freedesktop.DBus.Error.UnknownMethod');
});

import net from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectBus, type Signal } from '../../src/bus/connection.ts';
import { serve } from '../../src/bus/serve.ts';
import { method, type Interface } from '../../src/bus/interface-table.ts';
import { busError, Variant } from '../../src/bus/values.ts';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { errorOf } from './support.ts';

let bus: PrivateBus;
beforeAll(async () => {
  bus = await startPrivateBus();
});
afterAll(() => bus.close());

const name = 'org.lockerd1.Test';
const at = { destination: name, path: '/a', interface: 'a.b' };

/** Answers Now at once, and Never never, but counts how many wait there. */
async function startHanging(): Promise<{ waiting: () => number; close: () => void }> {
  let waiting = 0;
  const table: Interface = {
    name: 'a.b',
    methods: {
      Now: method({ in: [], out: [], handler: () => undefined }),
      Never: method({
        in: [],
        out: [],
        handler: () => {
          waiting++;
          return new Promise<void>(() => undefined);
        },
      }),
    },
  };
  const connection = await bus.connect();
  const options = { limits: { callsPerSender: 1000 } };
  await serve(connection, { ...options, objects: { '/a': [table] } });
  await connection.requestName(name);
  return {
    waiting: () => waiting,
    close: () => {
      connection.close();
    },
  };
}

describe('calls', () => {
  test('have a timeout, and are bounded for one service and in all', async () => {
    const service = await startHanging();
    const caller = await bus.connect();
    const calls = Array.from({ length: 150 }, () =>
      errorOf(caller.call({ ...at, member: 'Never', timeoutMs: 2000 })),
    );
    await expect.poll(service.waiting).toBe(64);
    // Another destination is not kept out by the one that hangs.
    await caller
      .call({ ...at, destination: caller.uniqueName, member: 'X' })
      .catch(() => undefined);
    for (const error of await Promise.all(calls)) expect(error.errorName).toBe(busError.noReply);
    // The places stay taken: the bus still waits for these replies.
    expect(service.waiting()).toBe(64);
    const late = await errorOf(caller.call({ ...at, member: 'Now', timeoutMs: 300 }));
    expect(late.message).toBe('org.lockerd1.Test did not answer a.b.Now within 0.3 s');
    service.close();
    const again = await startHanging();
    await expect.poll(() => caller.call({ ...at, member: 'Now' })).toEqual([]);
    again.close();
    caller.close();
  });

  test('with names or values that are none fail here', async () => {
    const caller = await bus.connect();
    await expect(caller.call({ ...at, path: 'a', member: 'X' })).rejects.toThrow('path');
    const wrong = caller.call({ ...at, member: 'X', signature: 'u', body: [-1] });
    await expect(wrong).rejects.toThrow('-1 is no value of type "u"');
    caller.close();
  });
});

test('signals come from the owner of the name only, also after it changed', async () => {
  const caller = await bus.connect();
  const heard: string[] = [];
  const unsubscribe = await caller.subscribe({ sender: name, member: 'Said' }, (signal: Signal) =>
    heard.push(String(signal.body[0])),
  );
  const say = (from: { emitSignal: typeof caller.emitSignal }, text: string): void => {
    from.emitSignal('/a', 'a.b', 'Said', 's', [text]);
  };
  const impostor = await bus.connect();
  say(impostor, 'impostor');
  for (const text of ['first', 'second']) {
    const owner = await bus.connect();
    say(owner, `${text} before`);
    await expect
      .poll(() =>
        owner.requestName(name).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    say(owner, text);
    say(impostor, 'impostor');
    await expect.poll(() => heard.includes(text)).toBe(true);
    owner.close();
  }
  await unsubscribe();
  expect(heard).toEqual(['first', 'second']);
  caller.close();
  impostor.close();
});

test('a name that another process has is refused', async () => {
  const [one, other] = [await bus.connect(), await bus.connect()];
  await one.requestName('org.lockerd1.Taken');
  expect((await errorOf(other.requestName('org.lockerd1.Taken'))).message).toContain(
    'org.lockerd1.Taken belongs to another process',
  );
});

test('path namespaces and first arguments', async () => {
  const [caller, speaker] = [await bus.connect(), await bus.connect()];
  const heard: string[] = [];
  const hear = ({ path: from }: Signal): number => heard.push(from);
  await caller.subscribe({ pathNamespace: '/a/b', interface: 'x.y' }, hear);
  await caller.subscribe({ interface: 'x.z', arg0: `it's, "quoted" \\ = here` }, hear);
  for (const from of ['/a', '/a/b', '/a/bc', '/a/b/c'])
    speaker.emitSignal(from, 'x.y', 'M', '', []);
  speaker.emitSignal('/no', 'x.z', 'M', 's', ['other']);
  speaker.emitSignal('/yes', 'x.z', 'M', 's', [`it's, "quoted" \\ = here`]);
  await expect.poll(() => heard).toEqual(['/a/b', '/a/b/c', '/yes']);
});

test('each subscription has the entries of a dict that it wants', async () => {
  const [caller, speaker] = [await bus.connect(), await bus.connect()];
  const heard: string[] = [];
  const hear = ({ body }: Signal): number => heard.push(Object.keys(body[1] as object).join(' '));
  const match = { interface: 'x.y', arg0: 'first' };
  await caller.subscribe({ ...match, keys: new Set(['b']) }, hear);
  await caller.subscribe(match, hear);
  const values = { a: new Variant('as', ['x']), b: new Variant('u', 1) };
  speaker.emitSignal('/no', 'x.y', 'M', 'sa{sv}', ['other', values]);
  speaker.emitSignal('/yes', 'x.y', 'M', 'sa{sv}', ['first', values]);
  await expect.poll(() => heard).toEqual(['b', 'a b']);
});

describe('the bus', () => {
  test('lost: calls fail, and the promise says so; a new daemon can be reached', async () => {
    const own = await startPrivateBus();
    const connection = await own.connect();
    const closed = await own.connect();
    const call = errorOf(
      connection.call({
        ...at,
        destination: connection.uniqueName,
        member: 'X',
        timeoutMs: Infinity,
      }),
    );
    void call.catch(() => undefined);
    let lost = 0;
    void closed.lost.then(() => lost++);
    closed.close();
    const pending = errorOf(closed.call({ ...at, member: 'X' }));
    await own.stop();
    expect((await connection.lost).message).toBe('the connection to the bus is lost');
    expect((await pending).errorName).toBe(busError.disconnected);
    const after = await errorOf(connection.call({ ...at, member: 'X' }));
    expect(after.errorName).toBe(busError.disconnected);
    expect(lost).toBe(0);
    await own.start();
    const again = await own.connect();
    await again.requestName(name);
    await own.close();
  });

  test('that is not there, refuses, or says nonsense', async () => {
    await expect(connectBus({ address: 'unix:path=/nonexistent' })).rejects.toThrow(
      'cannot connect to the bus at unix:path=/nonexistent: connect ENOENT',
    );
    await expect(connectBus({ address: 'tcp:host=localhost' })).rejects.toThrow('only unix:path=');
    for (const [answer, expected] of [
      ['REJECTED EXTERNAL\r\n', /authentication/],
      ['OK 1234\r\n' + 'this is no message at all', /lost/],
    ] as const) {
      const socket = path.join(bus.directory, `fake-${answer.slice(0, 2)}`);
      const fake = net.createServer((peer) => {
        peer.on('error', () => undefined).once('data', () => peer.write(answer));
      });
      await new Promise<void>((resolve) => fake.listen(socket, resolve));
      await expect(connectBus({ address: `unix:path=${socket}` })).rejects.toThrow(expected);
      fake.close();
    }
  });

  test('addresses: the first that answers, with escapes', async () => {
    const escaped = bus.socket.replaceAll('-', '%2d');
    const connection = await connectBus({
      address: `unix:path=/nonexistent;unix:path=${escaped},guid=0`,
    });
    expect(connection.uniqueName).toMatch(/^:1\.\d+$/);
    connection.close();
  });
});

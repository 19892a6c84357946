import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ServiceConnection, Signal } from '../../src/bus/connection.ts';
import { serve, type ServeOptions } from '../../src/bus/serve.ts';
import { method, type Interface } from '../../src/bus/interface-table.ts';
import { busError, DBusError, Variant } from '../../src/bus/values.ts';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { errorOf } from './support.ts';

let bus: PrivateBus;
beforeAll(async () => {
  bus = await startPrivateBus();
});
afterAll(() => bus.close());

const at = { destination: 'org.lockerd1', path: '/org/lockerd1', interface: 'org.lockerd1.Demo' };

/** A caller and a service with these tables, until the test ends. */
async function withService(
  options: ServeOptions,
  body: (caller: ServiceConnection, tree: Awaited<ReturnType<typeof serve>>) => Promise<void>,
): Promise<unknown[]> {
  const logged: unknown[] = [];
  const connection = await bus.connect((_, error) => logged.push(error));
  const caller = await bus.connect();
  try {
    const tree = await serve(connection, options);
    await connection.requestName(at.destination);
    await body(caller, tree);
    return logged;
  } finally {
    connection.close();
    caller.close();
  }
}

describe('a call', () => {
  const startable = (ran: unknown[], refuse = false): Interface => ({
    name: at.interface,
    methods: {
      Start: method({
        in: [
          ['container', 's'],
          ['options', 'a{sv}'],
        ],
        out: [['job', 'o']],
        handler: (call, [container, options]) => {
          if (refuse) throw new DBusError(busError.accessDenied, 'not you');
          ran.push([call.sender, call.interactive, call.member, container, options]);
          return ['/org/lockerd1/job/1'];
        },
      }),
    },
  });
  const start = { ...at, member: 'Start', signature: 'sa{sv}', body: ['web', {}] };

  test('comes to the handler with its arguments', async () => {
    const ran: unknown[] = [];
    await withService({ objects: { '/org/lockerd1': [startable(ran)] } }, async (caller) => {
      const body = ['web', { wait: new Variant('b', true) }];
      expect(await caller.call({ ...start, body, interactive: true })).toEqual([
        '/org/lockerd1/job/1',
      ]);
      expect(ran).toMatchObject([
        [caller.uniqueName, true, 'Start', 'web', { wait: { signature: 'b', value: true } }],
      ]);
    });
  });

  test('that is refused has the refusal as its answer', async () => {
    const objects = { '/org/lockerd1': [startable([], true)] };
    await withService({ objects }, async (caller) => {
      const error = await errorOf(caller.call(start));
      expect([error.errorName, error.message]).toEqual([busError.accessDenied, 'not you']);
    });
  });

  test('the pace of a caller is looked at before each call, whatever is called', async () => {
    let tokens = 0;
    const admitted: string[] = [];
    const ran: unknown[] = [];
    await withService(
      {
        objects: { '/org/lockerd1': [startable(ran)] },
        objectManager: '/org/lockerd1',
        userOf: (sender) => {
          admitted.push(sender);
          return Promise.resolve(1000);
        },
        admit: (user) => {
          expect(user).toBe(1000);
          if (tokens-- > 0) return () => undefined;
          throw new DBusError(busError.limitsExceeded, 'slow down');
        },
      },
      async (caller) => {
        const bus = 'org.freedesktop.DBus';
        const get = { interface: `${bus}.Properties`, member: 'Get', signature: 'ss' };
        const calls = [
          start,
          { ...at, ...get, body: [at.interface, 'Nothing'] },
          { ...at, ...get, member: 'GetAll', signature: 's', body: [at.interface] },
          { ...at, interface: `${bus}.ObjectManager`, member: 'GetManagedObjects' },
          { ...at, interface: `${bus}.Introspectable`, member: 'Introspect' },
          { ...at, interface: `${bus}.Peer`, member: 'Ping' },
          { ...at, path: '/nowhere', member: 'Nothing' },
        ];
        for (const call of calls) {
          const error = await errorOf(caller.call(call));
          expect([error.errorName, error.message]).toEqual([busError.limitsExceeded, 'slow down']);
        }
        expect(ran).toEqual([]);
        expect(admitted).toEqual(calls.map(() => caller.uniqueName));
        tokens = 1;
        expect(await caller.call(start)).toEqual(['/org/lockerd1/job/1']);
      },
    );
  });

  test('with wrong arguments does not run', async () => {
    const ran: unknown[] = [];
    await withService({ objects: { '/org/lockerd1': [startable(ran)] } }, async (caller) => {
      const error = await errorOf(caller.call({ ...start, signature: 'ss', body: ['web', 'x'] }));
      expect(error.errorName).toBe(busError.invalidArgs);
      expect(error.message).toContain('"sa{sv}", not "ss"');
      expect(ran).toEqual([]);
    });
  });

  test('of a caller that leaves while it is asked whose it is does not run', async () => {
    const ran: unknown[] = [];
    let leaver = '';
    let answer: ((uid: number) => void) | undefined;
    let left: (() => void) | undefined;
    const gone = new Promise<void>((resolve) => (left = resolve));
    await withService(
      {
        objects: { '/org/lockerd1': [startable(ran)] },
        userOf: (sender) =>
          sender === leaver
            ? new Promise<number>((resolve) => (answer = resolve))
            : Promise.resolve(1000),
        left: (sender) => {
          if (sender === leaver) left?.();
        },
      },
      async (caller) => {
        const leaving = await bus.connect();
        leaver = leaving.uniqueName;
        const call = errorOf(leaving.call(start));
        await expect.poll(() => answer !== undefined).toBe(true);
        leaving.close();
        expect((await call).errorName).toBe(busError.disconnected);
        await gone;
        answer?.(1000);
        await errorOf(caller.call({ ...at, member: 'None' }));
        expect(ran).toEqual([]);
      },
    );
  });
});

describe('what is not there', () => {
  const table: Interface = {
    name: at.interface,
    methods: { Do: method({ in: [], out: [], handler: () => undefined }) },
  };
  const objects = { '/org/lockerd1/deep/one': [table] };
  test.each([
    ['/org/lockerd1/deep/one', at.interface, 'Do', undefined],
    ['/org/lockerd1/deep/one', at.interface, 'Undo', busError.unknownMethod],
    ['/org/lockerd1/deep/one', 'org.lockerd1.Other', 'Do', busError.unknownInterface],
    ['/org/lockerd1/deep/two', at.interface, 'Do', busError.unknownObject],
    ['/org/lockerd1/deep', at.interface, 'Do', busError.unknownObject],
    ['/org/lockerd1/deep', 'org.freedesktop.DBus.Introspectable', 'Introspect', undefined],
    [
      '/org/lockerd1/none',
      'org.freedesktop.DBus.Introspectable',
      'Introspect',
      busError.unknownObject,
    ],
    ['/', 'org.freedesktop.DBus.Peer', 'Ping', undefined],
    ['/none', 'org.freedesktop.DBus.Peer', 'GetMachineId', undefined],
    [
      '/org/lockerd1/deep/one',
      'org.freedesktop.DBus.ObjectManager',
      'GetManagedObjects',
      busError.unknownInterface,
    ],
  ])('%s %s.%s: %s', async (path, name, member, expected) => {
    await withService({ objects }, async (caller) => {
      const call = caller.call({ ...at, path, interface: name, member });
      if (expected === undefined) await call;
      else expect((await errorOf(call)).errorName).toBe(expected);
    });
  });
});

describe('objects and properties', () => {
  let level = 1;
  const table: Interface = {
    name: at.interface,
    properties: {
      Level: { signature: 'u', emits: 'true', get: () => level },
      Path: { signature: 'o', emits: 'const', get: (path) => path },
      Later: { signature: 't', emits: 'false', get: () => Promise.resolve(7n) },
    },
    signals: { Rang: [['bells', 'u']] },
  };
  const options = {
    objects: { '/org/lockerd1': [], '/org/lockerd1/a': [table] },
    objectManager: '/org/lockerd1',
  };
  const properties = {
    ...at,
    path: '/org/lockerd1/a',
    interface: 'org.freedesktop.DBus.Properties',
  };
  const all = {
    Level: new Variant('u', 1),
    Path: new Variant('o', '/org/lockerd1/a'),
    Later: new Variant('t', 7n),
  };

  test('Get and GetAll', async () => {
    await withService(options, async (caller) => {
      const get = (name: string, property: string) =>
        caller.call({ ...properties, member: 'Get', signature: 'ss', body: [name, property] });
      expect(await get(at.interface, 'Later')).toEqual([all.Later]);
      expect(await get('', 'Level')).toEqual([all.Level]);
      expect((await errorOf(get(at.interface, 'None'))).errorName).toBe(busError.unknownProperty);
      expect((await errorOf(get('a.b', 'Level'))).errorName).toBe(busError.unknownInterface);
      const getAll = (name: string) =>
        caller.call({ ...properties, member: 'GetAll', signature: 's', body: [name] });
      expect({ ...((await getAll(at.interface))[0] as object) }).toEqual(all);
      expect({ ...((await getAll(''))[0] as object) }).toEqual(all);
      expect(await getAll('org.freedesktop.DBus.Peer')).toEqual([Object.create(null)]);
    });
  });

  test('GetManagedObjects, InterfacesAdded and InterfacesRemoved', async () => {
    await withService(options, async (caller, tree) => {
      const signals: Signal[] = [];
      await caller.subscribe(
        { sender: at.destination, interface: 'org.freedesktop.DBus.ObjectManager' },
        (signal) => signals.push(signal),
      );
      tree.add('/org/lockerd1/b', [table]);
      const [managed] = await caller.call({
        ...at,
        interface: 'org.freedesktop.DBus.ObjectManager',
        member: 'GetManagedObjects',
      });
      expect(Object.keys(managed as object)).toEqual(['/org/lockerd1/a', '/org/lockerd1/b']);
      expect(
        JSON.parse(
          JSON.stringify(managed, (_, v: unknown) => (typeof v === 'bigint' ? `${v}` : v)),
        ),
      ).toMatchObject({
        '/org/lockerd1/a': { [at.interface]: { Later: { signature: 't', value: '7' } } },
      });
      tree.remove('/org/lockerd1/b');
      await errorOf(caller.call({ ...properties, path: '/org/lockerd1/b', member: 'None' }));
      const said = signals.map(({ path, member, signature, body }) => [
        path,
        member,
        signature,
        body[0],
      ]);
      expect(said).toEqual([
        ['/org/lockerd1', 'InterfacesAdded', 'oa{sa{sv}}', '/org/lockerd1/b'],
        ['/org/lockerd1', 'InterfacesRemoved', 'oas', '/org/lockerd1/b'],
      ]);
      const added = signals[0]?.body[1] as Record<string, Record<string, Variant>>;
      // It answers later, and the signal does not wait.
      expect(Object.keys(added[at.interface] ?? {})).toEqual(['Level', 'Path']);
      expect(signals[1]?.body[1]).toEqual([at.interface]);
    });
  });

  test('PropertiesChanged has new values', async () => {
    await withService(options, async (caller, tree) => {
      const signals: Signal[] = [];
      await caller.subscribe({ sender: at.destination, path: '/org/lockerd1/a' }, (signal) =>
        signals.push(signal),
      );
      level = 2;
      tree.changed('/org/lockerd1/a', at.interface, ['Level']);
      tree.signal('/org/lockerd1/a', at.interface, 'Rang', [3]);
      level = 1;
      await caller.call({ ...properties, interface: 'org.freedesktop.DBus.Peer', member: 'Ping' });
      expect(signals.map(({ member, body }) => [member, body])).toEqual([
        [
          'PropertiesChanged',
          [at.interface, expect.objectContaining({ Level: new Variant('u', 2) }), []],
        ],
        ['Rang', [3]],
      ]);
      expect(() => {
        tree.changed('/org/lockerd1/a', at.interface, ['Path']);
      }).toThrow('Path');
      expect(() => {
        tree.changed('/org/lockerd1/a', at.interface, ['Later']);
      }).toThrow('Later');
      expect(() => {
        tree.signal('/org/lockerd1/a', at.interface, 'Sang', []);
      }).toThrow('Sang');
    });
  });

  test('an object that is removed leaves no path behind', async () => {
    await withService({ objects: {} }, async (_, tree) => {
      tree.add('/org/lockerd1/x/y', []);
      tree.add('/org/lockerd1/x/y/z', []);
      tree.remove('/org/lockerd1/x/y');
      expect(tree.children('/org/lockerd1/x')).toEqual(['y']);
      tree.remove('/org/lockerd1/x/y/z');
      expect(tree.has('/org')).toBe(false);
      expect(tree.has('/')).toBe(false);
      await Promise.resolve();
    });
  });
});

test('calls without an interface find the method by its name', async () => {
  const table: Interface = {
    name: at.interface,
    methods: {
      Which: method({
        in: [],
        out: [['name', 's']],
        handler: (call) => [call.interface],
      }),
    },
  };
  await withService({ objects: { '/org/lockerd1': [table] } }, async () => {
    const { stdout } = await bus.run([
      'dbus-send',
      '--system',
      '--print-reply=literal',
      `--dest=${at.destination}`,
      at.path,
      `${at.interface}.Which`,
    ]);
    expect(stdout.trim()).toBe(at.interface);
    const python = `
from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection
connection = open_dbus_connection(bus='SYSTEM')
message = new_method_call(DBusAddress('${at.path}', '${at.destination}'), 'Which')
print(connection.send_and_get_reply(message).body[0])`;
    expect((await bus.run(['/usr/bin/python3', '-c', python])).stdout.trim()).toBe(at.interface);
  });
});

test('tables with names or signatures that are none are refused', async () => {
  const bad: Interface[] = [
    { name: 'nodots' },
    {
      name: 'a.b',
      methods: { 'no-name': method({ in: [], out: [], handler: () => undefined }) },
    },
    { name: 'a.b', signals: { Bad: [['x', 'ss']] } },
    { name: 'a.b', properties: { Bad: { signature: 'a{vs}', emits: 'const', get: () => 0 } } },
  ];
  await withService({ objects: {} }, async (_, tree) => {
    for (const table of bad)
      expect(() => {
        tree.add('/a', [table]);
      }).toThrow(/name|signature/);
    await Promise.resolve();
  });
});

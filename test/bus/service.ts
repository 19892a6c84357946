import { once } from 'node:events';
// A service that the tests attack, in a process of its own: `service.ts BUS-ADDRESS`.

import { setTimeout as sleep } from 'node:timers/promises';
import { connectBus } from '../../src/bus/connection.ts';
import { serve } from '../../src/bus/serve.ts';
import { method, type Interface } from '../../src/bus/interface-table.ts';
import { busError, DBusError, Variant } from '../../src/bus/values.ts';

const connection = await connectBus({ address: process.argv[2] ?? '' });
void connection.lost.then(() => process.exit(1));

let bumps = 0;
let aborted = 0;

const test: Interface = {
  name: 'org.lockerd1.Test',
  methods: {
    Echo: method({
      in: [['value', 'v']],
      out: [['value', 'v']],
      handler: (_, [value]) => [value],
    }),
    Types: method({
      in: [
        ['y', 'y'],
        ['b', 'b'],
        ['n', 'n'],
        ['q', 'q'],
        ['i', 'i'],
        ['u', 'u'],
        ['x', 'x'],
        ['t', 't'],
        ['d', 'd'],
        ['s', 's'],
        ['o', 'o'],
        ['g', 'g'],
        ['ay', 'ay'],
        ['list', 'a(sso)'],
        ['map', 'a{sv}'],
      ],
      out: [['text', 's']],
      handler: (_, args) => [args.map((value) => typeof value).join(' ')],
    }),
    Options: method({
      in: [
        ['container', 's'],
        ['options', 'a{sv}'],
      ],
      out: [['keys', 'as']],
      handler: (_, [, options]) => [Object.keys(options)],
    }),
    Guarded: method({
      in: [
        ['container', 's'],
        ['options', 'a{sv}'],
      ],
      out: [],
      handler: () => {
        throw new DBusError(busError.accessDenied, 'nobody may call this method');
      },
    }),
    Fail: method({
      in: [
        ['name', 's'],
        ['text', 's'],
      ],
      out: [],
      handler: (_, [name, text]) => {
        throw new DBusError(name, text);
      },
    }),
    FailWithNul: method({
      in: [],
      out: [],
      handler: () => {
        throw new DBusError('org.lockerd1.Error.Failed', `a\0b \ud800 ${'x'.repeat(5000)}`);
      },
    }),
    FailBadly: method({
      in: [],
      out: [],
      handler: () => {
        throw new TypeError('secret of the service');
      },
    }),
    BadPath: method({
      in: [],
      out: [['path', 'o']],
      handler: () => ['not a path'],
    }),
    BadText: method({
      in: [],
      out: [['text', 's']],
      handler: () => ['a\0b'],
    }),
    Bump: method({
      in: [],
      out: [],
      handler: () => {
        bumps++;
      },
    }),
    Counts: method({
      in: [],
      out: [
        ['bumps', 'u'],
        ['aborted', 'u'],
      ],
      handler: () => [bumps, aborted],
    }),
    Sleep: method({
      in: [['milliseconds', 'u']],
      out: [],
      handler: async ({ signal }, [milliseconds]) => {
        try {
          await sleep(milliseconds, undefined, { signal });
        } catch {
          aborted++;
          throw new DBusError(busError.failed, 'aborted');
        }
      },
    }),
    Blob: method({
      in: [['bytes', 'u']],
      out: [['blob', 'ay']],
      handler: (_, [bytes]) => [Buffer.alloc(Math.min(bytes, 2 ** 20))],
    }),
    LateBlob: method({
      in: [['bytes', 'u']],
      out: [['blob', 'ay']],
      handler: async ({ signal }, [bytes]) => {
        if (!signal.aborted) await once(signal, 'abort');
        return [Buffer.alloc(Math.min(bytes, 2 ** 20))];
      },
    }),
    Say: method({
      in: [['text', 's']],
      out: [],
      handler: ({ path }, [text]) => {
        tree.signal(path, 'org.lockerd1.Test', 'Said', [text, {}]);
      },
    }),
    SetCounter: method({
      in: [['value', 'u']],
      out: [],
      handler: ({ path }, [value]) => {
        counter = value;
        tree.changed(path, 'org.lockerd1.Test', ['Counter']);
      },
    }),
    Add: method({
      in: [['path', 'o']],
      out: [],
      handler: (_, [path]) => {
        tree.add(path, [child]);
      },
    }),
    Remove: method({
      in: [['path', 'o']],
      out: [],
      handler: (_, [path]) => {
        if (path.startsWith('/org/lockerd1/child/')) tree.remove(path);
      },
    }),
  },
  properties: {
    Version: { signature: 's', emits: 'const', get: () => '1' },
    Counter: { signature: 'u', emits: 'true', get: () => counter },
    Later: { signature: 't', emits: 'false', get: () => Promise.resolve(2n ** 63n) },
    Unreadable: {
      signature: 's',
      emits: 'false',
      get: () => {
        throw new Error('secret of the property');
      },
    },
    Map: { signature: 'a{sv}', emits: 'true', get: () => ({ a: new Variant('i', -1) }) },
  },
  signals: {
    Said: [
      ['text', 's'],
      ['details', 'a{sv}'],
    ],
  },
};
let counter = 0;

const child: Interface = {
  name: 'org.lockerd1.Test.Child',
  properties: { Path: { signature: 'o', emits: 'const', get: (path) => path } },
};

const tree = await serve(connection, {
  objectManager: '/org/lockerd1',
  objects: { '/org/lockerd1': [test], '/org/lockerd1/child/one': [child] },
});
await connection.requestName('org.lockerd1.Test');

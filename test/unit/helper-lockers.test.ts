import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import type { EncryptMode } from '../../src/model/locker-words.ts';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HelperLockers } from '../../src/adapters/helper-lockers.ts';

let directory: string;
let server: net.Server;
let requests: unknown[];
/** What a connection is answered with; by default it stays open. */
let script: (socket: net.Socket) => void;
const open = new Set<net.Socket>();

beforeEach(async () => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-helper-'));
  requests = [];
  server = net.createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', (chunk) => {
      requests.push(JSON.parse(chunk.toString()));
      script(socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(path.join(directory, 'sock'), resolve));
});
afterEach(async () => {
  for (const socket of open) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
  fs.rmSync(directory, { recursive: true });
});

function client(): HelperLockers {
  return new HelperLockers(path.join(directory, 'sock'), { change: 300, look: 300, list: 300 });
}

function answers(...lines: object[]): void {
  script = (socket) => socket.end(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

const gibibyte = 2n ** 30n;
const nobody = () => undefined;
const never = new AbortController().signal;
/** A container only where there is one. */
const wanted = {
  ...{ locker: 'data', store: 'fast', size: 2n ** 63n, owner: '0:0', mode: '0750' },
  ...{ encrypt: 'no' as EncryptMode, container: '', creator: 1000 },
};
const sent = Object.fromEntries(Object.entries(wanted).filter(([key]) => key !== 'container'));

describe('a request', () => {
  test('has numbers that may be large as texts, and nothing that the helper does not know', async () => {
    answers({ ok: true, warnings: ['careful', 7] });
    const lockers = client();
    expect(await lockers.create({ ...wanted, more: 1 } as typeof wanted, nobody, never)).toEqual({
      warnings: ['careful'],
    });
    await lockers.grow({ locker: 'data', size: gibibyte }, nobody);
    await lockers.rename({ locker: 'data', name: 'new' });
    const snapshot = { locker: 'data', snapshot: 'a', freeze: true };
    await lockers.snapshot(snapshot, nobody, never);
    const restore = { locker: 'data', snapshot: 'a', name: 'new', creator: 7 };
    await lockers.restore(restore, nobody, never);
    await lockers.destroy({ locker: 'data', store: 'fast', snapshot: '' }, nobody);
    await lockers.destroy({ locker: 'data', store: 'fast', snapshot: 'a' }, nobody);
    expect(requests).toEqual([
      { verb: 'create-locker', ...sent, size: '9223372036854775808', creator: '1000' },
      { verb: 'grow-locker', locker: 'data', size: '1073741824' },
      { verb: 'rename-locker', locker: 'data', name: 'new' },
      { verb: 'snapshot-locker', ...snapshot },
      { verb: 'restore-locker', ...restore, creator: '7' },
      { verb: 'destroy-locker', locker: 'data', store: 'fast' },
      { verb: 'destroy-locker', locker: 'data', store: 'fast', snapshot: 'a' },
    ]);
  });

  test('tells how far it is', async () => {
    answers({ phase: 'copying', progress: 0.5 }, { ok: true });
    const told: unknown[] = [];
    await client().create(wanted, (...words) => told.push(words), never);
    expect(told).toEqual([['copying', 0.5]]);
  });

  test('that is called off is left half open, and ends as the helper says', async () => {
    const left = new AbortController();
    script = (socket) => {
      left.abort();
      socket.on('end', () => {
        socket.end('{"phase":"undoing","progress":-1}\n{"ok":true}\n');
      });
    };
    expect(await client().create(wanted, nobody, left.signal)).toEqual({ warnings: [] });
    const again = new AbortController();
    script = (socket) => {
      again.abort();
      socket.on('end', () => {
        socket.end('{"ok":false,"error":"Cancelled","message":"undone"}\n');
      });
    };
    await expect(client().create(wanted, nobody, again.signal)).rejects.toMatchObject({
      code: 'Cancelled',
      message: 'undone',
    });
    await expect(client().create(wanted, nobody, again.signal)).rejects.toThrow('cancelled');
    expect(requests).toHaveLength(2);
  });

  test('that is not answered fails', async () => {
    script = nobody;
    await expect(client().grow({ locker: 'data', size: 1n }, nobody)).rejects.toMatchObject({
      code: 'Failed',
      message: expect.stringMatching(/^the helper of lockerd/) as string,
    });
  });
});

describe('an answer', () => {
  test('about stores keeps what is sound', async () => {
    const big = 2n ** 64n;
    answers({
      ok: true,
      defaultStore: 'fast',
      stores: [
        { name: 'fast', type: 'lvm', fileSystem: 'xfs', size: '5', free: '4' },
        { name: 'old', size: String(big), free: 7, problem: 'gone', maxSize: '-1' },
        { type: 'nameless' },
        { name: 'full', forgotten: [{ name: 'a', size: '1', creator: '7' }, { name: 'b' }, 7] },
        null,
      ],
    });
    const none = {
      ...{ type: '', fileSystem: '', size: undefined, free: undefined, maxSize: undefined },
      ...{ isDefault: false, problem: '', forgotten: [] },
    };
    expect(await client().stores()).toEqual([
      {
        ...{ ...none, name: 'fast', type: 'lvm', fileSystem: 'xfs', size: 5n, free: 4n },
        isDefault: true,
      },
      { ...none, name: 'old', problem: 'gone' },
      {
        ...{ ...none, name: 'full' },
        forgotten: [
          { name: 'a', size: 1n, creator: 7 },
          { name: 'b', size: undefined, creator: undefined },
        ],
      },
    ]);
    answers({ ok: true });
    expect(await client().stores()).toEqual([]);
    const defaults = async (...stores: object[]) => {
      answers({ ok: true, stores });
      return (await client().stores()).filter(({ isDefault }) => isDefault).map(({ name }) => name);
    };
    const [a, b, broken] = [{ name: 'a', type: 'lvm' }, { name: 'b', type: 'lvm' }, { name: 'c' }];
    expect(await defaults(a, broken)).toEqual(['a']);
    expect(await defaults(a, b)).toEqual([]);
  });

  test('about snapshots and lockers as well', async () => {
    answers({ ok: true, snapshots: [{ name: 'a', createdUsec: '7', size: 'x' }, {}] });
    expect(await client().snapshots('data')).toEqual([
      { name: 'a', createdUsec: 7n, size: undefined, used: undefined },
    ]);
    answers(
      { locker: 'data', seen: { size: '9', health: 'good', creator: 1000, snapshots: ['a', 7] } },
      { locker: 'odd', seen: { used: 9, health: 'splendid', creator: -1, snapshots: 'all' } },
      { locker: 'none', seen: null },
      { ok: true },
    );
    expect(await client().look(['data', 'odd', 'none'])).toEqual(
      new Map([
        ['data', { size: 9n, health: 'good', creator: 1000, snapshots: ['a'] }],
        ['odd', { health: 'unknown' }],
      ]),
    );
    expect(requests.at(-1)).toEqual({ verb: 'look-lockers', lockers: ['data', 'odd', 'none'] });
    answers({ ok: true, warnings: [], place: '/dev/a/b' });
    expect(await client().forget('data')).toEqual({ warnings: [], place: '/dev/a/b' });
  });
});

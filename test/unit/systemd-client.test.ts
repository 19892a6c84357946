import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import type { BusConnection, Signal } from '../../src/bus/connection.ts';
import type { SignalMatch } from '../../src/bus/subscriptions.ts';
import { DBusError, Variant } from '../../src/bus/values.ts';
import { SystemdManager } from '../../src/systemd/manager.ts';
import type { JobPolicy } from '../../src/systemd/unit-jobs.ts';
import { Jobs } from '../../src/systemd/unit-jobs.ts';
import { plainValues, Properties } from '../../src/systemd/properties.ts';
import { Watched } from '../../src/systemd/watched.ts';

const unit = 'lxc@web.service';
const path = '/org/freedesktop/systemd1/job/7';

describe('properties', () => {
  const properties = new Properties(
    unit,
    plainValues({
      Result: new Variant('s', 'success'),
      MainPID: new Variant('u', 12),
      MemoryMax: new Variant('t', 2n ** 64n - 1n),
      CanStart: new Variant('b', true),
      After: new Variant('as', ['a.mount']),
      Odd: new Variant('av', [1]),
    }),
  );

  test('have the types that are asked for', () => {
    expect([
      properties.string('Result'),
      properties.number('MainPID'),
      properties.bigint('MemoryMax'),
      properties.boolean('CanStart'),
      properties.strings('After'),
    ]).toEqual(['success', 12, 2n ** 64n - 1n, true, ['a.mount']]);
  });

  test.each([
    [() => properties.string('MainPID'), 'MainPID is not a text'],
    [() => properties.number('MemoryMax'), 'MemoryMax is not a number'],
    [() => properties.bigint('MainPID'), 'MainPID is not a number of 64 bits'],
    [() => properties.boolean('Result'), 'Result is not true or false'],
    [() => properties.strings('Odd'), 'Odd is not a list of texts'],
    [() => properties.string('toString'), 'toString is missing'],
  ])('of another type are refused by name: %#', (get, text) => {
    expect(get).toThrow(`systemd's answer about ${unit} makes no sense: ${text}`);
  });

  test('are none where the answer is no map', () => {
    expect(plainValues(undefined).size).toBe(0);
  });
});

describe('a job', () => {
  function jobs(onAbort: JobPolicy['onAbort']): { jobs: Jobs; cancelled: string[] } {
    const cancelled: string[] = [];
    const calls = {
      call: () => Promise.resolve([path]),
      cancelJob: (job: string) => {
        cancelled.push(job);
        return Promise.resolve();
      },
      get: () => Promise.reject(new Error('not asked for here')),
    };
    return { jobs: new Jobs(calls, { lookMs: 60_000, onAbort }), cancelled };
  }
  const request = (): Promise<readonly unknown[]> => Promise.resolve([path]);

  test('that ends before the reply that names it has that end', async () => {
    const { jobs: awaited } = jobs('cancel');
    const result = awaited.run('start', unit, {}, () => {
      awaited.ended(path, 'dependency');
      return request();
    });
    expect(await result).toBe('dependency');
  });

  test('that systemd has merged with an equal one ends for both who wait', async () => {
    const { jobs: awaited } = jobs('cancel');
    const results = [
      awaited.run('stop', unit, {}, request),
      awaited.run('stop', unit, {}, request),
    ];
    await turn();
    awaited.ended(path, 'done');
    expect(await Promise.all(results)).toEqual(['done', 'done']);
  });

  test('is cancelled by its signal, and its end awaited', async () => {
    const { jobs: awaited, cancelled } = jobs('cancel');
    const abort = new AbortController();
    const result = awaited.run('start', unit, { signal: abort.signal }, request);
    await turn();
    abort.abort();
    expect(cancelled).toEqual([path]);
    awaited.ended(path, 'canceled');
    expect(await result).toBe('canceled');
    const refused = (): Promise<never> => Promise.reject(new Error('asked for'));
    expect(await awaited.run('start', unit, { signal: abort.signal }, refused)).toBe('canceled');
  });

  test('is left alone by a caller that has left', async () => {
    const { jobs: awaited, cancelled } = jobs('abandon');
    const abort = new AbortController();
    const result = awaited.run('start', unit, { signal: abort.signal }, request);
    await turn();
    abort.abort();
    await expect(result).rejects.toMatchObject({ code: 'Cancelled' });
    expect(cancelled).toEqual([]);
  });

  test('is waited for only so long', async () => {
    const { jobs: awaited } = jobs('abandon');
    await expect(awaited.run('stop', unit, { timeoutMs: 10 }, request)).rejects.toMatchObject({
      code: 'TimedOut',
      message: 'systemd did not finish within 0.01 s',
    });
  });

  test('is not waited for without a bus', async () => {
    const { jobs: awaited } = jobs('abandon');
    const result = awaited.run('start', unit, {}, request);
    const failed = expect(result).rejects.toThrow('lost');
    await turn();
    awaited.busLost(new Error('lost'));
    await failed;
    await expect(awaited.run('start', unit, {}, request)).rejects.toThrow('lost');
  });

  test('that is refused says why', async () => {
    const { jobs: awaited } = jobs('cancel');
    const refusal = new DBusError('org.freedesktop.systemd1.UnitMasked', 'masked');
    await expect(awaited.run('start', unit, {}, () => Promise.reject(refusal))).rejects.toBe(
      refusal,
    );
    await expect(awaited.run('start', unit, {}, () => Promise.resolve([]))).rejects.toThrow(
      `systemd named no job of ${unit}`,
    );
  });
});

test('a systemd that is new is subscribed to also when it takes its time to answer', async () => {
  const handlers = new Map<string, (signal: Signal) => void>();
  const noReply = new DBusError('org.freedesktop.DBus.Error.NoReply', 'did not answer');
  const answers = [Promise.resolve([]), Promise.reject(noReply), Promise.resolve([])];
  const bus = {
    lost: new Promise(() => undefined),
    subscribe: ({ member = '' }: SignalMatch, handler: (signal: Signal) => void) => {
      handlers.set(member, handler);
      return Promise.resolve();
    },
    call: () => answers.shift(),
  };
  const manager = await SystemdManager.connect(bus as unknown as BusConnection);
  const told: boolean[] = [];
  manager.listen({ reloaded: (isNew) => told.push(isNew) });
  const changed = { body: ['org.freedesktop.systemd1', '', ':1.7'] };
  handlers.get('NameOwnerChanged')?.(changed as unknown as Signal);
  await vi.waitFor(() => {
    expect(told).toEqual([true]);
  });
  expect(answers).toEqual([]);
});

describe('what is watched', () => {
  test('is read until nothing has changed meanwhile, and reported once', async () => {
    const seen: number[] = [];
    let reads = 0;
    const watched = new Watched<number>(
      async () => {
        reads++;
        await turn();
        if (reads < 3) watched.noteChange();
        // A change is why it cannot be read.
        if (reads === 1) throw new Error('gone');
        return reads;
      },
      (reading) => seen.push(reading),
    );
    await watched.read();
    expect(seen).toEqual([3]);
    watched.noteChange();
    watched.noteChange();
    await watched.whenRead();
    expect(seen).toEqual([3, 5]);
  });

  test('is read again after a failure, and not reported after its end', async () => {
    const seen: string[] = [];
    const answers = [Promise.reject(new Error('refused')), Promise.resolve('a')];
    const watched = new Watched(
      () => answers.shift() ?? Promise.resolve('b'),
      (reading) => seen.push(reading),
    );
    await expect(watched.read()).rejects.toThrow('refused');
    await watched.readAfterChange();
    const last = watched.readAfterChange();
    watched.end();
    await last;
    expect(seen).toEqual(['a']);
  });

  test('is read again for a change that comes as it is reported', async () => {
    const seen: number[] = [];
    let reads = 0;
    const watched = new Watched<number>(
      () => Promise.resolve(++reads),
      (reading) => {
        seen.push(reading);
        // Before the reading has settled.
        if (reading === 1)
          queueMicrotask(() => {
            watched.noteChange();
          });
        if (reading === 2) watched.noteChange();
      },
    );
    await watched.read();
    await turn();
    expect(seen).toEqual([1, 2, 3]);
  });
});

import { describe, expect, test } from 'vitest';
import { Backlog } from '../../src/bus/backlog.ts';
import { marshal } from '../../src/bus/marshal.ts';
import { unmarshal } from '../../src/bus/unmarshal.ts';
import { RoundRobin } from '../../src/bus/event-loop.ts';
import { Variant } from '../../src/bus/values.ts';
import { FairLimiter } from '../../src/core/fair-limiter.ts';
import { defaultLimits, UserQuota } from '../../src/core/user-quota.ts';
import { FakeClock } from './core-fakes.ts';

const mebibyte = 2 ** 20;

describe('what one user sends', () => {
  test('costs by its size, and others nothing', async () => {
    const clock = new FakeClock();
    const quota = new UserQuota(clock, defaultLimits);
    quota.takeCall(1000, 2000);
    const call = (uid: number) => () => {
      quota.takeCall(uid);
    };
    expect(call(1000)).toThrow('slow down');
    expect(call(1001)).not.toThrow();
    await clock.pass(15_100);
    expect(call(1000)).not.toThrow();
    quota.settleCall(1000, 100);
    expect(call(1000)).toThrow('slow down');
  });

  test('waits at polkit for its own turn', async () => {
    const turns = new FairLimiter(16, 2);
    const ends: (() => void)[] = [];
    const begun: number[] = [];
    const work = (uid: number) => () => {
      begun.push(uid);
      return new Promise<void>((resolve) => ends.push(resolve));
    };
    for (let count = 0; count < 100; count++) void turns.run(1000, work(1000));
    void turns.run(1001, work(1001));
    await Promise.resolve();
    await Promise.resolve();
    expect(begun).toEqual([1000, 1000, 1001]);
    ends[0]?.();
    await new Promise((resolve) => setImmediate(resolve));
    expect(begun).toEqual([1000, 1000, 1001, 1000]);
  });

  test('has the event loop for one call, then others have it', async () => {
    const turns = new RoundRobin<number>();
    const order: number[] = [];
    const calls = [1, 1, 1, 1, 2].map(async (user) => {
      await turns.next(user);
      order.push(user);
    });
    await Promise.all(calls);
    expect(order).toEqual([1, 2, 1, 1, 1]);
  });

  test('is answered when what others wait for was sent', async () => {
    let open: () => void = () => undefined;
    let closed: Promise<void> | undefined = new Promise((resolve) => (open = resolve));
    const turns = new RoundRobin<number>(() => closed);
    const order: number[] = [];
    const calls = [1, 1, 2].map(async (user) => {
      await turns.next(user);
      order.push(user);
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([turns.isWaitedFor, order]).toEqual([true, []]);
    closed = undefined;
    open();
    await Promise.all(calls);
    expect(order).toEqual([1, 2, 1]);
  });

  test('is decoded up to a number of values', () => {
    const bytes = marshal('ay', [Buffer.alloc(60_000)]);
    expect(unmarshal('ay', bytes, false, { values: 10 })).toHaveLength(1);
    const many = marshal('av', [Array.from({ length: 20 }, () => new Variant('y', 1))]);
    expect(() => unmarshal('av', many, false, { values: 10 })).toThrow('too many values');
  });

  test('is refused by the name of an option, before its value is decoded', () => {
    const body = marshal('a{sv}', [{ x: new Variant('av', [new Variant('y', 1)]) }]);
    const seen: string[] = [];
    const entry = (key: string, signature: string) => {
      seen.push(`${key} ${signature}`);
      throw new RangeError('no such option');
    };
    expect(() => unmarshal('a{sv}', body, false, { values: 4, checkEntry: entry })).toThrow(
      'no such option',
    );
    expect(seen).toEqual(['x av']);
  });
});

describe('replies that are not read', () => {
  const bus = (unread: () => number) => ({
    call: () => Promise.resolve([{ OutgoingBytes: new Variant('u', unread()) }]),
  });

  test('are not counted for callers that have left', async () => {
    const backlog = new Backlog(bus(() => 0));
    for (let count = 0; count < 100; count++) {
      backlog.sent(`:1.${count}`, mebibyte);
      backlog.gone(`:1.${count}`);
    }
    backlog.sent(':1.200', 2 ** 17);
    expect(backlog.isSuspicious(':1.200')).toBe(false);
    expect(await backlog.isFull(':1.200')).toBe(false);
  });

  test('hold up a refusal until they are read, or the caller leaves', async () => {
    let unread = 20 * mebibyte;
    const backlog = new Backlog(bus(() => unread));
    for (const name of [':1.1', ':1.2']) backlog.sent(name, 20 * mebibyte);
    expect(backlog.isOverflowing(':1.1')).toBe(true);
    const first = backlog.untilRead(':1.1');
    const second = backlog.untilRead(':1.2');
    unread = 0;
    backlog.gone(':1.2');
    expect([await first, await second]).toEqual([true, false]);
  });

  test('are bounded by user, on however many connections', async () => {
    let unread = 2 * mebibyte;
    const backlog = new Backlog(bus(() => unread));
    const names = Array.from({ length: 40 }, (_, index) => `:1.${index}`);
    for (const name of [...names, ':2.1']) {
      backlog.belongs(name, name.startsWith(':1') ? 1000 : 1001);
      backlog.sent(name, name.startsWith(':1') ? mebibyte : 100);
    }
    expect(backlog.takesAnswers(':1.0')).toBe(false);
    expect(backlog.isOverflowing(':1.0')).toBe(true);
    expect(backlog.takesAnswers(':2.1')).toBe(true);
    expect(await backlog.isFull(':1.0')).toBe(true);
    // One that has nothing itself is refused as well, until the others have read.
    backlog.belongs(':1.100', 1000);
    expect(backlog.takesAnswers(':1.100')).toBe(false);
    expect(backlog.isOverflowing(':1.100')).toBe(false);
    unread = 0;
    for (const name of names) backlog.gone(name);
    expect(backlog.takesAnswers(':1.100')).toBe(true);
    expect(await backlog.isFull(':1.100')).toBe(false);
  });
});

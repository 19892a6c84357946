import { describe, expect, test } from 'vitest';
import { defaultLimits, UserQuota } from '../../src/core/user-quota.ts';
import { parseOptions, type OptionBag } from '../../src/core/options.ts';
import { optionsOf } from '../../src/core/request.ts';
import { quoted } from '../../src/core/quoted.ts';
import { FakeClock, options } from './core-fakes.ts';

describe('options', () => {
  const all = [
    'interactive',
    'wait',
    'timeout-usec',
    'force',
    'read-only',
    'persist',
    'swap',
    'request-id',
  ];
  test('nothing is off', () => {
    expect(parseOptions(options(), [])).toEqual({
      interactive: false,
      wait: false,
      timeoutUsec: undefined,
      force: false,
      readOnly: false,
      persist: false,
      swap: undefined,
      requestId: undefined,
      ...{ store: '', owner: '0:0', mode: '0750', container: '', encrypt: 'no' },
      ...{ by: false, freeze: false },
    });
  });

  test('what is given counts', () => {
    const bag = options({
      ...{ wait: true, 'timeout-usec': 7n, 'request-id': 'a-1', 'read-only': true, swap: 0n },
    });
    expect(parseOptions(bag, all as [])).toMatchObject({
      wait: true,
      timeoutUsec: 7n,
      requestId: 'a-1',
      swap: 0n,
      readOnly: true,
      force: false,
    });
  });

  test('2^64-1 microseconds are no bound', () => {
    const bag = options({ 'timeout-usec': 2n ** 64n - 1n });
    expect(parseOptions(bag, ['timeout-usec']).timeoutUsec).toBeUndefined();
  });

  test.each<[string, OptionBag]>([
    ['an unknown name', options({ Force: true })],
    ['a name of every object', options({ constructor: true })],
    ['a name that means nothing here', options({ persist: true })],
    ['a size of swap where there is none', options({ swap: 0n })],
    ['a wrong type', new Map([['force', { signature: 's', value: 'true' }]])],
    ['an integer of another size', new Map([['timeout-usec', { signature: 'u', value: 5 }]])],
    ['no time at all', options({ 'timeout-usec': 0n })],
    ['an empty request id', options({ 'request-id': '' })],
    ['a request id with a line break', options({ 'request-id': 'a\nb' })],
    ['an endless request id', options({ 'request-id': 'a'.repeat(129) })],
  ])('%s is an error', (_, bag) => {
    const allowed = ['force', 'timeout-usec', 'request-id'] as const;
    expect(() => parseOptions(bag, allowed)).toThrow(
      expect.objectContaining({ code: 'InvalidArgs' }) as Error,
    );
  });

  test('force and read-only are only for verbs that have them', () => {
    const having = (name: 'force' | 'read-only' | 'persist' | 'swap') =>
      Object.entries(optionsOf).flatMap(([verb, names]) => (names.includes(name) ? [verb] : []));
    expect(having('force')).toEqual(['stop', 'reboot', 'balloon', 'unmount-locker']);
    expect(having('read-only')).toEqual(['mount-locker']);
    expect(having('persist')).toEqual([
      ...['balloon', 'set-limits', 'mount-locker', 'unmount-locker'],
    ]);
    expect(having('swap')).toEqual(['balloon']);
  });

  test("a caller's own words are shown harmless and short", () => {
    expect(quoted('web')).toBe('"web"');
    expect(quoted('a"b\nc\u001b[1m\u202e')).toBe('"a?b?c?[1m?"');
    expect(quoted('\u{1f600}'.repeat(70))).toBe(`"${'\u{1f600}'.repeat(64)}..."`);
  });
});

describe('limits', () => {
  test('calls refill at their rate', async () => {
    const clock = new FakeClock();
    const limits = { ...defaultLimits, 'calls-per-second': 10, 'calls-burst': 20 };
    const quota = new UserQuota(clock, limits);
    const take = () => {
      for (let taken = 0; ; taken++) {
        try {
          quota.takeCall(1000);
        } catch {
          return taken;
        }
      }
    };
    expect(take()).toBe(20);
    await clock.pass(500);
    expect(take()).toBe(5);
    await clock.pass(60_000);
    expect(take()).toBe(20);
    // Others are not held up by it, and root has more.
    expect(() => {
      quota.takeCall(1001);
    }).not.toThrow();
    for (let call = 0; call < 160; call++) quota.takeCall(0);
    expect(() => {
      quota.takeCall(0);
    }).toThrow('uid 0 makes more than 80 calls a second');
  });

  test('what has left counts no more, and leaves once', () => {
    const quota = new UserQuota(new FakeClock(), { ...defaultLimits, 'jobs-per-uid': 2 });
    const first = quota.enter('jobs-per-uid', 1000);
    quota.enter('jobs-per-uid', 1000);
    const third = () => quota.enter('jobs-per-uid', 1000);
    expect(third).toThrow(expect.objectContaining({ code: 'LimitsExceeded' }) as Error);
    first();
    first();
    third();
    expect(third).toThrow('uid 1000 has too many unfinished jobs');
  });

  test('all prompts together are bounded', () => {
    const limits = { ...defaultLimits, prompts: 2, 'prompts-per-uid': 1 };
    const quota = new UserQuota(new FakeClock(), limits);
    const leave = quota.enterPrompt(1000);
    expect(() => quota.enterPrompt(1000)).toThrow('uid 1000');
    quota.enterPrompt(1001);
    expect(() => quota.enterPrompt(1002)).toThrow('too many password prompts');
    leave();
    quota.enterPrompt(1002);
  });
});

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { withLock } from '../../src/helper/lock.ts';

let top: string;
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'lock-'));
});
afterEach(() => {
  rmSync(top, { recursive: true });
});

const done = () => Promise.resolve('done');

test('one at a time', async () => {
  const order: string[] = [];
  const use = (name: string) =>
    withLock(top, 60, async () => {
      order.push(name);
      await new Promise((resolve) => setTimeout(resolve, 50));
      order.push(name);
    });
  await Promise.all(['a', 'b', 'c'].map(use));
  const [a, b, c] = [order[0], order[2], order[4]];
  expect(order).toEqual([a, a, b, b, c, c]);
});

test('who waits too long is told', async () => {
  await withLock(top, 60, async () => {
    await expect(withLock(top, 0, done)).rejects.toThrow('still under way');
  });
});

test('who has left waits no more', async () => {
  await withLock(top, 60, async () => {
    const waiting = withLock(top, 60, done, { signal: AbortSignal.timeout(100) });
    await expect(waiting).rejects.toThrow('the caller has left');
  });
});

test('where no directory is, nothing is made', async () => {
  await expect(withLock(join(top, 'gone'), 60, done)).rejects.toThrow('there is no directory');
  expect(await withLock(join(top, 'gone'), 60, done, { mayBeAbsent: true })).toBe('done');
  expect(readdirSync(top)).toEqual([]);
  writeFileSync(join(top, 'file'), '');
  await expect(withLock(join(top, 'file'), 60, done)).rejects.toThrow('there is no directory');
  expect(await withLock(join(top, 'file'), 60, done, { mayBeAbsent: true })).toBe('done');
});

test('a directory that was made anew is locked anew', async () => {
  const directory = join(top, 'container');
  mkdirSync(directory);
  let waiting: Promise<string> = Promise.resolve('');
  await withLock(directory, 60, async () => {
    waiting = withLock(directory, 60, async () => {
      await expect(withLock(directory, 0, done)).rejects.toThrow('still under way');
      return 'locked';
    });
    rmSync(directory, { recursive: true });
    mkdirSync(directory);
    await Promise.resolve();
  });
  expect(await waiting).toBe('locked');
});

test('a directory that is made for the lock alone goes with it, whoever waits for it', async () => {
  const directory = join(top, 'locker');
  const options = { isMade: true } as const;
  const order: string[] = [];
  const use = (name: string) =>
    withLock(
      directory,
      60,
      async () => {
        order.push(name);
        await new Promise((resolve) => setTimeout(resolve, 20));
        order.push(name);
      },
      options,
    );
  await Promise.all(['a', 'b', 'c'].map(use));
  const [a, b, c] = [order[0], order[2], order[4]];
  expect(order).toEqual([a, a, b, b, c, c]);
  expect(readdirSync(top)).toEqual([]);
  await expect(
    withLock(directory, 60, () => Promise.reject(new Error('x')), options),
  ).rejects.toThrow('x');
  expect(readdirSync(top)).toEqual([]);
});

test('the error says what is waited for', async () => {
  const what = () => 'change of locker "a" (restore for 7 s)';
  await withLock(top, 60, async () => {
    await expect(withLock(top, 0, done, { what })).rejects.toThrow(
      'another change of locker "a" (restore for 7 s) is still under way',
    );
  });
});

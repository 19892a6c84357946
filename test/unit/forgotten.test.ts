import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { dismissCreator, rememberCreator, rememberedCreator } from '../../src/helper/forgotten.ts';
import { hostIdOf } from '../../src/helper/guest-ids.ts';

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-forgotten-'));
});
afterEach(() => {
  fs.rmSync(directory, { recursive: true });
});

test('who made what was forgotten is known until its data has gone', () => {
  const of = (store: string, locker: string) => rememberedCreator(store, locker, directory);
  expect(of('fast', 'data')).toBeUndefined();
  dismissCreator('fast', 'data', directory);
  rememberCreator({ store: 'fast', locker: 'data', creator: 1000 }, directory);
  rememberCreator({ store: 'fast', locker: 'data', creator: 1001 }, directory);
  expect([of('fast', 'data'), of('slow', 'data'), of('fast', 'other')]).toEqual([
    ...[1001, undefined, undefined],
  ]);
  fs.writeFileSync(path.join(directory, 'secret'), '0\n');
  expect(of('fast', '../secret')).toBeUndefined();
  fs.writeFileSync(path.join(directory, 'fast/odd'), 'root\n');
  expect(of('fast', 'odd')).toBeUndefined();
  dismissCreator('fast', 'data', directory);
  expect(of('fast', 'data')).toBeUndefined();
});

test("a guest's ids are those of its maps", () => {
  const maps = ['u 0 100000 1000', 'u 1000 1000 1', 'g 0 200000 65536', 'b 70000 300000 10'];
  const id = (kind: 'u' | 'g', guest: number) => hostIdOf('web', maps, kind, guest);
  expect([id('u', 0), id('u', 999), id('u', 1000), id('g', 5), id('g', 70009)]).toEqual([
    ...[100000, 100999, 1000, 200005, 300009],
  ]);
  expect(hostIdOf('web', [], 'u', 7)).toBe(7);
  for (const [kind, guest] of [
    ['u', 1001],
    ['g', 65536],
    ['u', 70010],
  ] as const) {
    expect(() => id(kind, guest)).toThrow(`has no ${kind === 'u' ? 'user' : 'group'} ${guest}`);
  }
  expect(() => hostIdOf('web', ['nonsense', 'u x y z'], 'u', 0)).toThrow('has no user 0');
});

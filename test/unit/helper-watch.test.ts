import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { LxcStatus } from '../../src/helper/guests.ts';
import { parseMonitorLine, Watcher } from '../../src/helper/watch.ts';

let names: string[];
let facts: Map<string, LxcStatus>;
let outside: string[];
let squatters: Map<string, { pid: number; uid: number }>;
let told: string[];
let looks: string[][];
let asked: string[][];
let watcher: Watcher;

const stopped: LxcStatus = { state: 'STOPPED', leader: 0 };

beforeEach(() => {
  names = ['web', 'db'];
  facts = new Map();
  outside = [];
  squatters = new Map();
  told = [];
  looks = [];
  asked = [];
  watcher = new Watcher({
    list: () => names,
    guests: {
      look: (wanted) => {
        const list = [...wanted];
        looks.push(list);
        return new Map(list.map((name) => [name, facts.get(name) ?? stopped]));
      },
    },
    findOutside: (wanted) => {
      asked.push([...wanted]);
      return Promise.resolve({ found: outside, squatters: new Map(squatters) });
    },
    tell: (container, { state, leader }, squatter) => {
      told.push(`${container} ${state} ${leader}${squatter ? ` ${squatter.pid}` : ''}`);
    },
    failed: (error) => {
      throw error;
    },
  });
});
afterEach(() => {
  watcher.close();
});

async function untilTold(line: string): Promise<void> {
  await vi.waitFor(
    () => {
      expect(told).toContain(line);
    },
    { timeout: 20_000 },
  );
}

test('lines of lxc-monitor name a container and its state, and no more', () => {
  expect(parseMonitorLine("'web' changed state to [RUNNING]")).toEqual(['web', 'RUNNING']);
  expect(parseMonitorLine("'it's' changed state to [STOPPED]")).toEqual(["it's", 'STOPPED']);
  expect(parseMonitorLine("'web' exited with status [0]")).toBeUndefined();
});

test('all are told of once, and what changes without a hint as well', async () => {
  facts.set('web', { state: 'RUNNING', leader: 7 });
  await watcher.start();
  expect(told).toEqual(['web RUNNING 7', 'db STOPPED 0']);
  facts.set('web', { state: 'RUNNING', leader: 8 });
  await untilTold('web RUNNING 8');
  expect(told).toHaveLength(3);
});

test('what a hint names is looked for, and told as it is', async () => {
  await watcher.start();
  facts.set('db', { state: 'STARTING', leader: 0 });
  watcher.hint('db');
  await untilTold('db STARTING 0');
  // A little later than the hint.
  facts.set('db', { state: 'RUNNING', leader: 9 });
  await untilTold('db RUNNING 9');
  expect(told).toEqual(['web STOPPED 0', 'db STOPPED 0', 'db STARTING 0', 'db RUNNING 9']);
});

test('a change that is seen is not looked for again, and any other is', async () => {
  await watcher.start();
  facts.set('db', { state: 'STARTING', leader: 0 });
  watcher.hint('db', 'STARTING');
  await untilTold('db STARTING 0');
  const looksAtDb = (): number =>
    looks.filter((names) => names.length === 1 && names[0] === 'db').length;
  const before = looksAtDb();
  await sleep(1500);
  expect(looksAtDb()).toBe(before);
  // The hint has come before the change.
  watcher.hint('db', 'RUNNING');
  await sleep(60);
  facts.set('db', { state: 'RUNNING', leader: 9 });
  await vi.waitFor(() => {
    expect(told).toContain('db RUNNING 9');
  });
  expect(looksAtDb()).toBeGreaterThan(before + 1);
});

test('names that are not in the directory are neither looked for nor told', async () => {
  await watcher.start();
  for (const name of ['../../tmp/x', 'nobody', '', 'web/']) watcher.hint(name);
  await sleep(1500);
  const known = new Set(['web', 'db']);
  for (const list of [...looks, ...asked]) {
    for (const name of list) expect(known).toContain(name);
  }
  expect(told).toEqual(['web STOPPED 0', 'db STOPPED 0']);
  // One that has come is seen by its first hint.
  names = ['web', 'new'];
  facts.set('new', { state: 'RUNNING', leader: 3 });
  watcher.hint('new');
  await untilTold('new RUNNING 3');
  expect(watcher.names.sort()).toEqual(['new', 'web']);
});

test('hints are cheap, however many come', async () => {
  await watcher.start();
  const before = looks.flat().length;
  const end = Date.now() + 1000;
  while (Date.now() < end) {
    for (let index = 0; index < 1000; index++) watcher.hint(index % 2 === 0 ? 'web' : `x${index}`);
    await sleep(1);
  }
  expect(looks.flat().length - before).toBeLessThan(5000);
  // Sockets are asked for at most a few times a second.
  expect(asked.length).toBeLessThan(10);
});

test('a container outside of its unit, and who keeps one from starting', async () => {
  squatters.set('db', { pid: 5, uid: 1000 });
  outside = ['web'];
  facts.set('web', stopped);
  await watcher.start();
  expect(told).toEqual(['web STOPPED 0', 'db STOPPED 0', 'db STOPPED 0 5']);
  // Its guest has come a moment later.
  facts.set('web', { state: 'RUNNING', leader: 4 });
  await untilTold('web RUNNING 4');
  squatters.clear();
  watcher.hint('db');
  await vi.waitFor(
    () => {
      expect(told.filter((line) => line === 'db STOPPED 0')).toHaveLength(2);
    },
    { timeout: 20_000 },
  );
});

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { CgroupMemory } from '../../src/adapters/cgroup-memory.ts';

const group = '/system.slice/lxc@web.service';
let mountPoint: string;

beforeEach(() => {
  mountPoint = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-cgroup-'));
});
afterEach(() => {
  fs.rmSync(mountPoint, { recursive: true });
});

/** A control group as cgroup v2 has it; the real one is for the host tests, on cgroup v1. */
function put(name: string, text: string): void {
  const directory = path.join(mountPoint, group);
  fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(path.join(directory, name), text);
}

const events = (kills: number): string =>
  `low 0\nhigh 0\nmax 12\noom 3\noom_kill ${kills}\noom_group_kill 99\n`;

function putAll(): void {
  put('memory.current', '1048576\n');
  put('memory.peak', '2097152\n');
  put('memory.swap.current', '4096\n');
  put('memory.events', events(2));
  put(
    'memory.pressure',
    'some avg10=9.99 avg60=0.00 avg300=0.00 total=5\nfull avg10=1.25 avg60=0.00 avg300=0.00 total=3\n',
  );
}

test('figures of cgroup v2', async () => {
  putAll();
  expect(await new CgroupMemory(mountPoint).read(group)).toEqual({
    current: 1048576n,
    peak: 2097152n,
    swap: 4096n,
    pressure: 1.25,
    oomKills: 2n,
  });
});

test('what an old kernel lacks', async () => {
  put('memory.current', '1048576\n');
  put('memory.events', events(0));
  expect(await new CgroupMemory(mountPoint).read(group)).toEqual({
    current: 1048576n,
    peak: 1048576n,
    swap: 0n,
    pressure: 0,
    oomKills: 0n,
  });
});

test('OOM kills are told of once each time they grow, and limits when they are set', async () => {
  putAll();
  put('memory.max', 'max\n');
  const memory = new CgroupMemory(mountPoint, { pollMs: 1e9 });
  const kills: bigint[] = [];
  let limits = 0;
  const unwatch = await memory.watchOomKills(group, (count) => kills.push(count));
  const unwatchLimits = await memory.watchLimits(group, () => limits++);
  expect(kills).toEqual([2n]);
  put('memory.events', events(3));
  put('memory.max', '4096\n');
  await vi.waitFor(() => {
    expect(kills).toEqual([2n, 3n]);
    expect(limits).toBeGreaterThan(0);
  });
  await unwatch();
  await unwatchLimits();
  put('memory.events', events(4));
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(kills).toEqual([2n, 3n]);
});

test('on cgroup v1 kills in all groups are counted soon after they were announced', async () => {
  const put = (name: string, kills: number): void => {
    const directory = path.join(mountPoint, 'memory', group, name);
    fs.mkdirSync(directory, { recursive: true });
    fs.writeFileSync(path.join(directory, 'memory.usage_in_bytes'), '4096\n');
    fs.writeFileSync(path.join(directory, 'memory.oom_control'), `oom_kill ${kills}\n`);
  };
  put('', 0);
  put('lxc.payload.web', 1);
  const memory = new CgroupMemory(mountPoint, { pollMs: 1e9 });
  const kills: bigint[] = [];
  const unwatch = await memory.watchOomKills(group, (count) => kills.push(count));
  expect(kills).toEqual([1n]);
  memory.expectOomKills('/system.slice/other.service');
  memory.expectOomKills(group);
  await new Promise((resolve) => setTimeout(resolve, 150));
  expect(kills).toEqual([1n]);
  // The kernel announces before it kills.
  put('lxc.payload.web', 2);
  await vi.waitFor(() => {
    expect(kills).toEqual([1n, 2n]);
  });
  memory.expectOomKills(group);
  await unwatch();
  put('', 5);
  await new Promise((resolve) => setTimeout(resolve, 150));
  memory.expectOomKills(group);
  expect(kills).toEqual([1n, 2n]);
});

test('a control group that is not there', async () => {
  await expect(new CgroupMemory(mountPoint).read(group)).rejects.toThrow('no control group');
});

import fc from 'fast-check';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findGuestMemory, lacksMemory } from '../../src/cgroup/find-group.ts';
import { controlGroups } from '../../src/cgroup/hierarchy.ts';
import {
  heldV1,
  heldV2,
  parseFlatKeyed,
  parseMeminfo,
  parseStall,
} from '../../src/cgroup/figures.ts';
import {
  exactLimit,
  formatLimit,
  lowestLimit,
  marginOf,
  mebibyte,
  minimumLimit,
  unlimited,
  wholePages,
} from '../../src/model/memory-limit.ts';
import { Trend, Watch } from '../../src/balloon/trial.ts';
import { parseSizeChange } from '../../src/cli/size.ts';
import { decideMemory } from '../../src/generator/memory-limits.ts';
import { HostReader } from '../../src/host/read.ts';
import { RunningLimits } from '../../src/host/running-limits.ts';
import { parseMemorySize, parseUnitSize } from '../../src/model/memory-size.ts';

const bytes = fc.bigInt({ min: 0n, max: 2n ** 50n });

describe('limits', () => {
  test('the lowest limit leaves its margin, and one MiB less does not', () => {
    fc.assert(
      fc.property(bytes, (held) => {
        const limit = lowestLimit(held);
        expect(limit % mebibyte).toBe(0n);
        expect(limit - marginOf(limit)).toBeGreaterThanOrEqual(held);
        const less = limit - mebibyte;
        expect(less < minimumLimit || less - marginOf(less) < held).toBe(true);
      }),
    );
  });

  test('a larger limit leaves more room', () => {
    fc.assert(
      fc.property(bytes, bytes, (a, b) => {
        const [small, large] = a < b ? [a, b] : [b, a];
        expect(large - marginOf(large)).toBeGreaterThanOrEqual(small - marginOf(small));
      }),
    );
  });

  test('are whole pages', () => {
    expect([wholePages(4097n), wholePages(8191n), wholePages(8192n)]).toEqual([
      4096n,
      4096n,
      8192n,
    ]);
    expect(wholePages(unlimited)).toBe(unlimited);
  });

  test('read like systemd writes them', () => {
    expect([0n, 1023n, 1024n, 1536n, 300n * mebibyte, unlimited].map(formatLimit)).toEqual([
      ...['0B', '1023B', '1K', '1.5K', '300M', 'no limit'],
    ]);
  });

  test('that are to be typed are what lockerctl reads', () => {
    const count = fc.bigInt({ min: 0n, max: 2n ** 32n });
    const limit = fc.tuple(count, fc.constantFrom(1n, 1024n, mebibyte, 1024n * mebibyte));
    fc.assert(
      fc.property(limit, ([count, unit]) => {
        const text = exactLimit(count * unit);
        expect(parseSizeChange(text)).toEqual({ kind: 'absolute', bytes: count * unit });
        expect(text).toMatch(unit === mebibyte && count > 0n ? /^\d+[MGTPE]$/ : /^\d+[KMGTPE]?$/);
      }),
    );
    expect(parseSizeChange(exactLimit(unlimited))).toEqual({ kind: 'absolute', bytes: unlimited });
  });
});

describe('a host’s control groups', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'lockerd-cgroup-'));
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
  const make = (...files: string[]): void => {
    for (const file of files) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), '');
    }
  };

  test('account for swap on cgroup v1 where there is a limit of the sum', () => {
    make('memory/memory.limit_in_bytes');
    expect(controlGroups(root)).toEqual({ version: 1, swapIsAccounted: false });
    make('memory/memory.memsw.limit_in_bytes');
    expect(controlGroups(root)).toEqual({ version: 1, swapIsAccounted: true });
  });

  test('account for swap on cgroup v2 where services have a limit of it, or nobody can say', () => {
    make('cgroup.controllers');
    expect(controlGroups(root)).toEqual({ version: 2, swapIsAccounted: true });
    make('system.slice/memory.max');
    expect(controlGroups(root)).toEqual({ version: 2, swapIsAccounted: false });
    make('system.slice/memory.swap.max');
    expect(controlGroups(root)).toEqual({ version: 2, swapIsAccounted: true });
  });

  test.each([
    'lxc.payload.web',
    'lxc.payload.web-1',
    'lxc.payload.web/init.scope',
    'lxc.pivot/lxc.payload.web',
    'lxc.pivot/lxc.pivot/lxc.payload.web',
  ])('have the guest of a unit, with its processes in %s', (group) => {
    make('cgroup.controllers', 'unit/cgroup.procs', 'unit/lxc.payload.web/cgroup.procs');
    make('unit/lxc.monitor.web/cgroup.procs', `unit/${group}/cgroup.procs`);
    writeFileSync(join(root, 'unit/lxc.monitor.web/cgroup.procs'), '6\n');
    expect(findGuestMemory('/unit', root)).toBeUndefined();
    writeFileSync(join(root, `unit/${group}/cgroup.procs`), '7\n');
    const payload = group.replace('/init.scope', '');
    writeFileSync(join(root, 'unit', payload, 'memory.max'), '4096\n');
    expect(findGuestMemory('/unit', root)?.guestLimit()).toBe(4096n);
  });
});

describe('the limits of running containers', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'lockerd-running-'));
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
  const unit = 'lxc@web.service';
  const cgroup = 'sys/fs/cgroup';
  const put = (group: string, files: Record<string, string>): void => {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(root, cgroup, group), { recursive: true });
      writeFileSync(join(root, cgroup, group, name), text);
    }
  };
  const limits = () => new RunningLimits(new HostReader(root)).of(unit);

  test('are those of the unit in whatever slice on cgroup v2, without swap where it has none', () => {
    const group = `machine.slice/machine-web.slice/${unit}`;
    put('.', { 'cgroup.controllers': '' });
    put(group, { 'memory.events': '', 'memory.max': 'max\n', 'memory.high': '4096\n' });
    put(`${group}/lxc.monitor.web-1`, { 'cgroup.procs': '' });
    expect(limits()).toEqual({});
    put(`${group}/lxc.pivot/lxc.monitor.web`, { 'cgroup.procs': '7\n' });
    expect(limits()).toEqual({ MemoryMax: unlimited, MemoryHigh: 4096n });
    put(group, { 'memory.swap.max': '8192\n' });
    expect(limits()).toEqual({ MemoryMax: unlimited, MemoryHigh: 4096n, MemorySwapMax: 8192n });
  });

  test('are that of memory alone on cgroup v1', () => {
    const group = `memory/system.slice/${unit}`;
    put(group, { 'memory.usage_in_bytes': '0\n', 'memory.limit_in_bytes': '4096\n' });
    put(`${group}/lxc.monitor.web`, { 'cgroup.procs': '7\n' });
    expect(limits()).toEqual({ MemoryMax: 4096n });
  });

  test('are none where the kernel has no memory controller, which is known of a unit', () => {
    put('.', { 'cgroup.controllers': '' });
    put(`system.slice/${unit}/lxc.monitor.web`, { 'cgroup.procs': '7\n' });
    expect([limits(), lacksMemory(`/system.slice/${unit}`, join(root, cgroup))]).toEqual([
      {},
      true,
    ]);
    expect(lacksMemory('/system.slice/other.service', join(root, cgroup))).toBe(false);
    put(`system.slice/${unit}`, { 'memory.events': '' });
    expect(lacksMemory(`/system.slice/${unit}`, join(root, cgroup))).toBe(false);
  });
});

describe('what a guest holds', () => {
  const v2 = parseFlatKeyed(
    'anon 100\nkernel 50\nsock 3\ninactive_anon 60\nactive_anon 40\ninactive_file 7\n' +
      'unevictable 20\nslab_reclaimable 30\nworkingset_refault_anon 9\n',
  );

  test('on cgroup v2 is all but page cache, slabs and what swap takes', () => {
    expect(heldV2(v2, 0n)).toEqual({ pinned: 60n + 40n + 20n + 20n + 3n, maybe: 30n });
    expect(heldV2(v2, 70n)).toEqual({ pinned: 30n + 20n + 20n + 3n, maybe: 30n });
    expect(heldV2(v2, unlimited)).toEqual({ pinned: 20n + 20n + 3n, maybe: 30n });
  });

  test('on cgroup v1 counts the groups below as well', () => {
    const v1 = parseFlatKeyed(
      'inactive_anon 1\nunevictable 1\ntotal_inactive_anon 60\ntotal_active_anon 40\n' +
        'total_unevictable 20\ntotal_inactive_file 7\n',
    );
    expect(heldV1(v1, 0n, 5n)).toEqual({ pinned: 120n, maybe: 5n });
    expect(heldV1(v1, 30n, 5n)).toEqual({ pinned: 90n, maybe: 5n });
  });

  test('other lines are not taken for figures', () => {
    expect([...parseFlatKeyed('a 1\nb\nc x\n\nd -1\ne 2 3\n')]).toEqual([
      ['a', 1n],
      ['e', 2n],
    ]);
  });
});

test('pressure and meminfo', () => {
  const pressure =
    'some avg10=0.00 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=65103\n';
  expect(parseStall(pressure)).toBe(65103);
  expect(parseStall('')).toBeUndefined();
  const meminfo = 'MemTotal:       24683620 kB\nSwapTotal:      8 kB\nSwapFree:       4 kB\n';
  expect(parseMeminfo(meminfo, 'MemTotal')).toBe(24683620n * 1024n);
  expect(parseMeminfo(meminfo, 'SwapFree')).toBe(4096n);
});

describe('a watched guest', () => {
  const probe = { usage: 0n, distressed: false, stallUsec: 0 };

  test('that waits for memory is in trouble at once', () => {
    expect(new Watch().judge(0, { ...probe, distressed: true })).toBe('out-of-memory');
    expect(new Watch().judge(0, probe)).toBeUndefined();
  });

  test('may stand still for a moment, not for most of two seconds', () => {
    const watch = new Watch();
    const judge = (ms: number, stallMs: number) =>
      watch.judge(ms, { ...probe, stallUsec: stallMs * 1000 });
    expect(judge(0, 0)).toBeUndefined();
    expect(judge(1000, 1000)).toBeUndefined();
    expect(judge(2000, 1400)).toBeUndefined();
    expect(judge(2900, 2000)).toBeUndefined();
    expect(judge(3400, 2900)).toBe('stalled');
    // It has recovered.
    expect(judge(5000, 2900)).toBeUndefined();
  });

  test('is not judged where the kernel counts no stalls', () => {
    const watch = new Watch();
    for (let ms = 0; ms < 5000; ms += 100) {
      expect(watch.judge(ms, { ...probe, stallUsec: undefined })).toBeUndefined();
    }
  });
});

describe('a trend', () => {
  const expected = (at: (ms: number) => number): bigint => {
    const trend = new Trend();
    for (let ms = 0; ms <= 5000; ms += 100) trend.add(ms, BigInt(Math.round(at(ms))));
    return trend.expected;
  };

  test('is what grows all the time', () => {
    // A byte a millisecond, for half a minute more.
    expect(expected((ms) => 1000 + ms)).toBeGreaterThan(34_000n);
    expect(expected((ms) => 1000 + ms)).toBeLessThan(38_000n);
  });

  test('is not what goes up and down, starts high or has one peak', () => {
    expect(expected((ms) => ms % 1000)).toBeLessThanOrEqual(1000n);
    expect(expected((ms) => (ms * 7) % 1700)).toBeLessThan(2500n);
    expect(expected((ms) => 5000 - ms)).toBe(5000n);
    expect(expected((ms) => (ms === 4000 ? 900 : 100))).toBe(900n);
    expect(expected(() => 100)).toBe(100n);
  });

  test('needs two looks', () => {
    expect(new Trend().expected).toBe(0n);
  });
});

describe('a size in an LXC configuration', () => {
  test.each([
    ['0', 0n],
    ['4095', 0n],
    ['4096', 4096n],
    ['1G', 2n ** 30n],
    [' 512m ', 512n * mebibyte],
    ['0x10000', 65536n],
    ['010000', 4096n],
    ['0K', 0n],
    ['1E', 2n ** 60n],
    ['8E', 'unlimited'],
    ['9223372036854771712', 'unlimited'],
    ['99999999999999999999', 'unlimited'],
    ['', undefined],
    ['K', undefined],
    ['-2', undefined],
    ['+1', undefined],
    ['1MB', undefined],
    ['1 M', undefined],
    ['09', undefined],
    ['1.5G', undefined],
    ['50%', undefined],
  ] as const)('%j', (text, size) => {
    expect(parseMemorySize(text, 'max')).toBe(size);
    expect(parseMemorySize(text, '-1')).toBe(size);
  });

  test('has a word for no limit, a different one in each version', () => {
    expect(parseMemorySize('max', 'max')).toBe('unlimited');
    expect(parseMemorySize('max', '-1')).toBeUndefined();
    expect(parseMemorySize('-1', '-1')).toBe('unlimited');
    expect(parseMemorySize('-1', 'max')).toBeUndefined();
  });
});

describe('limits of unit files', () => {
  const gigabyte = 2n ** 30n;
  test.each([
    ['infinity', 'unlimited'],
    ['', 'unlimited'],
    ['100M', 100n * mebibyte],
    ['100MB', 100n * mebibyte],
    ['1.5G', 1536n * mebibyte],
    ['4097', 4096n],
    ['0', 0n],
    ['50%', gigabyte / 2n],
    ['12.5%', gigabyte / 8n],
    ['100%', gigabyte],
    ['9999999999999999999', 'unlimited'],
    ['100m', undefined],
    ['-1', undefined],
    ['max', undefined],
    ['1 000', undefined],
  ])('"%s"', (text, size) => {
    expect(parseUnitSize(text, () => gigabyte)).toBe(size);
  });
});

describe('limits of a configuration', () => {
  const decideWhile = (running: Record<string, bigint>, ...entries: [string, string][]) =>
    decideMemory({
      entries: entries.map(([key, value], index) => ({
        key,
        located: { value, file: '/c', line: index + 1 },
      })),
      running,
      setElsewhere: [],
    });
  const decide = (...entries: [string, string][]) => decideWhile({}, ...entries);

  test('wait for the next start where a running container has more', () => {
    const all = { MemoryMax: unlimited, MemoryHigh: 2n ** 29n, MemorySwapMax: 2n ** 30n };
    const held = (max: string, high: string, swap: string) =>
      decideWhile(
        all,
        ['lxc.cgroup2.memory.max', max],
        ['lxc.cgroup2.memory.high', high],
        ['lxc.cgroup2.memory.swap.max', swap],
      ).held;
    expect(held('1G', '300M', '0')).toEqual([
      { name: 'MemoryHigh', size: 2n ** 29n },
      { name: 'MemoryMax', size: 'unlimited' },
      { name: 'MemorySwapMax', size: 2n ** 30n },
    ]);
    // What is raised, the same or lifted holds at once.
    expect(held('max', '512M', '2G')).toEqual([]);
  });

  test('what cgroup v1 calls the sum is swap for systemd', () => {
    const { limits, taken } = decide(
      ['lxc.cgroup.memory.memsw.limit_in_bytes', '3G'],
      ['lxc.cgroup.memory.limit_in_bytes', '1G'],
    );
    expect(limits).toEqual([
      { name: 'MemoryMax', size: 2n ** 30n },
      { name: 'MemorySwapMax', size: 2n ** 31n },
    ]);
    expect(taken).toEqual([
      'lxc.cgroup.memory.limit_in_bytes',
      'lxc.cgroup.memory.memsw.limit_in_bytes',
    ]);
  });

  test('a sum below the memory alone is no limit of swap', () => {
    const { limits, warnings } = decide(
      ['lxc.cgroup.memory.limit_in_bytes', '2G'],
      ['lxc.cgroup.memory.memsw.limit_in_bytes', '1G'],
    );
    expect(limits.map(({ name }) => name)).toEqual(['MemoryMax']);
    expect(warnings.map(({ line }) => line)).toEqual([2]);
  });

  test('what the kernel refuses stays with LXC', () => {
    const { limits, taken, warnings } = decide(['lxc.cgroup2.memory.max', '1GB']);
    expect([limits, taken, warnings.length]).toEqual([[], [], 1]);
  });
});

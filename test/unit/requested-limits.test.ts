import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lastingLimit } from '../../src/helper/limit-properties.ts';
import { CgroupUsage } from '../../src/adapters/cgroup-usage.ts';
import { findControls } from '../../src/cgroup/controls.ts';
import type { OptionBag } from '../../src/core/options.ts';
import { parseLimits } from '../../src/core/requested-limits.ts';
import { parseRequest } from '../../src/helper/request.ts';
import { laterLines } from '../../src/host/later-drop-ins.ts';
import { HostReader } from '../../src/host/read.ts';
import { limitNames, limitRules, listedNumbers, listText } from '../../src/model/guest-limits.ts';

const unlimited = 2n ** 64n - 1n;

function bag(entries: Readonly<Record<string, readonly [string, unknown]>>): OptionBag {
  return new Map(
    Object.entries(entries).map(([name, [signature, value]]) => [name, { signature, value }]),
  );
}

function askHelper(limits: unknown): unknown {
  const request = { verb: 'set-limits', container: 'web', limits, persist: false };
  return parseRequest(Buffer.from(JSON.stringify(request)));
}

describe('limits of a call', () => {
  test('become texts, the same ones however they are written', () => {
    const texts = parseLimits(
      bag({
        tasks: ['t', unlimited],
        cpus: ['s', '3, 0-1 2'],
        'memory-nodes': ['s', ''],
        'cpu-quota': ['t', 1_500_000n],
        'io-write-bytes': ['a{st}', { '8:16': unlimited, '8:0': 4096n }],
      }),
    );
    expect(texts).toEqual({
      'cpu-quota': '1500000',
      cpus: '0-3',
      'memory-nodes': 'max',
      'io-write-bytes': '8:0=4096 8:16=max',
      tasks: 'max',
    });
    expect(Object.keys(texts)).toEqual(limitNames.filter((name) => name in texts));
  });

  test.each([
    [{}, /no limit is given/],
    [{ memory: ['t', 1n] }, /there is no limit "memory"/],
    [{ persist: ['b', true] }, /there is no limit "persist"/],
    [{ tasks: ['u', 100] }, /has type "u", not "t"/],
    [{ tasks: ['t', 16n] }, /must be a number from 17/],
    [{ tasks: ['t', 4_194_305n] }, /must be/],
    [{ 'cpu-quota': ['t', 0n] }, /must be microseconds/],
    [{ 'cpu-quota': ['t', 15_000n] }, /steps of 10000/],
    [{ 'cpu-weight': ['t', 10_001n] }, /1 to 10000/],
    [{ 'cpu-weight': ['t', unlimited] }, /1 to 10000/],
    [{ cpus: ['s', '0-x'] }, /numbers such as/],
    [{ cpus: ['s', 'max'] }, /numbers such as/],
    [{ cpus: ['s', '3-1'] }, /numbers such as/],
    [{ 'io-read-bytes': ['a{st}', {}] }, /at most 32 devices/],
    [{ 'io-read-bytes': ['a{st}', { '/dev/sda': 1n }] }, /MAJOR:MINOR/],
    [{ 'io-read-bytes': ['a{st}', { '8:0=1 8:1': 1n }] }, /MAJOR:MINOR/],
    [{ 'io-read-bytes': ['a{st}', { '8:0': 0n }] }, /MAJOR:MINOR/],
  ] as const)('wrong ones are refused: %#', (entries, message) => {
    expect(() => parseLimits(bag(entries))).toThrow(message);
  });

  test('of more devices than are taken are refused', () => {
    const devices = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, minor) => [`8:${minor}`, 1n]));
    const ask = (count: number) => parseLimits(bag({ 'io-read-bytes': ['a{st}', devices(count)] }));
    expect(ask(32)['io-read-bytes']).toContain('8:31=1');
    expect(() => ask(33)).toThrow('at most 32');
  });

  test('that pass are taken by the helper, and no other text is', () => {
    const number = fc.oneof(
      fc.bigInt({ min: 0n, max: unlimited }),
      fc.bigInt({ min: 0n, max: 20_000n }),
    );
    const value = fc.oneof(
      number,
      fc.stringMatching(/^[0-9,\- ]{0,9}$/),
      fc.string(),
      fc.dictionary(fc.stringMatching(/^\d{1,3}:\d{1,2}$/), number, { maxKeys: 3 }),
    );
    fc.assert(
      fc.property(fc.constantFrom(...limitNames), value, (name, given) => {
        let texts;
        try {
          texts = parseLimits(bag({ [name]: [limitRules[name].signature, given] }));
        } catch {
          return;
        }
        expect(askHelper(texts)).toMatchObject({ limits: texts });
        const { line } = lastingLimit(name, texts[name] ?? '');
        expect(line).toMatch(/^[A-Za-z]+=[0-9a-z/:%\- ]*$/);
      }),
    );
    for (const limits of [{}, [], 'tasks', { tasks: 500 }, { tasks: '5e2' }, { cpus: '1,0' }])
      expect(() => askHelper(limits)).toThrow('not an object of limits');
  });
});

test('lists are the shortest that say the same', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(200), { minLength: 1 }), (numbers) => {
      const sorted = numbers.sort((a, b) => a - b);
      expect(listedNumbers(listText(sorted))).toEqual(sorted);
    }),
  );
});

test('limits are systemd’s properties, and the lines that it writes', () => {
  const properties = {
    'cpu-quota': ['1500000', 'CPUQuota=150%', 'CPUQuotaPerSecUSec', 't', 1_500_000n],
    cpus: ['0,9', 'AllowedCPUs=0 9', 'AllowedCPUs', 'ay', new Uint8Array([1, 2])],
    'memory-nodes': ['max', 'AllowedMemoryNodes=', 'AllowedMemoryNodes', 'ay', new Uint8Array()],
    'io-weight': ['7', 'IOWeight=7', 'IOWeight', 't', 7n],
    'io-read-bytes': [
      '8:0=max 8:1=5',
      'IOReadBandwidthMax=/dev/block/8:1 5',
      'IOReadBandwidthMax',
      'a(st)',
      [
        ['/dev/block/8:0', unlimited],
        ['/dev/block/8:1', 5n],
      ],
    ],
    tasks: ['max', 'TasksMax=infinity', 'TasksMax', 't', unlimited],
  } as const;
  for (const [name, [text, line, property, signature, value]] of Object.entries(properties)) {
    const found = lastingLimit(name as keyof typeof properties, text);
    expect(found).toMatchObject({ line, property: [property, { signature, value }] });
  }
});

describe('in control groups', () => {
  let root = '';
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'lockerd-usage-'));
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
  function put(files: Readonly<Record<string, string>>): void {
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), text);
    }
  }

  test('of version 2, use and limits are read', () => {
    put({
      'cgroup.controllers': 'cpu io pids\n',
      'a/cpu.stat': 'usage_usec 1234\nuser_usec 1000\n',
      'a/pids.current': '7\n',
      'a/io.stat':
        '8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n8:32\n',
      'a/cpu.max': '50000 200000\n',
      'a/cpu.weight': '300\n',
      'a/cpuset.cpus': '0-1,3\n',
      'a/cpuset.mems': '\n',
      'a/io.weight': 'default 50\n8:0 70\n',
      'a/io.max': '8:0 rbps=1048576 wbps=max riops=max wiops=120\n',
      'a/pids.max': 'max\n',
    });
    expect(new CgroupUsage(root).read('/a')).toEqual({
      cpuUsec: 1234n,
      tasks: 7n,
      io: { readBytes: 11n, writtenBytes: 22n, reads: 4n, writes: 6n },
      limits: {
        'cpu-quota': '250000',
        'cpu-weight': '300',
        cpus: '0-1,3',
        'memory-nodes': 'max',
        'io-weight': '50',
        'io-read-bytes': '8:0=1048576',
        'io-write-bytes': '',
        'io-read-operations': '',
        'io-write-operations': '8:0=120',
        tasks: 'max',
      },
    });
    const controls = findControls('/a', root);
    expect(controls?.deviceLine('io-read-bytes', '8:0', 'max')).toEqual({
      path: `${root}/a/io.max`,
      text: '8:0 rbps=max',
    });
    expect(controls?.texts('cpu-quota')).toEqual([
      { path: `${root}/a/cpu.max`, text: '50000 200000' },
    ]);
  });

  test('of version 1, use and limits are read in each hierarchy', () => {
    put({
      'systemd/a/cgroup.procs': '',
      'cpuacct/a/cpuacct.usage': '1234567\n',
      'cpu/a/cpu.shares': '512\n',
      'cpu/a/cpu.cfs_quota_us': '-1\n',
      'cpu/a/cpu.cfs_period_us': '100000\n',
      'pids/a/pids.current': '3\n',
      'pids/a/pids.max': '66\n',
      'blkio/a/blkio.throttle.io_service_bytes_recursive':
        '8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n',
      'blkio/a/blkio.throttle.io_serviced_recursive': '8:0 Read 1\n8:0 Write 2\n',
      'blkio/a/blkio.throttle.read_bps_device': '8:0 1048576\n',
    });
    expect(new CgroupUsage(root).read('/a')).toEqual({
      cpuUsec: 1234n,
      tasks: 3n,
      io: { readBytes: 10n, writtenBytes: 20n, reads: 1n, writes: 2n },
      limits: {
        'cpu-quota': 'max',
        'cpu-weight': '50',
        'io-read-bytes': '8:0=1048576',
        tasks: '66',
      },
    });
    put({ 'unified/a/cpu.stat': 'usage_usec 99\n' });
    expect(new CgroupUsage(root).read('/a')?.cpuUsec).toBe(99n);
    // A guest that LXC has put into a group of its own is not limited by the unit's.
    put({
      'blkio/lxc.payload.web/cgroup.procs': '1\n',
      'pids/a/lxc.payload.web/cgroup.procs': '1\n',
    });
    const controls = findControls('/a', root);
    expect(controls?.hasGuest('io-read-bytes')).toBe(false);
    expect(controls?.hasGuest('tasks')).toBe(true);
    expect(findControls('/a', root)?.deviceLine('io-read-bytes', '8:0', 'max')).toEqual({
      path: `${root}/blkio/a/blkio.throttle.read_bps_device`,
      text: '8:0 0',
    });
  });

  test('what is not there is not known', () => {
    put({ 'cgroup.controllers': '\n', 'b/cgroup.procs': '' });
    const usage = new CgroupUsage(root);
    expect(usage.read('/a')).toBeUndefined();
    expect(usage.read('/b/../b')).toBeUndefined();
    expect(usage.read('/b')).toEqual({
      ...{ cpuUsec: undefined, tasks: undefined, io: undefined },
      limits: {},
    });
  });

  test('lines of drop-ins that have the last word are found', () => {
    put({
      'etc/systemd/system/lxc@.service.d/20-first.conf': '[Service]\nTasksMax=1\n',
      'etc/systemd/system/lxc@web.service.d/99-last.conf': '[Service]\nNice=1\nTasksMax=2\n',
      'etc/systemd/system.control/lxc@web.service.d/50-TasksMax.conf': '[Service]\nTasksMax=3\n',
      'run/systemd/generator/lxc@web.service.d/40-limits.conf': '[Service]\nTasksMax=4\n',
    });
    const found = (setting: string) =>
      laterLines(new HostReader(root), 'lxc@web.service', [setting]).map(
        ({ file, line, value }) => `${file}:${line} ${value}`,
      );
    expect(found('TasksMax')).toEqual(['/etc/systemd/system/lxc@web.service.d/99-last.conf:3 2']);
    expect(found('CPUQuota')).toEqual([]);
  });
});

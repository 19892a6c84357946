import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ControlLimits } from '../../src/generator/control-limits.ts';
import { decideControls } from '../../src/generator/control-limits.ts';
import type { ControlFile } from '../../src/model/unit-controls.ts';
import { controlReaders, tasksBesideGuest } from '../../src/model/unit-controls.ts';

function read(file: ControlFile, ...values: string[]): string[] | undefined {
  return controlReaders[file](values)?.map(({ name, value }) => `${name}=${value}`);
}

function decide(lines: readonly string[], hasCgroup1 = false): ControlLimits {
  return decideControls(
    lines.map((text, index) => {
      const [key = '', value = ''] = text.split(' = ');
      return { key: `lxc.${key}`, located: { value, file: '/c', line: index + 1 } };
    }),
    () => hasCgroup1,
  );
}

const settingsOf = ({ settings }: ControlLimits): string[] =>
  settings.map(({ name, value }) => `${name}=${value}`);

describe('what the kernel takes becomes what systemd takes', () => {
  test.each([
    ['cpu.max', '150000 100000', ['CPUQuota=150%', 'CPUQuotaPeriodSec=']],
    ['cpu.max', '1000 1000000', ['CPUQuota=0.10%', 'CPUQuotaPeriodSec=1000000us']],
    ['cpu.max', '12345 50000', ['CPUQuota=24.69%', 'CPUQuotaPeriodSec=50000us']],
    ['cpu.max', 'max 50000', ['CPUQuota=']],
    ['cpu.weight', ' 1\n', ['CPUWeight=1']],
    ['cpuset.cpus', '0-3, 8\t9', ['AllowedCPUs=', 'AllowedCPUs=0-3,8,9']],
    ['io.weight', '10000', ['IOWeight=10000']],
    ['io.weight', '008:001 7', ['IODeviceWeight=/dev/block/8:1 7']],
    [
      'io.max',
      '8:0 rbps=18446744073709 wiops=max',
      [
        'IOReadBandwidthMax=/dev/block/8:0 18446744073709',
        'IOWriteIOPSMax=/dev/block/8:0 infinity',
      ],
    ],
    ['pids.max', '4194304', [`TasksMax=${4194304 + tasksBesideGuest}`]],
  ] as const)('%s = %j', (file, value, expected) => {
    expect(read(file, value)).toEqual(expected);
  });

  test.each([
    ['cpu.weight', ['0', '10001', '', '-1', '1.5', '0x10', 'idle', '100 100']],
    ['cpu.max', ['999', '1000 999', '1000 1000001', '-1', '0', 'max max', '5%', '', '1 2 3']],
    ['cpu.max', [`${'9'.repeat(15)} 1000`]],
    ['cpuset.cpus', ['3-1', 'all', '0-7:1/2', '0-8192', '-1', '0,,x', '', ' ']],
    ['io.weight', ['0', '8:0', '8:0 0', '8 100', '8:0 100 200', 'default', 'default 0']],
    ['io.max', ['8:0', '8:0 rbps=0', '8:0 rbps=-1', '8:* rbps=1', 'sda rbps=1', '8:0 xbps=1']],
    ['io.max', ['8:0 rbps=1K', '8:0 rbps', '-1:0 rbps=1', '8:0:1 rbps=1']],
    ['pids.max', ['0', '-1', '4194305', '99999999', '', 'MAX', '10%']],
  ] as const)('what %s does not take is left: %j', (file, values) => {
    for (const value of values) expect([value, read(file, value)]).toEqual([value, undefined]);
  });

  test('one bad line of several leaves all of them', () => {
    expect(read('io.max', '8:0 rbps=1', '8:0 rbps=x')).toBeUndefined();
    expect(read('cpu.max', '5', '5000')).toBeUndefined();
  });

  test('whatever a line says, it makes one line of a unit and no other setting', () => {
    const files = Object.keys(controlReaders) as ControlFile[];
    const text = fc.oneof(
      fc.string(),
      fc.stringMatching(/^[0-9:,\-\s=a-z%]{0,20}$/),
      fc.tuple(fc.nat(9), fc.nat(99999)).map(([minor, n]) => `8:${minor} rbps=${n}`),
    );
    fc.assert(
      fc.property(fc.constantFrom(...files), fc.array(text, { maxLength: 4 }), (file, values) => {
        for (const { name, value } of controlReaders[file](values) ?? []) {
          expect(name).toMatch(/^(?:CPU|IO|Tasks|Allowed)[A-Za-z]+$/);
          expect(value).toMatch(/^[0-9a-z/:,.%\- ]*$/);
        }
      }),
    );
  });

  test('limits of more devices than anybody has are left to LXC', () => {
    const lines = Array.from({ length: 2000 }, (_, minor) => `8:${minor} rbps=1`);
    expect(read('io.max', ...lines)).toBeUndefined();
    expect(read('io.max', ...lines.slice(0, 200))).toHaveLength(200);
  });
});

describe('of cgroup v1', () => {
  test('weights are in proportion to the defaults', () => {
    const weights = ['2', '10', '512', '1024', '2048', '262144'].map((shares) =>
      settingsOf(decide([`cgroup.cpu.shares = ${shares}`])).join(),
    );
    expect(weights).toEqual([1, 1, 50, 100, 200, 10_000].map((n) => `CPUWeight=${n}`));
  });

  test('a quota without a limit is none, and one key of the two is enough', () => {
    expect(settingsOf(decide(['cgroup.cpu.cfs_quota_us = -1']))).toEqual(['CPUQuota=']);
    expect(settingsOf(decide(['cgroup.cpu.cfs_period_us = 50000']))).toEqual(['CPUQuota=']);
    expect(settingsOf(decide(['cgroup.cpu.cfs_quota_us = 50000']))).toEqual([
      'CPUQuota=50%',
      'CPUQuotaPeriodSec=',
    ]);
  });

  test('what units lack there, LXC keeps', () => {
    const lines = [
      'cgroup.cpuset.cpus = 0',
      'cgroup.blkio.throttle.read_iops_device = 8:0 10',
      'cgroup.blkio.throttle.read_bps_device = 8:0 10',
    ];
    const { taken } = decide(lines, true);
    expect(taken).toEqual(['lxc.cgroup.blkio.throttle.read_bps_device']);
    expect(decide(lines).taken).toEqual(taken);
  });

  test('a key of cgroup v2 that only LXC could refuse there is left to it', () => {
    const lines = ['cgroup2.cpuset.cpus = 0', 'cgroup2.pids.max = 5'];
    expect(decide(lines, true).taken).toEqual(['lxc.cgroup2.pids.max']);
    expect(decide(lines, true).warnings).toHaveLength(1);
    expect(decide(lines).taken).toEqual(['lxc.cgroup2.cpuset.cpus', 'lxc.cgroup2.pids.max']);
  });
});

test('quota and period that do not fit together are both left', () => {
  const { taken, settings, warnings } = decide([
    'cgroup.cpu.cfs_quota_us = 5000',
    'cgroup.cpu.cfs_period_us = 5',
  ]);
  expect([taken, settings, warnings.length]).toEqual([[], [], 1]);
});

test('processors stay LXC’s where the group is to be a partition', () => {
  expect(decide(['cgroup2.cpuset.cpus = 0', 'cgroup2.cpuset.cpus.partition = root'])).toMatchObject(
    {
      settings: [],
      taken: [],
    },
  );
});

test('without lines nobody asks for the version', () => {
  const asked = (): boolean => {
    throw new Error('asked');
  };
  expect(decideControls([], asked).settings).toEqual([]);
});

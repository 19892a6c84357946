import fc from 'fast-check';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decideMemory } from '../../src/generator/memory-limits.ts';
import type { LxcRelease } from '../../src/host/lxc-release.ts';
import { lxcRelease, releaseInLibrary, releaseOfLibrary } from '../../src/host/lxc-release.ts';
import { splitLxcText } from '../../src/host/grammar.ts';
import { parseLxcConfig } from '../../src/host/parse-lxc.ts';
import { HostReader } from '../../src/host/read.ts';
import { cgroup2Line, isCgroup1Key } from '../../src/model/cgroup1-keys.ts';
import { formatProblem } from '../../src/model/problem.ts';

describe('the release of LXC', () => {
  const library = (...texts: string[]) =>
    `\x7fELF\0\xff1.0.0\0lxc.uts.name\0${texts.join('\0')}\0GLIBC_2.4\0`;

  test.each([
    ['5.0.2', '5.0', true, false],
    ['6.0.4', '6.0', true, false],
    ['6.1.0-devel', '6.1', true, false],
    ['7.0.12', '7.0', false, false],
    ['7.0.0-devel', '7.0', false, true],
    ['7.1.0', '7.1', false, true],
    ['10.2.0', '10.2', false, true],
  ])('in a library with %s', (version, name, takesCgroup1, isNewer) => {
    const release = { name, takesCgroup1, isNewer };
    expect(releaseInLibrary(library(version))).toEqual(release);
    expect(releaseInLibrary(library('1.0.0', version))).toEqual(release);
  });

  test.each([
    ['nothing', []],
    ['versions of something else', ['1.0.0', '2.33.1', 'v6.0.4', '6.0.4 ', '127.0.0.1', '6.0']],
    ['two that may be it', ['6.0.4', '7.0.0']],
  ])('a library with %s tells none', (_, texts) => {
    expect(releaseInLibrary(library(...texts))).toBeUndefined();
  });

  test.each([
    ['liblxc.so.1.7.0', true, false],
    ['liblxc.so.1.8.0', true, false],
    ['/usr/lib/liblxc.so.1.9.0', false, false],
    ['liblxc.so.1.10.0', false, true],
  ])('of the library %s', (file, takesCgroup1, isNewer) => {
    expect(releaseOfLibrary(file)).toMatchObject({ takesCgroup1, isNewer });
  });

  describe('of a host', () => {
    let root = '';
    beforeEach(() => {
      root = mkdtempSync(join(tmpdir(), 'lockerd-release-'));
      mkdirSync(join(root, 'usr/lib/x86_64-linux-gnu'), { recursive: true });
      mkdirSync(join(root, 'usr/lib64'));
    });
    afterEach(() => {
      rmSync(root, { recursive: true });
    });
    const link = (directory: string, to: string) => {
      symlinkSync(to, join(root, directory, 'liblxc.so.1'));
    };
    const release = () => lxcRelease(new HostReader(root))();

    test('is what stands in the library, else what its name means', () => {
      expect(release()).toBeUndefined();
      link('usr/lib/x86_64-linux-gnu', 'liblxc.so.1.9.0');
      expect(release()).toMatchObject({ name: '7.0' });
      writeFileSync(join(root, 'usr/lib/x86_64-linux-gnu/liblxc.so.1.9.0'), library('7.3.0'));
      expect(release()).toMatchObject({ name: '7.3' });
    });

    test('is unknown where two libraries differ', () => {
      link('usr/lib/x86_64-linux-gnu', 'liblxc.so.1.9.0');
      link('usr/lib64', 'liblxc.so.1.8.0');
      expect(release()).toBeUndefined();
    });
  });
});

describe('a limit of cgroup v1', () => {
  const line = (key: string, value: string, others: Record<string, string> = {}) =>
    cgroup2Line(`lxc.cgroup.${key}`, value, (other) => others[other.slice('lxc.cgroup.'.length)]);

  test.each([
    ['memory.limit_in_bytes', '512M', 'memory.max = 512M'],
    ['memory.limit_in_bytes', '-1', 'memory.max = max'],
    ['memory.limit_in_bytes', '', 'memory.max ='],
    ['memory.soft_limit_in_bytes', '1G', 'memory.low = 1G'],
    ['memory.soft_limit_in_bytes', '-1', 'memory.low = 0'],
    ['memory.memsw.limit_in_bytes', '-1', 'memory.swap.max = max'],
    // As systemd converts CPUShares= and BlockIOWeight=.
    ['cpu.shares', '1024', 'cpu.weight = 100'],
    ['cpu.shares', '2', 'cpu.weight = 1'],
    ['cpu.shares', '262144', 'cpu.weight = 10000'],
    ['blkio.weight', '500', 'io.weight = 100'],
    ['blkio.weight', '1000', 'io.weight = 200'],
    ['blkio.weight_device', '8:0 250', 'io.weight = 8:0 50'],
    ['blkio.throttle.read_bps_device', '8:16 1048576', 'io.max = 8:16 rbps=1048576'],
    ['blkio.throttle.write_iops_device', '8:16 0', 'io.max = 8:16 wiops=max'],
    ['cpu.cfs_quota_us', '50000', 'cpu.max = 50000 100000'],
    ['cpu.cfs_quota_us', '-1', 'cpu.max = max 100000'],
    ['cpuset.cpus', '0-3', 'cpuset.cpus = 0-3'],
    ['devices.allow', 'c 10:229 rwm', 'devices.allow = c 10:229 rwm'],
    ['devices.deny', '', 'devices.deny ='],
    ['pids.max', '100', 'pids.max = 100'],
    ['hugetlb.2MB.limit_in_bytes', '4M', 'hugetlb.2MB.max = 4M'],
  ])('%s = %s', (key, value, instead) => {
    expect(line(key, value)).toBe(`lxc.cgroup2.${instead}`);
  });

  test('that needs another one', () => {
    expect(line('memory.memsw.limit_in_bytes', '3M', { 'memory.limit_in_bytes': '2M' })).toBe(
      'lxc.cgroup2.memory.swap.max = 1048576',
    );
    expect(line('cpu.cfs_period_us', '50000', { 'cpu.cfs_quota_us': '25000' })).toBe(
      'lxc.cgroup2.cpu.max = 25000 50000',
    );
  });

  test.each([
    ['memory.swappiness', '10'],
    ['memory.memsw.limit_in_bytes', '3M'],
    ['cpu.shares', 'many'],
    ['constructor', '1'],
    ['', ''],
  ])('%s = %s has no other', (key, value) => {
    expect(line(key, value)).toBeUndefined();
  });

  test('of memory becomes a line with which the unit has the same limit', () => {
    const limitsOf = (lines: readonly (readonly [string, string])[]) => {
      const entries = lines.map(([key, value]) => {
        return { key, located: { file: '/c', line: 1, value } };
      });
      return decideMemory({ entries, running: {}, setElsewhere: [] }).limits;
    };
    const names = ['limit_in_bytes', 'soft_limit_in_bytes', 'memsw.limit_in_bytes'];
    const keys = names.map((name) => `lxc.cgroup.memory.${name}`);
    const size = fc.constantFrom('-1', '0', '4095', '64M', '0x100000', '1g', '16E', 'much');
    const lines = fc.uniqueArray(fc.tuple(fc.constantFrom(...keys), size), {
      selector: ([key]) => key,
    });
    fc.assert(
      fc.property(lines, (before) => {
        const lookup = (key: string) => before.find(([other]) => other === key)?.[1];
        const now = before.flatMap(([key, value]) => {
          const [, name, words] =
            /^(\S+) = (.*)$/.exec(cgroup2Line(key, value, lookup) ?? '') ?? [];
          return name === undefined || words === undefined ? [] : [[name, words] as const];
        });
        expect(limitsOf(now)).toEqual(limitsOf(before));
      }),
    );
  });

  test('is not what only looks like one', () => {
    const keys = ['relative', 'dir', 'dir.container', 'dir.monitor.pivot', 'memory.dir', 'devices'];
    const found = keys.filter((key) => isCgroup1Key(`lxc.cgroup.${key}`));
    expect(found).toEqual(['memory.dir', 'devices']);
    expect([isCgroup1Key('lxc.cgroup'), isCgroup1Key('lxc.cgroup2.memory.max')]).toEqual([
      true,
      false,
    ]);
  });
});

describe('a configuration', () => {
  const text =
    'lxc.cgroup.cpu.shares = 512\nlxc.cgroup.relative = 1\nlxc.cgroup2.pids.max = 9\n' +
    'lxc.cgroup.memory.limit_in_bytes = 64M\nlxc.cgroup.memory.swappiness = 1\n';
  const parse = (source: string, release?: Partial<LxcRelease>, path = '/c') => {
    const file = { path, text: splitLxcText(source), badLines: new Set<number>(), includes: [] };
    const full = { name: '7.0', takesCgroup1: false, isNewer: false, ...release };
    const config = parseLxcConfig({ file, paths: [] }, () => (release ? full : undefined));
    return {
      problems: config.problems.map(formatProblem),
      warnings: config.warnings.map(formatProblem),
      memory: config.memory,
    };
  };

  test('of cgroup v1 is refused on LXC 7, with the lines to write; the unit keeps its limit', () => {
    const refuses = (key: string) =>
      `LXC 7.0 refuses lxc.cgroup.${key}, and with it the whole configuration`;
    const { problems, warnings, memory } = parse(text, {});
    expect(problems).toEqual([
      `/c:1: ${refuses('cpu.shares')}; write: lxc.cgroup2.cpu.weight = 50`,
      `/c:4: ${refuses('memory.limit_in_bytes')}; write: lxc.cgroup2.memory.max = 64M`,
      `/c:5: ${refuses('memory.swappiness')}; ` +
        'remove the line; cgroup v2 has no limit that says the same',
    ]);
    expect(warnings).toEqual([]);
    expect(memory.map(({ key }) => key)).toContain('lxc.cgroup.memory.limit_in_bytes');
  });

  test('is warned of before the upgrade, once for each file', () => {
    const older = { name: '6.0', takesCgroup1: true };
    expect(parse(text, older)).toMatchObject({
      problems: [],
      warnings: [
        '/c:1: LXC 7 refuses lxc.cgroup.cpu.shares, and with it the whole configuration; for the ' +
          'upgrade, write: lxc.cgroup2.cpu.weight = 50 (and so on: 3 such lines)',
      ],
    });
    // What the package brings, it takes away as well.
    expect(parse(text, older, '/usr/share/lxc/config/common.conf').warnings).toEqual([]);
    expect(parse(text)).toMatchObject({ problems: [], warnings: [] });
  });

  test('with keys and values of a later LXC is left to it', () => {
    const later = 'lxc.new.key = 1\nlxc.net.0.new = 1\nlxc.start.auto = 2\nlxc.include\n';
    expect(parse(later, { name: '7.1', isNewer: true })).toMatchObject({
      problems: [expect.stringMatching(/^\/c:4: /)],
      warnings: [
        expect.stringMatching(/^\/c:1: unknown key "lxc.new.key", but LXC 7.1 is newer/),
        expect.stringMatching(/^\/c:2: unknown key "lxc.net.0.new", but LXC 7.1 is newer/),
        expect.stringMatching(/^\/c:3: lxc.start.auto does not take "2", but LXC 7.1 is newer/),
      ],
    });
    expect(parse(later, {}).problems).toHaveLength(4);
    expect(parse(later).problems).toHaveLength(4);
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseBootPolicy } from '../../src/host/boot-policy.ts';
import type { Container, ContainerFacts, HostFacts } from '../../src/generator/container.ts';
import { planHalt } from '../../src/generator/decide-halt.ts';
import { modelContainers } from '../../src/generator/decide.ts';
import { crypttabDevices } from '../../src/model/crypttab.ts';
import { isWithoutUnit } from '../../src/host/host-names.ts';
import { findLockers } from '../../src/host/lockers.ts';
import { parseSettings } from '../../src/host/settings.ts';
import type { ContainerSettings } from '../../src/host/settings.ts';
import type { LxcConfig } from '../../src/model/lxc-config.ts';
import { formatProblem } from '../../src/model/problem.ts';
import { parseFstab } from '../../src/model/fstab.ts';

const { host: settings } = parseSettings([]);
const boot = parseBootPolicy('BOOTGROUPS=base,webs,\n', '/etc/default/lxc').policy;

function at<T>(value: T): { value: T; file: string; line: number } {
  return { value, file: '/c', line: 1 };
}

function facts(name: string, config: Partial<LxcConfig> = {}): ContainerFacts {
  return {
    name,
    directory: `/var/lib/lxc/${name}`,
    config: {
      file: `/var/lib/lxc/${name}/config`,
      startAuto: false,
      startOrder: 0,
      startDelaySec: 0,
      groups: [],
      mountEntries: [],
      idmaps: [],
      hooks: [],
      nets: [],
      memory: [],
      files: [],
      problems: [],
      warnings: [],
      ...config,
    },
    init: 'unknown',
    settings: { ready: 'running' },
    problems: [],
    hasRunlevelLink: false,
    unitLinks: { wantedBy: [], isMasked: false },
  };
}

const lxcpath = { path: '/var/lib/lxc', real: '/var/lib/lxc' };

function model(
  all: readonly ContainerFacts[],
  fstab = '',
  more: Partial<HostFacts> = {},
): readonly Container[] {
  const entries = parseFstab(fstab);
  const lockers = findLockers(entries, [], { written: '/lockers', real: '/lockers' });
  const host = { fstab: entries, boot, settings, lockers, lxcpath, ...more };
  return modelContainers(all, host).containers;
}

function one(
  config: Partial<LxcConfig>,
  fstab = '',
  own: Partial<ContainerSettings> = {},
  more: Partial<HostFacts> = {},
): Container {
  const web = facts('web', config);
  const [container] = model([{ ...web, settings: { ...web.settings, ...own } }], fstab, more);
  if (container === undefined) throw new Error('no container');
  return container;
}

describe('the halt signal', () => {
  test.each([
    // [lxc.signal.halt, init, ready] -> [KillSignal=, heard by, ask LXC]
    [30, 'unknown', 'running', 'SIGPWR', [30], false],
    [37, 'other', 'running', 'SIGRTMIN+3', [37], false],
    [10, 'systemd', 'booted', 'SIGUSR1', [10], false],
    [64, 'unknown', 'running', 'SIGRTMIN+30', [64], false],
    [1, 'systemd', 'running', 'SIGCONT', [1], true],
    [9, 'other', 'running', 'SIGCONT', [9], true],
    [17, 'other', 'running', 'SIGCONT', [17], true],
    [32, 'other', 'running', 'SIGCONT', [32], true],
    [undefined, 'systemd', 'running', 'SIGRTMIN+3', [37], false],
    [undefined, 'systemd', 'booted', 'SIGRTMIN+3', [37], false],
    // A script or another program may become systemd, or an init that knows neither signal.
    [undefined, 'other', 'running', 'SIGPWR', [37, 30], true],
    [undefined, 'other', 'booted', 'SIGRTMIN+3', [37], true],
    [undefined, 'unknown', 'running', 'SIGPWR', [37, 30], true],
    [undefined, 'unknown', 'booted', 'SIGRTMIN+3', [37], true],
  ] as const)('%s, init %s, ready %s: %s', (signal, init, ready, name, heardBy, isSentAtStop) => {
    expect(planHalt(signal, init, ready)).toEqual({ signal: name, heardBy, isSentAtStop });
  });

  test('is never one that kills or reboots the guest by itself', () => {
    for (let signal = 1; signal <= 64; signal++) {
      const plan = planHalt(signal, 'other', 'running');
      expect(plan.signal).not.toMatch(/^SIG(KILL|STOP|HUP|CHLD)$|^\d/);
    }
  });
});

describe('what a container waits for', () => {
  const mount = (line: string) => one({ mountEntries: [at(line)] });

  test.each([
    ['/srv/a b none bind 0 0', ['/srv/a']],
    ['/srv//a/ b none ro,rbind 0 0', ['/srv/a']],
    ['srv b none bind 0 0', []],
    ['tmpfs b tmpfs rw 0 0', []],
    ['/srv/x b ext4 rw 0 0', []],
    ['/proc/x b none bind 0 0', []],
    ['/sys b none bind 0 0', []],
    ['/system b none bind 0 0', ['/system']],
    ['/srv/a b none bind,optional 0 0', []],
    ['/srv/a b none bind,relative 0 0', []],
    ['/srv/../a b none bind 0 0', []],
    ['/srv/bindings b none bindx 0 0', []],
    // The container's own unit has it already.
    ['/var/lib/lxc/web b none bind 0 0', []],
  ])('mount entry %j', (line, startPaths) => {
    expect(mount(line)).toMatchObject({ requiredPaths: ['/var/lib/lxc/web'], startPaths });
  });

  test('block devices are needed, but nothing is started or waited for that is optional', () => {
    const lines = ['/dev/vg/a a ext4 rw', '/dev/vg/b b ext4 rw,optional', '/dev/x c none bind'];
    const config = { mountEntries: lines.map(at) };
    const devices = ['/dev/vg/a'];
    const left = { devices, wants: ['dev-vg-a.device'], after: ['dev-vg-b.device'] };
    expect(one(config)).toMatchObject(left);
    expect(one(config, '', { strictNeeds: false })).toMatchObject(left);
    expect(one(config, '', { strictNeeds: true })).toMatchObject({
      devices,
      wants: ['dev-vg-a.device', 'dev-vg-b.device'],
      after: [],
    });
  });

  test.each(['tmpfs', 'hugetlbfs', 'fuse.sshfs', 'overlay'])(
    'the name in front of a %s is no device',
    (type) => {
      const { devices, after } = mount(`/dev/shm dev/shm ${type} rw 0 0`);
      expect([devices, after]).toEqual([[], []]);
    },
  );

  test('an optional bind follows the mounts that fstab makes on its way', () => {
    const fstab = '/dev/a / ext4\n/dev/b /srv ext4\n/dev/c /srv/x ext4 noauto\n/dev/d /srvx ext4\n';
    const config = { mountEntries: [at('/srv/x/y z none bind,optional')] };
    expect(one(config, fstab)).toMatchObject({ wants: [], after: ['srv.mount'] });
    expect(one(config, fstab, { strictNeeds: true })).toMatchObject({ wants: ['srv.mount'] });
  });

  test('ZFS is asked for, but a host may do without its units', () => {
    expect(one({ rootfsPath: at('zfs:tank/web') })).toMatchObject({
      devices: [],
      wants: ['zfs-import.target', 'zfs-mount.service'],
    });
  });

  describe('what a hook may make', () => {
    const makers = [{ key: 'lxc.hook.pre-start', hook: at('/etc/lxc/open web') }];
    const crypt = { rootfsPath: at('/dev/mapper/web_crypt'), makers };
    const needed = { devices: ['/dev/mapper/web_crypt'], wants: ['dev-mapper-web_crypt.device'] };

    test.each(['/dev/mapper/web_crypt', 'lvm:/dev/vg/web', 'rbd:/dev/rbd0'])(
      'the root file system %s is left to the hook, and a warning says so',
      (path) => {
        const { devices, wants, after, warnings } = one({ rootfsPath: at(path), makers });
        expect([devices, wants]).toEqual([[], []]);
        expect(after).toHaveLength(1);
        expect(warnings.map(formatProblem)).toEqual([
          expect.stringMatching(
            /^\/c:1: the start does not wait for .* the hook of \/c:1 may make/,
          ),
        ]);
      },
    );

    test('without a hook that runs in time, it is required', () => {
      for (const key of ['lxc.hook.start-host', 'lxc.hook.pre-mount']) {
        const late = { ...crypt, makers: [{ key, hook: at('/x') }] };
        expect(one(late)).toMatchObject({ ...needed, after: [], warnings: [] });
      }
      const ours = [
        { key: 'lxc.hook.pre-start', hook: at('/usr/lib/lockerd/hooks/locker-pre-start') },
      ];
      expect(one({ ...crypt, makers: ours })).toMatchObject(needed);
    });

    test('a device that is there and gets no unit is left to LXC', () => {
      const isWithoutUnit = (path: string) => path === '/dev/mapper/web_crypt';
      expect(one({ ...crypt, makers: [] }, '', {}, { isWithoutUnit })).toMatchObject({
        devices: [],
        wants: [],
        after: [],
        mayComeLate: false,
      });
    });

    test('what the host itself makes is required', () => {
      const made = { ...needed, after: [], warnings: [] };
      const crypttab = 'web_crypt /dev/sdb1 /etc/key\n';
      expect(one(crypt, '', {}, { crypttab: crypttabDevices(crypttab) })).toMatchObject(made);
      expect(one(crypt, '/dev/mapper/web_crypt /mnt ext4 noauto\n')).toMatchObject(made);
    });

    test('the setting makes it strict, or ends the warning', () => {
      expect(one(crypt, '', { strictNeeds: true })).toMatchObject({
        ...needed,
        warnings: [],
      });
      expect(one(crypt, '', { strictNeeds: false })).toMatchObject({ devices: [], warnings: [] });
    });

    test('a device that a mount entry names is left to any hook before mounts', () => {
      const mountEntries = [at('/dev/mapper/x mnt ext4 defaults 0 0')];
      const hooks = [{ key: 'lxc.hook.pre-mount', hook: at('/x') }];
      expect(one({ mountEntries, makers: hooks })).toMatchObject({
        devices: [],
        after: ['dev-mapper-x.device'],
      });
    });

    test('a noauto mount on a volume that only a hook opens is left to the hook', () => {
      const fstab = '/dev/mapper/x /srv/x ext4 noauto\n/dev/sdc1 /srv/y ext4 noauto\n';
      const mountEntries = [at('/srv/x/a b none bind'), at('/srv/y/a c none bind')];
      expect(one({ rootfsPath: at('/srv/x/root'), mountEntries, makers }, fstab)).toMatchObject({
        requiredPaths: ['/var/lib/lxc/web'],
        startPaths: ['/srv/y/a'],
        after: ['srv-x.mount', 'srv-y.mount'],
      });
      const known = { crypttab: crypttabDevices('x /dev/sdb1') };
      expect(one({ mountEntries, makers }, fstab, {}, known).startPaths).toHaveLength(2);
    });

    test('an interface is waited for where the host names it', () => {
      const nets = [{ index: 0, link: at('br0') }];
      const unit = 'sys-subsystem-net-devices-br0.device';
      expect(one({ nets, makers })).toMatchObject({ wants: [], bridges: [], after: [unit] });
      const host = { namesInterface: (name: string) => name === 'br0' };
      expect(one({ nets, makers }, '', {}, host)).toMatchObject({
        wants: [unit],
        bridges: ['br0'],
      });
      expect(one({ nets: [{ index: 0, link: at('lxcbr0') }], makers }).bridges).toEqual(['lxcbr0']);
    });
  });

  test('a root file system that every known LXC refuses is left to a newer one', () => {
    const config = { rootfsPath: at('overlay:/a') };
    expect(one(config).problems).toHaveLength(1);
    const newer = one(config, '', {}, { isLxcNewer: () => true });
    expect([newer.problems, newer.warnings.length]).toEqual([[], 1]);
  });

  test('only what may be missing for now comes late', () => {
    const bind = { mountEntries: [at('/srv/data/a b none bind')] };
    const isLate = (...args: Parameters<typeof one>): boolean => one(...args).mayComeLate;
    expect(isLate(bind)).toBe(false);
    expect(isLate(bind, 'nas:/x / nfs\nnas:/x /srv/dat nfs\n')).toBe(false);
    expect(isLate(bind, 'nas:/x /srv/data nfs noauto\n')).toBe(true);
    expect(isLate(bind, '', {}, { mountUnits: ['/srv'] })).toBe(true);
    expect(isLate({}, '/dev/sdb1 /var/lib/lxc ext4\n')).toBe(true);
    expect(isLate({ rootfsPath: at('/dev/sdb1') })).toBe(true);
    expect(isLate({}, '/dev/sdb1 /lockers/web ext4\n')).toBe(true);
    expect(isLate({}, '/dev/sdb1 /lockers/web ext4 nofail\n')).toBe(false);
    expect(isLate({}, '/dev/sdb1 /lockers/web ext4\n', { strictLockers: false })).toBe(false);
  });

  test('the bridge of lxc-net needs its service', () => {
    const nets = [
      { index: 0, link: at('lxcbr0') },
      { index: 1, link: at('br0') },
      { index: 2, link: at('br0') },
      { index: 3 },
    ];
    expect(one({ nets })).toMatchObject({
      bridges: ['br0', 'lxcbr0'],
      wants: [
        'lxc-net.service',
        'sys-subsystem-net-devices-br0.device',
        'sys-subsystem-net-devices-lxcbr0.device',
      ],
    });
  });

  test.each(['a/b', 'a b', 'a\tb', '.', '..', 'a:b', 'br\x7f', 'sixteencharacter'])(
    'no interface can be named %j',
    (link) => {
      const { problems, wants } = one({ nets: [{ index: 0, link: at(link) }] });
      expect(problems).toMatchObject([{ file: '/c', line: 1 }]);
      expect(wants).toEqual([]);
    },
  );

  test.each(['br\\', '%n', 'a"b', "a'b", 'ü', 'br-lan.7', '...'])(
    'an interface can be named %j',
    (link) => {
      expect(one({ nets: [{ index: 0, link: at(link) }] }).problems).toEqual([]);
    },
  );

  test.each(['/srv/a\\012b', `/${'x'.repeat(5000)}`])('a path no unit can hold: %.20s', (path) => {
    const { problems, requiredPaths } = one({ mountEntries: [at(`${path} b none bind`)] });
    expect(problems).toHaveLength(1);
    expect(requiredPaths).toEqual(['/var/lib/lxc/web']);
  });
});

test('groups are sorted and single, and those without a unit are told', () => {
  const container = one({ groups: ['b', 'a', 'b', 'g'.repeat(250), 'x\ty'] });
  expect(container.groups).toEqual(['a', 'b']);
  expect(container.warnings.map((warning) => warning.reason)).toEqual([
    expect.stringContaining('"ggggg'),
    'no unit can be named after the group "x?y"',
  ]);
});

test('a runlevel link is as good as lxc.start.auto', () => {
  const linked = { ...facts('linked'), hasRunlevelLink: true };
  const all = model([facts('a', { startAuto: true }), facts('b'), linked]);
  expect(all.filter((c) => c.autostart).map((c) => c.name)).toEqual(['a', 'linked']);
});

test.each([
  ['ü'.repeat(64), 'too long for a unit name'],
  ['two\nlines', 'control characters'],
  ['bad\ufffdname', 'not valid UTF-8'],
])('a container without a possible unit name: %.10s', (name, reason) => {
  const { containers, nameless } = modelContainers([facts(name), facts('web')], {
    fstab: [],
    boot,
    settings,
    lockers: new Map(),
    lxcpath,
  });
  expect(containers.map((c) => c.name)).toEqual(['web']);
  expect(nameless.map(formatProblem).join()).toContain(reason);
});

describe('the order', () => {
  interface Place {
    readonly order: number;
    readonly delay: number;
    readonly group: number;
    readonly broken: boolean;
  }
  const groups = [['base'], ['webs'], [], ['elsewhere']];
  const places = fc.array(
    fc.record({
      order: fc.constantFrom(-2147483648, -1, 0, 1, 5, 2147483647),
      delay: fc.constantFrom(0, 0, 3, 60),
      group: fc.nat({ max: 3 }),
      broken: fc.boolean(),
    }),
    { maxLength: 12 },
  );
  const build = (all: readonly Place[]): readonly Container[] =>
    model(
      all.map(({ order, delay, group, broken }, index) => ({
        ...facts(`c${index}`, {
          startOrder: order,
          startDelaySec: delay,
          groups: groups[group] ?? [],
        }),
        problems: broken ? [{ file: '/c', line: 1, reason: 'broken' }] : [],
      })),
    );

  test('is exactly: after each container of an earlier group or a lower order', () => {
    fc.assert(
      fc.property(places, (all) => {
        for (const container of build(all)) {
          const own = all[Number(container.name.slice(1))];
          const expected = all.flatMap((other, index) => {
            const isEarlier =
              own !== undefined &&
              (other.group < own.group || (other.group === own.group && other.order < own.order));
            if (!isEarlier) return [];
            return [
              `lxc@c${index}.service`,
              ...(other.delay > 0 && !other.broken ? [`lxc-delay@c${index}.service`] : []),
            ];
          });
          expect([...container.startsAfter].sort()).toEqual(expected.sort());
        }
      }),
    );
  });

  test('has no cycle', () => {
    fc.assert(
      fc.property(places, (all) => {
        const seen = new Set<string>();
        // The containers come sorted: whoever waits, waits for those before it.
        for (const { name, startsAfter } of build(all)) {
          for (const unit of startsAfter) expect(seen).toContain(unit.replace('-delay', ''));
          seen.add(`lxc@${name}.service`);
        }
      }),
    );
  });

  test('does not depend on the order in which the directory lists them', () => {
    const all = [facts('b', { startOrder: 1 }), facts('a', { startOrder: 1 }), facts('c')];
    expect(model(all)).toEqual(model([...all].reverse()));
  });
});

test('a mount behind a symbolic lxcpath is waited for as well', () => {
  const { containers } = modelContainers([facts('web')], {
    fstab: [],
    boot,
    settings,
    lockers: new Map(),
    lxcpath: { path: '/var/lib/lxc', real: '/srv/lxc' },
  });
  expect(containers[0]?.requiredPaths).toEqual(['/srv/lxc/web', '/var/lib/lxc/web']);
});

describe('a block device has a unit of systemd', () => {
  const known = 'S:disk/by-label/web\nS:mapper/web\nG:systemd\n';

  function isWithout(path: string, udev: string | undefined, more = { size: '8', dev: '8:1' }) {
    const texts: Readonly<Record<string, string | undefined>> = {
      '/sys/dev/block/8:1/size': `${more.size}\n`,
      '/run/udev/data/b8:1': udev,
    };
    const host = {
      blockDevice: () => (more.dev === '' ? undefined : more.dev),
      isThere: (file: string) => file === '/run/udev/data',
      readText: (file: string) => {
        const text = texts[file];
        return text === undefined ? {} : { text };
      },
      linkTarget: () => '../../devices/pci/block/cciss!c0d0',
    };
    return isWithoutUnit(host, path);
  }

  test.each([
    ['/dev/cciss/c0d0', known, false],
    ['/dev/mapper/web', known, false],
    ['/dev/disk/by-label/web', known, false],
    // A link that somebody else made.
    ['/dev/my-disk', known, true],
    ['/dev/cciss/c0d0', 'S:mapper/web\n', true],
    ['/dev/cciss/c0d0', undefined, true],
    // It may get ready.
    ['/dev/my-disk', `${known}E:SYSTEMD_READY=0\n`, false],
  ])('%s of %j', (path, udev, expected) => {
    expect(isWithout(path, udev)).toBe(expected);
  });

  test('or may have, while it is absent or empty', () => {
    expect(isWithout('/dev/x', undefined, { size: '0', dev: '8:1' })).toBe(false);
    expect(isWithout('/dev/x', undefined, { size: '8', dev: '' })).toBe(false);
  });
});

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clusterCommands, type ClusterFormat } from '../../src/cluster/commands.ts';
import { readClusterHost } from '../../src/cluster/read-host.ts';
import { planResources, type ClusterPlan, type UnitTimes } from '../../src/cluster/resources.ts';
import { sameFiles } from '../../src/cluster/same-files.ts';
import { clusterGroup, idPart } from '../../src/model/cluster-id.ts';
import { logicalVolume } from '../../src/model/device-path.ts';
import { withHostTree, type HostTree } from './check-trees.ts';

const second = 1_000_000n;
const usual: UnitTimes = { startUsec: 300n * second, stopUsec: 120n * second };
const managed = 'managed-by = pacemaker\n';

const configOf = (name: string, ...lines: string[]): HostTree => ({
  [`/var/lib/lxc/${name}/config`]: [`lxc.uts.name = x`, ...lines, ''].join('\n'),
});

/** A container with a root file system and two lockers on common disks, and one that it needs. */
const sound: HostTree = {
  ...configOf('web', 'lxc.rootfs.path = lvm:/dev/vg0/web'),
  ...configOf('db', 'lxc.rootfs.path = dir:/var/lib/lxc/db/rootfs'),
  '/etc/lockerd/containers/web.conf': `${managed}lockers = data:ro\nneeds = db\n`,
  '/etc/lockerd/containers/db.conf': managed,
  '/etc/fstab': [
    '/dev/mapper/vg--1-web /lockers/web ext4 noauto,nosuid,nodev,x-systemd.device-timeout=1s 0 0',
    'UUID=0123-abcd /lockers/data xfs noauto,nofail 0 0',
    '/dev/sdc1 /var/lib/lxc/db ext4 noauto,_netdev 0 0',
    '/dev/sda9 /lockers/sandbox ext4 nosuid,nodev 0 2',
    '',
  ].join('\n'),
};

function planOf(tree: HostTree, name = 'web', times = usual): ClusterPlan {
  return withHostTree(tree, (root) => {
    const host = readClusterHost(root);
    const container = host.containers.find((each) => each.name === name);
    if (container === undefined) throw new Error(`there is no ${name}`);
    return planResources(container, host, times);
  });
}

describe('the commands', () => {
  test('for crmsh make everything in one transaction, in the order of the start', () => {
    const plan = planOf(sound);
    expect(plan.refusals).toEqual([]);
    expect(plan.notes).toEqual(['the locker "sandbox" is not in the group: each node has its own']);
    expect(clusterCommands(plan, 'crm')).toEqual([
      "crm -f - <<'END'",
      'configure',
      'primitive lxc-web.volume.vg0.2fweb ocf:heartbeat:LVM-activate params vgname=vg0 lvname=web vg_access_mode=system_id op start timeout=90s op stop timeout=90s op monitor interval=30s timeout=90s',
      'primitive lxc-web.volume.vg-1.2fweb ocf:heartbeat:LVM-activate params vgname=vg-1 lvname=web vg_access_mode=system_id op start timeout=90s op stop timeout=90s op monitor interval=30s timeout=90s',
      'primitive lxc-web.mount.lockers.2fweb ocf:heartbeat:Filesystem params device=/dev/mapper/vg--1-web directory=/lockers/web fstype=ext4 options="nosuid,nodev" op start timeout=60s op stop timeout=60s op monitor interval=20s timeout=40s'.replaceAll(
        '"',
        '',
      ),
      'primitive lxc-web.mount.lockers.2fdata ocf:heartbeat:Filesystem params device=/dev/disk/by-uuid/0123-abcd directory=/lockers/data fstype=xfs op start timeout=60s op stop timeout=60s op monitor interval=20s timeout=40s',
      'primitive lxc-web.container systemd:lxc@web op start timeout=540s op stop timeout=240s op monitor interval=20s timeout=100s meta migration-threshold=3',
      'group lxc-web lxc-web.volume.vg0.2fweb lxc-web.volume.vg-1.2fweb lxc-web.mount.lockers.2fweb lxc-web.mount.lockers.2fdata lxc-web.container meta resource-stickiness=100',
      'colocation lxc-web.with.lxc-db inf: lxc-web lxc-db',
      'order lxc-web.after.lxc-db Mandatory: lxc-db lxc-web',
      'commit',
      'END',
    ]);
  });

  test('for pcs put each resource into the group as it is made', () => {
    const commands = clusterCommands(planOf(sound, 'db'), 'pcs');
    expect(commands).toEqual([
      'pcs resource create lxc-db.mount.var.2flib.2flxc.2fdb ocf:heartbeat:Filesystem device=/dev/sdc1 directory=/var/lib/lxc/db fstype=ext4 op start timeout=60s stop timeout=60s monitor interval=20s timeout=40s --group lxc-db',
      'pcs resource create lxc-db.container systemd:lxc@db op start timeout=540s stop timeout=240s monitor interval=20s timeout=100s meta migration-threshold=3 --group lxc-db',
      'pcs resource meta lxc-db resource-stickiness=100',
    ]);
  });

  test.each([
    [{ startUsec: 90n * second, stopUsec: 7n * second }, ['104s', '14s'].join(), 0],
    [{ startUsec: 90n * second, stopUsec: 7_500_001n }, ['106s', '16s'].join(), 0],
    [{ startUsec: undefined, stopUsec: 10n * second }, ['86400s', '20s'].join(), 1],
    [{ startUsec: 10n * second, stopUsec: undefined }, ['86400s', '86400s'].join(), 1],
  ])('have the times of the unit: %o', (times, expected, notes) => {
    const plan = planOf(sound, 'web', times);
    const line = clusterCommands(plan, 'crm').find((text) => text.includes('systemd:'));
    const [, start, stop] = /op start timeout=(\w+) op stop timeout=(\w+)/.exec(line ?? '') ?? [];
    expect([start, stop].join()).toBe(expected);
    expect(plan.notes.filter((note) => note.includes('no limit of time'))).toHaveLength(notes);
  });
});

describe('odd names', () => {
  const name = `my 'w\\"e$b\`&;%\\\\ö`;
  const directory = `/lockers/${name}`;
  let programs: string;
  beforeAll(() => {
    programs = mkdtempSync(join(tmpdir(), 'cluster-'));
    const arguments_ = '#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\nprintf "\\0"\n';
    writeFileSync(join(programs, 'pcs'), arguments_);
    writeFileSync(join(programs, 'crm'), '#!/bin/sh\nexec cat\n');
    for (const program of ['pcs', 'crm']) chmodSync(join(programs, program), 0o755);
  });

  afterAll(() => {
    rmSync(programs, { recursive: true });
  });

  function run(format: ClusterFormat): string {
    const encoded = directory.replaceAll('\\', '\\134').replaceAll(' ', '\\040');
    const plan = planOf(
      {
        ...configOf(name, 'lxc.rootfs.path = dir:/srv/root'),
        [`/etc/lockerd/containers/${name}.conf`]: managed,
        '/etc/fstab': `/dev/sdb1 ${encoded} ext4 noauto,subvol=a$(reboot) 0 0\n`,
      },
      name,
    );
    expect(plan.refusals).toEqual([]);
    const env = { PATH: `${programs}:/usr/bin:/bin`, LC_ALL: 'C.UTF-8' };
    const input = clusterCommands(plan, format).join('\n');
    return execFileSync('sh', ['-e'], { input, env, encoding: 'utf8' });
  }

  test('pass through a shell as words of pcs', () => {
    const words = run('pcs').split('\0');
    expect(words).toContain(`directory=${directory}`);
    expect(words).toContain('options=subvol=a$(reboot)');
    expect(words).toContain(
      'systemd:lxc@my\\x20\\x27w\\x5c\\x22e\\x24b\\x60\\x26\\x3b\\x25\\x5c\\x5c\\xc3\\xb6',
    );
  });

  test('pass through a shell and the lexer of crmsh', () => {
    const lines = run('crm');
    const lexer = 'import shlex,sys\nfor l in sys.stdin: print("\\0".join(shlex.split(l)))';
    const words = execFileSync('python3', ['-c', lexer], { input: lines, encoding: 'utf8' });
    expect(words.split(/[\0\n]/)).toEqual(
      expect.arrayContaining([
        `directory=${directory}`,
        'options=subvol=a$(reboot)',
        'systemd:lxc@my\\x20\\x27w\\x5c\\x22e\\x24b\\x60\\x26\\x3b\\x25\\x5c\\x5c\\xc3\\xb6',
      ]),
    );
  });

  test('have ids that XML takes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        expect(clusterGroup(text)).toMatch(/^[A-Za-z][\w.-]*$/);
      }),
    );
  });

  test('have different ids, whatever a locker of another container is called', () => {
    const parts = ['a', '/', '.', '.2f', '.2e', '-', '_', '.mount.', '.container'];
    const confusing = fc
      .array(fc.constantFrom(...parts), { maxLength: 4 })
      .map((words) => words.join(''));
    const mountOf = (container: string, path: string): string =>
      `${clusterGroup(container)}.mount.${idPart(path)}`;
    fc.assert(
      fc.property(confusing, confusing, confusing, confusing, (a, b, c, d) => {
        expect(mountOf(a, b) === mountOf(c, d)).toBe(a === c && b === d);
        expect(clusterGroup(a) === clusterGroup(c)).toBe(a === c);
        expect(mountOf(a, b)).not.toBe(clusterGroup(c));
        expect(`${clusterGroup(a)}.container`).not.toBe(clusterGroup(c));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('what the cluster cannot have is refused with a remedy', () => {
  const own = (options: string, type = 'ext4'): HostTree => ({
    ...sound,
    '/etc/fstab': `/dev/sdb1 /lockers/web ${type} ${options} 0 0\n/dev/sdd1 /lockers/data ext4 noauto 0 0\n`,
  });
  test.each<[string, HostTree, RegExp]>([
    [
      'settings that leave it to this host',
      { ...sound, '/etc/lockerd/containers/web.conf': 'autostart = no\n' },
      /write "managed-by = pacemaker" into \/etc\/lockerd\/containers\/web\.conf on each node/,
    ],
    ['a mount at boot', own('defaults'), /fstab:1: the locker "web" is mounted at boot.*noauto/],
    [
      'an automount',
      own('noauto,x-systemd.automount'),
      /fstab:1: \/lockers\/web is an automount.*take x-systemd.automount out/,
    ],
    [
      'a locker that another file mounts',
      {
        ...sound,
        '/etc/fstab': '',
        '/etc/systemd/system/lockers-web.mount': '[Mount]\nWhat=/dev/sdb1\n',
      },
      /"web" is not in \/etc\/fstab.*write a line for \/lockers\/web/,
    ],
    [
      'an encrypted one',
      {
        ...own('noauto'),
        '/etc/crypttab': 'x /dev/sdb1 none noauto\n',
        '/etc/fstab':
          '/dev/mapper/x /lockers/web ext4 noauto 0 0\n/dev/sdd1 /lockers/data ext4 noauto 0 0\n',
      },
      /encrypted device \/dev\/mapper\/x.*ocf:heartbeat:crypt/,
    ],
    [
      'one that two of the cluster have',
      { ...sound, '/etc/lockerd/containers/db.conf': `${managed}lockers = data\n` },
      /also belongs to container "db".*in one group only/,
    ],
    [
      'control characters',
      {
        ...own('noauto'),
        '/etc/fstab':
          '/dev/sd\\012b /lockers/web ext4 noauto 0 0\n/dev/sdd1 /lockers/data ext4 noauto 0 0\n',
      },
      /control characters; rename it/,
    ],
  ])('%s', (_, tree, message) => {
    const { refusals } = planOf(tree);
    expect(refusals).toEqual([expect.stringMatching(message)]);
  });

  test.each<[string, HostTree, RegExp]>([
    ['a locker from the network', own('defaults', 'nfs'), /"web".*each node mounts it at boot/],
    [
      'DRBD',
      {
        ...sound,
        '/etc/fstab':
          '/dev/drbd0 /lockers/web ext4 noauto 0 0\n/dev/sdd1 /lockers/data ext4 noauto 0 0\n',
      },
      /is on DRBD/,
    ],
    [
      'a volume group of two',
      { ...sound, ...configOf('other', 'lxc.rootfs.path = lvm:/dev/vg0/other') },
      /vg0 also has volumes of container "other"/,
    ],
    [
      'a container that it needs and the cluster does not run',
      { ...sound, '/etc/lockerd/containers/db.conf': 'ready = booted\n' },
      /needs container "db"/,
    ],
    [
      'a root file system of each node',
      { ...sound, ...configOf('web', 'lxc.rootfs.path = dir:/srv/web') },
      /each node has its own copy/,
    ],
  ])('and what is to be known is noted: %s', (_, tree, message) => {
    const { refusals, notes } = planOf(tree);
    expect(refusals).toEqual([]);
    expect(notes).toContainEqual(expect.stringMatching(message));
  });
});

test('the files that all nodes must have alike are those of settings, limits and the configuration', () => {
  const tree: HostTree = {
    ...sound,
    ...configOf(
      'web',
      'lxc.rootfs.path = lvm:/dev/vg0/web',
      'lxc.include = /etc/lxc/own.conf',
      'lxc.include = /usr/share/lxc/config/common.conf',
      'lxc.hook.start = /opt/hook with words',
      'lxc.hook.mount = /usr/lib/hook',
      'lxc.hook.stop = /lockers/data/hook',
    ),
    '/etc/lxc/own.conf': 'lxc.mount.fstab = /etc/lxc/web.fstab\n',
    '/usr/share/lxc/config/common.conf': '',
    '/etc/lxc/web.fstab': '',
    '/opt/hook': '',
    '/usr/lib/hook': '',
    '/lockers/data/hook': '',
    '/etc/lockerd/lockerd.conf': '',
    '/etc/lockerd/lockerd.conf.d/a.conf': '',
    '/etc/systemd/system/lxc@web.service.d/override.conf': '',
    '/etc/systemd/system/lxc@.service.d/all.conf': '',
    '/etc/systemd/system/lxc@db.service.d/other.conf': '',
    '/etc/systemd/system.control/lxc@web.service.d/50-MemoryMax.conf': '',
  };
  withHostTree(tree, (root) => {
    const host = readClusterHost(root);
    const filesOf = (name: string): readonly string[] =>
      host.containers
        .filter((each) => each.name === name)
        .flatMap((each) => sameFiles(each, host.linesOf(each), host.reader, host.host.fstab));
    expect(filesOf('web')).toEqual([
      '/etc/lockerd/containers/web.conf',
      '/etc/lockerd/lockerd.conf',
      '/etc/lockerd/lockerd.conf.d/a.conf',
      '/etc/lxc/own.conf',
      '/etc/lxc/web.fstab',
      '/etc/systemd/system.control/lxc@web.service.d/50-MemoryMax.conf',
      '/etc/systemd/system/lxc@.service.d/all.conf',
      '/etc/systemd/system/lxc@web.service.d/override.conf',
      '/opt/hook',
      '/var/lib/lxc/web/config',
    ]);
    // Its directory is on a common disk.
    expect(filesOf('db')).not.toContain('/var/lib/lxc/db/config');
    expect(filesOf('db')).toContain('/etc/lockerd/containers/db.conf');
  });
});

test.each([
  ['/dev/vg0/web', { group: 'vg0', volume: 'web' }],
  ['/dev/mapper/vg--1-a--b', { group: 'vg-1', volume: 'a-b' }],
  ['/dev/mapper/crypt', undefined],
  ['/dev/disk/by-uuid', undefined],
  ['/dev/disk/by-uuid/x', undefined],
  ['/dev/sda1', undefined],
  ['/dev/md/raid', undefined],
])('%s is the volume %o', (path, expected) => {
  expect(logicalVolume(path)).toEqual(expected);
});

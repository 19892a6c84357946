import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { checks } from '../../src/check/catalog.ts';
import type { CheckId } from '../../src/check/catalog.ts';
import { checkHost } from '../../src/check/check.ts';
import type { Finding } from '../../src/check/findings.ts';
import { haltSignals } from '../../src/check/guest-inits.ts';
import { Files } from '../../src/host/files.ts';
import { gpt, mbr } from '../machines/disk-images.ts';
import type { HostTree } from './check-trees.ts';
import { config, mountinfo, soundHost, withHostTree } from './check-trees.ts';

/** The findings of the sound host with some files changed. */
function findingsOf(changes: HostTree, names: readonly string[] = []): readonly Finding[] {
  return withHostTree(
    { ...soundHost, ...changes },
    (root) => checkHost(root, names, new Files('')).findings,
  );
}

const web = '/var/lib/lxc/web/config';
/** The configuration with more lines; they begin at line 8. */
const plus = (...lines: string[]): HostTree => ({ [web]: `${config}${lines.join('\n')}\n` });
const library = (version: string): HostTree => ({ '/usr/lib/liblxc.so.1': `\0${version}\0` });
const guest = (files: HostTree): HostTree => ({
  '/srv/web/lib/systemd/systemd': undefined,
  '/srv/web/sbin/init': 'ELF',
  ...Object.fromEntries(Object.entries(files).map(([path, text]) => [`/srv/web${path}`, text])),
});
const locker = (options: string, device = '/dev/sdb1'): HostTree => ({
  '/etc/fstab': `/dev/sda1 / ext4 defaults 0 1\n${device} /lockers/web ext4 ${options} 0 2\n`,
  [device]: '',
});
const second = (lines: string): HostTree => ({
  '/var/lib/lxc/db/config': `lxc.rootfs.path = dir:/srv/web\n${lines}`,
});
const mapped = (...lines: string[]): HostTree =>
  plus('lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536', ...lines);
const reserved = (ranges: string): HostTree => ({ '/etc/subuid': ranges, '/etc/subgid': ranges });

interface Row {
  /** Hosts on which it fires, each with where, and a part of what it says. */
  readonly fires: readonly (readonly [HostTree, string, string | RegExp])[];
  /** Hosts of the same kind on which it does not, beside the sound one. */
  readonly silent?: readonly HostTree[];
}

/** web has a read-only locker, and the kernel allows so many user namespaces. */
const readOnly = (namespaces: string): HostTree => ({
  '/etc/fstab': '/dev/sda1 / ext4 defaults 0 1\n/dev/sdb1 /lockers/data ext4 nosuid,nodev 0 2\n',
  '/dev/sdb1': '',
  '/etc/lockerd/containers/web.conf': 'lockers = data:ro\n',
  '/proc/sys/user/max_user_namespaces': `${namespaces}\n`,
});

/** A cluster has web, and its settings say so. */
const inCluster = (): HostTree => ({
  '/etc/lockerd/containers/web.conf': 'managed-by = pacemaker\n',
  '/var/lib/pacemaker/cib/cib.xml': '<primitive class="systemd" type="lxc@web"/>',
});

/** web has an image that begins so. */
const partitioned = (head: Buffer): HostTree => ({
  [web]: config.replace('dir:/srv/web', 'loop:/srv/web.img'),
  '/srv/web.img': Buffer.concat([head, Buffer.alloc(4096)]),
});
const ext = Buffer.from([0x53, 0xef]);

const rows: Readonly<Record<CheckId, Row>> = {
  'store-refused': {
    fires: [
      [
        { '/etc/lockerd/lockerd.conf': '[store a]\ntype = zfs\n' },
        '/etc/lockerd/lockerd.conf:2',
        'type="zfs" of store "a"',
      ],
    ],
    silent: [{ '/etc/lockerd/lockerd.conf': '[store a]\ntype = btrfs\npath = /srv/a\n' }],
  },
  'change-unfinished': {
    fires: [
      [
        {
          '/var/lib/lockerd/changes/0123456789abcdef.json':
            '{\n  "verb": "create",\n  "locker": "data"\n}\n',
        },
        '/var/lib/lockerd/changes/0123456789abcdef.json',
        '"create" of locker "data"',
      ],
    ],
    silent: [{ '/var/lib/lockerd/changes/.0123456789abcdef.json.new': '{' }],
  },
  'config-refused': {
    fires: [
      [plus('lxc.uts.nmae = x'), `${web}:8`, 'lxc.uts.nmae'],
      [
        { '/etc/lockerd/containers/web.conf': 'stop-timeout = soon\n' },
        '/etc/lockerd/containers/web.conf:1',
        'soon',
      ],
      [
        { '/etc/lockerd/containers/web.conf': 'lockers = data\n' },
        '/etc/lockerd/containers/web.conf:1',
        'data',
      ],
    ],
    silent: [plus('lxc.tty.max = 4')],
  },
  'old-key': {
    fires: [
      [plus('lxc.utsname = web'), `${web}:8`, 'lxc.utsname'],
      [plus('lxc.network.type = veth'), `${web}:8`, 'lxc.network.type'],
      [
        { ...plus('lxc.include = /etc/lxc/old.conf'), '/etc/lxc/old.conf': '\nlxc.tty = 4\n' },
        '/etc/lxc/old.conf:2',
        'lxc.tty',
      ],
    ],
    silent: [plus('# lxc.utsname = web'), plus('lxc.uts.nmae = x')],
  },
  'cgroup1-refused': {
    fires: [
      [{ ...plus('lxc.cgroup.cpu.shares = 512'), ...library('7.0.0') }, `${web}:8`, 'LXC 7.0'],
    ],
    silent: [{ ...plus('lxc.cgroup.cpu.shares = 512'), ...library('6.0.4') }],
  },
  'cgroup1-key': {
    fires: [[{ ...plus('lxc.cgroup.cpu.shares = 512'), ...library('6.0.4') }, `${web}:8`, 'LXC 7']],
    silent: [{ ...plus('lxc.cgroup2.cpu.weight = 50'), ...library('6.0.4') }],
  },
  'config-suspect': {
    fires: [
      [plus('lxc.signal.halt = SIGKILL'), `${web}:8`, 'SIGKILL'],
      [{ ...plus('lxc.cgroup.memory.limit_in_bytes = 1X'), ...library('6.0.4') }, `${web}:8`, '1X'],
    ],
    silent: [plus('lxc.signal.halt = SIGRTMIN+4')],
  },
  'classic-hooks': {
    fires: [[plus('lxc.hook.mount = /etc/lxc/locker_mount.sh'), `${web}:8`, 'locker_mount.sh']],
    silent: [plus('lxc.hook.mount = /etc/lxc/other.sh')],
  },
  'host-refused': {
    fires: [
      [
        { '/etc/lockerd/lockerd.conf': 'no-such-key = 1\n' },
        '/etc/lockerd/lockerd.conf:1',
        'no-such-key',
      ],
      [
        { [`/var/lib/lxc/${'n'.repeat(250)}/config`]: '' },
        `/var/lib/lxc/${'n'.repeat(250)}/config`,
        'too long',
      ],
    ],
    silent: [{ '/etc/lockerd/lockerd.conf': 'stop-timeout = 90s\n' }],
  },
  'host-suspect': {
    fires: [
      [{ '/etc/lockerd/containers/wbe.conf': '' }, '/etc/lockerd/containers/wbe.conf', 'wbe'],
      [{ '/etc/default/lxc': 'BOOTGROUPS="$(groups)"\n' }, '/etc/default/lxc:1', 'BOOTGROUPS'],
    ],
    silent: [{ '/etc/lockerd/containers/web.conf': '' }],
  },
  'boot-skipped': {
    fires: [
      [{ '/etc/default/lxc': 'LXC_AUTO="false"\n' }, `${web}:7`, 'LXC_AUTO'],
      [plus('lxc.group = night'), `${web}:7`, 'BOOTGROUPS'],
      [{ '/usr/lib/systemd/system/lxc.service': '' }, `${web}:7`, 'lxc.service'],
    ],
    silent: [
      { '/etc/default/lxc': 'LXC_AUTO="true"\n' },
      { '/etc/systemd/system/lxc@web.service': '-> /dev/null' },
      { '/etc/default/lxc': 'LXC_AUTO="false"\n', ...plus('lxc.start.auto = 0') },
    ],
  },
  'not-seen': {
    fires: [
      [{ '/proc/self/mountinfo': undefined }, '/proc', '/proc'],
      [{ '/etc/fstab': '/dev/sdc1 /srv ext4 noauto 0 2\n' }, `${web}:2`, 'not mounted now'],
      [{ ...plus('lxc.rootfs.path = lvm:/dev/vg/web'), '/dev/vg/web': '' }, `${web}:8`, 'init'],
      [
        { ...plus('lxc.rootfs.path = loop:/srv/ring'), '/srv/ring': '-> /srv/ring' },
        `${web}:8`,
        '/srv/ring cannot be looked at',
      ],
    ],
    silent: [
      { '/etc/fstab': '/dev/sdc1 /mnt ext4 noauto 0 2\n' },
      // With its signal in the configuration, nobody needs to know the init.
      {
        ...plus('lxc.rootfs.path = lvm:/dev/vg/web', 'lxc.signal.halt = SIGUSR1'),
        '/dev/vg/web': '',
      },
      // The guest has the host's tree, or none that LXC would take.
      { [web]: config.replace('dir:/srv/web', 'none') },
      plus('lxc.rootfs.path = overlay:/srv/web'),
      // What is missing has a check of its own.
      plus('lxc.rootfs.path = dir:/srv/gone'),
    ],
  },
  'lxc-missing': {
    fires: [[{ '/usr/bin/lxc-start': undefined }, '/usr/bin/lxc-start', 'not installed']],
  },
  'lxc-old': {
    fires: [[library('3.1.0'), '/usr/lib/liblxc.so.1', 'LXC 3.1']],
    silent: [library('4.0.6')],
  },
  'lxc-newer': {
    fires: [[library('9.1.0'), '/usr/bin/lxc-start', 'LXC 9.1']],
    silent: [library('7.0.0')],
  },
  'kernel-namespace': {
    fires: [
      [{ '/proc/self/ns/pid': undefined }, '/proc/self/ns/pid', 'pid'],
      [{ ...mapped(), '/proc/self/ns/user': undefined }, '/proc/self/ns/user', 'user'],
    ],
    silent: [{ '/proc/self/ns/user': undefined }],
  },
  'cgroup-missing': {
    fires: [[{ '/sys/fs/cgroup/cgroup.controllers': undefined }, '/sys/fs/cgroup', 'mounted']],
  },
  'cgroup-controller': {
    fires: [
      [
        { '/sys/fs/cgroup/cgroup.controllers': 'cpu io\n' },
        '/sys/fs/cgroup/cgroup.controllers',
        'memory',
      ],
      [
        {
          '/sys/fs/cgroup/cgroup.controllers': undefined,
          '/proc/self/mountinfo': ['memory', 'cpu,cpuacct', 'freezer']
            .map((name) => `30 22 0:30 / /sys/fs/cgroup/${name} rw - cgroup cgroup rw,${name}\n`)
            .join(''),
        },
        '/sys/fs/cgroup',
        'devices',
      ],
    ],
  },
  'cgroup-fstab': {
    fires: [
      [{ '/etc/fstab': '# old\ncgroup /cgroup cgroup defaults 0 0\n' }, '/etc/fstab:2', '/cgroup'],
    ],
    silent: [
      { '/etc/fstab': '# cgroup /cgroup cgroup defaults 0 0\n' },
      { '/etc/fstab': 'cgroup /cgroup cgroup noauto 0 0\n' },
    ],
  },
  'rootfs-missing': {
    fires: [[plus('lxc.rootfs.path = dir:/srv/gone'), `${web}:8`, '/srv/gone']],
    silent: [
      {
        '/etc/fstab': '/dev/sdc1 /srv/gone ext4 noauto 0 2\n',
        ...plus('lxc.rootfs.path = dir:/srv/gone'),
      },
    ],
  },
  'volume-missing': {
    fires: [[plus('lxc.rootfs.path = lvm:/dev/vg/web'), `${web}:8`, '/dev/vg/web']],
    silent: [
      { ...plus('lxc.rootfs.path = lvm:/dev/vg/web'), '/dev/vg/web': '' },
      // Devices are those of a running host.
      { ...plus('lxc.rootfs.path = lvm:/dev/vg/web'), '/proc/self/mountinfo': undefined },
      // A hook may make it.
      plus('lxc.rootfs.path = lvm:/dev/vg/web', 'lxc.hook.pre-start = /etc/lxc/open'),
      {
        ...plus('lxc.rootfs.path = lvm:/dev/mapper/x'),
        '/etc/crypttab': 'x /dev/sdb none noauto\n',
      },
    ],
  },
  'image-missing': {
    fires: [[plus('lxc.rootfs.path = loop:/srv/web.img'), `${web}:8`, '/srv/web.img']],
    silent: [{ ...plus('lxc.rootfs.path = loop:/srv/web.img'), '/srv/web.img': '' }],
  },
  'image-partitioned': {
    fires: [
      [partitioned(mbr([{ start: 1, sectors: 7 }])), `${web}:2`, '/srv/web.img is a whole disk'],
      [partitioned(gpt([{ start: 40, sectors: 8 }], 131072)), `${web}:2`, 'partitions 1'],
      [partitioned(gpt([{ start: 40, sectors: 8 }], 1048576, 4096)), `${web}:2`, 'partitions 1'],
    ],
    silent: [
      partitioned(Buffer.alloc(4096)),
      // A boot sector with code where the partitions would be, and one before a file system.
      partitioned(Buffer.alloc(512, 0x55)),
      partitioned(mbr([{ start: 4096, sectors: 7 }])),
      partitioned(Buffer.concat([mbr([{ start: 1, sectors: 7 }]), Buffer.alloc(568), ext])),
      {
        ...partitioned(mbr([{ start: 1, sectors: 7 }])),
        '/etc/lockerd/containers/web.conf': 'rootfs-partition = 1\n',
      },
    ],
  },
  'source-missing': {
    fires: [
      [plus('lxc.mount.entry = /srv/www srv none bind,create=dir 0 0'), `${web}:8`, '/srv/www'],
    ],
    silent: [
      plus('lxc.mount.entry = /srv/www srv none bind,optional 0 0'),
      { ...plus('lxc.mount.entry = /srv/www srv none bind 0 0'), '/srv/www/index': '' },
    ],
  },
  'bridge-missing': {
    fires: [[plus('lxc.net.0.link = br7'), `${web}:8`, 'br7']],
    silent: [
      // Interfaces are those of a running host.
      { '/sys/class/net/br0/ifindex': undefined },
      { ...plus('lxc.net.0.link = br7'), '/etc/network/interfaces': 'iface br7 inet dhcp\n' },
      plus('lxc.net.0.type = empty', 'lxc.net.0.link = br7'),
    ],
  },
  'bridge-down': {
    fires: [
      [
        { ...plus('lxc.net.0.link = br7'), '/etc/network/interfaces': 'iface br7 inet dhcp\n' },
        `${web}:8`,
        'br7',
      ],
      [plus('lxc.net.0.link = lxcbr0'), `${web}:8`, 'lxcbr0'],
    ],
    silent: [{ ...plus('lxc.net.0.link = lxcbr0'), '/sys/class/net/lxcbr0/ifindex': '4\n' }],
  },
  'hwaddr-random': {
    fires: [
      [plus('lxc.net.0.hwaddr ='), `${web}:3`, 'interface 0'],
      [plus('lxc.net.0.hwaddr = 00:16:3e:xx:xx:xx'), `${web}:8`, 'interface 0'],
      [plus('lxc.net.0.type = macvlan', 'lxc.net.0.link = br0'), `${web}:8`, 'interface 0'],
    ],
    silent: [plus('lxc.net.1.type = empty'), plus('lxc.net.0.type = none')],
  },
  'hwaddr-double': {
    fires: [
      [
        second(
          'lxc.net.0.type = veth\nlxc.net.0.hwaddr = 00:16:3E:00:00:01\nlxc.net.0.link = br0\n',
        ),
        `${web}:6`,
        '"db"',
      ],
    ],
    silent: [
      {
        ...plus('lxc.net.0.hwaddr = 00:16:3e:xx:xx:xx'),
        ...second('lxc.net.0.type = veth\nlxc.net.0.hwaddr = 00:16:3e:xx:xx:xx\n'),
      },
      second('lxc.net.0.type = veth\nlxc.net.0.hwaddr = 00:16:3e:00:00:02\nlxc.net.0.link = br0\n'),
    ],
  },
  'init-missing': {
    fires: [
      [guest({ '/sbin/init': undefined, '/etc/hostname': 'web' }), `${web}:2`, '/sbin/init'],
      [plus('lxc.init.cmd = /opt/init --quick'), `${web}:8`, '/opt/init'],
    ],
    silent: [
      guest({ '/sbin/init': '#!/bin/sh\nexec /lib/systemd/systemd\n' }),
      // LXC looks for it in the guest's PATH.
      plus('lxc.init.cmd = my-init --quick'),
    ],
  },
  'halt-unheard': {
    fires: [
      [
        guest({ '/sbin/telinit': '', '/etc/inittab': 'id:2:initdefault:\n' }),
        `${web}:2`,
        "SIGPWR to the guest's sysvinit",
      ],
      [
        guest({
          '/sbin/telinit': '',
          '/etc/inittab': 'pf::powerwait:/etc/init.d/powerfail start\n',
        }),
        `${web}:2`,
        'shuts the guest down',
      ],
      [
        guest({ '/sbin/telinit': '', '/etc/inittab': 'pf::powerfail:/sbin/init 6\n' }),
        `${web}:2`,
        'shuts the guest down',
      ],
      [plus('lxc.signal.halt = SIGPWR'), `${web}:8`, 'sigpwr.target'],
      [plus('lxc.signal.halt = SIGTERM'), `${web}:8`, 'systemd does not shut down'],
      [
        {
          ...guest({ '/sbin/init': '-> /bin/busybox', '/bin/busybox': 'ELF' }),
          ...plus('lxc.signal.halt = SIGTERM'),
        },
        `${web}:8`,
        'busybox reboots',
      ],
      [guest({ '/sbin/init': '-> runit-init', '/sbin/runit-init': 'ELF' }), `${web}:2`, 'stopit'],
      [guest({ '/etc/init/rc-sysinit.conf': '' }), `${web}:2`, 'upstart'],
      [
        {
          ...guest({ '/sbin/init': '-> openrc-init', '/sbin/openrc-init': 'ELF' }),
          ...plus('lxc.signal.halt = SIGPWR'),
        },
        `${web}:8`,
        'openrc-init',
      ],
      [
        { ...guest({ '/sbin/procd': 'ELF' }), ...plus('lxc.signal.halt = SIGTERM') },
        `${web}:8`,
        'procd reboots',
      ],
    ],
    silent: [
      guest({
        '/sbin/telinit': '',
        '/etc/inittab': 'pf::powerwait:/etc/init.d/powerfail start\n',
        '/etc/init.d/powerfail': '#!/bin/sh\n',
      }),
      guest({ '/sbin/telinit': '', '/etc/inittab': 'p0::powerfail:/sbin/init 0\n' }),
      guest({ '/sbin/telinit': '', '/etc/inittab': 'pf:12345:powerwait:/sbin/shutdown -h now\n' }),
      guest({
        '/etc/init/rc-sysinit.conf': '',
        '/etc/init/power-status-changed.conf': 'exec shutdown -h now\n',
      }),
      guest({
        '/sbin/init': '-> runit-init',
        '/sbin/runit-init': 'ELF',
        '/etc/runit/stopit': '#!/bin/true\n',
      }),
      guest({ '/sbin/init': '-> /bin/busybox', '/bin/busybox': 'ELF' }),
      guest({ '/sbin/procd': 'ELF' }),
      {
        ...plus('lxc.signal.halt = SIGPWR'),
        '/srv/web/etc/systemd/system/sigpwr.target': '-> /lib/systemd/system/halt.target',
        '/srv/web/lib/systemd/system/halt.target': '',
      },
      plus('lxc.signal.halt = SIGRTMIN+4'),
      // Busybox has an inittab as well.
      guest({ '/etc/inittab': 'id:2:initdefault:\n' }),
      // Nobody knows what a script becomes.
      guest({ '/sbin/init': '-> ../run-me', '/run-me': '#!/bin/sh\n' }),
    ],
  },
  'cap-sys-boot': {
    fires: [
      [plus('lxc.cap.drop = sys_time sys_boot'), `${web}:8`, 'drops'],
      [plus('lxc.cap.keep = net_admin'), `${web}:8`, 'keep'],
    ],
    silent: [
      plus('lxc.cap.drop = sys_time'),
      plus('lxc.cap.drop = sys_boot', 'lxc.cap.drop ='),
      plus('lxc.cap.keep = net_admin', 'lxc.cap.keep = sys_boot'),
    ],
  },
  'memory-over-host': {
    fires: [[plus('lxc.cgroup2.memory.max = 16G'), `${web}:8`, '16G']],
    silent: [
      plus('lxc.cgroup2.memory.max = 2G'),
      plus('lxc.cgroup2.memory.max = max'),
      { ...plus('lxc.cgroup2.memory.max = 16G'), '/proc/meminfo': undefined },
    ],
  },
  'cpus-over-host': {
    fires: [[plus('lxc.cgroup2.cpuset.cpus = 0-1,8'), `${web}:8`, 'processor 8']],
    silent: [plus('lxc.cgroup2.cpuset.cpus = 0-3'), plus('lxc.cgroup2.cpuset.cpus = all')],
  },
  'subid-refused': {
    fires: [
      [{ ...mapped(), '/usr/bin/newuidmap': '#!' }, `${web}:8`, '/etc/subuid'],
      [
        { ...mapped(), '/usr/bin/newgidmap': '#!', ...reserved('alice:100000:65536\n') },
        `${web}:9`,
        '/etc/subgid',
      ],
      [
        { ...mapped(), '/usr/bin/newuidmap': '#!', ...reserved('root:100000:65535\n') },
        `${web}:8`,
        '/etc/subuid',
      ],
    ],
    silent: [
      { ...mapped(), '/usr/bin/newuidmap': '#!', ...reserved('root:100000:65536\n') },
      {
        ...mapped(),
        '/usr/bin/newuidmap': '#!',
        ...reserved('0:150000:50000\nroot:90000:60000\n'),
      },
    ],
  },
  'subid-unreserved': {
    fires: [[mapped(), `${web}:8`, '/etc/subuid']],
    silent: [
      { ...mapped(), ...reserved('root:100000:65536\n') },
      // Ids of users and of groups are reserved in files of their own.
      {
        ...plus('lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 200000 65536'),
        '/etc/subuid': 'root:100000:65536\n',
        '/etc/subgid': 'root:200000:65536\n',
      },
    ],
  },
  'stop-timeout': {
    fires: [
      [
        { '/etc/lockerd/containers/web.conf': 'stop-timeout = 1h\n' },
        '/etc/lockerd/containers/web.conf',
        '1800 s',
      ],
      [
        { '/etc/lockerd/lockerd.conf': 'stop-timeout = infinity\n' },
        '/etc/lockerd/containers/web.conf',
        'infinity',
      ],
      [
        {
          ...second('lxc.start.order = 5\n'),
          '/etc/lockerd/lockerd.conf': 'stop-timeout = 20min\n',
        },
        '/usr/lib/systemd/system/poweroff.target:2',
        '2400 s',
      ],
    ],
    silent: [
      // Nothing bounds the host's shutdown.
      {
        '/etc/lockerd/containers/web.conf': 'stop-timeout = 1h\n',
        '/usr/lib/systemd/system/poweroff.target': undefined,
      },
      { '/etc/lockerd/containers/web.conf': 'stop-timeout = 25min\n' },
      {
        '/etc/lockerd/containers/web.conf': 'stop-timeout = 1h\n',
        '/etc/systemd/system/poweroff.target.d/a.conf': '[Unit]\nJobTimeoutSec=2h\n',
      },
      // Containers of one rank stop at the same time.
      { ...second(''), '/etc/lockerd/lockerd.conf': 'stop-timeout = 20min\n' },
    ],
  },
  'locker-unprotected': {
    fires: [[locker('defaults'), '/etc/fstab:2', '"web"']],
    silent: [locker('nosuid,nodev'), locker('ro')],
  },
  'locker-absent': {
    fires: [
      [{ ...locker('nosuid,nodev'), '/dev/sdb1': undefined }, '/etc/fstab:2', '"web"'],
      [
        { ...locker('nosuid,nodev', 'UUID=ab-cd'), 'UUID=ab-cd': undefined },
        '/etc/fstab:2',
        'UUID=ab-cd',
      ],
    ],
    silent: [
      locker('nosuid,nodev'),
      {
        ...locker('nosuid,nodev'),
        '/dev/sdb1': undefined,
        '/proc/self/mountinfo': `${mountinfo}24 21 8:17 / /lockers/web rw - ext4 x rw\n`,
      },
      // Devices are those of a running host.
      {
        ...locker('nosuid,nodev'),
        '/dev/sdb1': undefined,
        '/proc/self/mountinfo': undefined,
      },
      // Opened on demand, and what is no device.
      {
        ...locker('nosuid,nodev', '/dev/mapper/x'),
        '/dev/mapper/x': undefined,
        '/etc/crypttab': 'x /dev/sdb none noauto\n',
      },
      { ...locker('nosuid,nodev', 'nas:/web'), 'nas:/web': undefined },
    ],
  },
  'read-only-unlocked': {
    fires: [[readOnly('0'), '/proc/sys/user/max_user_namespaces', '"data"']],
    silent: [
      readOnly('63432'),
      { ...readOnly('0'), '/etc/lockerd/containers/web.conf': 'lockers = data\n' },
    ],
  },
  'second-starter': {
    fires: [
      [
        { '/etc/rc.local': '#!/bin/sh\nlxc-start -n web -d\n' },
        '/etc/rc.local:2',
        'lxc-start -n web',
      ],
      [{ '/etc/cron.d/lxc': '@reboot root lxc-autostart\n' }, '/etc/cron.d/lxc:1', 'lxc-autostart'],
      [
        {
          '/etc/systemd/system/web.service':
            '[Service]\nExecStart=/usr/bin/lxc-start -F --name=web\n',
        },
        '/etc/systemd/system/web.service:2',
        'web',
      ],
    ],
    silent: [{ '/etc/rc.local': '#!/bin/sh\n# lxc-start -n web -d\n' }],
  },
  'init-script': {
    fires: [[{ '/etc/init.d/lxc.web': '#!/bin/sh\n' }, '/etc/init.d/lxc.web', 'init script']],
    silent: [{ '/etc/init.d/web': '#!/bin/sh\n' }],
  },
  'also-libvirt': {
    fires: [
      [{ '/etc/libvirt/lxc/web.xml': '<domain/>' }, '/etc/libvirt/lxc/web.xml', 'same name'],
      [
        { '/etc/libvirt/lxc/www.xml': "<filesystem><source dir='/srv/web'/></filesystem>" },
        '/etc/libvirt/lxc/www.xml',
        'same root',
      ],
    ],
    silent: [{ '/etc/libvirt/lxc/db.xml': "<source dir='/srv/db'/>" }],
  },
  'also-incus': {
    fires: [
      [
        { '/var/lib/incus/containers/web': '-> /pool/web' },
        '/var/lib/incus/containers/web',
        'incus',
      ],
      [
        { '/var/snap/lxd/common/lxd/containers/web': '-> /pool/web' },
        '/var/snap/lxd/common/lxd/containers/web',
        'lxc has',
      ],
    ],
    silent: [{ '/var/lib/incus/containers/db': '-> /pool/db' }],
  },
  'also-pacemaker': {
    fires: [
      [
        {
          '/etc/lockerd/containers/web.conf': 'autostart = yes\n',
          '/var/lib/pacemaker/cib/cib.xml':
            '<cib><primitive id="a" class="systemd" type="lxc@web"><operations/></primitive></cib>',
        },
        '/var/lib/pacemaker/cib/cib.xml',
        'and so does a cluster',
      ],
      [
        {
          '/etc/lockerd/containers/web.conf': 'autostart = no\n',
          '/var/lib/pacemaker/cib/cib.xml': '<primitive class="systemd" type="lxc@web"/>',
        },
        '/var/lib/pacemaker/cib/cib.xml',
        'its settings do not say so',
      ],
    ],
    silent: [
      {
        '/etc/lockerd/containers/web.conf': 'autostart = yes\n',
        '/var/lib/pacemaker/cib/cib.xml':
          '<primitive id="a" class="ocf" type="lxc@web"/><primitive class="systemd" type="lxc@db"/>',
      },
      inCluster(),
    ],
  },
  'cluster-enabled': {
    fires: [
      [
        {
          ...inCluster(),
          '/etc/systemd/system/multi-user.target.wants/lxc@web.service':
            '-> /lib/systemd/system/lxc@.service',
        },
        '/etc/lockerd/containers/web.conf',
        'enabled in multi-user.target',
      ],
      [
        {
          ...inCluster(),
          '/etc/init.d/lxc.web': '#!/bin/sh\n',
          '/etc/rc3.d/S20lxc.web': '-> ../init.d/lxc.web',
        },
        '/etc/init.d/lxc.web',
        'in a runlevel',
      ],
    ],
    silent: [inCluster()],
  },
  'cluster-mount': {
    fires: [
      [
        { ...inCluster(), ...locker('nosuid,nodev') },
        '/etc/fstab:2',
        '/lockers/web, a locker of the container, is mounted at boot',
      ],
      [
        { ...inCluster(), ...locker('noauto,x-systemd.automount,nosuid,nodev') },
        '/etc/fstab:2',
        '/lockers/web is an automount',
      ],
    ],
    silent: [
      { ...inCluster(), ...locker('noauto,nosuid,nodev') },
      {
        ...inCluster(),
        '/etc/fstab': 'host:/web /lockers/web nfs nosuid,nodev 0 0\n',
      },
      {
        ...inCluster(),
        '/etc/fstab': '/dev/sdb1 /lockers/sandbox ext4 nosuid,nodev 0 2\n',
        '/dev/sdb1': '',
      },
    ],
  },
  'cluster-absent': {
    fires: [
      [
        { ...inCluster(), '/var/lib/pacemaker/cib/cib.xml': '<cib/>' },
        '/var/lib/pacemaker/cib/cib.xml',
        'no resource',
      ],
    ],
    silent: [inCluster(), { '/etc/lockerd/containers/web.conf': 'managed-by = pacemaker\n' }],
  },
  'cluster-files': {
    fires: [
      [
        {
          ...inCluster(),
          '/etc/systemd/system.control/lxc@web.service.d/50-MemoryMax.conf': '[Service]\n',
        },
        '/etc/lockerd/containers/web.conf',
        '/etc/systemd/system.control/lxc@web.service.d/50-MemoryMax.conf /var/lib/lxc/web/config',
      ],
    ],
    silent: [{ '/etc/lockerd/containers/web.conf': 'managed-by = host\n' }],
  },
  'moved-away': {
    fires: [
      [
        { '/var/lib/lockerd/moves/web.away': 'it was moved to root@other\n' },
        '/var/lib/lockerd/moves/web.away',
        'moved to root@other',
      ],
    ],
    silent: [{ '/var/lib/lockerd/moves/db.away': 'it was moved to root@other\n' }],
  },
  'drop-in-masked': {
    fires: [
      [
        { '/etc/systemd/system/lxc@.service.d/50-lockerd.conf': '-> /dev/null' },
        '/etc/systemd/system/lxc@.service.d/50-lockerd.conf',
        '/usr/lib/systemd',
      ],
      [
        { '/etc/systemd/system/lxc@web.service.d/60-container.conf': '[Unit]\n' },
        '/etc/systemd/system/lxc@web.service.d/60-container.conf',
        '/run/systemd/generator',
      ],
      [
        { '/etc/systemd/system/lxc.service.d/50-lockerd.conf': '' },
        '/etc/systemd/system/lxc.service.d/50-lockerd.conf',
        '/usr/lib/systemd',
      ],
    ],
    silent: [{ '/etc/systemd/system/lxc@web.service.d/90-own.conf': '[Service]\nNice=5\n' }],
  },
  'drop-in-defeats': {
    fires: [
      [
        { '/etc/systemd/system/lxc@web.service.d/zz.conf': '[Service]\nKillMode=control-group\n' },
        '/etc/systemd/system/lxc@web.service.d/zz.conf:2',
        'KillMode',
      ],
      [
        { '/etc/systemd/system/lxc@.service.d/00.conf': '[Service]\nPrivateTmp=yes\n' },
        '/etc/systemd/system/lxc@.service.d/00.conf:2',
        'PrivateTmp',
      ],
      [
        { '/etc/systemd/system/lxc@web.service.d/zz.conf': '[Unit]\nDefaultDependencies=no\n' },
        '/etc/systemd/system/lxc@web.service.d/zz.conf:2',
        'DefaultDependencies',
      ],
      [
        { '/etc/systemd/system/service.d/all.conf': '[Service]\nProtectHome=yes\n' },
        '/etc/systemd/system/service.d/all.conf:2',
        'ProtectHome',
      ],
      [
        {
          '/etc/systemd/system/lxc.service.d/override.conf':
            '[Service]\nExecStop=/usr/libexec/lxc/lxc-containers stop\n',
        },
        '/etc/systemd/system/lxc.service.d/override.conf:2',
        'ExecStop',
      ],
    ],
    silent: [
      {
        '/etc/systemd/system/lxc@web.service.d/zz.conf':
          '[Service]\nKillMode=mixed\nPrivateTmp=no\nMemoryMax=1G\n',
      },
      { '/etc/systemd/system/lxc@web.service.d/zz.conf': '[Unit]\nDefaultDependencies=yes\n' },
      // Ours comes later.
      { '/etc/systemd/system/lxc@web.service.d/00.conf': '[Service]\nKillMode=control-group\n' },
      Object.fromEntries(
        ['lxc@', 'lxc'].map((unit) => {
          const file = `system/${unit}.service.d/50-lockerd.conf`;
          return [`/usr/lib/systemd/${file}`, readFileSync(join('units', file), 'utf8')];
        }),
      ),
    ],
  },
};

test('on a sound host nothing is found', () => {
  expect(findingsOf({})).toEqual([]);
});

test('every check has a host on which it fires', () => {
  expect(Object.keys(rows).sort()).toEqual(Object.keys(checks).sort());
  for (const [id, { fires }] of Object.entries(rows)) expect(fires, id).not.toEqual([]);
});

describe.each(Object.entries(rows))('%s', (id, { fires, silent = [] }) => {
  test.each(fires)('fires %#', (changes, place, what) => {
    const found = findingsOf(changes).filter((finding) => finding.id === id);
    const shown = found.map(({ file, line, what: said }) => ({
      at: line > 0 ? `${file}:${line}` : file,
      said,
    }));
    expect(shown).toContainEqual({ at: place, said: expect.stringMatching(what) as string });
    for (const finding of found) {
      expect(finding).toMatchObject(checks[id as CheckId]);
      expect(finding.remedy).not.toBe('');
    }
  });

  test.each(silent.map((changes) => [changes]))('is silent %#', (changes) => {
    expect(findingsOf(changes).filter((finding) => finding.id === id)).toEqual([]);
  });
});

test('a drop-in of the template is told once, of the host', () => {
  const changes = {
    '/etc/systemd/system/lxc@.service.d/90.conf': '[Service]\nPrivateTmp=yes\n',
    ...second('lxc.net.0.type = empty\n'),
  };
  const found = findingsOf(changes).filter(({ id }) => id === 'drop-in-defeats');
  expect(found.map(({ container }) => container)).toEqual([undefined]);
});

test('with names, only they and the host are told of', () => {
  const changes = {
    ...plus('lxc.utsname = x'),
    ...second('lxc.tty = 4\n'),
    '/usr/bin/lxc-start': undefined,
  };
  const subjects = (names: string[]): (string | undefined)[] => [
    ...new Set(findingsOf(changes, names).map(({ container }) => container)),
  ];
  expect(subjects([])).toEqual([undefined, 'db', 'web']);
  expect(subjects(['web'])).toEqual([undefined, 'web']);
  const { unknown } = withHostTree(soundHost, (root) => checkHost(root, ['wbe'], new Files('')));
  expect(unknown).toEqual(['wbe']);
});

test("the signals that hooks/guest-signals sends are among each init's", () => {
  const hook = readFileSync(
    fileURLToPath(new URL('../../hooks/guest-signals', import.meta.url)),
    'utf8',
  );
  const sent = [...hook.matchAll(/^ {8}([a-z0-9| -]+)\) (?:hears \d+ \|\| )?echo ([\d ]+) ;;$/gm)];
  const byProgram = sent.flatMap(([, programs = '', signals = '']) =>
    programs
      .split(' | ')
      .map((program): [string, number[]] => [program, signals.split(' ').map(Number)]),
  );
  expect(byProgram.length).toBeGreaterThan(6);
  for (const [program, signals] of byProgram) {
    // Both need a file of the guest, or are told by another name.
    if (program === 'toybox' || program === 'runit') continue;
    expect(haltSignals, program).toHaveProperty([program], expect.arrayContaining(signals));
  }
});

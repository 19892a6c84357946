import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** Files of a host by path: a text, `-> TARGET` for a symbolic link, undefined for none. */
export type HostTree = Readonly<Record<string, string | Buffer | undefined>>;

/** Makes the files below a directory that goes away after the use. */
export function withHostTree<T>(tree: HostTree, use: (root: string) => T): T {
  const root = mkdtempSync(join(tmpdir(), 'lockerd-tree-'));
  const remove = (): void => {
    rmSync(root, { recursive: true, force: true });
  };
  let isUsed = false;
  try {
    for (const [path, text] of Object.entries(tree)) {
      if (text === undefined) continue;
      const file = join(root, path);
      mkdirSync(dirname(file), { recursive: true });
      if (Buffer.isBuffer(text)) writeFileSync(file, text);
      else if (text.startsWith('-> ')) symlinkSync(text.slice('-> '.length), file);
      else if (path.endsWith('/')) mkdirSync(file, { recursive: true });
      else writeFileSync(file, text, { mode: text.startsWith('#!') ? 0o755 : 0o644 });
    }
    const used = use(root);
    if (!(used instanceof Promise)) return used;
    isUsed = true;
    return used.finally(remove) as T;
  } finally {
    if (!isUsed) remove();
  }
}

export const config = [
  'lxc.uts.name = web',
  'lxc.rootfs.path = dir:/srv/web',
  'lxc.net.0.type = veth',
  'lxc.net.0.link = br0',
  'lxc.net.0.flags = up',
  'lxc.net.0.hwaddr = 00:16:3e:00:00:01',
  'lxc.start.auto = 1',
  '',
].join('\n');

export const mountinfo = [
  '21 1 8:1 / / rw - ext4 /dev/sda1 rw',
  '22 21 0:20 / /sys rw - sysfs sysfs rw',
  '23 22 0:21 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw',
  '',
].join('\n');

/** A host with one container, on which nothing is wrong. */
export const soundHost: HostTree = {
  '/usr/bin/lxc-start': '#!/bin/sh\n',
  '/usr/lib/systemd/system/poweroff.target': '[Unit]\nJobTimeoutSec=30min\n',
  '/usr/lib/systemd/system/lxc@.service.d/50-lockerd.conf': '[Service]\nKillMode=mixed\n',
  '/usr/lib/systemd/system/lxc.service.d/50-lockerd.conf': '[Service]\nExecStop=\n',
  '/run/systemd/generator/lxc@web.service.d/60-container.conf': '[Service]\nKillSignal=SIGPWR\n',
  '/etc/fstab': '/dev/sda1 / ext4 defaults 0 1\n',
  '/proc/self/mountinfo': mountinfo,
  '/proc/1/mountinfo': mountinfo,
  '/proc/meminfo': 'MemTotal:        4194304 kB\n',
  ...Object.fromEntries(
    ['mnt', 'pid', 'uts', 'ipc', 'net', 'user'].map((ns) => [`/proc/self/ns/${ns}`, '']),
  ),
  '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
  '/sys/class/net/br0/ifindex': '3\n',
  '/sys/devices/system/cpu/present': '0-3\n',
  '/var/lib/lxc/web/config': config,
  '/srv/web/sbin/init': '-> ../lib/systemd/systemd',
  '/srv/web/lib/systemd/systemd': 'ELF',
};

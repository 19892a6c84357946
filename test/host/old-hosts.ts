/**
 * Five hosts as they were, each with what its configurations need: links, root file systems, bridges and
 * volumes. Two things are others than they were. Guests are busybox in the place of whole distributions,
 * because only LXC's side of them matters here. Volumes are loop devices with the names that LVM and
 * kpartx would give them: a test host shares the kernel of the machine, which may have no device-mapper.
 */

import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { bootHost, type Host } from './host.ts';

interface OldGuest {
  readonly name: string;
  /** A directory, or a block device. */
  readonly rootfs: string;
  /** What starts it at boot, as the import reads it; undefined where nothing does. */
  readonly startedBy?: string;
  readonly address?: string;
  readonly lockers?: readonly string[];
  readonly memoryMax?: number;
}

export interface OldHost {
  readonly name: string;
  readonly bridge: string;
  readonly links?: Readonly<Record<string, string>>;
  readonly guests: readonly OldGuest[];
  /** Block devices beside those of the root file systems. */
  readonly volumes?: readonly string[];
  /** What the import has to say beside its changes. */
  readonly notes?: readonly RegExp[];
}

export const oldHosts: readonly OldHost[] = [
  {
    name: 'gentoo',
    bridge: 'brwan',
    links: {
      '/etc/lxc/funtoo0/config': '/lxc/funtoo0/config',
      '/etc/init.d/lxc.funtoo0': '/etc/init.d/lxc',
      '/etc/runlevels/default/lxc.funtoo0': '/etc/init.d/lxc.funtoo0',
    },
    guests: [
      {
        name: 'funtoo0',
        rootfs: '/lxc/funtoo0/rootfs',
        startedBy: '/etc/runlevels/default/lxc.funtoo0',
        memoryMax: 512 * 1024 ** 2,
      },
    ],
  },
  {
    name: 'lenny',
    bridge: 'br0',
    guests: [{ name: 'web', rootfs: '/var/cache/lxc/debian/rootfs.web', address: '192.0.2.21/24' }],
  },
  {
    name: 'centos',
    bridge: 'virbr0',
    guests: [
      { name: 'myfedora', rootfs: '/var/lib/lxc/myfedora/rootfs', memoryMax: 1_999_998_976 },
    ],
  },
  {
    name: 'ganeti',
    bridge: 'br0',
    guests: [
      {
        name: 'instance1.example.com',
        rootfs: '/dev/mapper/loop0p1',
        memoryMax: 1024 ** 3,
      },
    ],
    notes: [/^instance1\.example\.com: Ganeti/, /^instance1\.example\.com: its root .*kpartx/],
  },
  {
    name: 'bunker',
    bridge: 'br0',
    guests: [
      {
        name: 'bunker_vm',
        rootfs: '/dev/raid1/bunker_rootfs',
        address: '192.0.2.10/24',
        lockers: ['bunker_vol', 'sandbox'],
      },
      {
        name: 'ops',
        rootfs: '/dev/raid1/ops_rootfs',
        address: '192.0.2.11/24',
        lockers: ['sandbox'],
      },
    ],
    volumes: ['/dev/raid1/bunker_vol', '/dev/raid1/sandbox', '/dev/raid1/music'],
  },
];

const fixtures = path.resolve(import.meta.dirname, '../fixtures/old-hosts');

/** One of them on a test host that runs. */
export class MovedHost {
  readonly host: Host;
  readonly #old: OldHost;
  readonly #loops: string[] = [];
  readonly #images = mkdtempSync(path.join(tmpdir(), 'lockerd-volumes-'));

  private constructor(host: Host, old: OldHost) {
    this.host = host;
    this.#old = old;
  }

  /** Boots a host and copies the old one's files to it, as somebody does who moves. */
  static async make(old: OldHost): Promise<MovedHost> {
    const moved = new MovedHost(await bootHost({ name: old.name, boot: false }), old);
    try {
      moved.#addBridge();
      moved.#addVolumes();
      await moved.host.boot();
      await moved.#copyFiles();
      return moved;
    } catch (error) {
      await moved.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.host.close();
    for (const loop of this.#loops) execFileSync('losetup', ['--detach', loop]);
    rmSync(this.#images, { recursive: true });
  }

  /** By networkd, as a site has it today. */
  #addBridge(): void {
    const { bridge } = this.#old;
    const network = '/etc/systemd/network';
    this.#write(`${network}/${bridge}.netdev`, `[NetDev]\nName=${bridge}\nKind=bridge\n`);
    this.#write(
      `${network}/${bridge}.network`,
      `[Match]\nName=${bridge}\n\n[Network]\nAddress=192.0.2.1/24\nConfigureWithoutCarrier=yes\n`,
    );
    rmSync(`${this.host.root}/etc/systemd/system/systemd-networkd.service`);
    this.#link(
      '/etc/systemd/system/multi-user.target.wants/systemd-networkd.service',
      '/lib/systemd/system/systemd-networkd.service',
    );
  }

  /** Each volume is known to udev under its name before file systems are mounted. */
  #addVolumes(): void {
    const { guests, volumes = [] } = this.#old;
    const roots = guests.map(({ rootfs }) => rootfs).filter((name) => name.startsWith('/dev/'));
    const rules: string[] = [];
    for (const [index, name] of [...roots, ...volumes].entries()) {
      const image = path.join(this.#images, `${index}.img`);
      const tree = roots.includes(name) ? ['-d', this.#guestTree(`guest-${index}`)] : [];
      execFileSync('mke2fs', ['-q', '-t', 'ext4', ...tree, image, '16M']);
      const loop = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8' });
      this.#loops.push(loop.trim());
      const kernel = path.basename(loop.trim());
      rules.push(`KERNEL=="${kernel}", SYMLINK+="${name.slice('/dev/'.length)}"\n`);
    }
    if (rules.length === 0) return;
    this.#write('/etc/udev/rules.d/60-volumes.rules', rules.join(''));
    const nodes = this.#loops.map((loop) => `mknod ${loop} b 7 ${loop.replace(/\D/g, '')};`);
    this.#write(
      '/etc/systemd/system/volumes.service',
      `[Unit]\nDescription=Volumes\nDefaultDependencies=no\nAfter=systemd-udevd.service
Before=local-fs-pre.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes
ExecStart=/bin/sh -c '${nodes.join(' ')} exec udevadm trigger --settle ${this.#loops.join(' ')}'\n`,
    );
    this.#link(
      '/etc/systemd/system/local-fs.target.wants/volumes.service',
      '/etc/systemd/system/volumes.service',
    );
  }

  /** The root file system of a guest, below the directory of the images. */
  #guestTree(name: string): string {
    const tree = path.join(this.#images, name);
    this.#makeGuest(tree);
    return tree;
  }

  /** LXC before version 1 mounted nothing in the guest by itself. */
  #makeGuest(directory: string): void {
    cpSync(`${this.host.root}/usr/share/testguests/busybox/rootfs`, directory, {
      recursive: true,
      verbatimSymlinks: true,
    });
    appendFileSync(`${directory}/etc/fstab`, '');
    writeFileSync(`${directory}/etc/init.d/rcS`, '#!/bin/sh\n');
  }

  async #copyFiles(): Promise<void> {
    const { name, links = {}, guests } = this.#old;
    for (const file of readdirSync(path.join(fixtures, name), { recursive: true })) {
      const from = path.join(fixtures, name, String(file));
      if (!lstatSync(from).isFile()) continue;
      const text = readFileSync(from, 'utf8');
      await this.host.writeFile(`/${String(file)}`, text, text.startsWith('#!') ? 0o755 : 0o644);
    }
    for (const [link, target] of Object.entries(links)) this.#link(link, target);
    for (const { rootfs } of guests) {
      if (!rootfs.startsWith('/dev/')) this.#makeGuest(this.host.root + rootfs);
    }
    await this.host.run('systemctl', ['daemon-reload']);
  }

  #write(file: string, text: string): void {
    mkdirSync(path.dirname(this.host.root + file), { recursive: true });
    writeFileSync(this.host.root + file, text);
  }

  #link(link: string, target: string): void {
    mkdirSync(path.dirname(this.host.root + link), { recursive: true });
    symlinkSync(target, this.host.root + link);
  }

  /** Each file, link and directory that an import may touch, with all that an undo has to restore. */
  snapshot(): Record<string, string> {
    const found: Record<string, string> = {};
    const visit = (name: string): void => {
      const file = this.host.root + name;
      const stat = lstatSync(file, { throwIfNoEntry: false });
      if (stat === undefined || path.basename(name).startsWith('rootfs')) return;
      const rights = `${stat.uid}:${stat.gid} ${stat.mode.toString(8)}`;
      if (stat.isDirectory()) {
        found[name] = `directory ${rights}`;
        for (const child of readdirSync(file)) visit(`${name}/${child}`);
      } else if (stat.isSymbolicLink()) {
        found[name] = `link ${rights} ${readlinkSync(file)}`;
      } else if (stat.isFile()) {
        found[name] = `file ${rights} ${stat.mtimeMs}\n${readFileSync(file, 'latin1')}`;
      }
    };
    for (const name of ['/etc', '/lxc', '/var/lib/lxc', '/var/cache/lxc', '/var/backups']) {
      visit(name);
    }
    return found;
  }
}

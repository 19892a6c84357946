import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { gpt, mbr, writeDisk } from '../machines/disk-images.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  answerOfGuest,
  expectState,
  guestPid,
  journalOf,
  offline,
  systemctl,
  trySystemctl,
} from '../machines/support.ts';
import type { GuestKind } from '../machines/test-host.ts';
import { bootHost, type Host } from './host.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 900_000 });

const mib = 2048;
const sizeMib = 70;
const rootMib = 64;
/** Where the second partition of each disk begins, in MiB; the first one has no file system. */
const atMib = 3;
const both = [
  { start: mib, sectors: mib },
  { start: atMib * mib, sectors: rootMib * mib },
];
const huge = 2n ** 62n;

/** Disks with a root file system in their second partition, by the name of a container. */
const disks = {
  gpt: gpt(both, sizeMib * mib * 512),
  mbr: mbr(both),
  // The same places, in sectors of 4096 bytes.
  large: gpt(
    both.map(({ start, sectors }) => ({ start: start / 8, sectors: sectors / 8 })),
    sizeMib * mib * 512,
    4096,
  ),
} as const;

/** What a guest may have written, with a part of what the unit says to it. */
const hostile = {
  beyond: [mbr([both[0] ?? never(), { start: atMib * mib, sectors: 0xffffffff }]), 'beyond'],
  extended: [
    mbr([both[0] ?? never(), { ...both[1], start: 3 * mib, sectors: mib, type: 5 }]),
    'extended',
  ],
  overflow: [
    gpt([both[0] ?? never(), { start: huge, sectors: huge }], sizeMib * mib * 512),
    'not in',
  ],
  empty: [mbr(both.slice(0, 1)), 'not in'],
  none: [Buffer.from('not a disk'), 'not in'],
} as const;

function never(): never {
  throw new Error('there are two partitions');
}

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'disks', boot: false });
  await host.createContainer('model', 'busybox', { config: offline });
  const root = `${host.root}/var/lib/lxc/model/rootfs`;
  const image = `${host.root}/srv/root.img`;
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', root, image, `${rootMib}M`]);
  for (const [name, head] of Object.entries(disks)) {
    const contents = [{ atMib, from: image }];
    writeDisk(`${host.root}/srv/${name}.img`, sizeMib, head, contents);
    await makeContainer(name);
  }
  for (const [name, [head]] of Object.entries(hostile)) {
    writeDisk(`${host.root}/srv/${name}.img`, sizeMib, head);
    await makeContainer(name);
  }
  await makeMapped();
  await host.boot();
  await host.shell(`
    test -c /dev/loop-control || mknod /dev/loop-control c 10 237
    for n in $(seq 0 63); do test -b /dev/loop$n || mknod /dev/loop$n b 7 $n; done`);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

/** A container with the second partition of /srv/NAME.img as its root file system. */
async function makeContainer(
  name: string,
  kind: GuestKind = 'busybox',
  config = offline,
): Promise<void> {
  await host.createContainer(name, kind, { config });
  const file = `/var/lib/lxc/${name}/config`;
  const text = await host.readFile(file);
  const path = `lxc.rootfs.path = loop:/srv/${name}.img`;
  await host.writeFile(file, text.replace(/^lxc\.rootfs\.path.*$/m, path));
  await host.writeFile(`/etc/lockerd/containers/${name}.conf`, 'rootfs-partition = 2\n');
}

/** A guest with ids of its own; that with busybox would bind directories of the host. */
async function makeMapped(): Promise<void> {
  const idmap = ['u', 'g'].map((kind) => `lxc.idmap = ${kind} 0 100000 65536`);
  await makeContainer('mapped', 'sysvinit', [...offline, ...idmap]);
  const root = `${host.root}/var/lib/lxc/mapped/rootfs`;
  const image = `${host.root}/srv/mapped-root.img`;
  execFileSync('chown', ['-R', '100000:100000', root]);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', root, image, '300M']);
  const partitions = [
    { start: mib, sectors: mib },
    { start: atMib * mib, sectors: 300 * mib },
  ];
  const contents = [{ atMib, from: image }];
  writeDisk(`${host.root}/srv/mapped.img`, 304, mbr(partitions), contents);
}

/** Loop devices of this host's images; others belong to the machine. */
async function loops(): Promise<string[]> {
  const columns = 'NAME,BACK-FILE,OFFSET,SIZELIMIT';
  const { stdout } = await host.run('losetup', ['--list', '--noheadings', '--raw', '-O', columns]);
  return stdout.split('\n').filter((line) => / \/srv\/|\/srv\/\w+\.img/.test(line) && isOurs(line));
}

function isOurs(line: string): boolean {
  return [...Object.keys(disks), ...Object.keys(hostile), 'mapped'].some((name) =>
    line.includes(`/${name}.img`),
  );
}

async function untilReleased(name: string): Promise<void> {
  await host.waitFor(`the partition of ${name} is given back`, async () => {
    return (await loops()).length === 0;
  });
  await host.waitFor(`lxc-disk@${name} is inactive`, async () => {
    return (await host.unit(`lxc-disk@${name}`))['ActiveState'] === 'inactive';
  });
  expect(await host.exists(`/run/lockerd/disks/${name}`)).toBe(false);
}

test.each(['gpt', 'mbr', 'large'])('a partition of a disk: %s', async (name) => {
  await systemctl(host, 'start', `lxc@${name}`);
  await host.waitForGuest(name);
  expect(await loops()).toEqual([
    expect.stringMatching(`/srv/${name}\\.img ${atMib * mib * 512} ${rootMib * mib * 512}$`),
  ]);
  const pid = await guestPid(host, name);
  const device = `/run/lockerd/disks/${name}/device`;
  const { stdout } = await host.run('sh', [
    '-c',
    `stat -c %d /proc/${pid}/root/.; d=$(stat -Lc '0x%t * 256 + 0x%T' ${device}); echo $(($d))`,
  ]);
  const [guest, loop] = stdout.trim().split('\n');
  expect(guest).toBe(loop);
  expect(await answerOfGuest(host, name, 'echo kept > /srv-word; cat /srv-word')).toBe('kept\n0\n');
  await systemctl(host, 'stop', `lxc@${name}`);
  expect(await host.unit(`lxc@${name}`)).toMatchObject({ Result: 'success' });
  await untilReleased(name);

  await systemctl(host, 'start', `lxc@${name}`);
  await host.waitForGuest(name);
  expect(await answerOfGuest(host, name, 'cat /srv-word')).toBe('kept\n0\n');
  await systemctl(host, 'stop', `lxc@${name}`);
  await untilReleased(name);
});

test('the guest can reboot, and a restart takes the image that is there then', async () => {
  await systemctl(host, 'start', 'lxc@gpt');
  await host.waitForGuest('gpt');
  const before = await guestPid(host, 'gpt');
  const [device] = await loops();
  await host.run('lxc-attach', ['-n', 'gpt', '--', 'reboot'], { reject: false });
  await host.waitFor('the guest has rebooted', async () => {
    const pid = await guestPid(host, 'gpt');
    return pid !== undefined && pid !== before;
  });
  await host.waitForGuest('gpt');
  expect(await loops()).toEqual([device]);
  await expectState(host, 'lxc@gpt', 'active');
  await host.shell('cp --sparse=always /srv/mbr.img /srv/new && mv /srv/new /srv/gpt.img');
  await systemctl(host, 'restart', 'lxc@gpt');
  await host.waitForGuest('gpt');
  const inode = (await host.run('stat', ['-c', '%i', '/srv/gpt.img'])).stdout.trim();
  const { stdout } = await host.run('losetup', ['-lnO', 'BACK-INO', '-j', '/srv/gpt.img']);
  expect(stdout.trim()).toBe(inode);
  await systemctl(host, 'stop', 'lxc@gpt');
  await untilReleased('gpt');
});

test('a guest with ids of its own', async () => {
  for (const file of ['subuid', 'subgid']) {
    await host.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
  await host.shell(`
    chmod 711 /var/lib/lxc/mapped
    chmod 600 /srv/mapped.img
    chown 100000 /srv/mapped.img`);
  await systemctl(host, 'start', 'lxc@mapped');
  await host.waitForGuest('mapped');
  await systemctl(host, 'stop', 'lxc@mapped');
  await untilReleased('mapped');
});

describe('the device goes with the container, whatever ends that', () => {
  test.each([
    ['its monitor is killed', 'systemctl kill --signal=KILL --kill-whom=main lxc@mbr'],
    ['all its processes are killed', 'systemctl kill --signal=KILL lxc@mbr'],
  ])('%s', async (_how, command) => {
    await systemctl(host, 'start', 'lxc@mbr');
    await host.waitForGuest('mbr');
    await host.shell(command);
    await untilReleased('mbr');
    await systemctl(host, 'reset-failed', 'lxc@mbr');
    await systemctl(host, 'start', 'lxc@mbr');
    await host.waitForGuest('mbr');
    await systemctl(host, 'stop', 'lxc@mbr');
    await untilReleased('mbr');
  });

  test('its start fails', async () => {
    await host.shell(`sed -i '/lxc.init.cmd/d' /var/lib/lxc/mbr/config
      echo lxc.init.cmd = /no/init >>/var/lib/lxc/mbr/config`);
    expect((await trySystemctl(host, 'start', 'lxc@mbr')).exitCode).toBe(1);
    await untilReleased('mbr');
    await host.shell(`sed -i '/no.init/d' /var/lib/lxc/mbr/config`);
    await systemctl(host, 'reset-failed', 'lxc@mbr');
  });

  test('what opens the partition is killed when the device is there', async () => {
    const slow =
      '#!/bin/sh\n/usr/sbin/losetup "$@"; status=$?\ncase "$*" in --offset*) sleep 60 ;; esac\nexit $status\n';
    await host.writeFile('/usr/local/bin/losetup', slow, 0o755);
    await systemctl(host, 'start', '--no-block', 'lxc@mbr');
    await host.waitFor('the loop device is there', async () => (await loops()).length === 1);
    await host.shell('systemctl kill --signal=KILL --kill-whom=main lxc-disk@mbr');
    await host.waitFor('the start has failed', async () => {
      return (await host.unit('lxc@mbr'))['ActiveState'] === 'failed';
    });
    expect(await loops()).toEqual([]);
    await host.shell('rm /usr/local/bin/losetup; systemctl reset-failed lxc@mbr lxc-disk@mbr');
  });

  test('lockerd is removed: a running guest keeps it until it stops', async () => {
    await systemctl(host, 'start', 'lxc@mbr');
    await host.waitForGuest('mbr');
    await host.shell(
      'for device in /run/lockerd/disks/*/device; do losetup --detach "$device"; done',
    );
    expect(await answerOfGuest(host, 'mbr', 'cat /srv-word')).toBe('kept\n0\n');
    await systemctl(host, 'stop', 'lxc@mbr');
    await untilReleased('mbr');
  });
});

describe('a disk that is not as it should be', () => {
  test.each(Object.entries(hostile))('%s', async (name, [, says]) => {
    expect((await trySystemctl(host, 'start', `lxc@${name}`)).exitCode).toBe(1);
    expect(await journalOf(host, `lxc-disk@${name}`)).toContain(says);
    expect(await journalOf(host, `lxc@${name}`)).toContain(
      `systemctl status 'lxc-disk@${name}.service'`,
    );
    expect(await loops()).toEqual([]);
  });

  test('one that is in use is left alone', async () => {
    const loop = (await host.run('losetup', ['--find', '--show', '/srv/gpt.img'])).stdout.trim();
    expect((await trySystemctl(host, 'start', 'lxc@gpt')).exitCode).toBe(1);
    expect(await journalOf(host, 'lxc-disk@gpt')).toContain(`in use by ${loop}`);
    expect(await loops()).toHaveLength(1);
    await host.run('losetup', ['--detach', loop]);
    // The first partition is none of the container's business.
    const first = ['--find', '--show', '--offset', '1048576', '--sizelimit', '1048576'];
    const other = (await host.run('losetup', [...first, '/srv/gpt.img'])).stdout.trim();
    await systemctl(host, 'reset-failed', 'lxc@gpt', 'lxc-disk@gpt');
    await systemctl(host, 'start', 'lxc@gpt');
    await host.waitForGuest('gpt');
    await systemctl(host, 'stop', 'lxc@gpt');
    await host.waitFor('only the other one is left', async () => {
      const left = await loops();
      return left.length === 1 && left[0]?.startsWith(`${other} `) === true;
    });
    await host.run('losetup', ['--detach', other]);
  });
});

test('a disk on a read-only file system, with a root file system that is mounted read-only', async () => {
  await host.shell(`
    mkdir -p /srv/ro && cp --sparse=always /srv/gpt.img /srv/ro/gpt.img
    mount --bind /srv/ro /srv/ro && mount -o remount,bind,ro /srv/ro
    sed -i 's|loop:/srv/gpt|loop:/srv/ro/gpt|; $a lxc.rootfs.options = ro' /var/lib/lxc/gpt/config`);
  await systemctl(host, 'daemon-reload');
  await systemctl(host, 'start', 'lxc@gpt');
  const { stdout } = await host.run('losetup', ['-lnO', 'RO', '-j', '/srv/ro/gpt.img']);
  expect(stdout.trim()).toBe('1');
  expect(await answerOfGuest(host, 'gpt', 'touch /x')).toContain('Read-only');
  await systemctl(host, 'stop', 'lxc@gpt');
  await untilReleased('gpt');
});

test('fifty starts and stops leave no loop device', async () => {
  for (let round = 0; round < 50; round++) {
    await systemctl(host, 'start', 'lxc@mbr');
    // Some ends come while the guest still boots.
    if (round % 5 === 0) {
      await host.waitForGuest('mbr');
      await systemctl(host, 'stop', 'lxc@mbr');
    } else {
      await systemctl(host, 'kill', '--signal=KILL', '--kill-whom=main', 'lxc@mbr');
      await host.waitFor('it has failed', async () => {
        return (await host.unit('lxc@mbr'))['ActiveState'] === 'failed';
      });
      await systemctl(host, 'reset-failed', 'lxc@mbr');
    }
  }
  await untilReleased('mbr');
});

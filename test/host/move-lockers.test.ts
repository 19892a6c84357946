/** lockerctl move with lockers, drop-ins and limits, between two booted hosts. */

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { RunResult } from '../machines/execute.ts';
import { addresses } from '../machines/ssh-pair.ts';
import { expectState, offline } from '../machines/support.ts';
import type { Host } from './host.ts';
import { createOddGuest } from './odd-guest.ts';
import { bootPair, type Pair } from './pair.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 300_000 });

const loops = `
    test -c /dev/loop-control || mknod /dev/loop-control c 10 237
    for n in $(seq 0 63); do test -b /dev/loop$n || mknod /dev/loop$n b 7 $n; done`;

const address = `root@${addresses.target}`;

let pair: Pair;
let source: Host;
let target: Host;

const move = (...options: string[]): Promise<RunResult> => moveOf('web', ...options);

const moveOf = (name: string, ...options: string[]): Promise<RunResult> =>
  source.run('lockerctl', ['move', name, address, ...options], {
    reject: false,
    timeoutMs: 170_000,
  });

/** Of a root file system. */
const treeAt = async (host: Host, path: string): Promise<string> =>
  (
    await host.shell(`cd ${path}
    find . -xdev ! -path './dev*' ! -path './run*' ! -path './var/*' ! -path ./lost+found ! -name numbers \
      ! -name shutdown-marker ! -type d -printf '%p %y %m %U %G %n %l\\n' | sort
    find . -xdev ! -path './dev*' -type d ! -path ./lost+found -printf '%p %m %U %G\\n' | sort
    getfattr -d -m user odd/file; getfacl -n -p odd/file`)
  ).stdout;

/** Names, owners, modes, attributes and content of all files in a locker. */
async function contentOf(host: Host, locker: string): Promise<string> {
  const { stdout } = await host.shell(`cd /lockers/${locker}
    find . ! -path ./lost+found -printf '%p %y %m %U %G %l\\n' | sort
    find . -type f -printf '%p %n\\n' | sort
    find . -type f -exec sha256sum '{}' + | sort
    find . ! -type l | sort | xargs -d '\\n' getfacl -n -p
    find . | sort | xargs -d '\\n' getfattr -h -d -m user 2>/dev/null || true`);
  return stdout;
}

/** A locker of the move that has no end yet, or one by its own name. */
async function lockersOf(host: Host): Promise<string[]> {
  const { stdout } = await host.run('lockerctl', ['lockers', '--quiet']);
  return stdout.split('\n').filter((name) => name !== '');
}

beforeAll(async () => {
  pair = await bootPair();
  ({ source, target } = pair);
  await source.shell(`
    echo 'tmpfs /lockers/music tmpfs size=48M,mode=755 0 0
tmpfs /lockers/shared tmpfs size=8M 0 0' >>/etc/fstab
    mkdir -p /lockers/music /lockers/shared`);
  // A file system of its own in a file, as a store of subvolumes.
  await target.shell(`${loops}
    truncate -s 400M /store.img && mkfs.btrfs -q /store.img && mkdir -p /srv/tree /lockers/shared
    mount -o loop /store.img /srv/tree
    echo 'tmpfs /lockers/shared tmpfs size=8M 0 0' >>/etc/fstab`);
  await target.writeFile(
    '/etc/lockerd/lockerd.conf',
    '[store tree]\ntype = btrfs\npath = /srv/tree\ndefinition = fstab\n',
  );
  await source.createContainer('web', 'busybox', { config: offline });
  await source.writeFile('/etc/lockerd/containers/web.conf', 'lockers = music shared:ro\n');
  await source.writeFile(
    '/etc/systemd/system/lxc@web.service.d/override.conf',
    '[Service]\nNice=5\n',
  );
  for (const host of [source, target]) {
    await host.shell('systemctl daemon-reload && mount -a');
  }
  await source.shell(`systemctl set-property lxc@web.service TasksMax=555
    cd /lockers/music && echo song >song && ln song again && ln -s /etc/passwd out && mkdir -m 2775 dir
    chown 1000:1000 song && setfacl -m u:7:r song && truncate -s 5M holes && mknod null c 1 3
    systemctl start lxc@web`);
  await source.waitForGuest('web');
});
afterAll(async () => {
  // The machine's loop devices outlive the host.
  await source.shell('umount /mnt || true; losetup -d $(losetup -nO NAME -j /disk.img)', {
    reject: false,
  });
  await pair[Symbol.asyncDispose]();
});

test('a locker that the target does not have is copied only if that is asked for', async () => {
  const refused = await move();
  expect(refused).toMatchObject({ exitCode: 1 });
  expect(refused.stderr).toContain('there is no locker "music"; --with-lockers makes it');
  expect(refused.stderr).not.toContain('"shared"');
  const elsewhere = await move('--with-lockers', '--store=absent');
  expect(elsewhere.stderr).toContain('there is no store "absent"');
  const dry = await move('--with-lockers', '--dry-run');
  expect(dry).toMatchObject({ exitCode: 0 });
  expect(dry.stderr).toContain('locker "shared" is there already, and taken to be the same one');
  expect(await lockersOf(target)).toEqual(['shared']);
});

test('one that another container may write to is not', async () => {
  await source.createContainer('db', 'busybox', { config: offline });
  await source.writeFile('/etc/lockerd/containers/db.conf', 'lockers = music\n');
  await source.shell('systemctl daemon-reload && systemctl start lxc@db');
  expect((await move('--with-lockers')).stderr).toContain('"music" is also attached to db');
  await source.shell('systemctl stop lxc@db');
});

test('a move that fails leaves no locker by its name', async () => {
  await target.writeFile(
    '/usr/local/bin/systemctl',
    '#!/bin/sh\ncase "$*" in "start -- lxc@"*) exit 1 ;; esac\nexec /usr/bin/systemctl "$@"\n',
    0o755,
  );
  const failed = await move('--with-lockers');
  await target.shell('rm /usr/local/bin/systemctl');
  expect(failed).toMatchObject({ exitCode: 1 });
  expect(failed.stderr).toContain('it runs here as before');
  await expectState(source, 'lxc@web.service', 'active');
  await target.waitFor('the locker has lost its name', async () => {
    const names = await lockersOf(target);
    return names.includes('shared') && !names.includes('music');
  });
  expect((await lockersOf(target)).some((name) => name.startsWith('lockerd-move-'))).toBe(true);
  const { stdout } = await target.shell(
    'ls -d /var/lib/lxc/web /etc/systemd/system/lxc@web.service.d /etc/systemd/system.control/lxc@web.service.d || true',
  );
  expect(stdout).toBe('');
});

test('a move with lockers, drop-ins and limits has all of them there', async () => {
  const moved = await move('--with-lockers');
  expect(moved).toMatchObject({ exitCode: 0 });
  await expectState(target, 'lxc@web.service', 'active');
  expect(await lockersOf(target)).toEqual(['music', 'shared']);
  expect(await lockersOf(source)).toEqual(['music', 'shared']);
  expect(await contentOf(target, 'music')).toBe(await contentOf(source, 'music'));
  const look = JSON.parse((await target.run('lockerctl', ['lockers', '--json'])).stdout) as {
    locker: string;
    store: string;
    attached: { container: string }[];
  }[];
  expect(look.find(({ locker }) => locker === 'music')).toMatchObject({ store: 'tree' });
  expect(await target.unit('lxc@web.service')).toMatchObject({ Nice: '5', TasksMax: '555' });
  const { stdout } = await target.shell('findmnt -rno TARGET | grep -c "web/music"');
  expect(Number(stdout.trim().split('\n').at(-1))).toBeGreaterThan(0);
});

test('a root file system on a device is copied while its guest has it mounted', async () => {
  await createOddGuest(source, 'disk');
  const { stdout } = await source.shell(`${loops}
    cd /var/lib/lxc/disk && truncate -s 300M /disk.img && mkfs.ext4 -q -m 0 /disk.img
    device=$(losetup -f --show /disk.img) && mount $device /mnt && cp -a rootfs/. /mnt/ && umount /mnt
    rm -r rootfs && mkdir rootfs && sed -i "s|^lxc.rootfs.path.*|lxc.rootfs.path = lvm:$device|" config
    udevadm trigger --settle $device || true
    systemctl daemon-reload && systemctl start lxc@disk >&2 || { journalctl -n 25 -ocat -u lxc@disk >&2; false; }; echo $device`);
  const device = stdout.trim();
  await source.waitForGuest('disk');
  expect((await source.shell(`findmnt -n ${device} || true`)).stdout).toBe('');
  const moved = await moveOf('disk');
  expect(moved).toMatchObject({ exitCode: 0 });
  expect(moved.stderr).toContain('its root file system is a volume, and becomes a directory there');
  await source.shell(`mount -o ro ${device} /mnt`);
  const numbers = (text: string): number[] =>
    text
      .slice(0, text.lastIndexOf('\n'))
      .split('\n')
      .map((line) => Number.parseInt(line, 10));
  const here = numbers(await source.readFile('/mnt/numbers'));
  const there = numbers(await target.readFile('/var/lib/lxc/disk/rootfs/numbers'));
  expect(there.slice(0, here.length)).toEqual(here);
  expect(there).toEqual(there.map((_, at) => at + 1));
  expect(here.length).toBeGreaterThan(20);
  expect(await treeAt(target, '/var/lib/lxc/disk/rootfs')).toBe(await treeAt(source, '/mnt'));
  await source.shell('umount /mnt');
  expect(await target.readFile('/var/lib/lxc/disk/config')).toContain(
    'lxc.rootfs.path = dir:/var/lib/lxc/disk/rootfs',
  );
  await expectState(target, 'lxc@disk.service', 'active');
});

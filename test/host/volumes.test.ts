import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  activeSince,
  expectState,
  journalOf,
  lockersSeenBy,
  offline,
  systemctl,
} from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';

// What containers have opened is closed after them. The kernel of these hosts may know no encryption: an image
// stands for the volume, and a script for systemd-cryptsetup in the units that systemd makes of crypttab. In the
// virtual machine all of it is real.

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

const volumes = ['root', 'vault-1'] as const;
const instances = { root: 'root', 'vault-1': 'vault\\x2d1' } as const;

const opener = `#!/bin/sh -e
image=/srv/$2.img
case $1 in
    open) losetup --find --show "$image" >"/run/$2.loop"; udevadm settle; test -e "/dev/mapper/$2" ;;
    close) losetup --detach "$(cat "/run/$2.loop")"; udevadm settle ;;
esac
`;
const standIn = `[Service]
ExecStart=
ExecStart=/usr/local/sbin/open-volume open %I
ExecStop=
ExecStop=/usr/local/sbin/open-volume close %I
`;
const rules = volumes.map(
  (name) =>
    `SUBSYSTEM=="block", KERNEL=="loop*", ATTR{loop/backing_file}=="*/srv/${name}.img", ` +
    `SYMLINK+="mapper/${name}", TAG+="systemd"\n`,
);

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'volumes', boot: false });
  await host.createContainer('web', 'busybox', { config: offline });
  await host.createContainer('db', 'busybox', { config: offline });
  const tree = `${host.root}/var/lib/lxc/db/rootfs`;
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', tree, `${host.root}/srv/root.img`, '64M']);
  execFileSync('mke2fs', ['-q', '-t', 'ext4', `${host.root}/srv/vault-1.img`, '16M']);
  const config = await host.readFile('/var/lib/lxc/db/config');
  await host.writeFile(
    '/var/lib/lxc/db/config',
    config.replace(/^lxc\.rootfs\.path.*$/m, 'lxc.rootfs.path = lvm:/dev/mapper/root'),
  );
  await host.writeFile('/etc/lockerd/containers/web.conf', 'lockers = vault\n');
  await host.writeFile(
    '/etc/crypttab',
    'root /srv/root.img none noauto\nvault-1 /srv/vault-1.img none luks,noauto\n',
  );
  await host.writeFile(
    '/etc/fstab',
    '/dev/mapper/vault-1 /lockers/vault ext4 noauto,nosuid,nodev 0 0\n',
  );
  await host.writeFile('/usr/local/sbin/open-volume', opener, 0o755);
  await host.writeFile('/etc/systemd/system/systemd-cryptsetup@.service.d/script.conf', standIn);
  await host.writeFile('/etc/udev/rules.d/99-volumes.rules', rules.join(''));
  await host.writeFile(
    '/etc/systemd/system/lxc-volume@.service.d/loop.conf',
    '[Service]\nDeviceAllow=block-loop r\n',
  );
  await host.boot();
  await host.shell(`
    mkdir -p /dev/mapper
    test -c /dev/loop-control || mknod /dev/loop-control c 10 237
    for n in $(seq 0 63); do test -b /dev/loop$n || mknod /dev/loop$n b 7 $n; done`);
});
afterAll(async () => {
  for (const name of volumes) {
    await host.shell(`losetup --detach "$(cat /run/${name}.loop)" || true`).catch(() => undefined);
  }
  await host.close();
});
attachJournalOnFailure(() => host);

const opens = (name: (typeof volumes)[number]) => `systemd-cryptsetup@${instances[name]}.service`;

async function openVolumes(): Promise<string[]> {
  const states = await Promise.all(
    volumes.map(async (name) => (await host.unit(opens(name)))['ActiveState'] === 'active'),
  );
  return volumes.filter((_name, index) => states[index]);
}

/** Once no container needs them, the volumes that are still open. */
async function untilLeft(...left: (typeof volumes)[number][]): Promise<void> {
  for (const instance of Object.values(instances)) {
    await host.waitFor(`lxc-volume@${instance} is inactive`, async () => {
      return (await host.unit(`lxc-volume@${instance}`))['ActiveState'] === 'inactive';
    });
  }
  expect(await openVolumes()).toEqual(left);
}

test('a root file system and a locker are opened for a start, and closed after the stop', async () => {
  for (let round = 0; round < 3; round++) {
    await untilLeft();
    await systemctl(host, 'start', 'lxc@db', 'lxc@web');
    await host.waitForGuest('db');
    expect(await lockersSeenBy(host, 'web')).toEqual(['vault']);
    expect(await openVolumes()).toEqual(['root', 'vault-1']);
    await systemctl(host, 'stop', 'lxc@db', 'lxc@web');
    await untilLeft();
    await expectState(host, 'lockers-vault.mount', 'inactive');
    expect(await host.exists('/dev/mapper/root')).toBe(false);
  }
});

test('a restart closes nothing', async () => {
  await systemctl(host, 'start', 'lxc@db', 'lxc@web');
  const since = await Promise.all(volumes.map((name) => activeSince(host, opens(name))));
  await systemctl(host, 'restart', 'lxc@db', 'lxc@web');
  expect(await Promise.all(volumes.map((name) => activeSince(host, opens(name))))).toEqual(since);
  expect(await lockersSeenBy(host, 'web')).toEqual(['vault']);
});

test('a locker is closed with the last container that has it', async () => {
  await host.run('lockerctl', ['attach', 'db', 'vault']);
  expect(await lockersSeenBy(host, 'db')).toEqual(['vault']);
  await systemctl(host, 'stop', 'lxc@web');
  expect(await openVolumes()).toEqual(['root', 'vault-1']);
  await expectState(host, 'lxc-volume@vault\\x2d1', 'active');
  await host.run('lockerctl', ['detach', 'db', 'vault']);
  await host.waitFor('the locker is closed', async () => (await openVolumes()).length === 1);

  await host.run('lockerctl', ['attach', 'db', 'vault', '--read-only']);
  expect(await openVolumes()).toEqual(['root', 'vault-1']);
  await host.shell('systemctl kill --signal=KILL lxc@db');
  await untilLeft();
  await systemctl(host, 'reset-failed', 'lxc@db');
});

test('what is in use on the host stays open', async () => {
  await systemctl(host, 'start', 'lxc@web');
  await host.shell('cd /lockers/vault; sleep 1000 >/dev/null 2>&1 & echo $! >/run/user-of-vault');
  await systemctl(host, 'stop', 'lxc@web');
  await untilLeft('vault-1');
  await expectState(host, 'lockers-vault.mount', 'active');
  expect(await journalOf(host, 'lxc-volume@vault\\x2d1')).toContain(
    'the encrypted volume vault-1 stays open, for it is in use',
  );
  await host.shell('kill $(cat /run/user-of-vault)');
  // From here on it is not a container that has opened it.
  await systemctl(host, 'start', 'lxc@web');
  await systemctl(host, 'stop', 'lxc@web');
  await untilLeft('vault-1');
  await expectState(host, 'lockers-vault.mount', 'active');
  await systemctl(host, 'stop', 'lockers-vault.mount');
});

test('where an admin has opened the volume, only the mount goes', async () => {
  await expectState(host, opens('vault-1'), 'active');
  await systemctl(host, 'start', opens('root'));
  await systemctl(host, 'start', 'lxc@web', 'lxc@db');
  await systemctl(host, 'stop', 'lxc@web', 'lxc@db');
  await untilLeft('root', 'vault-1');
  await expectState(host, 'lockers-vault.mount', 'inactive');
  await systemctl(host, 'stop', opens('root'), opens('vault-1'));
});

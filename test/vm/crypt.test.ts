import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  activeSince,
  answerOfGuest,
  expectState,
  guestPid,
  journalOf,
  lockersSeenBy,
  offline,
  systemctl,
} from '../machines/support.ts';
import { bootVm, disks, type VirtualHost } from './vm.ts';

// Emulation is slow, and a boot takes minutes where the machine has other things to do.
vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 3_600_000 });

/** Encrypted volumes by who opens them: the boot, whoever needs them, and a hook of the container. */
const crypttab = `
root_boot   /dev/secret/root_boot   /etc/secret
root_need   /dev/secret/root_need   /etc/secret noauto
locker_boot /dev/secret/locker_boot /etc/secret
locker-need /dev/secret/locker-need /etc/secret noauto
`;
const fstab = `
/dev/mapper/locker_boot /lockers/always ext4 nofail,nosuid,nodev 0 0
/dev/mapper/locker-need /lockers/vault ext4 noauto,nosuid,nodev 0 0
`;
const opened = ['root_hook', 'entry_hook'];
const volumes = ['root_boot', 'root_need', 'locker_boot', 'locker-need', ...opened];
/** Containers with an encrypted root file system, by its volume; LXC mounts any device after "lvm:". */
const roots = { boot: 'root_boot', need: 'root_need', hook: 'root_hook' } as const;

const openHook = `#!/bin/sh -e
for name in ${opened.join(' ')}; do
    [ -e /dev/mapper/$name ] || cryptsetup open --key-file /etc/secret /dev/secret/$name $name
done
`;
const closeHook = `#!/bin/sh
for name in ${opened.join(' ')}; do cryptsetup close $name; done
`;

let vm: VirtualHost;
beforeAll(async () => {
  vm = await bootVm({ name: 'crypt' });
  await vm.writeFile('/etc/secret', 'a key of many words\n', 0o600);
  await vm.shell(
    `
    vgcreate -q secret /dev/${disks.data}
    for name in ${volumes.join(' ')}; do
      lvcreate -qy -W n -L 24M -n $name secret
      cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 -s 256 \\
        --key-file /etc/secret /dev/secret/$name
      cryptsetup open --key-file /etc/secret /dev/secret/$name $name
      mke2fs -q -t ext4 -O ^has_journal /dev/mapper/$name
    done`,
    { timeoutMs: 300_000 },
  );
  const start = 'lxc.start.auto = 1';
  for (const [name, volume] of Object.entries(roots)) {
    await vm.createContainer(name, 'busybox', { config: [...offline, start] });
    await vm.shell(`
      mount /dev/mapper/${volume} /mnt
      cp -a /var/lib/lxc/${name}/rootfs/. /mnt/
      umount /mnt
      rm -rf /var/lib/lxc/${name}/rootfs
      mkdir /var/lib/lxc/${name}/rootfs
      sed -i 's|^lxc.rootfs.path.*|lxc.rootfs.path = lvm:/dev/mapper/${volume}|' /var/lib/lxc/${name}/config`);
  }
  await vm.shell(`cat >> /var/lib/lxc/hook/config <<'CONFIG'
lxc.hook.pre-start = /usr/local/sbin/open-secrets
lxc.hook.post-stop = /usr/local/sbin/close-secrets
lxc.mount.entry = /dev/mapper/entry_hook srv ext4 defaults,create=dir 0 0
CONFIG
    for name in ${volumes.join(' ')}; do cryptsetup close $name; done`);
  await vm.createContainer('lockers', 'busybox', { config: [...offline, start] });
  await vm.writeFile('/etc/lockerd/containers/lockers.conf', 'lockers = always vault\n');
  await vm.writeFile('/usr/local/sbin/open-secrets', openHook, 0o755);
  await vm.writeFile('/usr/local/sbin/close-secrets', closeHook, 0o755);
  await vm.writeFile('/etc/crypttab', crypttab);
  await vm.writeFile('/etc/fstab', fstab);
  await vm.reboot();
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

async function untilRuns(name: string): Promise<void> {
  await vm.waitFor(
    `lxc@${name} is active`,
    async () => (await vm.unit(`lxc@${name}`))['ActiveState'] === 'active',
    120_000,
  );
  await vm.waitForGuest(name);
}

test.each(Object.entries(roots))(
  'an encrypted root file system runs from the boot on: %s',
  async (name, volume) => {
    await untilRuns(name);
    const pid = await guestPid(vm, name);
    const root = await vm.run('sh', [
      '-c',
      `stat -c %D /proc/${pid}/root/.; stat -Lc %t%02T /dev/mapper/${volume}`,
    ]);
    const [guest, device] = root.stdout.trim().split('\n');
    expect(guest).toBe(device);
  },
);

test('those that crypttab has are waited for, and what a hook opens is not', async () => {
  for (const name of ['boot', 'need'] as const) {
    const device = `dev-mapper-root_${name}.device`;
    expect((await vm.unit(`lxc@${name}`))['Wants']).toContain(device);
    expect(await activeSince(vm, `lxc@${name}`)).toBeGreaterThan(await activeSince(vm, device));
  }
  expect((await vm.unit('lxc@hook'))['Wants']).not.toContain('dev-mapper');
  expect(await answerOfGuest(vm, 'hook', 'grep " /srv " /proc/mounts')).toContain('entry_hook');
});

test('encrypted lockers are there from the boot on', async () => {
  await untilRuns('lockers');
  expect(await lockersSeenBy(vm, 'lockers')).toEqual(['always', 'vault']);
  const write = 'echo guest > /lockers/always/word && echo guest > /lockers/vault/word';
  expect(await answerOfGuest(vm, 'lockers', write)).toBe('0\n');
});

/** The volumes that are opened on demand, each with the unit that opens it. */
const onDemand = {
  root_need: 'systemd-cryptsetup@root_need.service',
  'locker-need': 'systemd-cryptsetup@locker\\x2dneed.service',
} as const;

async function openVolumes(): Promise<string[]> {
  const { stdout } = await vm.run('ls', ['/dev/mapper']);
  return Object.keys(onDemand).filter((name) => stdout.split('\n').includes(name));
}

async function untilOpen(volumes: readonly string[]): Promise<void> {
  await vm.waitFor(`open: ${volumes.join(' ') || 'none'}`, async () => {
    return String(await openVolumes()) === String(volumes);
  });
  // What would be closed is closed by then.
  for (const name of ['root_need', 'locker\\x2dneed']) {
    await vm.waitFor(`nothing works on ${name}`, async () => {
      return (await vm.unit(`lxc-volume@${name}`))['Job'] === undefined;
    });
  }
  expect(await openVolumes()).toEqual(volumes);
}

test('what a container has opened is closed after it, and the next start opens it again', async () => {
  expect(await openVolumes()).toEqual(Object.keys(onDemand));
  await systemctl(vm, 'stop', 'lxc@need', 'lxc@hook', 'lxc@lockers');
  expect(await vm.exists('/dev/mapper/root_hook')).toBe(false);
  await untilOpen([]);
  for (const unit of Object.values(onDemand)) await expectState(vm, unit, 'inactive');
  await expectState(vm, 'lockers-vault.mount', 'inactive');
  // Those of the boot stay.
  await expectState(vm, 'lockers-always.mount', 'active');
  await systemctl(vm, 'start', 'lxc@need', 'lxc@hook', 'lxc@lockers');
  for (const name of ['need', 'hook', 'lockers']) await untilRuns(name);
  expect(await answerOfGuest(vm, 'lockers', 'cat /lockers/vault/word')).toBe('guest\n0\n');
});

test('a restart closes nothing', async () => {
  const since = await activeSince(vm, onDemand.root_need);
  await systemctl(vm, 'restart', 'lxc@need');
  expect(await activeSince(vm, onDemand.root_need)).toBe(since);
  await untilRuns('need');
});

test('a locker is opened for a running container, and closed with the last one that has it', async () => {
  await systemctl(vm, 'stop', 'lxc@lockers');
  await untilOpen(['root_need']);
  await vm.run('lockerctl', ['attach', 'need', 'vault']);
  expect(await lockersSeenBy(vm, 'need')).toEqual(['vault']);
  await systemctl(vm, 'start', 'lxc@lockers');
  await vm.run('lockerctl', ['detach', 'need', 'vault']);
  await untilOpen(Object.keys(onDemand));
  expect(await answerOfGuest(vm, 'lockers', 'cat /lockers/vault/word')).toBe('guest\n0\n');
  await systemctl(vm, 'kill', '--signal=KILL', 'lxc@lockers');
  await untilOpen(['root_need']);
  await systemctl(vm, 'reset-failed', 'lxc@lockers');
});

test('a container that starts while its volume is being closed has it', async () => {
  for (let round = 0; round < 3; round++) {
    await systemctl(vm, 'start', 'lxc@need');
    await systemctl(vm, 'stop', 'lxc@need');
    // The volume is closed after the container has ended, and the start comes in between.
    await vm.waitFor('the volume is being closed', async () => {
      const { ActiveState } = await vm.unit('lxc-volume@root_need.service');
      return ActiveState !== 'active';
    });
    await systemctl(vm, 'start', 'lxc@need');
    await systemctl(vm, 'stop', 'lxc@need');
  }
  await untilOpen([]);
});

test('what is in use on the host, and what an admin has opened, stays open', async () => {
  await systemctl(vm, 'start', 'lxc@lockers');
  await vm.shell('cd /lockers/vault; sleep 1000 >/dev/null 2>&1 & echo $! >/run/user-of-need');
  await systemctl(vm, 'stop', 'lxc@lockers', 'lxc@need');
  await untilOpen(['locker-need']);
  await expectState(vm, 'lockers-vault.mount', 'active');
  await vm.waitFor('it is said that the volume stays open', async () => {
    const journal = await journalOf(vm, 'lxc-volume@locker\\x2dneed');
    return journal.includes('stays open, for it is in use');
  });
  await vm.shell('kill $(cat /run/user-of-need)');

  // It is open when the container starts, and so it is not the container that has opened it.
  await systemctl(vm, 'start', onDemand.root_need);
  await systemctl(vm, 'start', 'lxc@lockers', 'lxc@need');
  await systemctl(vm, 'stop', 'lxc@lockers', 'lxc@need');
  await untilOpen(Object.keys(onDemand));
  await expectState(vm, 'lockers-vault.mount', 'active');

  // A volume that is open, and a locker that is not mounted: only the mount goes.
  await systemctl(vm, 'stop', 'lockers-vault.mount');
  await systemctl(vm, 'start', 'lxc@lockers');
  await systemctl(vm, 'stop', 'lxc@lockers');
  await vm.waitFor('the locker is unmounted', async () => {
    return (await vm.unit('lockers-vault.mount'))['ActiveState'] === 'inactive';
  });
  await untilOpen(Object.keys(onDemand));
});

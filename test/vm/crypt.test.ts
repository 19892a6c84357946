import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
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
import { configurePackage, runAs } from '../machines/service.ts';
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

/** Answers questions as an agent does. */
const answering = `#!/bin/sh
exec 3</run/answers
while read -r answer <&3; do
    until ask=$(ls /run/systemd/ask-password/ask.* 2>/dev/null | head -n 1) && [ -n "$ask" ]; do
        sleep 0.2
    done
    socket=$(sed -n 's/^Socket=//p' "$ask")
    if [ "$answer" = - ]; then yes=0; else yes=1; fi
    printf %s "$answer" | /usr/lib/systemd/systemd-reply-password $yes "$socket"
    while [ -e "$ask" ]; do sleep 0.2; done
done
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

describe('lockers that lockerd encrypts', () => {
  const settings = '[store safe]\ntype = lvm\nvolume-group = secret\n';
  const keys = '/etc/lockerd/keys';

  beforeAll(async () => {
    await vm.writeFile('/etc/lockerd/lockerd.conf', settings);
    // Answers whatever systemd asks, each with the next line of a file; "-" refuses to answer.
    await vm.writeFile('/usr/local/sbin/answer', answering, 0o755);
    await configurePackage(vm);
    await systemctl(vm, 'start', 'polkit.service', 'lockerd.service');
  });

  const lockerctl = (...args: string[]) => runAs(vm, 'root', 'lockerctl', ...args);
  async function must(...args: string[]): Promise<string> {
    const { exitCode, output } = await lockerctl(...args);
    if (exitCode !== 0) throw new Error(`lockerctl ${args.join(' ')}: ${exitCode}: ${output}`);
    return output;
  }
  const lines = async (command: string): Promise<string[]> =>
    (await vm.run('sh', ['-c', command])).stdout.split('\n').filter(Boolean);
  const uuidOf = async (locker: string): Promise<string> =>
    (await lines(`cryptsetup luksUUID /dev/secret/locker-${locker}`))[0] ?? '';
  /** All that a locker may leave: volumes, open devices, lines of crypttab, keys, units. */
  const traces = async (): Promise<string[]> => [
    ...(await lines(
      'lvs --noheadings -o name secret | grep -E "locker(snap)?-" | grep -v -w locker-need; true',
    )),
    ...(await lines('ls /dev/mapper | grep ^locker- | grep -v -x locker-need; true')),
    ...(await lines('grep ^locker- /etc/crypttab | grep -v ^locker-need; true')),
    ...(await lines(`ls -A ${keys} /var/lib/lockerd/changes 2>/dev/null | grep -v :; true`)),
    ...(await lines('ls /etc/systemd/system | grep ^lockers-; true')),
  ];
  async function answers(...words: string[]): Promise<void> {
    await vm.writeFile('/run/answers', `${words.join('\n')}\n`);
    await systemctl(vm, 'stop', 'answer.service').catch(() => undefined);
    await vm.shell('systemd-run --quiet --collect --unit=answer /usr/local/sbin/answer');
  }

  test('one with a key file is made, grows, and is opened by its key alone', async () => {
    await must('create-locker', '--encrypt', 'one', '48M');
    expect(await lines('findmnt -no SOURCE,FSTYPE /lockers/one')).toEqual([
      expect.stringMatching(/^\/dev\/mapper\/locker-one\s+ext4$/),
    ]);
    const key = `${keys}/${await uuidOf('one')}.key`;
    expect(await lines(`stat -c '%U %a %s' ${keys} ${key} | cut -d ' ' -f 1-2`)).toEqual([
      'root 700',
      'root 600',
    ]);
    expect(await lines('grep ^locker-one /etc/crypttab')).toEqual([
      `locker-one /dev/secret/locker-one ${key} luks,noauto,nofail`,
    ]);
    await vm.shell('echo plaintext-of-the-guest >/lockers/one/word; sync');
    expect(await lines('grep -c plaintext-of-the-guest /dev/secret/locker-one; true')).toEqual([
      '0',
    ]);
    await must('grow-locker', 'one', '+24M');
    const [blocks] = await lines('blockdev --getsize64 /dev/mapper/locker-one');
    expect(Number(blocks)).toBeGreaterThan(48 * 2 ** 20);
    const [size] = await lines('df --output=size -B 1M /lockers/one | tail -n 1');
    expect(Number(size)).toBeGreaterThan(44);
  });

  test('a copy has a key and a UUID of its own, and a rename keeps both', async () => {
    await must('snapshot-locker', 'one', 'before');
    await vm.shell('echo later >/lockers/one/word');
    await must('restore-locker', 'one', 'before', 'two');
    const uuid = await uuidOf('two');
    expect(uuid).not.toBe(await uuidOf('one'));
    expect(await vm.exists(`${keys}/${uuid}.key`)).toBe(true);
    await must('rename-locker', 'two', 'three-3');
    expect(await uuidOf('three-3')).toBe(uuid);
    expect(await lines('cat /lockers/three-3/word /lockers/one/word')).toEqual([
      'plaintext-of-the-guest',
      'later',
    ]);
    expect(await vm.exists('/dev/mapper/locker-two')).toBe(false);
    expect(await lines('grep -c ^locker-two /etc/crypttab; true')).toEqual(['0']);
  });

  test('the boot opens and mounts them', async () => {
    await vm.reboot();
    for (const unit of ['lockers-one.mount', 'lockers-three\\x2d3.mount']) {
      await vm.waitFor(`${unit} is mounted`, async () => {
        return (await vm.unit(unit))['ActiveState'] === 'active';
      });
    }
    expect(await lines('cat /lockers/three-3/word')).toEqual(['plaintext-of-the-guest']);
    await systemctl(vm, 'start', 'polkit.service', 'lockerd.service');
  });

  test('one that is forgotten keeps its key, and goes with it when it is destroyed', async () => {
    const key = `${keys}/${await uuidOf('three-3')}.key`;
    expect(await must('forget-locker', 'three-3')).toContain(key);
    expect(await vm.exists('/dev/mapper/locker-three-3')).toBe(false);
    expect(await lines('grep -c three-3 /etc/crypttab; true')).toEqual(['0']);
    expect(await vm.exists(key)).toBe(true);
    await must('destroy-locker', '--yes', 'three-3', 'three-3');
    expect(await vm.exists(key)).toBe(false);
    await must('forget-locker', 'one');
    await must('destroy-locker', '--yes', '--snapshot=before', 'one', 'one');
    await must('destroy-locker', '--yes', 'one', 'one');
    expect(await traces()).toEqual([]);
  });

  test("an admin's line of the same name is left alone", async () => {
    const own = 'locker-own /dev/secret/root_need /etc/secret noauto\n';
    await vm.shell(`cp /etc/crypttab /run/crypttab && printf '${own}' >>/etc/crypttab`);
    const { exitCode, output } = await lockerctl('create-locker', '--encrypt', 'own', '48M');
    expect(exitCode).not.toBe(0);
    expect(output).toContain('/etc/crypttab has a line "locker-own" already');
    expect(await vm.readFile('/etc/crypttab')).toContain(own);
    await vm.shell('cat /run/crypttab >/etc/crypttab');
    expect(await traces()).toEqual([]);
  });

  test('a passphrase is asked for on the host, and a second time when it is mounted', async () => {
    await answers('open sesame', 'open sesame', 'open sesame', 'open sesame');
    await must('create-locker', '--encrypt=passphrase', 'asked', '48M');
    expect(await lines('grep ^locker-asked /etc/crypttab')).toEqual([
      'locker-asked /dev/secret/locker-asked none luks,noauto,nofail',
    ]);
    await vm.shell('echo kept >/lockers/asked/word');
    await must('grow-locker', 'asked', '+24M');
    await systemctl(vm, 'stop', 'lockers-asked.mount');
    await systemctl(vm, 'stop', 'systemd-cryptsetup@locker\\x2dasked.service');
    expect(await vm.exists('/dev/mapper/locker-asked')).toBe(false);
    await systemctl(vm, 'start', 'lockers-asked.mount');
    expect(await lines('cat /lockers/asked/word')).toEqual(['kept']);
    expect(await lines(`ls -A ${keys}`)).toEqual([]);
    await must('forget-locker', 'asked');
    await must('destroy-locker', '--yes', 'asked', 'asked');
    expect(await traces()).toEqual([]);
  });

  test('where nobody answers, or somebody mistypes, nothing is made', async () => {
    await answers('-');
    const refused = await lockerctl('create-locker', '--encrypt=passphrase', 'asked', '48M');
    expect(refused.exitCode).not.toBe(0);
    expect(refused.output).toContain('nobody has entered the passphrase');
    expect(await traces()).toEqual([]);
    // Words of their own: for 150 seconds the kernel's keyring keeps what was entered for a mount, and systemd
    // tries that before it asks.
    await answers('many words', 'many wrods', '-', '-', '-');
    expect(
      (await lockerctl('create-locker', '--encrypt=passphrase', 'asked', '48M')).exitCode,
    ).not.toBe(0);
    expect(await traces()).toEqual([]);
  });

  test.each([
    ['the passphrase is waited for', 'passphrase', 'ls /run/systemd/ask-password/ask.*'],
    ['the file system is made', 'key-file', 'pgrep -f "^sleep 600"'],
  ])('a helper that is killed while %s leaves nothing', async (_when, encrypt, isThen) => {
    await systemctl(vm, 'stop', 'answer.service').catch(() => undefined);
    await vm.writeFile('/run/mkfs', '#!/bin/sh\nexec sleep 600\n', 0o755);
    await vm.shell('mount --bind /run/mkfs /usr/sbin/mkfs.ext4');
    await vm.shell(
      `lockerctl create-locker --encrypt=${encrypt} killed 48M >/run/said 2>&1 </dev/null &`,
    );
    await vm.waitFor('it has come that far', async () => {
      return (await vm.run('sh', ['-c', isThen], { reject: false })).exitCode === 0;
    });
    await vm.shell(
      "systemctl kill --signal=KILL 'lockerd-stores@*.service'; umount /usr/sbin/mkfs.ext4",
    );
    await vm.waitFor('all is undone', async () => (await traces()).length === 0);
  });
});

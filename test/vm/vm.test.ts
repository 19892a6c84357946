import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { HostReader } from '../../src/host/read.ts';
import { linkFstab, linkScript, linkTargets } from '../machines/fstab-links.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { MemoryGuest, mib } from '../machines/memory-guest.ts';
import {
  activeSince,
  answerOfGuest,
  expectState,
  guestKinds,
  guestPid,
  journalOf,
  lockersSeenBy,
  offline,
  systemctl,
  trySystemctl,
} from '../machines/support.ts';
import { mountUnit } from '../../src/model/unit-name.ts';
import { nextRelease, vmRelease } from './image.mjs';
import { bootVm, disks, type VirtualHost } from './vm.ts';

// Emulation is slow, and a boot takes minutes where the machine has other things to do.
vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 3_600_000 });

/** The volume group of root file systems: activated late in the boot, by a unit of its own. */
const late = 'roots';
/** The volume group of lockers, which udev activates. */
const early = 'volumes';

const fstab = `
/dev/${early}/project /lockers/project ext4 nofail                              0 2
/dev/${early}/demand  /lockers/demand  ext4 noauto,x-systemd.automount          0 0
/dev/${early}/spare   /lockers/spare   ext4 noauto,x-systemd.device-timeout=10s 0 0
`;

const activateLate = `[Unit]
Description=Activates the volume group of the containers, later than they are wanted
DefaultDependencies=no

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'until systemctl is-active --quiet lxc@dir.service; do sleep 1; done; sleep 5'
ExecStart=/sbin/vgchange -ay ${late}

[Install]
WantedBy=multi-user.target
`;

const fstabGenerator = '/usr/lib/systemd/system-generators/systemd-fstab-generator';

let vm: VirtualHost;
beforeAll(async () => {
  vm = await bootVm({ name: 'vm' });
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

/** Everything mounted in wormholes on the host. */
async function wormholes(): Promise<string[]> {
  const mounts = await vm.readFile('/proc/self/mountinfo');
  return [...mounts.matchAll(/^(?:\S+ ){4}\/var\/locker-mappings\/(\S+) /gm)]
    .map(([, name = '']) => name)
    .sort();
}

async function untilActive(unit: string): Promise<void> {
  await vm.waitFor(
    `${unit} is active`,
    async () => (await vm.unit(unit))['ActiveState'] === 'active',
    120_000,
  );
}

describe('the machine', () => {
  test('runs its release of Debian, with cgroup v2 alone', async () => {
    expect((await vm.run('systemctl', ['is-system-running'])).stdout.trim()).toBe('running');
    const { stdout: groups } = await vm.shell("awk '$3 ~ /^cgroup/ { print $2, $3 }' /proc/mounts");
    expect(groups).toBe('/sys/fs/cgroup cgroup2\n');
    const controllers = await vm.readFile('/sys/fs/cgroup/cgroup.controllers');
    expect(controllers.trim().split(' ')).toEqual(expect.arrayContaining(['cpu', 'io', 'memory']));
    const { stdout: versions } = await vm.shell(`
      systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/systemd \\1/p'
      echo "LXC $(lxc-info --version | cut -d. -f1)"
      pkaction --version
      echo "Node $(node --version | cut -d. -f1)"
      . /etc/os-release && echo "$ID \${VERSION_ID:-unreleased}"`);
    if (vmRelease === nextRelease) {
      const packages = 'systemd lxc polkitd nodejs dbus-daemon apparmor';
      const { stdout } = await vm.shell(`dpkg-query -W ${packages}; uname -r`);
      console.info(`tried with:\n${stdout}`);
      expect(versions).not.toMatch(/^systemd 25[0-7]$|^LXC [3-6]$|^debian 13$/m);
    } else {
      expect(versions).toBe('systemd 257\nLXC 6\npkaction version 126\nNode v20\ndebian 13\n');
    }
    expect(await vm.readFile('/proc/pressure/memory')).toContain('full avg10');
  });

  test('runs programs side by side, and loses nothing of what goes in and out', async () => {
    const numbers = [1, 2, 3, 4, 5, 6];
    const results = await Promise.all(
      numbers.map((number) =>
        vm.shell(`sleep 1; echo ${number}; echo e${number} >&2; exit ${number}`, { reject: false }),
      ),
    );
    expect(results).toEqual(
      numbers.map((number) => ({
        stdout: `${number}\n`,
        stderr: `e${number}\n`,
        exitCode: number,
      })),
    );
    const text = Array.from({ length: 100_000 }, (_, line) => `line ${line}\n`).join('');
    const { stdout } = await vm.shell('tee /tmp/text | cat; sha256sum /tmp/text >&2', {
      input: text,
    });
    expect(createHash('sha256').update(stdout).digest('hex')).toBe(
      createHash('sha256').update(text).digest('hex'),
    );
    expect((await vm.run('wc', ['-c', '/tmp/text'])).stdout).toBe(`${text.length} /tmp/text\n`);
  });

  test('bounds a command, and tells how it ended', async () => {
    await vm.shell('sleep 300 & echo started');
    await expect(vm.run('sleep', ['300'], { timeoutMs: 500 })).rejects.toThrow('no end after');
    expect((await vm.shell('kill -9 $$', { reject: false })).exitCode).toBe(137);
    await expect(vm.run('absent-program')).rejects.toThrow('exit status 127');
  });

  // The generator of the machine that the tests run on is compared in test/unit/locate.test.ts.
  test('has mounts of fstab behind links where the generator expects them', async () => {
    const base = '/srv/links';
    await vm.shell(`set -- ''\n${linkScript(base)}\nmkdir /tmp/units`);
    await vm.writeFile('/tmp/fstab', linkFstab(base));
    await vm.run(fstabGenerator, Array<string>(3).fill('/tmp/units'), {
      env: { SYSTEMD_FSTAB: '/tmp/fstab' },
    });
    const { stdout } = await vm.shell('cd /tmp/units && ls -d *.mount');
    const root = mkdtempSync(join(tmpdir(), 'lockerd-links-'));
    try {
      execFileSync('sh', ['-euc', linkScript(base), 'sh', root]);
      const host = new HostReader(root);
      const ours = linkTargets(base).map((target) => mountUnit(host.realPath(target)));
      expect(stdout.trim().split('\n').sort()).toEqual([...new Set(ours)].sort());
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  test('has the time of the machine it runs on', async () => {
    const { stdout } = await vm.run('date', ['+%s']);
    expect(Math.abs(Number(stdout) - Date.now() / 1000)).toBeLessThan(60);
  });
});

describe.each(guestKinds)('%s guest', (kind) => {
  beforeAll(() => vm.createContainer(kind, kind, { config: offline }));

  test('starts within the control group of its unit', async () => {
    await systemctl(vm, 'daemon-reload');
    await systemctl(vm, 'start', `lxc@${kind}`);
    await vm.waitForGuest(kind);
    const pid = await guestPid(vm, kind);
    const group = (await vm.unit(`lxc@${kind}`))['ControlGroup'] ?? '';
    expect(group).toMatch(new RegExp(`^/system\\.slice/.*lxc@${kind}\\.service$`));
    const payload = (await vm.readFile(`/proc/${pid}/cgroup`)).trim().replace('0::', '');
    expect(payload.startsWith(`${group}/`)).toBe(true);
    await systemctl(vm, 'set-property', '--runtime', `lxc@${kind}`, 'MemoryMax=900M');
    expect(await vm.readFile(`/sys/fs/cgroup${group}/memory.max`)).toBe(`${900 * 1024 ** 2}\n`);
    expect(Number((await vm.unit(`lxc@${kind}`))['MemoryCurrent'])).toBeGreaterThan(100_000);
    // A healthy start is no matter for LXC's errors.
    expect(await journalOf(vm, `lxc@${kind}`)).not.toContain('lxc-start');
  });

  test('stops while it is frozen, by its own shutdown', async () => {
    await vm.clearMarker(kind);
    await vm.run('lxc-freeze', ['-n', kind]);
    expect((await vm.run('lxc-info', ['-n', kind, '-sH'])).stdout.trim()).toBe('FROZEN');
    await systemctl(vm, 'stop', `lxc@${kind}`);
    expect(await vm.marker(kind)).toBeDefined();
    expect(await guestPid(vm, kind)).toBeUndefined();
    expect(await vm.unit(`lxc@${kind}`)).toMatchObject({
      ActiveState: 'inactive',
      Result: 'success',
    });
    const { stdout } = await vm.shell(`find /sys/fs/cgroup -name '*lxc@${kind}.service*'`);
    expect(stdout).toBe('');
  });
});

describe('containers and lockers on logical volumes', () => {
  let memory: MemoryGuest;
  beforeAll(async () => {
    memory = new MemoryGuest(vm, 'dir');
    await vm.shell(
      `
      vgcreate -q ${late} /dev/${disks.data}
      vgcreate -q ${early} /dev/${disks.swap}
      for name in lvm bare; do lvcreate -qy -W n -L 128M -n $name ${late}; done
      for name in project demand spare; do lvcreate -qy -W n -L 64M -n $name ${early}; done
      for volume in ${late}/lvm ${late}/bare ${early}/project ${early}/demand ${early}/spare; do
        mke2fs -q -t ext4 /dev/$volume
      done
      vgchange --setautoactivation n ${late}`,
      { timeoutMs: 300_000 },
    );
    for (const name of ['lvm', 'bare', 'dir']) {
      const config = [...offline, 'lxc.start.auto = 1'];
      await vm.createContainer(name, 'busybox', { config });
    }
    for (const [name, value] of [
      ['lvm', `lvm:/dev/${late}/lvm`],
      ['bare', `/dev/${late}/bare`],
    ] as const) {
      await vm.shell(`
        mount /dev/${late}/${name} /mnt
        cp -a /var/lib/lxc/${name}/rootfs/. /mnt/
        umount /mnt
        rm -rf /var/lib/lxc/${name}/rootfs
        mkdir /var/lib/lxc/${name}/rootfs
        sed -i 's|^lxc.rootfs.path.*|lxc.rootfs.path = ${value}|' /var/lib/lxc/${name}/config`);
    }
    await vm.writeFile('/etc/fstab', fstab);
    await vm.writeFile('/etc/systemd/system/activate-late.service', activateLate);
    await vm.writeFile('/etc/lockerd/containers/dir.conf', 'lockers = project demand\n');
    // All kinds of guests, so that the host going down finds each of them.
    for (const kind of guestKinds) {
      await vm.shell(`echo 'lxc.start.auto = 1' >> /var/lib/lxc/${kind}/config`);
      await vm.writeFile(`/etc/lockerd/containers/${kind}.conf`, 'wormhole = no\n');
    }
    await systemctl(vm, 'enable', 'activate-late');
    // A lasting balloon of one that is stopped, which needs a boot to be seen.
    await systemctl(vm, 'daemon-reload');
    await systemctl(vm, 'start', 'lockerd-helper.socket');
    await memory.prepare();
    expect(await memory.balloon(300 * mib, { persist: true })).toMatchObject({ ok: true });
    await vm.reboot();
  });

  test.each(['lvm', 'bare'])('a container waits at boot for its volume: %s', async (name) => {
    await untilActive(`lxc@${name}`);
    await vm.waitForGuest(name);
    const unit = await vm.unit(`lxc@${name}`);
    const device = `dev-${late}-${name}.device`;
    expect(unit['After']).toContain(device);
    expect(await activeSince(vm, `lxc@${name}`)).toBeGreaterThan(await activeSince(vm, device));
    // The volume came after the container was wanted, and the others did not wait for it.
    expect(await activeSince(vm, device)).toBeGreaterThan(await activeSince(vm, 'lxc@dir'));
    const pid = await guestPid(vm, name);
    expect(await vm.readFile(`/proc/${pid}/mountinfo`)).toMatch(
      new RegExp(
        `^\\S+ \\S+ \\S+ / / .* ext4 /dev/(${late}/${name}|mapper/${late}-${name}|dm-)`,
        'm',
      ),
    );
  });

  test('one on a volume shuts down by itself, and its volume is free afterwards', async () => {
    await systemctl(vm, 'stop', 'lxc@lvm');
    expect(await vm.unit('lxc@lvm')).toMatchObject({ Result: 'success', ExecMainStatus: '0' });
    await vm.shell(`mount /dev/${late}/lvm /mnt; cp /mnt/shutdown-marker /tmp/; umount /mnt`);
    expect(await vm.readFile('/tmp/shutdown-marker')).toMatch(/^\d+ [-0-9a-f]{36}$/m);
    await vm.shell(`lvchange -an ${late}/lvm`);
    // Started while the volume is away, it waits; it runs when the volume comes.
    await systemctl(vm, 'start', '--no-block', 'lxc@lvm');
    await vm.shell('sleep 5');
    expect((await vm.unit('lxc@lvm'))['ActiveState']).not.toBe('active');
    expect(await guestPid(vm, 'lvm')).toBeUndefined();
    await vm.shell(`lvchange -ay ${late}/lvm`);
    await untilActive('lxc@lvm');
    await vm.waitForGuest('lvm');
  });

  test('lockers on volumes are there from the boot on, also one that autofs mounts', async () => {
    await vm.waitForGuest('dir');
    expect(await lockersSeenBy(vm, 'dir')).toEqual(['demand', 'project']);
    const mounts = await vm.readFile('/proc/self/mountinfo');
    expect(mounts).toMatch(/ \/lockers\/demand .* - autofs systemd-1 /);
    expect(mounts).toMatch(new RegExp(` /lockers/demand .* - ext4 /dev/mapper/${early}-demand `));
    const write = 'echo guest > /lockers/project/word && echo auto > /lockers/demand/word';
    expect(await answerOfGuest(vm, 'dir', write)).toBe('0\n');
    expect(await vm.readFile('/lockers/project/word')).toBe('guest\n');
    expect(await vm.readFile('/lockers/demand/word')).toBe('auto\n');
    await expectState(vm, mountUnit('/var/locker-mappings/dir/demand'), 'active');
  });

  test('a lasting limit is there after the reboot of the host', async () => {
    await memory.locate();
    expect(await memory.limit()).toBe(String(300 * mib));
  });

  test('a locker whose volume is away keeps its container from starting until it is back', async () => {
    await systemctl(vm, 'stop', 'lxc@dir');
    // systemctl does not wait for what goes with the container.
    await vm.waitFor('the lockers are released', async () => {
      return (await wormholes()).every((place) => !place.startsWith('dir'));
    });
    await vm.shell(`lvchange -an ${early}/spare`);
    await vm.writeFile('/etc/lockerd/containers/dir.conf', 'lockers = project demand spare\n');
    await systemctl(vm, 'daemon-reload');
    const { exitCode } = await trySystemctl(vm, 'start', 'lxc@dir');
    expect(exitCode).not.toBe(0);
    expect(await guestPid(vm, 'dir')).toBeUndefined();
    expect(await journalOf(vm, 'lxc@dir')).toContain(
      'the locker "spare" is not mounted, so the container does not start',
    );
    await vm.shell(`lvchange -ay ${early}/spare`);
    await untilActive(`dev-${early}-spare.device`);
    await systemctl(vm, 'start', 'lxc@dir');
    await vm.waitForGuest('dir');
    expect(await lockersSeenBy(vm, 'dir')).toEqual(['demand', 'project', 'spare']);
    // The next boot may take longer than the device's timeout.
    await vm.writeFile('/etc/lockerd/containers/dir.conf', 'lockers = project demand\n');
  });

  test('after a power cut all is as it was, and runs again', async () => {
    const write = 'echo kept > /lockers/project/kept && sync';
    expect(await answerOfGuest(vm, 'dir', write)).toBe('0\n');
    for (const kind of guestKinds) {
      await vm.waitForGuest(kind);
      await vm.clearMarker(kind);
    }
    await vm.run('sync');
    await vm.crash();
    expect(vm.isOn).toBe(false);
    await vm.boot();
    const names = ['dir', 'lvm', 'bare', ...guestKinds];
    for (const name of names) {
      await untilActive(`lxc@${name}`);
      await vm.waitForGuest(name);
    }
    for (const kind of guestKinds) expect(await vm.marker(kind)).toBeUndefined();
    expect(await vm.readFile('/lockers/project/kept')).toBe('kept\n');
    expect(await wormholes()).toEqual(['dir/demand', 'dir/project']);
    const { stdout } = await vm.run('journalctl', ['--no-pager', '--boot=-1']);
    expect(stdout).not.toContain('Reached target poweroff.target');
    expect((await vm.run('systemctl', ['is-system-running'])).stdout.trim()).toBe('running');
  });

  test('when the host is powered off, each guest shuts down by itself before', async () => {
    for (const kind of guestKinds) await vm.clearMarker(kind);
    await vm.powerOff();
    // Read from the disk of the machine that is off.
    for (const kind of guestKinds) {
      expect(await vm.marker(kind)).toMatch(/^\d+ [-0-9a-f]{36}$/);
    }
    // LVM has its locks in /run/lock while blk-availability.service stops.
    expect(vm.console()).not.toMatch(/Failed unmounting (?!run-lock\.mount)/);
  });
});

import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { mountUnit } from '../../src/model/unit-name.ts';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  answerOfGuest,
  expectState,
  guestKinds,
  guestPid,
  journalOf,
  lockersSeenBy,
  offline,
  systemctl,
  trySystemctl,
  untilUnmounted,
} from '../machines/support.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

/** Loop devices belong to the whole machine, so the number is asked for and given back. */
let loop = '';
let isAttached = false;
let host: Host;

const fixedLines = [
  'web /lockers/web_vol tmpfs mode=755,size=1m 0 0',
  'auto /lockers/auto tmpfs mode=777,size=1m,noauto,x-systemd.automount 0 0',
  'demand /lockers/demand tmpfs mode=755,size=1m,noauto 0 0',
  '/srv/mapped /lockers/mapped none bind,noauto 0 0',
];

beforeAll(async () => {
  host = await bootHost({ name: 'edge', boot: false });
  await host.createContainer('web_vm', 'busybox', { config: offline });
  for (const kind of guestKinds) {
    const name = `id-${kind}`;
    await host.createContainer(name, kind, {
      config: [...offline, 'lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'],
    });
    const directory = `${host.root}/var/lib/lxc/${name}`;
    execFileSync('chown', ['-R', '100000:100000', `${directory}/rootfs`]);
    execFileSync('chmod', ['755', directory]);
    await configure(name, 'lockers = mapped');
  }
  for (const file of ['subuid', 'subgid']) {
    await host.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
  await host.writeFile('/etc/fstab', [...fixedLines, ''].join('\n'));
  await host.writeFile('/srv/mapped/.keep', '');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', `${host.root}/srv/slow.img`, '8M']);
  // systemd asks once whether the kernel has autofs, by this device.
  const init = '/usr/local/sbin/testhost-init';
  const script = await host.readFile(init);
  await host.writeFile(
    init,
    script.replace('\nset -eu\n', '\nset -eu\n[ -e /dev/autofs ] || mknod /dev/autofs c 10 235\n'),
    0o755,
  );
  await host.boot();
});
afterAll(async () => {
  await host.close();
  detach();
});
attachJournalOnFailure(() => host);

async function configure(name: string, ...lines: string[]): Promise<void> {
  await host.writeFile(`/etc/lockerd/containers/${name}.conf`, [...lines, ''].join('\n'));
}

async function reconfigure(name: string, ...lines: string[]): Promise<void> {
  await configure(name, ...lines);
  await systemctl(host, 'daemon-reload');
}

function attachment(container: string, locker: string): string {
  return mountUnit(`/var/locker-mappings/${container}/${locker}`);
}

async function start(container: string): Promise<void> {
  await systemctl(host, 'start', `lxc@${container}`);
  await host.waitForGuest(container);
}

const inGuest = (container: string, command: string) => answerOfGuest(host, container, command);

const seenBy = (container: string) => lockersSeenBy(host, container);

async function untilNoWormholes(): Promise<void> {
  await host.waitFor('no wormhole is left', async () => {
    return !(await host.readFile('/proc/self/mountinfo')).includes(' /var/locker-mappings/');
  });
}

/** What the bare directories below the locker directory hold, seen beside all mounts. */
async function belowMounts(): Promise<string[]> {
  const script = 'mount --bind / /mnt; find /mnt/lockers -mindepth 2; umount /mnt';
  const { stdout } = await host.shell(script);
  return stdout.split('\n').filter(Boolean);
}

/** Attaches the image to its loop device from the machine, as a disk that is plugged in late. */
function attach(): void {
  execFileSync('losetup', [loop, `${host.root}/srv/slow.img`]);
  isAttached = true;
}

function detach(): void {
  if (isAttached) execFileSync('losetup', ['--detach', loop]);
  isAttached = false;
}

describe('a locker on a device that comes late', () => {
  /** The device timeout belongs to the device, so each test writes the line anew. */
  async function slowLocker(options: string, ...settings: string[]): Promise<void> {
    if (loop === '') {
      loop = execFileSync('losetup', ['--find'], { encoding: 'utf8' }).trim();
      const number = loop.replace(/\D/g, '');
      await host.shell(`test -b ${loop} || mknod ${loop} b 7 ${number}`);
    }
    const line = `${loop} /lockers/slow ext4 noauto,${options} 0 0`;
    await host.writeFile('/etc/fstab', [...fixedLines, line, ''].join('\n'));
    await reconfigure('web_vm', 'lockers = slow', ...settings);
  }

  /** Stops the container and takes the device away. */
  async function unplug(): Promise<void> {
    await systemctl(host, 'stop', 'lxc@web_vm');
    await untilNoWormholes();
    await systemctl(host, 'stop', 'lockers-slow.mount');
    detach();
    const device = `dev-${loop.slice('/dev/'.length)}.device`;
    await host.waitFor('the device is gone', async () => {
      return (await host.unit(device))['ActiveState'] === 'inactive';
    });
  }

  test('is waited for', async () => {
    await slowLocker('x-systemd.device-timeout=90s');
    await systemctl(host, 'start', '--no-block', 'lxc@web_vm');
    await host.shell('sleep 4');
    expect(await guestPid(host, 'web_vm')).toBeUndefined();
    attach();
    await host.waitFor('the container runs', async () => {
      return (await host.unit('lxc@web_vm'))['ActiveState'] === 'active';
    });
    await host.waitForGuest('web_vm');
    expect(await seenBy('web_vm')).toEqual(['slow', 'web_vol']);
    expect(await inGuest('web_vm', 'echo x > /lockers/slow/x')).toBe('0\n');
    await unplug();
    expect(await belowMounts()).toEqual([]);
  });

  test('keeps the container from starting when it comes too late', async () => {
    await slowLocker('x-systemd.device-timeout=2s');
    const { exitCode } = await trySystemctl(host, 'start', 'lxc@web_vm');
    expect(exitCode).not.toBe(0);
    expect(await guestPid(host, 'web_vm')).toBeUndefined();
    expect(await journalOf(host, 'lockers-slow.mount')).toMatch(/Dependency failed/);
    expect(await journalOf(host, 'lxc@web_vm')).toContain(
      'the locker "slow" is not mounted, so the container does not start; ' +
        "see: systemctl status '/lockers/slow'",
    );
    await untilNoWormholes();
    attach();
    await host.waitFor('the container starts with the device', async () => {
      return (await trySystemctl(host, 'start', 'lxc@web_vm')).exitCode === 0;
    });
    expect(await seenBy('web_vm')).toEqual(['slow', 'web_vol']);
    expect(await inGuest('web_vm', 'cat /lockers/slow/x')).toBe('x\n0\n');
    await unplug();
    expect(await belowMounts()).toEqual([]);
  });

  test.each([
    ['with nofail', 'nofail,x-systemd.device-timeout=2s', []],
    ['without strictness', 'x-systemd.device-timeout=2s', ['strict-lockers = no']],
  ])('does not, %s, and can be attached later', async (_how, options, settings) => {
    await slowLocker(options, ...settings);
    await start('web_vm');
    expect(await seenBy('web_vm')).toEqual(['web_vol']);
    expect(await inGuest('web_vm', 'echo x > /lockers/slow/x')).not.toMatch(/(^|\n)0\n$/);
    expect(await belowMounts()).toEqual([]);
    attach();
    await host.waitFor('the locker is attached', async () => {
      return (await trySystemctl(host, 'start', attachment('web_vm', 'slow'))).exitCode === 0;
    });
    expect(await inGuest('web_vm', 'cat /lockers/slow/x')).toBe('x\n0\n');
    await unplug();
    expect(await belowMounts()).toEqual([]);
  });
});

describe('a locker with x-systemd.automount', () => {
  /** Fails loudly where the kernel has no autofs: then nothing of this has been tested. */
  async function expectAutofs(): Promise<void> {
    const { ActiveState, Result } = await host.unit('lockers-auto.automount');
    const kernel = (await host.shell('grep autofs /proc/filesystems || true')).stdout.trim();
    expect({ ActiveState, Result, kernel }).toEqual({
      ActiveState: 'active',
      Result: 'success',
      kernel: 'nodev\tautofs',
    });
  }

  test('is mounted when its container starts', async () => {
    // With noauto the boot does not start it.
    await systemctl(host, 'start', 'lockers-auto.automount');
    await expectAutofs();
    await expectState(host, 'lockers-auto.mount', 'inactive');
    await reconfigure('web_vm', 'lockers = auto');
    await start('web_vm');
    await expectState(host, 'lockers-auto.mount', 'active');
    expect(await seenBy('web_vm')).toEqual(['auto', 'web_vol']);
    expect(await inGuest('web_vm', 'echo guest > /lockers/auto/x')).toBe('0\n');
    expect(await host.readFile('/lockers/auto/x')).toBe('guest\n');
    const { stdout } = await host.shell('stat -f -c %T /var/locker-mappings/web_vm/auto');
    expect(stdout).toBe('tmpfs\n');
    await systemctl(host, 'stop', 'lxc@web_vm');
    await untilNoWormholes();
    await expectAutofs();
    await systemctl(host, 'stop', 'lockers-auto.mount');
  });

  test('is mounted when a running container is given it', async () => {
    await expectAutofs();
    await expectState(host, 'lockers-auto.mount', 'inactive');
    await start('web_vm');
    await systemctl(host, 'stop', attachment('web_vm', 'auto'));
    await systemctl(host, 'stop', 'lockers-auto.mount');
    await expectState(host, 'lxc@web_vm', 'active');
    expect(await seenBy('web_vm')).toEqual(['web_vol']);
    await systemctl(host, 'start', attachment('web_vm', 'auto'));
    expect(await seenBy('web_vm')).toEqual(['auto', 'web_vol']);
    await systemctl(host, 'stop', 'lxc@web_vm');
    await untilNoWormholes();
  });

  test('is mounted for a container outside systemd', async () => {
    await systemctl(host, 'stop', 'lockers-auto.mount');
    await expectAutofs();
    const config = '/var/lib/lxc/web_vm/config';
    const before = await host.readFile(config);
    const hooks = '/usr/lib/lockerd/hooks';
    await host.writeFile(
      config,
      [
        before,
        'lxc.hook.version = 1',
        `lxc.hook.pre-start = ${hooks}/locker-pre-start`,
        `lxc.hook.mount = ${hooks}/locker-mount`,
        `lxc.hook.post-stop = ${hooks}/locker-post-stop`,
        '',
      ].join('\n'),
    );
    await host.run('lxc-start', ['-n', 'web_vm', '-d']);
    await host.waitForGuest('web_vm');
    await expectState(host, 'lockers-auto.mount', 'active');
    expect(await seenBy('web_vm')).toEqual(['auto', 'web_vol']);
    await host.run('lxc-stop', ['-n', 'web_vm', '--timeout', '30']);
    await host.writeFile(config, before);
    await systemctl(host, 'daemon-reload');
  });
});

describe('nothing is written into a bare directory', () => {
  test.each([
    ['its unit is stopped', 'systemctl stop lockers-web_vol.mount'],
    ['it is unmounted by force', 'umount --lazy /lockers/web_vol'],
  ])('when %s under a running container that writes', async (_how, command) => {
    await reconfigure('web_vm', 'lockers = demand');
    await start('web_vm');
    const writer = 'while :; do echo x > "/lockers/$1/f$i"; i=$((i + 1)); sleep 0.1; done';
    for (const locker of ['web_vol', 'demand']) {
      const loopInGuest = `sh -c '${writer}' sh ${locker} >/dev/null 2>&1 </dev/null &`;
      expect(await inGuest('web_vm', loopInGuest)).toBe('0\n');
    }
    await host.shell(`sleep 1; ${command}; sleep 1`);
    expect(await seenBy('web_vm')).toEqual(['demand']);
    // The guest goes on writing where its other locker is.
    const count = 'ls /lockers/demand | wc -l';
    const written = Number((await host.shell(count)).stdout);
    await host.waitFor('more files in the other locker', async () => {
      return Number((await host.shell(count)).stdout) > written;
    });
    expect(await belowMounts()).toEqual([]);
    await systemctl(host, 'stop', 'lxc@web_vm');
    await untilNoWormholes();
    await host.shell('umount /lockers/demand');
    expect(await belowMounts()).toEqual([]);
    await untilUnmounted(host, '/lockers/demand');
  });

  test('also when the directory itself holds something', async () => {
    // The look below the mounts finds what is there, or the tests before prove nothing.
    await systemctl(host, 'stop', 'lockers-web_vol.mount');
    await host.writeFile('/lockers/web_vol/bare', '');
    await start('web_vm');
    expect(await inGuest('web_vm', 'ls -A /lockers/web_vol')).toBe('0\n');
    expect(await belowMounts()).toEqual(['/mnt/lockers/web_vol/bare']);
    await systemctl(host, 'stop', 'lxc@web_vm');
    await untilNoWormholes();
    await systemctl(host, 'stop', 'lockers-web_vol.mount');
    await host.shell('rm /lockers/web_vol/bare');
  });
});

test.each(guestKinds)('owners of files as an unprivileged %s guest sees them', async (kind) => {
  const name = `id-${kind}`;
  await host.shell(`
    mkdir -p /srv/mapped/ours /srv/mapped/hosts
    chown 100000:100000 /srv/mapped/ours
    echo host > /srv/mapped/hosts/file`);
  await start(name);
  expect(await seenBy(name)).toEqual(['mapped']);
  // The ids of the host have no name in the guest: nobody, and not even its root may write.
  const owner = (file: string) => inGuest(name, `stat -c %u:%g /lockers/mapped/${file}`);
  expect(await owner('hosts')).toBe('65534:65534\n0\n');
  expect(await inGuest(name, 'cat /lockers/mapped/hosts/file')).toBe('host\n0\n');
  expect(await inGuest(name, 'touch /lockers/mapped/hosts/new')).toMatch(/denied\n1\n$/);
  expect(await inGuest(name, 'chown 0 /lockers/mapped/hosts')).toMatch(/not permitted\n1\n$/);
  // What the host has given to the container's range is the guest's own.
  expect(await owner('ours')).toBe('0:0\n0\n');
  expect(await inGuest(name, `echo x > /lockers/mapped/ours/${kind}`)).toBe('0\n');
  expect((await host.shell(`stat -c %u:%g /srv/mapped/ours/${kind}`)).stdout).toBe(
    '100000:100000\n',
  );
  expect(await inGuest(name, 'touch /lockers/x')).toMatch(/Read-only file system\n1\n$/);
  await systemctl(host, 'stop', `lxc@${name}`);
  await untilNoWormholes();
});

// Where mount(8) can map ids, the guest sees the right owners: test/vm/service.test.ts.
test('idmap-lockers is refused where mount(8) cannot map ids', async () => {
  const name = 'id-sysvinit';
  await reconfigure(name, 'lockers = mapped', 'idmap-lockers = yes');
  // An older mount(8) ignores the option, and the guest would see other owners than it should.
  expect((await trySystemctl(host, 'start', `lxc@${name}`)).exitCode).not.toBe(0);
  expect(await guestPid(host, name)).toBeUndefined();
  expect(await journalOf(host, `lxc@${name}`)).toMatch(
    /config:\d+: idmap-lockers is set, but mount\(8\) of this host cannot map ids/,
  );
  await untilNoWormholes();
  await reconfigure(name, 'lockers = mapped');
});

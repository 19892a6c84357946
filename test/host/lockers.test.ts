import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { escapeInstance, mountUnit } from '../../src/model/unit-name.ts';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  answerOfGuest,
  expectState,
  guestPid,
  journalOf,
  lockersSeenBy,
  offline,
  systemctl,
  trySystemctl,
  untilUnmounted,
} from '../machines/support.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

const many = Array.from({ length: 50 }, (_, index) => `l${String(index + 1).padStart(2, '0')}`);

/** Devices and image files are noauto, as the host has no loop devices before it is up. */
const fstab = `
/srv/web_vol      /lockers/web_vol   none   bind                                       0 0
sandbox           /lockers/sandbox   tmpfs  size=4m                                    0 0
/srv/data.img     /lockers/data      ext4   noauto,loop                                0 0
/srv/corrupt.img  /lockers/corrupt   ext4   noauto,loop                                0 0
/dev/absent       /lockers/absent    ext4   noauto,x-systemd.device-timeout=1s         0 0
/dev/absent       /lockers/maybe     ext4   nofail,x-systemd.device-timeout=1s         0 0
blank             /lockers/my\\040data%n tmpfs size=1m                                 0 0
demand            /lockers/demand    tmpfs  noauto,size=1m                             0 0
${many.map((name) => `${name} /lockers/${name} tmpfs noauto,size=64k 0 0`).join('\n')}
`;

const nativeUnit = `[Mount]
What=native
Where=/lockers/native
Type=tmpfs
Options=size=1m
`;

/** Runs as the guest's first process, before its init. */
const first = `#!/bin/sh
{ ls /lockers; cat /lockers/web_vol/from-host; } > /lockers/web_vol/first 2>&1
exec /sbin/init
`;

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'lockers', boot: false });
  await host.createContainer('web_vm', 'busybox', {
    config: [...offline, 'lxc.init.cmd = /sbin/first'],
  });
  await host.writeFile('/var/lib/lxc/web_vm/rootfs/sbin/first', first, 0o755);
  await host.createContainer('other', 'sysvinit', { config: offline });
  await host.createContainer('third', 'systemd', { config: offline });
  await host.createContainer('my 50%n', 'busybox', { config: offline });
  await host.writeFile('/etc/fstab', fstab);
  await host.writeFile('/etc/systemd/system/lockers-native.mount', nativeUnit);
  await host.writeFile('/srv/web_vol/from-host', 'hello\n');
  await host.writeFile('/lockers/bare/file', 'never bound\n');
  await host.writeFile('/lockers/absent/.keep', '');
  await host.writeFile('/lockers/corrupt/.keep', '');
  await configure('web_vm', 'lockers = data:ro native');
  await configure('other', 'lockers = data');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', `${host.root}/srv/data.img`, '8M']);
  await host.writeFile('/srv/corrupt.img', 'this is no file system\n'.repeat(100_000));
  await host.boot();
  await makeLoopDevices();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function makeLoopDevices(): Promise<void> {
  await host.shell(`
    test -c /dev/loop-control || mknod /dev/loop-control c 10 237
    for n in $(seq 0 63); do test -b /dev/loop$n || mknod /dev/loop$n b 7 $n; done`);
}

async function configure(name: string, ...lines: string[]): Promise<void> {
  await host.writeFile(`/etc/lockerd/containers/${name}.conf`, [...lines, ''].join('\n'));
}

async function reconfigure(name: string, ...lines: string[]): Promise<void> {
  await configure(name, ...lines);
  await systemctl(host, 'daemon-reload');
}

function unitOf(container: string): string {
  return `lxc@${escapeInstance(container)}.service`;
}

function attachment(container: string, locker: string): string {
  return mountUnit(`/var/locker-mappings/${container}/${locker}`);
}

async function start(container: string): Promise<void> {
  await systemctl(host, 'start', unitOf(container));
  await host.waitForGuest(container);
}

async function stop(container: string): Promise<void> {
  await systemctl(host, 'stop', unitOf(container));
}

const inGuest = (container: string, command: string) => answerOfGuest(host, container, command);

const seenBy = (container: string) => lockersSeenBy(host, container);

/** Everything mounted in wormholes on the host. */
async function wormholes(): Promise<string[]> {
  const mounts = await host.readFile('/proc/self/mountinfo');
  return [...mounts.matchAll(/^(?:\S+ ){4}\/var\/locker-mappings\/(\S+) /gm)]
    .map(([, name = '']) => name)
    .sort();
}

async function untilNoWormholes(): Promise<void> {
  await host.waitFor('no wormhole is left', async () => (await wormholes()).length === 0, 10_000);
}

describe('a container with own, shared and configured lockers', () => {
  test('sees them from its first process on', async () => {
    await expectState(host, mountUnit('/lockers/data'), 'inactive');
    await start('web_vm');
    expect(await host.readFile('/srv/web_vol/first')).toBe(
      'data\nnative\nsandbox\nweb_vol\nhello\n',
    );
    // The one that is noauto and the native one were mounted for it.
    expect(await seenBy('web_vm')).toEqual(['data', 'native', 'sandbox', 'web_vol']);
    expect(await wormholes()).toEqual([
      ...['data', 'native', 'sandbox', 'web_vol'].map((name) => `web_vm/${name}`),
    ]);
  });

  test('what is written on either side is on the other', async () => {
    expect(await inGuest('web_vm', 'echo guest > /lockers/web_vol/from-guest')).toBe('0\n');
    expect(await host.readFile('/srv/web_vol/from-guest')).toBe('guest\n');
    await host.shell('echo host > /lockers/sandbox/from-host');
    expect(await inGuest('web_vm', 'cat /lockers/sandbox/from-host')).toBe('host\n0\n');
  });

  test('cannot write into a read-only locker nor beside the lockers', async () => {
    expect(await inGuest('web_vm', 'touch /lockers/data/x')).toMatch(/Read-only file system\n1/);
    expect(await inGuest('web_vm', 'touch /lockers/x')).toMatch(/Read-only file system\n1/);
    expect(await inGuest('web_vm', 'mkdir /lockers/bare')).toMatch(/Read-only file system\n1/);
    await host.shell('touch /lockers/data/written-on-host');
    expect(await inGuest('web_vm', 'ls /lockers/data/written-on-host')).toMatch(/0\n$/);
  });

  test('shares them with other containers, each with its own mode', async () => {
    await start('other');
    expect(await seenBy('other')).toEqual(['data', 'sandbox']);
    expect(await inGuest('other', 'echo other > /lockers/data/shared')).toBe('0\n');
    expect(await inGuest('web_vm', 'cat /lockers/data/shared')).toBe('other\n0\n');
    await stop('other');
    expect(await seenBy('web_vm')).toEqual(['data', 'native', 'sandbox', 'web_vol']);
  });

  test('keeps them when the guest reboots and when systemd is reloaded', async () => {
    const init = await guestPid(host, 'web_vm');
    await host.shell('lxc-attach -n web_vm --clear-env -- /sbin/reboot || true');
    await host.waitFor('a new init', async () => {
      const pid = await guestPid(host, 'web_vm');
      return pid !== undefined && pid !== init;
    });
    await host.waitForGuest('web_vm');
    await systemctl(host, 'daemon-reload');
    await host.shell('sleep 1');
    expect(await seenBy('web_vm')).toEqual(['data', 'native', 'sandbox', 'web_vol']);
    await expectState(host, 'lxc@web_vm', 'active');
  });

  test.each([
    ['its unit is stopped', 'systemctl stop lockers-web_vol.mount'],
    ['it is unmounted by hand', 'umount /lockers/web_vol'],
    ['it is unmounted by force', 'umount --lazy /lockers/web_vol'],
  ])('runs on without a locker when %s, and can have it back', async (_how, command) => {
    const { MainPID: monitor } = await host.unit('lxc@web_vm');
    await host.shell(command);
    await host.waitFor('the locker is gone', async () => {
      return !(await seenBy('web_vm')).includes('web_vol');
    });
    await host.shell('sleep 1');
    expect(await host.unit('lxc@web_vm')).toMatchObject({
      ActiveState: 'active',
      MainPID: monitor,
    });
    await expectState(host, attachment('web_vm', 'web_vol'), 'inactive');
    await systemctl(host, 'start', attachment('web_vm', 'web_vol'));
    expect(await inGuest('web_vm', 'cat /lockers/web_vol/from-host')).toBe('hello\n0\n');
  });

  test('is restarted with them', async () => {
    await systemctl(host, 'restart', 'lxc@web_vm');
    expect(await seenBy('web_vm')).toEqual(['data', 'native', 'sandbox', 'web_vol']);
  });

  test('gives them back at its stop, so that they can be unmounted', async () => {
    await stop('web_vm');
    await untilNoWormholes();
    await host.shell('umount /lockers/web_vol /lockers/data');
    for (const path of ['/lockers/web_vol', '/lockers/data']) await untilUnmounted(host, path);
    expect(await host.shell('ls /lockers/web_vol /lockers/data')).toMatchObject({
      stdout: '/lockers/data:\n\n/lockers/web_vol:\n',
    });
    await expectState(host, attachment('web_vm', 'web_vol'), 'inactive');
  });

  test('gives them back when its monitor is killed', async () => {
    await start('web_vm');
    const { MainPID: monitor } = await host.unit('lxc@web_vm');
    await host.run('kill', ['-KILL', String(monitor)]);
    await untilNoWormholes();
    await start('web_vm');
    expect(await seenBy('web_vm')).toContain('web_vol');
  });

  test('gives back what its settings do not name any more', async () => {
    await reconfigure('web_vm', 'lockers = native');
    await expectState(host, 'lxc@web_vm', 'active');
    expect(await seenBy('web_vm')).toContain('data');
    await stop('web_vm');
    await untilNoWormholes();
  });

  test('gives them back when its configuration broke while it ran', async () => {
    await start('web_vm');
    await reconfigure('web_vm', 'lockers = nothing');
    await host.shell('sleep 1');
    expect(await seenBy('web_vm')).toEqual(['native', 'sandbox', 'web_vol']);
    await stop('web_vm');
    await untilNoWormholes();
    await reconfigure('web_vm', 'lockers = data:ro native');
  });
});

test('an attachment that is started for a stopped container does not stay', async () => {
  await trySystemctl(host, 'start', attachment('other', 'data'));
  await untilNoWormholes();
  await expectState(host, 'lxc@other', 'inactive');
});

test('a directory that nothing is mounted on is never bound', async () => {
  await reconfigure('third', 'lockers = bare');
  expect((await trySystemctl(host, 'start', 'lxc@third')).exitCode).not.toBe(0);
  expect(await journalOf(host, 'lxc@third')).toContain(
    '/etc/lockerd/containers/third.conf:1: the locker "bare" is never bound: ' +
      'nothing mounts /lockers/bare; have it mounted there, by a line in /etc/fstab, a mount unit or ZFS',
  );
  expect(await guestPid(host, 'third')).toBeUndefined();
});

describe.each(['absent', 'corrupt'])('a locker whose device is %s', (locker) => {
  const directory = `/lockers/${locker}`;

  test('keeps a container from starting, which says so', async () => {
    await reconfigure('third', `lockers = ${locker}`);
    const { exitCode } = await trySystemctl(host, 'start', 'lxc@third');
    expect(exitCode).not.toBe(0);
    expect(await guestPid(host, 'third')).toBeUndefined();
    await host.run('journalctl', ['--sync']);
    const { output } = await trySystemctl(host, 'status', '--full', 'lxc@third');
    expect(output).toContain(
      `the locker "${locker}" is not mounted, so the container does not start; ` +
        `see: systemctl status '/lockers/${locker}'`,
    );
    expect((await trySystemctl(host, 'status', directory)).output).toMatch(/failed|dead/);
    // What was mounted for the start is given back.
    await untilNoWormholes();
    expect((await host.shell(`ls -A ${directory}`)).stdout).toBe('.keep\n');
  });

  test('does not, where lockers are not strict', async () => {
    await reconfigure('third', `lockers = ${locker}`, 'strict-lockers = no');
    await start('third');
    expect(await seenBy('third')).toEqual(['sandbox']);
    expect(await inGuest('third', `touch /lockers/${locker}/x`)).not.toMatch(/0\n$/);
    expect(await inGuest('third', `mkdir -p /lockers/${locker}`)).toMatch(/1\n$/);
    await stop('third');
    expect((await host.shell(`ls -A ${directory}`)).stdout).toBe('.keep\n');
  });
});

test('a locker with nofail in fstab does not keep a container from starting', async () => {
  await reconfigure('third', 'lockers = maybe');
  await start('third');
  expect(await seenBy('third')).toEqual(['sandbox']);
  await stop('third');
});

test('a locker with noauto in fstab is mounted for its container', async () => {
  await reconfigure('third', 'lockers = demand');
  await expectState(host, mountUnit('/lockers/demand'), 'inactive');
  await start('third');
  expect(await inGuest('third', 'echo x > /lockers/demand/x')).toBe('0\n');
  expect(await host.readFile('/lockers/demand/x')).toBe('x\n');
  await stop('third');
});

test('names with blanks and specifiers', async () => {
  await reconfigure('my 50%n', 'lockers = my\\040data%n');
  await start('my 50%n');
  expect(await inGuest('my 50%n', 'echo x > "/lockers/my data%n/x"')).toBe('0\n');
  expect(await host.readFile('/lockers/my data%n/x')).toBe('x\n');
  await stop('my 50%n');
  await untilNoWormholes();
});

test('fifty lockers in one container', async () => {
  await reconfigure('third', `lockers = ${many.join(' ')}`);
  await start('third');
  expect(await seenBy('third')).toEqual([...many, 'sandbox']);
  await stop('third');
  await untilNoWormholes();
});

test('no wormhole where the settings say so', async () => {
  await reconfigure('third', 'wormhole = no');
  await start('third');
  expect(await wormholes()).toEqual([]);
  expect(await seenBy('third')).toEqual([]);
  await stop('third');
});

test('after a power cut the lockers are as they were', async () => {
  await reconfigure('web_vm', 'lockers = native');
  await start('web_vm');
  await inGuest('web_vm', 'echo kept > /lockers/web_vol/kept; sync');
  await host.crash();
  await host.boot();
  expect(await wormholes()).toEqual([]);
  await start('web_vm');
  expect(await inGuest('web_vm', 'cat /lockers/web_vol/kept')).toBe('kept\n0\n');
  expect(await seenBy('web_vm')).toEqual(['native', 'sandbox', 'web_vol']);
  await stop('web_vm');
  await untilNoWormholes();
});

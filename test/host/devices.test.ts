import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  expectState,
  guestPid,
  journalOf,
  offline,
  systemctl,
  timed,
  trySystemctl,
} from '../machines/support.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

/** Loop devices belong to the whole machine, so the number is asked for and given back. */
let loop: string | undefined;
let host: Host;

beforeAll(async () => {
  host = await bootHost({ name: 'device', boot: false });
  await host.createContainer('disk', 'systemd', { config: offline });
  await host.createContainer('image', 'sysvinit', { config: offline });
  await host.createContainer('layers', 'sysvinit', { config: offline });
  // Each root file system moves from its directory into an image of its own.
  for (const [name, file] of [
    ['disk', '/srv/disk.img'],
    ['image', '/srv/image.img'],
  ] as const) {
    const directory = `${host.root}/var/lib/lxc/${name}/rootfs`;
    execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', directory, `${host.root}${file}`, '300M']);
  }
  await setRootfs('image', 'loop:/srv/image.img');
  await setRootfs('layers', 'overlay:/srv/lower:/srv/layers/upper');
  await host.writeFile('/etc/fstab', 'layers /srv/layers tmpfs mode=755 0 0\n');
});
afterAll(async () => {
  await host.close();
  if (loop !== undefined) execFileSync('losetup', ['--detach', loop]);
});
attachJournalOnFailure(() => host);

/** What lockerctl says of a container. */
async function stateOf(name: string): Promise<Record<string, unknown>> {
  const { stdout } = await host.run('lockerctl', ['status', '--json', name], { reject: false });
  const [container] = JSON.parse(stdout) as Record<string, unknown>[];
  return container ?? {};
}

async function setRootfs(name: string, value: string): Promise<void> {
  const file = `/var/lib/lxc/${name}/config`;
  const config = await host.readFile(file);
  await host.writeFile(
    file,
    config.replace(/^lxc\.rootfs\.path.*$/m, `lxc.rootfs.path = ${value}`),
  );
}

test('a root file system on a block device is waited for, and its guest shuts down', async () => {
  loop = execFileSync('losetup', ['--find'], { encoding: 'utf8' }).trim();
  const number = Number(loop.replace(/\D/g, ''));
  // LXC mounts any block device so; it looks at the prefix, not for LVM.
  await setRootfs('disk', `lvm:${loop}`);
  await host.boot();
  const unit = `dev-loop${number}.device`;
  await host.shell(`test -b ${loop} || mknod ${loop} b 7 ${number}`);
  expect((await host.unit('lxc@disk'))['Wants']).toContain(unit);
  expect((await host.unit('lxc@disk'))['After']).toContain(unit);

  await systemctl(host, 'start', '--no-block', 'lxc@disk');
  await host.shell('sleep 2');
  expect(await guestPid(host, 'disk')).toBeUndefined();
  execFileSync('losetup', [loop, `${host.root}/srv/disk.img`]);
  await host.waitFor('the container runs', async () => {
    return (await host.unit('lxc@disk'))['ActiveState'] === 'active';
  });
  const pid = await guestPid(host, 'disk');
  await host.waitFor('the guest has booted', () => host.exists(`/proc/${pid}/root/dev/booted`));

  // The generator could not look into the device for the guest's init, so it is chosen at the stop.
  const stopped = await host.unit('lxc@disk');
  expect(stopped['ExecStop']).toContain('stop-guest 37 30');
  const start = Date.now();
  await systemctl(host, 'stop', 'lxc@disk');
  expect(Date.now() - start).toBeLessThan(20_000);
  expect(await host.unit('lxc@disk')).toMatchObject({ Result: 'success', ExecMainStatus: '0' });
  await host.shell(`mount ${loop} /mnt; cp /mnt/shutdown-marker /tmp/; umount /mnt`);
  expect(await host.readFile('/tmp/shutdown-marker')).not.toBe('');
});

test('a device that comes after the start has failed starts the container', async () => {
  const image = `${host.root}/srv/disk.img`;
  const device = loop ?? '';
  const unit = `${device.slice(1).replaceAll('/', '-')}.device`;
  execFileSync('losetup', ['--detach', device]);
  await host.waitFor('systemd has no device', async () => {
    return (await host.unit(unit))['ActiveState'] === 'inactive';
  });
  await host.writeFile(
    `/etc/systemd/system/${unit}.d/timeout.conf`,
    '[Unit]\nJobRunningTimeoutSec=1s\n',
  );
  await systemctl(host, 'daemon-reload');
  expect((await trySystemctl(host, 'start', 'lxc@disk')).exitCode).toBe(1);
  expect(await journalOf(host, 'lxc@disk')).toContain(`there is no block device ${device}`);
  await host.waitFor('it is waited for', async () => {
    return (await host.unit('lxc-late@disk'))['StatusText'] === unit;
  });
  expect(await stateOf('disk')).toMatchObject({ state: 'unmet', waits_for: [unit] });
  execFileSync('losetup', [device, image]);
  await host.waitFor('the container runs', async () => {
    return (await host.unit('lxc@disk'))['ActiveState'] === 'active';
  });
  await systemctl(host, 'stop', 'lxc@disk');
});

test('a device under a name that udev does not know is left to LXC', async () => {
  await host.shell(`mknod /dev/my-disk b 7 ${(loop ?? '').replace(/\D/g, '')}`);
  await setRootfs('disk', 'lvm:/dev/my-disk');
  await systemctl(host, 'daemon-reload');
  expect((await host.unit('lxc@disk'))['Wants']).not.toContain('my');
  const { ms } = await timed(() => systemctl(host, 'start', 'lxc@disk'));
  expect(ms).toBeLessThan(30_000);
  await systemctl(host, 'stop', 'lxc@disk');
  await setRootfs('disk', `lvm:${loop}`);
});

test('a root file system in an image file', async () => {
  await host.shell(
    'for n in 0 1 2 3 4 5 6 7; do test -b /dev/loop$n || mknod /dev/loop$n b 7 $n; done',
  );
  await host.shell('test -c /dev/loop-control || mknod /dev/loop-control c 10 237');
  expect((await host.unit('lxc@image'))['RequiresMountsFor']).toContain('/srv/image.img');
  await systemctl(host, 'start', 'lxc@image');
  const pid = await guestPid(host, 'image');
  await host.waitFor('the guest has booted', () => host.exists(`/proc/${pid}/root/dev/booted`));
  await systemctl(host, 'stop', 'lxc@image');
  expect(await host.unit('lxc@image')).toMatchObject({ Result: 'success', ExecMainStatus: '0' });
  expect((await host.run('losetup', ['--list', '--noheadings'])).stdout).not.toContain('image.img');
});

test('an overlay root file system starts when the mounts of its layers are there', async () => {
  await host.shell('mv /var/lib/lxc/layers/rootfs /srv/lower; mkdir -p /srv/layers/upper');
  await systemctl(host, 'daemon-reload');
  const unit = await host.unit('lxc@layers');
  expect(unit['After']).toContain('srv-layers.mount');
  expect(unit['Requires']).toContain('srv-layers.mount');
  await systemctl(host, 'stop', 'srv-layers.mount');
  await expectState(host, 'srv-layers.mount', 'inactive');
  await systemctl(host, 'start', 'lxc@layers');
  await expectState(host, 'srv-layers.mount', 'active');
  const pid = await guestPid(host, 'layers');
  await host.waitFor('the guest has booted', () => host.exists(`/proc/${pid}/root/dev/booted`));
  await systemctl(host, 'stop', 'lxc@layers');
  expect(await host.exists('/srv/layers/upper/shutdown-marker')).toBe(true);
});

test('a container whose mount source cannot be mounted does not start and says which', async () => {
  await host.writeFile(
    '/etc/fstab',
    '/dev/absent /srv/data ext4 x-systemd.device-timeout=6s 0 0\n',
  );
  await host.shell(
    'echo "lxc.mount.entry = /srv/data srv none bind,create=dir 0 0" >> /var/lib/lxc/image/config',
  );
  await systemctl(host, 'daemon-reload');
  expect(await stateOf('image')).toMatchObject({ state: 'stopped', waits_for: [] });
  const start = host.run('systemctl', ['start', 'lxc@image'], { reject: false });
  await host.waitFor('the start waits', async () => {
    const { state, waits_for: needs } = await stateOf('image');
    return state === 'waiting' && String(needs).includes('srv-data.mount');
  });
  const { exitCode } = await start;
  expect(exitCode).toBe(1);
  expect(await guestPid(host, 'image')).toBeUndefined();
  expect(await journalOf(host, 'lxc@image')).toContain('Dependency failed: srv-data.mount');
  await host.waitFor('lockerctl says what it lacks', async () => {
    const { state, waits_for: needs } = await stateOf('image');
    return state === 'unmet' && String(needs) === 'dev-absent.device';
  });
});

test('lockerctl says what the next boot will do, and who decided it', async () => {
  expect(await stateOf('layers')).toMatchObject({ autostart: false, autostart_reasons: [] });
  for (const [command, autostart, reasons] of [
    ['enable', true, ['enabled']],
    ['mask', false, ['masked']],
    ['unmask', true, ['enabled']],
    ['disable', false, []],
  ] as const) {
    await systemctl(host, command, 'lxc@layers');
    await host.waitFor(`lockerd has heard of "systemctl ${command}"`, async () => {
      const now = await stateOf('layers');
      return (
        now['autostart'] === autostart &&
        JSON.stringify(now['autostart_reasons']) === JSON.stringify(reasons)
      );
    });
  }
});

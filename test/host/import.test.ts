import { mkdirSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { expectState, lockersSeenBy, systemctl } from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

/** As its distribution's init script wanted it: columns, comments behind values, mounts of its own. */
const scripted = `lxc.utsname                    = scripted
lxc.rootfs                     = /lxc/scripted/rootfs/
lxc.tty                        = 6
lxc.pts                        = 1024
lxc.kmsg                       = 0
lxc.aa_profile                 = unconfined
lxc.cap.drop                   = mac_admin
lxc.cgroup.devices.deny        = a # all
lxc.cgroup.devices.allow       = c *:* rwm # characters
lxc.cgroup.cpuset.cpus         = 0        # the first processor
lxc.cgroup.memory.limit_in_bytes = 256M
lxc.mount.entry                = proc proc proc nosuid,nodev,noexec 0 0
lxc.mount.entry                = devpts dev/pts devpts nosuid,noexec,mode=0620,newinstance 0 0
lxc.mount.entry                = tmpfs dev/shm tmpfs nosuid,nodev 0 0
lxc.network.type               = empty
`;

/** As a site with data volumes and hooks for them had it. */
const hooked = `lxc.include = /usr/share/lxc/config/gone.common.conf
lxc.utsname = site_vm
lxc.rootfs = /var/lib/lxc/site_vm/rootfs
lxc.network.type = empty
lxc.aa_profile = unconfined
lxc.haltsignal = SIGUSR1
lxc.rebootsignal = SIGTERM
lxc.start.auto = 1
lxc.hook.pre-start = /etc/lxc/locker_pre-start.sh music
lxc.hook.mount = /etc/lxc/locker_mount.sh
lxc.hook.post-stop = /etc/lxc/locker_post-stop.sh
`;

/** A single file, as the first LXC had it, with few devices and no network of its own. */
const flat = `lxc.tty = 4
lxc.pts = 1024
lxc.rootfs = /srv/flat/rootfs
lxc.cgroup.devices.deny = a
lxc.cgroup.devices.allow = c 1:3 rwm
lxc.cgroup.devices.allow = c 1:5 rwm
lxc.cgroup.devices.allow = c 5:0 rwm
lxc.cgroup.devices.allow = c 254:0 rwm
lxc.utsname = flat
lxc.network.type = empty
lxc.aa_profile = unconfined
`;

const fstab = `cgroup          /var/local/cgroup  cgroup nofail                  0 0
/srv/site_vol   /lockers/site_vol  none   bind,nosuid,nodev       0 0
/srv/music      /lockers/music     none   bind,nosuid,nodev       0 0
`;

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'import', boot: false });
  await host.createContainer('scripted', 'sysvinit', { lxcpath: '/lxc' });
  await host.createContainer('site_vm', 'busybox');
  await host.createContainer('flat', 'sysvinit', { lxcpath: '/srv' });
  await host.writeFile('/srv/flat/config', '');
  await host.writeFile('/etc/lxc/flat.conf', flat);
  await host.writeFile('/etc/lxc/auto/flat', '');
  await host.writeFile('/lxc/scripted/config', scripted);
  await host.writeFile('/var/lib/lxc/site_vm/config', hooked);
  for (const hook of ['pre-start', 'mount', 'post-stop']) {
    await host.writeFile(`/etc/lxc/locker_${hook}.sh`, '#!/bin/sh\nexit 1\n', 0o755);
  }
  await host.writeFile('/etc/fstab', fstab);
  for (const locker of ['site_vol', 'music']) await host.writeFile(`/srv/${locker}/data`, locker);
  const links = {
    '/etc/lxc/scripted/config': '/lxc/scripted/config',
    '/etc/init.d/lxc.scripted': '/etc/init.d/lxc',
    '/etc/runlevels/default/lxc.scripted': '/etc/init.d/lxc.scripted',
  };
  for (const [link, target] of Object.entries(links)) {
    mkdirSync(dirname(host.root + link), { recursive: true });
    symlinkSync(target, host.root + link);
  }
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

const lockerctl = async (...args: string[]): Promise<{ exitCode: number; stdout: string }> =>
  host.run('lockerctl', args, { reject: false });

test('an old host, once imported, has its containers running after a boot', async () => {
  await expectState(host, 'lxc@site_vm', 'failed');
  await expectState(host, 'lxc@scripted', 'inactive');
  expect((await lockerctl('check')).exitCode).toBe(1);

  const before = await host.readFile('/lxc/scripted/config');
  expect((await lockerctl('import')).stdout).toContain('none of them made');
  expect(await host.readFile('/lxc/scripted/config')).toBe(before);

  const { exitCode, stdout } = await lockerctl('import', '--apply');
  expect({ exitCode, stdout }).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/\d changes made\./) as string,
  });
  expect((await lockerctl('import')).stdout).toContain('Nothing is left to import.');
  expect((await lockerctl('check', '-q', '--no-legend')).stdout).toBe('');

  await host.reboot();
  for (const name of ['scripted', 'site_vm', 'flat']) {
    await expectState(host, `lxc@${name}`, 'active');
    await host.waitForGuest(name);
  }
  expect(await lockersSeenBy(host, 'site_vm')).toEqual(['music', 'site_vol']);
  expect((await host.unit('lxc@scripted.service'))['MemoryMax']).toBe(String(256 * 1024 ** 2));

  // Both hear their halt signal.
  await systemctl(host, 'stop', 'lxc@scripted', 'lxc@site_vm');
  expect(await host.marker('scripted', '/lxc')).toBeDefined();
  expect(await host.marker('site_vm')).toBeDefined();
});

test('the script puts everything back', async () => {
  const { stdout } = await host.shell('ls /var/backups/lockerd-import-*.sh');
  await host.shell(`sh ${stdout.trim()}`);
  expect(await host.readFile('/lxc/scripted/config')).toBe(scripted);
  expect(await host.readFile('/var/lib/lxc/site_vm/config')).toBe(hooked);
  expect(await host.readFile('/etc/fstab')).toBe(fstab);
  expect(await host.exists('/var/lib/lxc/scripted')).toBe(false);
  const link = await host.run('readlink', ['/etc/runlevels/default/lxc.scripted']);
  expect(link.stdout.trim()).toBe('/etc/init.d/lxc.scripted');
});

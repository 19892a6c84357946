import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  answerOfGuest,
  expectState,
  journalOf,
  lockersSeenBy,
  offline,
  systemctl,
} from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

let host: Host;

/** Mounts what no generator knows of, where plain LXC would have found it. */
const lateService = `[Unit]
After=lockerd-rescan.service
Before=lxc.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'mkdir -p /srv/containers/late /srv/lk/films && mount --bind /srv/late /srv/containers/late && mount -t tmpfs -o nosuid,nodev films /srv/lk/films'
[Install]
WantedBy=multi-user.target
`;

beforeAll(async () => {
  host = await bootHost({ name: 'links', boot: false });
  for (const name of ['web', 'linked', 'late', 'shared']) {
    await host.createContainer(name, 'busybox', { config: [...offline, 'lxc.start.auto = 1'] });
  }
  await host.writeFile('/srv/shared/common.conf', 'lxc.tty.max = 1\n');
  await host.writeFile('/etc/systemd/system/late-disk.service', lateService);
  await host.writeFile('/etc/lockerd/containers/late.conf', 'lockers = films\n');
  await host.writeFile(
    '/etc/fstab',
    'web /lockers/web tmpfs mode=755,size=1m 0 0\n' +
      '/srv/shared /auto none bind,noauto,x-systemd.automount 0 0\n' +
      'disk /mnt/disk tmpfs mode=755,size=1m 0 0\n',
  );
  execFileSync('chroot', [
    host.root,
    '/bin/sh',
    '-euc',
    `systemctl enable late-disk.service
     rm -rf /lockers /var/locker-mappings
     mkdir -p /srv/lk /srv/maps /mnt/disk
     ln -s ../srv/one /var/locker-mappings; ln -s /srv/maps /srv/one; ln -s /srv/lk /lockers
     tar -C /var/lib -c lxc | tar -C /srv -x; mv /srv/lxc /srv/containers
     rm -rf /var/lib/lxc; ln -s /srv/containers /var/lib/lxc
     mv /srv/containers/linked /srv/linked; ln -s ../linked /srv/containers/linked
     mv /srv/containers/late /srv/late
     ln -s /mnt/disk /data
     echo 'lxc.mount.entry = /data data none bind,create=dir 0 0' >>/srv/containers/web/config
     echo 'lxc.include = /auto/common.conf' >>/srv/containers/shared/config`,
  ]);
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
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function untilActive(name: string): Promise<void> {
  await host.waitFor(`${name} runs`, async () => {
    return (await host.unit(`lxc@${name}`))['ActiveState'] === 'active';
  });
}

test('links on the way of lockers, wormholes, containers and disks change nothing', async () => {
  await untilActive('web');
  await untilActive('linked');
  await expectState(host, 'srv-lk-web.mount', 'active');
  await expectState(host, 'srv-maps-web-web.mount', 'active');
  expect((await lockersSeenBy(host, 'web')).sort()).toEqual(['web']);
  expect((await host.unit('lxc-needs@web'))['RequiresMountsFor']).toContain('/mnt/disk');
  expect(await answerOfGuest(host, 'web', 'grep -c " /data " /proc/mounts')).toContain('1');
});

test('what a service mounts before lxc.service is found', async () => {
  await untilActive('late');
  expect(await journalOf(host, 'lockerd-rescan')).toContain('the container "late" has appeared');
  expect(await lockersSeenBy(host, 'late')).toEqual(['films']);
});

test('an automount that is idle at a reload is mounted for another look', async () => {
  await untilActive('shared');
  await host.shell('umount /auto');
  await systemctl(host, 'daemon-reload');
  const dropIn = '/run/systemd/generator/lxc@shared.service.d/60-container.conf';
  await host.waitFor('the container has its definition', async () => {
    const sound = `grep -q X-Lockerd ${dropIn} && ! grep -q refuse-start ${dropIn}`;
    return (await host.shell(sound, { reject: false })).exitCode === 0;
  });
  await host.waitFor('the automount is taken off the list', async () => {
    return !(await host.exists('/run/systemd/generator/lockerd-automounts'));
  });
  expect(await journalOf(host, 'lockerd-automounts')).toContain('are mounted now');
  await expectState(host, 'lxc@shared', 'active');
});

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  activeSince,
  expectState,
  guestPid,
  journalOf,
  offline,
  systemctl,
  timed,
  trySystemctl,
} from '../machines/support.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'needs', boot: false });
  const mounts = ['data', 'other'].map((name) => `${name} /srv/${name} tmpfs noauto,size=1m 0 0\n`);
  await host.writeFile('/etc/fstab', mounts.join(''));
  const bind = 'lxc.mount.entry = /srv/data srv none bind,create=dir 0 0';
  await host.createContainer('bound', 'busybox', { config: [...offline, bind] });
  const optional = 'lxc.mount.entry = /dev/disk/by-label/USB mnt ext4 optional,create=dir 0 0';
  await host.createContainer('usb', 'busybox', { config: [...offline, optional] });
  await host.createContainer('crypt', 'busybox', { config: offline });
  const config = '/var/lib/lxc/crypt/config';
  const text = await host.readFile(config);
  const made = text.replace(/^lxc\.rootfs\.path.*$/m, 'lxc.rootfs.path = /dev/mapper/web_crypt');
  await host.writeFile(config, `${made}lxc.hook.pre-start = /usr/local/sbin/open-crypt\n`);
  await host.writeFile('/usr/local/sbin/open-crypt', '#!/bin/sh\n: >/run/opened\nexit 1\n', 0o755);
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

/** Asks systemd for the state of a unit as a start does before there is a bus. */
const ask = `
  require '/usr/lib/lockerd/hooks/bus-calls';
  my $systemd = connect_to_systemd(10) // exit 1;
  my $object = '/org/freedesktop/systemd1/unit/' . label($ARGV[0]);
  my $interface = 'org.freedesktop.systemd1.Unit';
  my $call = ask_property($systemd, undef, $object, $interface, 'ActiveState');
  my ($is_good, $body) = answer_to($systemd, $call, 10);
  print text_in($body) if $is_good;`;

test.each(['dbus.service', `lxc-needs@${'long'.repeat(30)}.service`])(
  'systemd itself tells a hook the state of %s',
  async (unit) => {
    const { stdout } = await host.run('perl', ['-e', ask, unit]);
    expect(stdout).toBe(unit === 'dbus.service' ? 'active' : 'inactive');
  },
);

/** What stops because nobody needs it any more stops a moment later. */
async function untilInactive(unit: string): Promise<void> {
  await host.waitFor(`${unit} is inactive`, async () => {
    return (await host.unit(unit))['ActiveState'] === 'inactive';
  });
}

describe('a mount that the container binds', () => {
  test('is made for the start, and the container runs on when it is restarted or stopped', async () => {
    await expectState(host, 'srv-data.mount', 'inactive');
    await systemctl(host, 'start', 'lxc@bound');
    await expectState(host, 'srv-data.mount', 'active');
    await expectState(host, 'lxc-needs@bound.service', 'active');
    const pid = await guestPid(host, 'bound');
    const since = await activeSince(host, 'lxc@bound');

    await systemctl(host, 'restart', 'srv-data.mount');
    await systemctl(host, 'stop', 'srv-data.mount');
    await expectState(host, 'lxc@bound', 'active');
    await untilInactive('lxc-needs@bound.service');
    expect(await guestPid(host, 'bound')).toBe(pid);
    expect(await activeSince(host, 'lxc@bound')).toBe(since);
    const { stdout } = await host.run('systemctl', ['status', '--no-pager', 'lxc@bound']);
    expect(stdout).toContain('a mount that the container uses is stopped on the host');

    await systemctl(host, 'restart', 'lxc@bound');
    await expectState(host, 'srv-data.mount', 'active');
    await systemctl(host, 'stop', 'lxc@bound');
    await untilInactive('lxc-needs@bound.service');
  });

  test('keeps the container from starting when it fails, and the journal names it', async () => {
    await systemctl(host, 'stop', 'srv-data.mount');
    const absent = '/dev/absent /srv/data ext4 noauto,x-systemd.device-timeout=2s 0 0\n';
    await host.writeFile('/etc/fstab', absent);
    await systemctl(host, 'daemon-reload');
    const { exitCode } = await trySystemctl(host, 'start', 'lxc@bound');
    expect(exitCode).toBe(1);
    expect(await journalOf(host, 'lxc@bound')).toContain('Dependency failed: srv-data.mount');
  });
});

test('an optional device that is absent delays nothing', async () => {
  const { ms } = await timed(() => systemctl(host, 'start', 'lxc@usb'));
  expect(ms).toBeLessThan(30_000);
  await systemctl(host, 'stop', 'lxc@usb');
});

test('the hook that opens the root file system gets to run', async () => {
  const { result, ms } = await timed(() => trySystemctl(host, 'start', 'lxc@crypt'));
  expect(result.exitCode).toBe(1);
  expect(ms).toBeLessThan(30_000);
  expect(await host.exists('/run/opened')).toBe(true);
});

import { execFileSync } from 'node:child_process';
import { symlinkSync, writeFileSync } from 'node:fs';
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
  trySystemctl,
} from '../machines/support.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

describe('autostart', () => {
  let host: Host;
  beforeAll(async () => {
    host = await bootHost({ name: 'boot', boot: false });
    const containers: Readonly<Record<string, string[]>> = {
      first: ['lxc.start.auto = 1', 'lxc.start.order = -5', 'lxc.start.delay = 4'],
      middle1: ['lxc.start.auto = 1', 'lxc.start.order = 10'],
      middle2: ['lxc.start.auto = 1', 'lxc.start.order = 10'],
      last: ['lxc.start.auto = 1', 'lxc.start.order = 20'],
      onboot: ['lxc.start.auto = 1', 'lxc.group = onboot', 'lxc.start.order = 99'],
      elsewhere: ['lxc.start.auto = 1', 'lxc.group = lab'],
      manual: ['lxc.start.order = 1'],
      wanted: ['lxc.start.auto = 0'],
      script: ['lxc.start.auto = 0'],
      orphan: ['lxc.start.auto = 1', 'lxc.net.0.type = veth', 'lxc.net.0.link = br-gone'],
    };
    for (const [name, config] of Object.entries(containers)) {
      await host.createContainer(name, name === 'orphan' ? 'sysvinit' : 'busybox', {
        config: [...offline, ...config],
      });
    }
    await host.writeFile('/etc/lockerd/lockerd.conf', 'bridge-timeout = 6s\n');
    // What a host had before: an init script and its runlevel link, Debian's and OpenRC's.
    for (const name of ['script', 'manual']) {
      writeFileSync(
        `${host.root}/etc/init.d/lxc.${name}`,
        '#!/bin/sh\n### BEGIN INIT INFO\n# Provides: lxc.x\n# Default-Start: 2 3 4 5\n### END INIT INFO\ntouch /run/init-script-ran\n',
        { mode: 0o755 },
      );
    }
    symlinkSync('../init.d/lxc.script', `${host.root}/etc/rc3.d/S20lxc.script`);
    await host.boot();
    await systemctl(host, 'enable', 'lxc@wanted');
    await host.reboot();
  });
  afterAll(() => host.close());
  attachJournalOnFailure(() => host);

  test('starts what LXC would have started, what is enabled, and what a runlevel link names', async () => {
    const names = 'first middle1 middle2 last onboot elsewhere manual wanted script'.split(' ');
    const running = [];
    for (const name of names) if ((await guestPid(host, name)) !== undefined) running.push(name);
    expect(running).toEqual(['first', 'middle1', 'middle2', 'last', 'onboot', 'wanted', 'script']);
  });

  test('agrees with lxc-autostart on the set', async () => {
    await systemctl(host, 'stop', 'lxc@*');
    const { stdout } = await host.shell('lxc-autostart -L -g onboot,');
    const wouldStart = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[0])
      .sort();
    const { stdout: links } = await host.shell(
      'ls /run/systemd/generator/lxc-autostart.target.wants',
    );
    const doStart = links
      .trim()
      .split('\n')
      .map((link) => link.slice(4, -'.service'.length));
    // The runlevel link of "script" comes on top; LXC knows nothing of it.
    expect(doStart.sort()).toEqual([...wouldStart, 'script'].sort());
    await systemctl(host, 'start', 'lxc-autostart.target');
  });

  /** Seconds since the epoch at which the last boot's end had stopped a container. */
  async function stoppedLastBoot(name: string): Promise<number> {
    const args = ['-b', '-1', '-u', `lxc@${name}`, '-o', 'short-unix', '--no-pager'];
    const { stdout } = await host.run('journalctl', args);
    const lines = stdout.split('\n').filter((line) => line.includes('Stopped lxc@'));
    return Number(lines.at(-1)?.split(' ')[0]);
  }

  test('keeps order and delay at boot, and the reverse order when the host goes down', async () => {
    await host.reboot();
    const onboot = await activeSince(host, 'lxc@onboot');
    const first = await activeSince(host, 'lxc@first');
    const middle1 = await activeSince(host, 'lxc@middle1');
    const middle2 = await activeSince(host, 'lxc@middle2');
    const last = await activeSince(host, 'lxc@last');
    expect(onboot).toBeLessThan(first);
    expect(middle1 - first).toBeGreaterThanOrEqual(4);
    expect(middle1 - first).toBeLessThan(30);
    expect(Math.abs(middle1 - middle2)).toBeLessThan(4);
    expect(last).toBeGreaterThan(Math.max(middle1, middle2));

    // One transaction, as only the host going down makes it: several names given to systemctl
    // are several jobs, and the first may be done before the last is asked for.
    await host.reboot();
    const stopped = await Promise.all(
      ['onboot', 'first', 'middle1', 'middle2', 'last'].map((name) => stoppedLastBoot(name)),
    );
    const [onbootEnd = 0, firstEnd = 0, middle1End = 0, middle2End = 0, lastEnd = 0] = stopped;
    expect(lastEnd).toBeLessThan(Math.min(middle1End, middle2End));
    expect(Math.max(middle1End, middle2End)).toBeLessThan(firstEnd);
    expect(firstEnd).toBeLessThan(onbootEnd);
  });

  test('a container that failed keeps no later one from starting', async () => {
    await systemctl(host, 'stop', 'lxc@*');
    await host.shell('mv /var/lib/lxc/first/rootfs /var/lib/lxc/first/rootfs.away');
    await systemctl(host, 'start', 'lxc-autostart.target');
    await host.waitFor('the last one runs', async () => {
      return (await host.unit('lxc@last'))['ActiveState'] === 'active';
    });
    await expectState(host, 'lxc@first', 'failed');
    await host.shell('mv /var/lib/lxc/first/rootfs.away /var/lib/lxc/first/rootfs');
  });

  test('a missing bridge delays its container for the set time only and names itself', async () => {
    const { ActiveState: state } = await host.unit('lxc@orphan');
    expect(state).toBe('failed');
    expect(await journalOf(host, 'lxc@orphan')).toMatch(/br-gone/);
    const { stdout } = await host.run('systemctl', ['is-system-running'], { reject: false });
    expect(stdout.trim()).toBe('degraded');
  });

  test('a container waits for a bridge that comes late', async () => {
    await systemctl(host, 'reset-failed', 'lxc@orphan');
    await systemctl(host, 'start', '--no-block', 'lxc@orphan');
    await host.shell('sleep 2; ip link add br-gone type bridge; ip link set br-gone up');
    await host.waitFor(
      'the container runs',
      async () => {
        return (await host.unit('lxc@orphan'))['ActiveState'] === 'active';
      },
      10_000,
    );
    await systemctl(host, 'stop', 'lxc@orphan');
    await host.run('ip', ['link', 'del', 'br-gone']);
  });

  test('lxc.NAME forwards start and stop, and no init script is run', async () => {
    await systemctl(host, 'stop', 'lxc.script');
    expect(await guestPid(host, 'script')).toBeUndefined();
    await host.run('service', ['lxc.script', 'start']);
    await expectState(host, 'lxc@script', 'active');
    await systemctl(host, 'restart', 'lxc.script');
    await expectState(host, 'lxc@script', 'active');
    expect((await host.run('service', ['lxc.script', 'status'])).stdout).toContain('active');
    await host.run('service', ['lxc.script', 'stop']);
    expect(await guestPid(host, 'script')).toBeUndefined();
    // A container started by its own name stops by the script's name too.
    await systemctl(host, 'start', 'lxc@manual');
    await host.waitFor('lxc.manual follows', async () => {
      return (await host.unit('lxc.manual'))['ActiveState'] === 'active';
    });
    await systemctl(host, 'stop', 'lxc.manual');
    expect(await guestPid(host, 'manual')).toBeUndefined();
    // What systemctl restart does to one happens to the guest.
    await systemctl(host, 'start', 'lxc.manual');
    const before = await guestPid(host, 'manual');
    await systemctl(host, 'restart', 'lxc.manual');
    await expectState(host, 'lxc@manual', 'active');
    expect(await guestPid(host, 'manual')).not.toBe(before);
    await systemctl(host, 'stop', 'lxc.manual');
    // A container that ends by itself takes the forwarding unit with it.
    await systemctl(host, 'start', 'lxc.script');
    await systemctl(host, 'stop', 'lxc@script');
    await host.waitFor('lxc.script follows', async () => {
      return (await host.unit('lxc.script'))['ActiveState'] === 'inactive';
    });
    expect((await host.unit('lxc.script'))['FragmentPath']).toBe(
      '/run/systemd/generator/lxc.script.service',
    );
    expect(await host.exists('/run/init-script-ran')).toBe(false);
  });

  test('a group target starts and stops its containers', async () => {
    await systemctl(host, 'start', 'lxc-group@lab.target');
    await host.waitFor('its container is active', async () => {
      return (await host.unit('lxc@elsewhere'))['ActiveState'] === 'active';
    });
    await systemctl(host, 'stop', 'lxc-group@lab.target');
    await host.waitFor('its container is inactive', async () => {
      return (await host.unit('lxc@elsewhere'))['ActiveState'] === 'inactive';
    });
  });

  test('isolating a target that wants a container leaves it running', async () => {
    await systemctl(host, 'start', 'lxc-group@onboot.target');
    await host.waitFor('its container is active', async () => {
      return (await host.unit('lxc@onboot'))['ActiveState'] === 'active';
    });
    const pid = await guestPid(host, 'onboot');
    await systemctl(host, 'isolate', 'multi-user.target');
    await host.shell('sleep 1');
    expect(await guestPid(host, 'onboot')).toBe(pid);
  });

  test('LXC_AUTO=false starts none but the enabled ones', async () => {
    await host.writeFile('/etc/default/lxc', 'LXC_AUTO="false"\nBOOTGROUPS="onboot,"\n');
    await host.reboot();
    await expectState(host, 'lxc@first', 'inactive');
    await expectState(host, 'lxc@wanted', 'active');
    await expectState(host, 'lxc@script', 'active');
  });
});

describe('containers on a file system of their own', () => {
  let host: Host;
  /** Runs a shell script in the tree of the host, which is off. */
  const inTree = (script: string): void => {
    execFileSync('chroot', [host.root, '/bin/sh', '-euc', script]);
  };
  beforeAll(async () => {
    host = await bootHost({ name: 'late', boot: false });
    await host.writeFile('/etc/lxc/lxc.conf', 'lxc.lxcpath = /srv/containers\n');
    // /srv/disk stands in for a disk that is not mounted before the boot has come to it.
    await host.createContainer('late1', 'busybox', {
      lxcpath: '/srv/disk',
      config: [...offline, 'lxc.start.auto = 1', 'lxc.start.order = 1', 'lxc.start.delay = 2'],
    });
    await host.createContainer('late2', 'busybox', {
      lxcpath: '/srv/disk',
      config: [...offline, 'lxc.start.auto = 1', 'lxc.start.order = 2'],
    });
    for (const name of ['late1', 'late2']) {
      const config = await host.readFile(`/srv/disk/${name}/config`);
      await host.writeFile(
        `/srv/disk/${name}/config`,
        config.replaceAll('/srv/disk/', '/srv/containers/'),
      );
    }
    await host.writeFile('/srv/containers/.keep', '');
    await host.writeFile('/etc/fstab', '/srv/disk /srv/containers none bind 0 0\n');
    await host.boot();
  });
  afterAll(() => host.close());
  attachJournalOnFailure(() => host);

  test('start at the boot that mounts them, in their order', async () => {
    await host.waitFor('both run', async () => {
      return (await host.unit('lxc@late2'))['ActiveState'] === 'active';
    });
    await expectState(host, 'lxc@late1', 'active');
    expect(
      (await activeSince(host, 'lxc@late2')) - (await activeSince(host, 'lxc@late1')),
    ).toBeGreaterThanOrEqual(2);
    expect((await host.unit('lxc@late1'))['RequiresMountsFor']).toContain('/srv/containers/late1');
    expect(await journalOf(host, 'lockerd-rescan')).toContain('/srv/containers has been mounted');
    await expectState(host, 'multi-user.target', 'active');
  });

  test('shut down before their file system goes away', async () => {
    for (const name of ['late1', 'late2']) await host.clearMarker(name, '/srv/disk');
    await host.powerOff();
    for (const name of ['late1', 'late2']) {
      expect(await host.marker(name, '/srv/disk')).toBeDefined();
    }
  });

  test('start where their directory is behind a link and mounted without the boot waiting', async () => {
    await host.writeFile('/etc/lxc/lxc.conf', '');
    inTree('rmdir /var/lib/lxc; ln -s /srv/containers /var/lib/lxc');
    await host.writeFile('/etc/fstab', '/srv/disk /srv/containers none bind,nofail 0 0\n');
    await host.boot();
    await host.waitFor('both run', async () => {
      return (await host.unit('lxc@late2'))['ActiveState'] === 'active';
    });
    expect((await host.unit('lxc@late1'))['After']).toContain('srv-containers.mount');
    await host.powerOff();
  });

  test('start where the directory of one container is a mount of its own', async () => {
    inTree('rm /var/lib/lxc; mkdir -p /var/lib/lxc/late1');
    await host.writeFile('/etc/fstab', '/srv/disk/late1 /var/lib/lxc/late1 none bind 0 0\n');
    inTree('sed -i s,/srv/containers,/var/lib/lxc, /srv/disk/late1/config');
    await host.boot();
    await host.waitFor('it runs', async () => {
      return (await host.unit('lxc@late1'))['ActiveState'] === 'active';
    });
    await host.powerOff();
  });

  test('a boot without anything new does not look twice', async () => {
    await host.writeFile('/etc/fstab', '');
    await host.writeFile('/etc/lxc/lxc.conf', '');
    await host.boot();
    await expectState(host, 'lockerd-rescan', 'active');
    expect(await journalOf(host, 'lockerd-rescan')).not.toContain('has been mounted');
    const none = await trySystemctl(host, 'is-active', 'lxc@late1');
    expect(none.output.trim()).toBe('inactive');
  });
});

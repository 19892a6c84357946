import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type GuestKind, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { expectState, guestKinds, guestPid, offline, systemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

/** What a guest runs to reboot or power itself off. */
const commands: Readonly<Record<GuestKind, { reboot: string; powerOff: string }>> = {
  busybox: { reboot: '/sbin/reboot', powerOff: '/sbin/poweroff' },
  sysvinit: { reboot: '/sbin/reboot', powerOff: '/sbin/poweroff' },
  systemd: { reboot: '/bin/systemctl reboot', powerOff: '/bin/systemctl poweroff' },
};

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'life', boot: false });
  for (const kind of guestKinds) {
    await host.createContainer(kind, kind, { config: offline });
    await host.createContainer(`net-${kind}`, kind, {
      config: [
        'lxc.net.0.type = veth',
        'lxc.net.0.link = lxcbr0',
        'lxc.net.0.flags = up',
        'lxc.mount.entry = /srv srv none bind,create=dir 0 0',
      ],
    });
  }
  for (const kind of guestKinds) {
    const name = `id-${kind}`;
    await host.createContainer(name, kind, {
      config: [...offline, 'lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'],
    });
    const directory = `${host.root}/var/lib/lxc/${name}`;
    execFileSync('chown', ['-R', '100000:100000', `${directory}/rootfs`]);
    chmodSync(directory, 0o755);
  }
  for (const file of ['subuid', 'subgid']) {
    await host.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

/** Everything on the host that belongs to one container, by any name. */
async function tracesOf(name: string): Promise<string> {
  const { stdout } = await host.shell(`
    pgrep -af '[l]xc-start.*-n ${name}( |$)' || true
    grep -F '/lxc/${name}/' /proc/self/mountinfo || true
    find /sys/fs/cgroup -type d -name 'lxc.*.${name}*'
    ls /sys/class/net | grep -vx 'lo\\|lxcbr0' || true`);
  return stdout.trim();
}

describe.each(guestKinds)('%s guest', (kind) => {
  test('reboots three times in its unit, which stays active', async () => {
    await systemctl(host, 'start', `lxc@${kind}`);
    await host.waitForGuest(kind);
    const { MainPID: monitor, InvocationID: invocation } = await host.unit(`lxc@${kind}`);
    let init = await guestPid(host, kind);
    for (const round of [1, 2, 3]) {
      await host.clearMarker(kind);
      await host.shell(`lxc-attach -n ${kind} --clear-env -- ${commands[kind].reboot} || true`);
      await host.waitFor(
        `reboot ${round} brings a new init`,
        async () => {
          const pid = await guestPid(host, kind);
          return pid !== undefined && pid !== init;
        },
        60_000,
      );
      expect(await host.marker(kind)).toBeDefined();
      init = await guestPid(host, kind);
      await host.waitForGuest(kind);
      // The guest's init needs its signal handlers before the next command makes sense.
      await sleep(1000);
      expect(await host.unit(`lxc@${kind}`)).toMatchObject({
        ActiveState: 'active',
        MainPID: monitor,
        InvocationID: invocation,
      });
    }
    await host.clearMarker(kind);
    await systemctl(host, 'stop', `lxc@${kind}`);
    expect(await host.marker(kind)).toBeDefined();
    expect(await tracesOf(kind)).toBe('');
  });

  test('powers itself off: the unit is inactive, not failed', async () => {
    await systemctl(host, 'start', `lxc@${kind}`);
    await host.waitForGuest(kind);
    await sleep(500);
    await host.shell(`lxc-attach -n ${kind} --clear-env -- ${commands[kind].powerOff} || true`);
    await host.waitFor(
      'the unit ends',
      async () => {
        const { ActiveState: state } = await host.unit(`lxc@${kind}`);
        return state === 'inactive' || state === 'failed';
      },
      60_000,
    );
    expect(await host.unit(`lxc@${kind}`)).toMatchObject({
      ActiveState: 'inactive',
      Result: 'success',
    });
    expect(await tracesOf(kind)).toBe('');
  });

  test('its monitor killed with SIGKILL leaves nothing, and the next start works', async () => {
    const name = `net-${kind}`;
    await systemctl(host, 'start', `lxc@${name}`);
    await host.waitForGuest(name);
    expect(await tracesOf(name)).toMatch(/veth/);
    const { MainPID: monitor } = await host.unit(`lxc@${name}`);
    await host.run('kill', ['-KILL', String(monitor)]);
    await host.waitFor('the unit has failed', async () => {
      return (await host.unit(`lxc@${name}`))['ActiveState'] === 'failed';
    });
    await host.waitFor('nothing is left', async () => (await tracesOf(name)) === '', 5000);
    await systemctl(host, 'start', `lxc@${name}`);
    await expectState(host, `lxc@${name}`, 'active');
    await host.waitForGuest(name);
    await host.clearMarker(name);
    await systemctl(host, 'stop', `lxc@${name}`);
    expect(await host.marker(name)).toBeDefined();
    expect(await tracesOf(name)).toBe('');
  });
});

test.each(guestKinds)('an unprivileged %s guest runs as its unit and shuts down', async (kind) => {
  const name = `id-${kind}`;
  await systemctl(host, 'start', `lxc@${name}`);
  await host.waitForGuest(name);
  const pid = await guestPid(host, name);
  expect(await host.readFile(`/proc/${pid}/uid_map`)).toMatch(/^\s*0\s+100000\s+65536$/m);
  await systemctl(host, 'stop', `lxc@${name}`);
  expect(await host.marker(name)).toBeDefined();
  expect(await tracesOf(name)).toBe('');
});

test('a power cut while guests run: the next boot is clean and they start again', async () => {
  for (const kind of guestKinds) await systemctl(host, 'start', `lxc@${kind}`);
  await host.crash();
  await host.boot();
  for (const kind of guestKinds) {
    await expectState(host, `lxc@${kind}`, 'inactive');
    await systemctl(host, 'start', `lxc@${kind}`);
    await host.waitForGuest(kind);
    await systemctl(host, 'stop', `lxc@${kind}`);
    expect(await tracesOf(kind)).toBe('');
  }
});

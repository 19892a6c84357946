import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  expectState,
  guestKinds,
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
  host = await bootHost({ name: 'stop', boot: false });
  for (const kind of guestKinds) await host.createContainer(kind, kind, { config: offline });
  await host.createContainer('deaf', 'busybox', { shutdown: 'ignored', config: offline });
  await host.createContainer('slow', 'busybox', { shutdown: { seconds: 6 }, config: offline });
  await host.createContainer('window', 'busybox', {
    config: [...offline, 'lxc.signal.halt = SIGWINCH'],
  });
  await host.createContainer('sluggish', 'busybox', { config: offline });
  await host.writeFile('/etc/lockerd/containers/deaf.conf', 'stop-timeout = 5s\n');
  await host.writeFile('/etc/lockerd/containers/slow.conf', 'stop-timeout = 30s\n');
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

describe.each(guestKinds)('%s guest', (kind) => {
  test('shuts down by itself when its unit is stopped', async () => {
    await host.clearMarker(kind);
    await systemctl(host, 'start', `lxc@${kind}`);
    await host.waitForGuest(kind);
    const { ms } = await timed(() => systemctl(host, 'stop', `lxc@${kind}`));
    expect(await host.marker(kind)).toBeDefined();
    expect(await guestPid(host, kind)).toBeUndefined();
    expect(ms).toBeLessThan(30_000);
    expect(await host.unit(`lxc@${kind}`)).toMatchObject({
      ActiveState: 'inactive',
      Result: 'success',
    });
  });

  test('is told to stop through the signal its init knows', async () => {
    const expected = { busybox: '10', sysvinit: '30', systemd: '37' }[kind];
    expect((await host.unit(`lxc@${kind}`))['KillSignal']).toBe(expected);
  });

  test('shuts down when the stop comes right behind the start', async () => {
    await host.clearMarker(kind);
    await host.shell(`systemctl start lxc@${kind}; systemctl stop lxc@${kind}`, {
      timeoutMs: 150_000,
    });
    // A guest that has only begun to boot may have nothing to shut down yet and write no marker;
    // that its init ended by itself tells that it heard the signal.
    expect(await host.unit(`lxc@${kind}`)).toMatchObject({
      ActiveState: 'inactive',
      Result: 'success',
      ExecMainStatus: '0',
    });
    expect(await journalOf(host, `lxc@${kind}`)).not.toContain('Killing process');
  });

  test('stops while it is frozen', async () => {
    await systemctl(host, 'start', `lxc@${kind}`);
    await host.waitForGuest(kind);
    await host.clearMarker(kind);
    await host.run('lxc-freeze', ['-n', kind]);
    expect((await host.run('lxc-info', ['-n', kind, '-sH'])).stdout.trim()).toBe('FROZEN');
    await systemctl(host, 'stop', `lxc@${kind}`);
    expect(await host.marker(kind)).toBeDefined();
    expect(await host.unit(`lxc@${kind}`)).toMatchObject({ Result: 'success' });
  });
});

test.each([0, 10, 30, 50, 80, 120])(
  'a stop %i ms into the start leaves a guest that never ran or one that shut down',
  async (delayMs) => {
    await host.clearMarker('busybox');
    const before = (await host.unit('lxc@busybox'))['InvocationID'];
    const { ms } = await timed(() =>
      host.shell(
        `systemctl start --no-block lxc@busybox; sleep ${delayMs / 1000}; systemctl stop lxc@busybox`,
      ),
    );
    expect(await guestPid(host, 'busybox')).toBeUndefined();
    await expectState(host, 'lxc@busybox', 'inactive');
    // The unit's stop timeout is two minutes: nobody may have waited for it.
    expect(ms).toBeLessThan(30_000);
    const after = await host.unit('lxc@busybox');
    const ran = after['InvocationID'] !== before;
    const journal = await journalOf(host, 'lxc@busybox');
    // Hooks that wait or ask may be left when the guest is gone; nothing of LXC or the guest is.
    expect(journal).not.toMatch(
      /Killing process \d+ \((?!(?:container-start|stop-guest|sleep|systemctl|lxc-wait|lxc-info)\))/,
    );
    // A guest whose init came to run must have heard of the stop.
    if (ran && after['Result'] === 'success' && after['ExecMainStatus'] === '0') {
      expect(await host.marker('busybox')).toBeDefined();
    }
  },
);

test('a guest that ignores its halt signal is killed at the stop timeout, not before', async () => {
  await systemctl(host, 'start', 'lxc@deaf');
  const pid = await guestPid(host, 'deaf');
  expect(pid).toBeDefined();
  const { ms } = await timed(async () => {
    const stop = systemctl(host, 'stop', 'lxc@deaf');
    await sleep(3500);
    expect(await guestPid(host, 'deaf')).toBe(pid);
    await stop;
  });
  expect(ms).toBeGreaterThan(4900);
  expect(ms).toBeLessThan(20_000);
  expect(await guestPid(host, 'deaf')).toBeUndefined();
  expect(await host.unit('lxc@deaf')).toMatchObject({ Result: 'timeout' });
  expect((await host.shell('pgrep -f "[l]xc-start.*-n deaf" || true')).stdout).toBe('');
});

test('a guest that takes its time to shut down is left alone until it has', async () => {
  await systemctl(host, 'start', 'lxc@slow');
  await sleep(1000);
  const { ms } = await timed(() => systemctl(host, 'stop', 'lxc@slow'));
  expect(ms).toBeGreaterThan(5500);
  expect(await host.marker('slow')).toBeDefined();
  expect(await host.unit('lxc@slow')).toMatchObject({ Result: 'success' });
});

/** An init of our own that shuts down on one signal, after having slept for a while at first. */
async function writeInit(name: string, signal: string, sleepSeconds: number): Promise<void> {
  const init = `/var/lib/lxc/${name}/rootfs/sbin/init`;
  await host.run('rm', ['-f', init]);
  await host.writeFile(
    init,
    `#!/bin/sh
sleep ${sleepSeconds}
trap 'echo heard > /shutdown-marker; exit 0' ${signal}
: > /dev/booted
while :; do sleep 0.1; done
`,
    0o755,
  );
}

test('a halt signal that lxc-start does not pass on is sent to the guest itself', async () => {
  await writeInit('window', 'WINCH', 0);
  const unit = await host.unit('lxc@window');
  expect(unit['KillSignal']).toBe('18');
  expect(unit['ExecStop']).toContain('stop-guest 28');
  await systemctl(host, 'start', 'lxc@window');
  await host.waitForGuest('window');
  const { ms } = await timed(() => systemctl(host, 'stop', 'lxc@window'));
  expect(ms).toBeLessThan(10_000);
  expect(await host.marker('window')).toBe('heard');
});

test('a stop that an init is too slow to hear at first is not lost', async () => {
  await writeInit('sluggish', 'USR1', 4);
  await systemctl(host, 'start', 'lxc@sluggish');
  const { ms } = await timed(() => systemctl(host, 'stop', 'lxc@sluggish'));
  expect(ms).toBeLessThan(15_000);
  expect(await host.marker('sluggish')).toBe('heard');
  expect(await host.unit('lxc@sluggish')).toMatchObject({ Result: 'success' });
});

test('a script that becomes systemd is told to stop as systemd is', async () => {
  await host.createContainer('wrapped', 'systemd', { config: offline });
  const sbin = '/var/lib/lxc/wrapped/rootfs/sbin';
  await host.run('mv', [`${sbin}/init`, `${sbin}/init.real`]);
  await host.writeFile(`${sbin}/init`, '#!/bin/sh\nexec /sbin/init.real "$@"\n', 0o755);
  await systemctl(host, 'daemon-reload');
  expect((await host.unit('lxc@wrapped'))['KillSignal']).toBe('30');
  await systemctl(host, 'start', 'lxc@wrapped');
  await host.waitForGuest('wrapped');
  const { ms } = await timed(() => systemctl(host, 'stop', 'lxc@wrapped'));
  expect(ms).toBeLessThan(30_000);
  expect(await host.marker('wrapped')).toBeDefined();
  expect(await host.unit('lxc@wrapped')).toMatchObject({ Result: 'success' });
});

test('an init that knows no halt signal is named, with the line to write', async () => {
  await host.createContainer('stranger', 'busybox', { config: [...offline, 'lxc.signal.halt ='] });
  await host.writeFile('/etc/lockerd/containers/stranger.conf', 'stop-timeout = 3s\n');
  await writeInit('stranger', 'TERM', 0);
  await systemctl(host, 'daemon-reload');
  await systemctl(host, 'start', 'lxc@stranger');
  await host.waitForGuest('stranger');
  await systemctl(host, 'stop', 'lxc@stranger');
  const journal = await journalOf(host, 'lxc@stranger');
  expect(journal).toMatch(/init .* handles neither .*\(it handles SIGTERM.*lxc\.signal\.halt = /);
});

test.each(['sysvinit', 'systemd'] as const)(
  'a %s guest that the generator has not seen yet shuts down, early and late',
  async (kind) => {
    const name = `new-${kind}`;
    await host.createContainer(name, kind, { config: offline });
    for (const wait of [0, 0.05, 0.2]) {
      const { ms } = await timed(() =>
        host.shell(
          `systemctl start --no-block lxc@${name}; sleep ${wait}; systemctl stop lxc@${name}`,
          { timeoutMs: 150_000 },
        ),
      );
      expect(ms).toBeLessThan(15_000);
      expect(await host.unit(`lxc@${name}`)).toMatchObject({ ActiveState: 'inactive' });
    }
    await systemctl(host, 'start', `lxc@${name}`);
    await host.waitForGuest(name);
    await systemctl(host, 'stop', `lxc@${name}`);
    expect(await host.marker(name)).toBeDefined();
  },
);

test('starting a container that runs outside its unit fails and leaves it alone', async () => {
  await host.run('lxc-start', ['-d', '-n', 'systemd']);
  await host.waitForGuest('systemd');
  const groups = async (): Promise<number> =>
    Number((await host.shell('find /sys/fs/cgroup -path "*lxc.payload.systemd*" | wc -l')).stdout);
  // A guest that has just booted still drops some of its own.
  let before = await groups();
  await host.waitFor('the guest has settled', async () => {
    await sleep(1000);
    const now = await groups();
    const isSettled = now === before;
    before = now;
    return isSettled;
  });
  expect((await trySystemctl(host, 'start', 'lxc@systemd')).exitCode).toBe(1);
  expect(await groups()).toBe(before);
  await host.run('lxc-stop', ['-n', 'systemd']);
});

test('lxc.service stops without touching the containers', async () => {
  await systemctl(host, 'start', 'lxc@sysvinit');
  const pid = await guestPid(host, 'sysvinit');
  await systemctl(host, 'stop', 'lxc.service');
  await sleep(500);
  expect(await guestPid(host, 'sysvinit')).toBe(pid);
  await expectState(host, 'lxc@sysvinit', 'active');
  await systemctl(host, 'start', 'lxc.service');
  const { stdout } = await host.run('systemctl', ['cat', 'lxc.service']);
  expect(stdout).toContain('lxc-apparmor-load');
  const unit = await host.unit('lxc.service');
  expect(unit['ExecStartPre']).toContain('/usr/libexec/lxc/lxc-apparmor-load');
  expect(unit['ExecReload']).toContain('/usr/libexec/lxc/lxc-apparmor-load');
  expect(unit['ExecStart']).toContain('/bin/true');
  expect(unit['ExecStop']).toContain('/usr/lib/lockerd/hooks/halt-strays');
  expect(unit['ExecStop']).not.toContain('lxc-containers');
  await systemctl(host, 'stop', 'lxc@sysvinit');
});

test('a power-off of the host shuts all guests down at the same time', async () => {
  const names = [...guestKinds, 'twin1', 'twin2', 'twin3'];
  await host.createContainer('stray', 'sysvinit', { config: offline });
  for (const twin of ['twin1', 'twin2', 'twin3']) {
    await host.createContainer(twin, 'busybox', { shutdown: { seconds: 6 }, config: offline });
  }
  await systemctl(host, 'daemon-reload');
  await systemctl(host, 'start', ...names.map((name) => `lxc@${name}`));
  for (const kind of guestKinds) await host.waitForGuest(kind);
  // One that no unit runs is asked as well.
  await host.run('lxc-start', ['-d', '-n', 'stray']);
  await host.waitForGuest('stray');
  for (const name of names) await host.clearMarker(name);
  const { ms } = await timed(() => host.powerOff());
  for (const name of names) {
    expect({ name, graceful: (await host.marker(name)) !== undefined }).toEqual({
      name,
      graceful: true,
    });
  }
  // Three guests of at least six seconds each would take over eighteen one after the other.
  expect(ms).toBeLessThan(18_000);
  expect(await host.marker('stray')).toBeDefined();
  await host.boot();
  const { stdout: lastBoot } = await host.run('journalctl', ['-b', '-1', '--no-pager']);
  expect(lastBoot).toContain('asking container "stray"');
  const [, goingDown = ''] = lastBoot.split('The system will power off now');
  expect(goingDown).toContain('Stopped lxc@');
  expect(goingDown).not.toMatch(/lxc@\S+: (Killing process|Failed with result)/);
});

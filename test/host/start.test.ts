import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
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

const oddNames = ['my web', 'web-1', 'a%n$HOME', '-dash', 'back\\slash', 'caf\u00e9', 'at@home'];

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'start', boot: false });
  for (const kind of guestKinds) await host.createContainer(kind, kind);
  await host.createContainer('headless', 'busybox');
  rmSync(`${host.root}/var/lib/lxc/headless/rootfs/sbin/init`);
  await host.createContainer('booted', 'systemd');
  await host.writeFile('/etc/lockerd/containers/booted.conf', 'ready = booted\n');
  // It has booted when the test says so.
  const held = '/var/lib/lxc/booted/rootfs';
  await host.writeFile(
    `${held}/etc/systemd/system/held.service`,
    "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'until [ -e /go ]; do sleep 0.1; done'\n",
  );
  const wants = `${host.root}${held}/etc/systemd/system/multi-user.target.wants`;
  mkdirSync(wants, { recursive: true });
  symlinkSync('../held.service', `${wants}/held.service`);
  await host.createContainer('talky', 'busybox', { config: offline });
  await host.writeFile('/etc/lockerd/containers/talky.conf', 'log-level = debug\n');
  for (const name of oddNames) await host.createContainer(name, 'busybox', { config: offline });
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

describe.each(guestKinds)('%s guest', (kind) => {
  test('is RUNNING when systemctl start returns, with its processes in the unit', async () => {
    const { ms } = await timed(() => systemctl(host, 'start', `lxc@${kind}`));
    expect((await host.run('lxc-info', ['-n', kind, '-sH'])).stdout.trim()).toBe('RUNNING');
    expect(ms).toBeLessThan(30_000);
    const pid = await guestPid(host, kind);
    const unit = await host.unit(`lxc@${kind}`);
    expect(unit).toMatchObject({ ActiveState: 'active', SubState: 'running' });
    const { stdout: processes } = await host.run('sh', [
      '-c',
      // A guest that boots makes and removes groups meanwhile.
      'find "/sys/fs/cgroup/systemd$1" -name cgroup.procs -exec cat {} + || true',
      'sh',
      unit['ControlGroup'] ?? '/absent',
    ]);
    expect(processes.split('\n')).toContain(String(pid));
    const { stdout: status } = await host.run('systemctl', ['status', '--no-pager', `lxc@${kind}`]);
    expect(status).toContain(`lxc.payload.${kind}`);
    await host.waitForGuest(kind);
    await systemctl(host, 'stop', `lxc@${kind}`);
  });
});

test('a container that cannot start fails at once, with the reason of LXC in the journal', async () => {
  const { result, ms } = await timed(() => trySystemctl(host, 'start', 'lxc@headless'));
  // Nothing cancels the job before the unit has failed.
  await expectState(host, 'lxc@headless', 'failed');
  expect(result.exitCode).toBe(1);
  expect(result.output).toMatch(/^Job .* failed/);
  expect(ms).toBeLessThan(15_000);
  expect(await journalOf(host, 'lxc@headless')).toMatch(/Failed to exec "\/sbin\/init"/);
});

test('ready=booted: active only when the guest has booted', async () => {
  await systemctl(host, 'start', '--no-block', 'lxc@booted');
  await host.waitFor('LXC calls it running', async () => {
    return (await guestPid(host, 'booted')) !== undefined;
  });
  await expectState(host, 'lxc@booted', 'activating');
  await host.writeFile('/var/lib/lxc/booted/rootfs/go', '');
  await host.waitFor('the unit is active', async () => {
    return (await host.unit('lxc@booted'))['ActiveState'] === 'active';
  });
  const { stdout } = await host.run(
    'lxc-attach',
    ['-n', 'booted', '--clear-env', '--', '/bin/systemctl', 'is-system-running'],
    { reject: false },
  );
  expect(['running', 'degraded']).toContain(stdout.trim());
  await host.clearMarker('booted');
  await systemctl(host, 'stop', 'lxc@booted');
  expect(await host.marker('booted')).toBeDefined();
});

test('ready=booted: a stop before the guest has booted is heard', async () => {
  await host.run('rm', ['-f', '/var/lib/lxc/booted/rootfs/go']);
  await systemctl(host, 'start', '--no-block', 'lxc@booted');
  await host.waitFor('LXC calls it running', async () => {
    return (await guestPid(host, 'booted')) !== undefined;
  });
  await expectState(host, 'lxc@booted', 'activating');
  const { ms } = await timed(() => systemctl(host, 'stop', 'lxc@booted'));
  expect(ms).toBeLessThan(30_000);
  expect(await guestPid(host, 'booted')).toBeUndefined();
  await expectState(host, 'lxc@booted', 'inactive');
});

test('log-level brings the full LXC log into the journal of the unit', async () => {
  await systemctl(host, 'start', 'lxc@talky');
  await systemctl(host, 'stop', 'lxc@talky');
  const journal = await journalOf(host, 'lxc@talky');
  expect(journal).toMatch(/lxc_start|start\.c/);
  expect(journal.split('\n').length).toBeGreaterThan(40);
});

test.each(oddNames)('a container named "%s" starts and shuts down', async (name) => {
  // systemctl escapes blanks and the like itself; a backslash it takes for an escape.
  const typed = `lxc@${name.replace('\\', '\\x5c')}`;
  await systemctl(host, 'start', typed);
  expect(await guestPid(host, name)).toBeDefined();
  await sleep(500);
  await host.clearMarker(name);
  await systemctl(host, 'stop', typed);
  expect(await host.marker(name)).toBeDefined();
});

test('enable, disable, mask and edit work as for any unit', async () => {
  const isEnabled = async (): Promise<string> =>
    (await trySystemctl(host, 'is-enabled', 'lxc@busybox')).output.trim();
  expect(await isEnabled()).toBe('disabled');
  await systemctl(host, 'enable', 'lxc@busybox');
  expect(await isEnabled()).toBe('enabled');
  await systemctl(host, 'disable', 'lxc@busybox');
  expect(await isEnabled()).toBe('disabled');

  await systemctl(host, 'mask', 'lxc@busybox');
  const masked = await trySystemctl(host, 'start', 'lxc@busybox');
  expect(masked.exitCode).toBe(1);
  expect(masked.output).toContain('masked');
  await systemctl(host, 'unmask', 'lxc@busybox');

  // What "systemctl edit" leaves behind, made by it: EDITOR stands in for the admin's typing.
  await host.writeFile(
    '/usr/local/bin/typist',
    '#!/bin/sh\nprintf "[Service]\\nTimeoutStopSec=42s\\n" > "$1"\n',
    0o755,
  );
  await host.run('script', ['-qec', 'systemctl edit lxc@busybox', '/dev/null'], {
    env: { SYSTEMD_EDITOR: '/usr/local/bin/typist', TERM: 'dumb' },
  });
  expect((await host.unit('lxc@busybox'))['TimeoutStopUSec']).toBe('42s');
  await systemctl(host, 'start', 'lxc@busybox');
  await systemctl(host, 'stop', 'lxc@busybox');
  await systemctl(host, 'revert', 'lxc@busybox');
});

test('daemon-reload leaves a running guest alone and takes up a changed configuration', async () => {
  await systemctl(host, 'start', 'lxc@sysvinit');
  const pid = await guestPid(host, 'sysvinit');
  await host.shell('echo "lxc.signal.halt = SIGTERM" >> /var/lib/lxc/sysvinit/config');
  expect((await host.unit('lxc@sysvinit'))['NeedDaemonReload']).toBe('yes');
  await systemctl(host, 'daemon-reload');
  expect(await guestPid(host, 'sysvinit')).toBe(pid);
  expect((await host.unit('lxc@sysvinit'))['KillSignal']).toBe('15');
  await host.shell('sed -i /signal.halt/d /var/lib/lxc/sysvinit/config');
  await systemctl(host, 'daemon-reload');
  await systemctl(host, 'stop', 'lxc@sysvinit');
});

test('limits set on the unit hold for the guest', async () => {
  await systemctl(host, 'start', 'lxc@busybox');
  await systemctl(host, 'set-property', '--runtime', 'lxc@busybox', 'MemoryMax=64M', 'TasksMax=50');
  const pid = await guestPid(host, 'busybox');
  const { stdout } = await host.shell(`
    group=$(sed -n 's/^[0-9]*:memory://p' /proc/${pid}/cgroup)
    cat "/sys/fs/cgroup/memory$(dirname "$group")/memory.limit_in_bytes"
    group=$(sed -n 's/^[0-9]*:pids://p' /proc/${pid}/cgroup)
    cat "/sys/fs/cgroup/pids$(dirname "$group")/pids.max"`);
  expect(stdout.trim().split('\n')).toEqual([String(64 * 1024 * 1024), '50']);
  await systemctl(host, 'stop', 'lxc@busybox');
});

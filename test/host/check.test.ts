import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { guestKinds, offline, systemctl, trySystemctl } from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'check', boot: false });
  for (const kind of guestKinds) await host.createContainer(kind, kind, { config: [...offline] });
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

interface Finding {
  readonly id: string;
  readonly container: string | null;
  readonly severity: string;
}

async function check(): Promise<{ findings: Finding[]; exitCode: number }> {
  const { stdout, exitCode } = await host.run('lockerctl', ['check', '--json'], {
    reject: false,
  });
  return { findings: JSON.parse(stdout) as Finding[], exitCode };
}

/** What its unit left in the journal at its last run. */
async function journal(): Promise<string> {
  const { stdout } = await host.run('journalctl', ['-t', 'lockerd-check', '-o', 'cat', '-b']);
  return stdout;
}

test('a host with containers of three inits has no errors and no warnings', async () => {
  for (const kind of guestKinds) await systemctl(host, 'start', `lxc@${kind}`);
  const { findings, exitCode } = await check();
  expect(findings.filter(({ severity }) => severity !== 'info')).toEqual([]);
  expect(exitCode).toBe(0);
});

test('the unit sees in its sandbox what root sees', async () => {
  await systemctl(host, 'start', 'lockerd-check');
  expect(await journal()).toMatch(/3 containers checked: (?:nothing found|\d+ notes?)\./);

  // A mount that neither fstab nor a unit file has, an interface, a device and a guest's file.
  await host.shell('mkdir -p /lockers/busybox && mount -t tmpfs -o dev,suid none /lockers/busybox');
  await host.shell('echo lxc.net.0.type=veth >> /var/lib/lxc/busybox/config');
  await host.shell('echo lxc.net.0.link=br7 >> /var/lib/lxc/busybox/config');
  const { findings } = await check();
  const ids = findings.map(({ id }) => id);
  expect(ids).toContain('bridge-missing');
  expect(ids).toContain('locker-unprotected');
  const { exitCode } = await trySystemctl(host, 'start', 'lockerd-check');
  expect(exitCode).toBe(1);
  const text = await journal();
  for (const id of ids) expect(text).toContain(`[${id}]`);
  await host.shell('umount /lockers/busybox');
});

test('"diff" says what a reload would change, and nothing is left to say after it', async () => {
  const before = await host.run('lockerctl', ['diff']);
  expect(before.stdout).toContain('busybox: starts after sys-subsystem-net-devices-br7.device');
  await systemctl(host, 'daemon-reload');
  expect((await host.run('lockerctl', ['diff'])).stdout.trim()).toBe(
    'A daemon-reload would change nothing.',
  );
  await host.shell('echo "stop-timeout = 33s" > /etc/lockerd/containers/busybox.conf');
  const { stdout } = await host.run('lockerctl', ['diff', 'busybox']);
  expect(stdout).toContain('busybox: has for its shutdown 33s instead of the default');
  expect(stdout).toContain('+TimeoutStopSec=33s');
  await systemctl(host, 'daemon-reload');
  expect((await host.run('lockerctl', ['diff'])).stdout).toMatch(/^A daemon-reload/);
});

test('"explain" names the line that made a line of the unit that systemd has', async () => {
  const { stdout } = await host.run('lockerctl', ['explain', 'busybox']);
  const line = /^ *TimeoutStopSec=33s\n.*\/etc\/lockerd\/containers\/busybox.conf:1: /m;
  expect(stdout).toMatch(line);
  const shown = await host.run('systemctl', ['show', '-P', 'TimeoutStopUSec', 'lxc@busybox']);
  expect(shown.stdout.trim()).toBe('33s');
});

test('enabled, the unit runs at each boot, beside the containers', async () => {
  await systemctl(host, 'enable', 'lockerd-check', 'lxc@sysvinit');
  await host.reboot();
  await host.waitForGuest('sysvinit');
  await host.waitFor('it has run', async () => (await journal()).includes('3 containers checked'));
  // It delays none of them.
  expect((await host.unit('lockerd-check'))['Before']).not.toContain('lxc@');
});

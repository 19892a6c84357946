import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { offline, systemctl, trySystemctl } from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'check', boot: false });
  await host.createContainer('web', 'busybox', { config: [...offline] });
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

test('a host with a container that runs has no errors and no warnings', async () => {
  await systemctl(host, 'start', 'lxc@web');
  const { findings, exitCode } = await check();
  expect(findings.filter(({ severity }) => severity !== 'info')).toEqual([]);
  expect(exitCode).toBe(0);
});

test('the unit sees in its sandbox what root sees', async () => {
  await systemctl(host, 'start', 'lockerd-check');
  expect(await journal()).toMatch(/1 container checked: (?:nothing found|\d+ notes?)\./);

  // A mount that neither fstab nor a unit file has, an interface, a device and a guest's file.
  await host.shell('mkdir -p /lockers/web && mount -t tmpfs -o dev,suid none /lockers/web');
  await host.shell('echo lxc.net.0.type=veth >> /var/lib/lxc/web/config');
  await host.shell('echo lxc.net.0.link=br7 >> /var/lib/lxc/web/config');
  const { findings } = await check();
  const ids = findings.map(({ id }) => id);
  expect(ids).toContain('bridge-missing');
  expect(ids).toContain('locker-unprotected');
  const { exitCode } = await trySystemctl(host, 'start', 'lockerd-check');
  expect(exitCode).toBe(1);
  const text = await journal();
  for (const id of ids) expect(text).toContain(`[${id}]`);
  await host.shell('umount /lockers/web');
});

import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest';
import { bootHost, type Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { MemoryGuest, mib } from '../machines/memory-guest.ts';
import { runAs } from '../machines/service.ts';
import { expectState, guestPid, lockersSeenBy, offline, systemctl } from '../machines/support.ts';
import { describeReleases } from './describe-releases.ts';
import { ensurePackageImage } from './package-images.mjs';
import { fileWith, give, listHost, programsDeb } from './packages.ts';

/** Installs, upgrades, removes and purges the package on hosts whose containers run all the time. */
vi.setConfig({ testTimeout: 300_000, hookTimeout: 1_200_000 });

const { before, now } = inject('packages');

/** Where systemd keeps the limits that an admin sets for good. */
const controlled = '/etc/systemd/system.control';

/** A guest that boots slowly enough for an upgrade while its start is under way. */
const slow = 'lxc.hook.pre-start = /srv/wait';
const wait = '#!/bin/sh\n: >/srv/waiting\nuntil [ -e /srv/go ]; do sleep 0.2; done\n';

describeReleases('on %s', (release) => {
  let host: Host;
  let untouched: string[];
  const leaders = new Map<string, number | undefined>();

  beforeAll(async () => {
    const image = await ensurePackageImage(release);
    host = await bootHost({ name: release, image, install: false, boot: false });
    for (const name of ['stock', 'plain', 'web']) {
      await host.createContainer(name, 'busybox', { config: offline });
    }
    await host.createContainer('slow', 'busybox', { config: [...offline, slow] });
    await host.writeFile('/srv/wait', wait, 0o755);
    await host.writeFile('/etc/fstab', 'music /lockers/music tmpfs size=1m 0 0\n');
    await host.boot();
    await systemctl(host, 'start', 'lxc@stock');
    await host.run('lxc-start', ['-n', 'plain', '-d']);
    await host.waitForGuest('stock');
    await host.waitForGuest('plain');
    await noteLeaders('stock', 'plain');
    untouched = await listHost(host);
  });
  afterAll(() => host.close());
  attachJournalOnFailure(() => host);

  async function noteLeaders(...names: string[]): Promise<void> {
    for (const name of names) leaders.set(name, await guestPid(host, name));
  }

  async function expectAllRunning(): Promise<void> {
    for (const [name, leader] of leaders) {
      expect(leader).toBeDefined();
      expect({ name, leader: await guestPid(host, name) }).toEqual({ name, leader });
    }
  }

  async function dpkg(...args: string[]): Promise<string> {
    const { stdout, stderr } = await host.run('dpkg', args, { timeoutMs: 180_000 });
    return stdout + stderr;
  }

  async function lockerctl(...args: string[]): Promise<string> {
    const { exitCode, output } = await runAs(host, 'root', 'lockerctl', ...args);
    expect(exitCode, output).toBe(0);
    return output;
  }

  async function servicePid(): Promise<string | undefined> {
    return (await host.unit('lockerd.service'))['MainPID'];
  }

  async function expectNothingFailed(): Promise<void> {
    expect(await systemctl(host, '--failed', '--plain', '--no-legend')).toBe('');
  }

  test('an installation stops no container, and says what it means for those that run', async () => {
    const said = await dpkg('--install', give(host, fileWith(before, programsDeb)));
    expect(said).toContain('containers are running and go on as they are');
    await expectAllRunning();
    await expectNothingFailed();
    await expectState(host, 'lockerd-helper.socket', 'active');
    expect((await host.run('id', ['-u', 'lockerd'])).stdout).toMatch(/^\d+\n$/);
  });

  test('limits, attachments and a job under way survive an upgrade', async () => {
    await systemctl(host, 'start', 'lxc@web');
    await host.waitForGuest('web');
    await noteLeaders('web');
    await lockerctl('attach', 'web', 'music');
    await lockerctl('balloon', '--persist', 'web', '200M');
    await lockerctl('balloon', 'web', '100M');
    const job = runAs(host, 'root', 'lockerctl', 'start', 'slow');
    await host.waitFor('the start is under way', () => host.exists('/srv/waiting'));

    const service = await servicePid();
    await dpkg('--install', give(host, fileWith(now, programsDeb)));
    await expectAllRunning();
    // It stays for its job.
    expect(await servicePid()).toBe(service);
    await host.writeFile('/srv/go', '');
    const { exitCode, output } = await job;
    expect(exitCode, output).toBe(0);
    await expectState(host, 'lxc@slow', 'active');
    await host.waitForGuest('slow');
    await noteLeaders('slow');

    expect(await lockersSeenBy(host, 'web')).toEqual(['music']);
    const web = new MemoryGuest(host, 'web');
    await web.locate();
    expect(await web.limit()).toBe(String(100 * mib));
    const listed = JSON.parse(await lockerctl('--json', 'list')) as object[];
    expect(listed).toContainEqual(
      expect.objectContaining({ container: 'web', state: 'running', leader: leaders.get('web') }),
    );
    await host.waitFor(
      'the new service has taken over',
      async () => !new Set(['0', service]).has(await servicePid()),
      90_000,
    );
    await lockerctl('detach', 'web', 'music');
    expect(await lockersSeenBy(host, 'web')).toEqual([]);
    await lockerctl('balloon', 'web', '120M');
    await expectNothingFailed();
  });

  test('what the admin sets up is in use when the package goes', async () => {
    await lockerctl('attach', 'web', 'music');
    await lockerctl('balloon', 'web', '100M');
    await host.run('systemctl', ['enable', '--now', 'lockerd-containers.path']);
    await host.run('systemctl', ['enable', 'lockerd-check.service']);
    await host.writeFile('/etc/lockerd/lockerd.conf.d/site.conf', 'stop-timeout = 33s\n');
    await host.writeFile('/etc/lockerd/containers/web.conf', 'stop-timeout = 22s\n');
    await host.run('sed', ['-i', '$a stop-timeout = 44s', '/etc/lockerd/lockerd.conf']);
    await systemctl(host, 'daemon-reload');
    expect(await host.exists(`${controlled}/lxc@web.service.d/45-MemoryMax.conf`)).toBe(true);
  });

  test('the package is removed while containers run on', async () => {
    expect(await dpkg('--remove', 'lockerd')).toContain('no container is stopped now');
    await expectAllRunning();
    expect(await host.readFile('/etc/lockerd/lockerd.conf')).toContain('stop-timeout = 44s');
    await expectNothingFailed();
  });

  test('and purged', async () => {
    await dpkg('--purge', 'lockerd');
    await expectAllRunning();
    // Also what is mounted in a guest stays, although the host has it no more.
    expect(await lockersSeenBy(host, 'web')).toEqual(['music']);
    await expectNothingFailed();
  });

  test('nothing is left of it but what the admin has written and asked to keep', async () => {
    const after = await listHost(host);
    const limit = `${controlled}/lxc@web.service.d/50-MemoryMax.conf`;
    // The second line of each file is its checksum.
    const left = after.filter((line) => !untouched.includes(line) && !/^[0-9a-f]{64} /.test(line));
    expect({
      left: left.sort(),
      missing: untouched.filter((line) => !after.includes(line)),
    }).toEqual({
      left: [
        `d 755 root:root ${controlled}`,
        `d 755 root:root ${controlled}/lxc@web.service.d`,
        'd 755 root:root /etc/lockerd',
        'd 755 root:root /etc/lockerd/containers',
        'd 755 root:root /etc/lockerd/lockerd.conf.d',
        'f 644 root:root /etc/lockerd/containers/web.conf -> ',
        'f 644 root:root /etc/lockerd/lockerd.conf.d/site.conf -> ',
        `f 644 root:root ${limit} -> `,
      ].sort(),
      missing: [],
    });
    expect(await host.readFile(limit)).toContain(`MemoryMax=${200 * mib}\n`);
    // As README says.
    await systemctl(host, 'revert', 'lxc@web');
    expect((await listHost(host)).filter((line) => line.includes(limit))).toEqual([]);
  });

  test('it can be installed again', async () => {
    await dpkg('--install', give(host, fileWith(now, programsDeb)));
    await systemctl(host, 'start', 'lxc@web');
    await host.waitForGuest('web');
    expect(await lockerctl('list')).toMatch(/^web +running/m);
  });
});

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest';
import { bootHost, type Host } from '../host/host.ts';
import { ensureImage } from '../host/image.mjs';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { expectState, guestPid, offline, systemctl, trySystemctl } from '../machines/support.ts';
import { describeReleases } from './describe-releases.ts';
import { commands, inline } from './install-chapter.ts';
import { ensureFreshImage } from './package-images.mjs';
import { fileWith, programsDeb, project, runWithNetwork } from './packages.ts';

/** The chapter "Install" of README.md, followed word by word on hosts that are as Debian installs them. */
vi.setConfig({ testTimeout: 2_400_000, hookTimeout: 900_000 });

const { now: built } = inject('packages');

/** A clone, with its files as they are now. */
function cloneInto(host: Host): void {
  const target = path.join(host.root, 'root/lockerd');
  const clone = ['clone', '--quiet', '--depth=1', '--no-checkout', `file://${project}`, target];
  execFileSync('git', clone);
  const list = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const files = execFileSync('git', list, { cwd: project, encoding: 'utf8' })
    .split('\0')
    .filter((file) => fs.existsSync(path.join(project, file)));
  const archive = execFileSync('tar', ['-c', '--null', '--files-from=-'], {
    cwd: project,
    input: files.join('\0'),
    maxBuffer: 2 ** 28,
  });
  execFileSync('tar', ['-x', '-C', target, '--no-same-owner'], { input: archive });
  execFileSync('git', ['-C', target, 'add', '--all']);
}

describeReleases('on a fresh %s', (release) => {
  let host: Host;
  beforeAll(async () => {
    const image = await ensureFreshImage(release);
    host = await bootHost({ name: `fresh-${release}`, image, install: false });
    cloneInto(host);
    // The admin answers yes, has fetched the lists of packages, and has cloned with git.
    await host.writeFile('/etc/apt/apt.conf.d/yes', 'APT::Get::Assume-Yes "true";\n');
    await runWithNetwork(host, 'apt-get', ['update'], { timeoutMs: 300_000 });
    await runWithNetwork(host, 'apt-get', ['install', '--no-install-recommends', 'git'], {
      timeoutMs: 300_000,
      env: { DEBIAN_FRONTEND: 'noninteractive' },
    });
  });
  afterAll(() => host.close());
  attachJournalOnFailure(() => host);

  test.each(commands)('%s', async (command) => {
    const { stdout, stderr } = await runWithNetwork(
      host,
      'sh',
      ['-euc', `cd /root/lockerd && ${command}`],
      {
        timeoutMs: 2_400_000,
        env: { DEBIAN_FRONTEND: 'noninteractive' },
      },
    );
    expect(stdout + stderr).not.toMatch(/not compiled|needs Node at boot/);
  });

  test('the package is the same as that of another machine, byte for byte', () => {
    const made = fileWith(path.join(host.root, 'root/lockerd/dist'), programsDeb);
    expect(path.basename(made)).toBe(path.basename(fileWith(built, programsDeb)));
    expect(fs.readFileSync(made).equals(fs.readFileSync(fileWith(built, programsDeb)))).toBe(true);
  });

  test('then lockerd is there: its user, its socket, its service', async () => {
    expect((await host.run('id', ['-u', 'lockerd'])).stdout).toMatch(/^\d+\n$/);
    await expectState(host, 'lockerd-helper.socket', 'active');
    expect((await host.run('lockerctl', ['list'])).stderr).toBe('');
    const { stdout } = await host.run('dpkg-query', ['-W', '-f', '${db:Status-Abbrev}', 'lockerd']);
    expect(stdout).toBe('ii ');
    expect(await systemctl(host, 'list-units', '--failed', '--plain', '--no-legend', 'l*')).toBe(
      '',
    );
  });

  test('and a container that lxc-start has started is handed over as the text says', async () => {
    const guest = path.join(await ensureImage(), 'usr/share/testguests');
    execFileSync('cp', ['-a', guest, path.join(host.root, 'usr/share/testguests')]);
    await host.createContainer('web', 'busybox', { config: [...offline, 'lxc.start.auto = 1'] });
    await host.run('lxc-start', ['-n', 'web', '-d']);
    await host.waitForGuest('web');
    await systemctl(host, 'daemon-reload');
    await expectState(host, 'lxc@web', 'inactive');
    const handOver = inline.find((command) => command.startsWith('lxc-stop ')) ?? '';
    await host.shell(handOver, { timeoutMs: 120_000 });
    await expectState(host, 'lxc@web', 'active');
    await host.waitForGuest('web');

    const isEnabled = async (): Promise<string> =>
      (await trySystemctl(host, 'is-enabled', 'lxc@web')).output.trim();
    expect(await isEnabled()).toBe('enabled-runtime');
    await systemctl(host, 'enable', 'lxc@web');
    expect(await isEnabled()).toBe('enabled');
    // Which undoes the link of "enable", but not the line of the configuration.
    await systemctl(host, 'disable', 'lxc@web');
    expect(await isEnabled()).toBe('enabled-runtime');
    const leader = await guestPid(host, 'web');
    await systemctl(host, 'start', 'lxc-autostart.target');
    expect(await guestPid(host, 'web')).toBe(leader);
    await host.shell('lockerctl disable web');
    expect(await host.readFile('/etc/lockerd/containers/web.conf')).toBe('autostart = no\n');
    expect(await isEnabled()).not.toMatch(/^enabled/);
  });

  test('nothing of the host has to be imported', async () => {
    for (const command of ['lockerctl import', 'lockerctl import --apply']) {
      expect((await host.shell(command)).stdout).toContain('Nothing is left to import.');
    }
  });

  test('a removal stops no container, and a purge leaves what the admin has written', async () => {
    const leader = await guestPid(host, 'web');
    for (const command of ['remove', 'purge']) {
      await runWithNetwork(host, 'apt-get', [command, 'lockerd'], { timeoutMs: 300_000 });
    }
    expect(await guestPid(host, 'web')).toBe(leader);
    const { stdout } = await host.run('find', ['/etc/lockerd', '-type', 'f']);
    expect(stdout).toBe('/etc/lockerd/containers/web.conf\n');
  });
});

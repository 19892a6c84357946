import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from '../host/host.ts';
import { ensureImage } from '../host/image.mjs';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { expectState, guestPid, offline, systemctl } from '../machines/support.ts';
import { ensureFreshImage, releases } from './package-images.mjs';
import { project, runWithNetwork } from './packages.ts';

/** The chapter "Install" of README.md, followed word by word on hosts that are as Debian installs them. */
vi.setConfig({ testTimeout: 2_400_000, hookTimeout: 900_000 });

const [, chapter = ''] =
  /^## Install\n([^]*?)^## /m.exec(fs.readFileSync(path.join(project, 'README.md'), 'utf8')) ?? [];
const [intro = ''] = chapter.split(/^### /m);

/** The commands of the chapter's beginning, in their order. */
const commands = [...intro.matchAll(/^ {4}(.+)$/gm)].map(([, command = '']) => command);

/** What the text of the chapter says to run, later and by choice. */
const inline = [...chapter.matchAll(/`([^`\n]+)`/g)]
  .map(([, code = '']) => code)
  .filter((code) => /^(?:systemctl|lockerctl|lxc-stop) \S/.test(code));

test('the chapter has commands', () => {
  expect(commands.length).toBeGreaterThanOrEqual(4);
  expect([...new Set(inline)].sort()).toEqual([
    'lockerctl import',
    'lockerctl import --apply',
    'lxc-stop -n web && systemctl start lxc@web',
    'systemctl disable lxc@web',
    'systemctl enable',
    'systemctl is-enabled lxc@web',
    'systemctl start lxc-autostart.target',
  ]);
});

/** What a clone has: the files that git keeps, as they are now. */
function cloneInto(host: Host): void {
  const list = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const files = execFileSync('git', list, { cwd: project });
  const archive = execFileSync('tar', ['-c', '--null', '--files-from=-'], {
    cwd: project,
    input: files,
    maxBuffer: 2 ** 28,
  });
  const target = path.join(host.root, 'root/lockerd');
  fs.mkdirSync(target);
  execFileSync('tar', ['-x', '-C', target, '--no-same-owner'], { input: archive });
}

describe.each(releases)('on a fresh %s', (release) => {
  let host: Host;
  beforeAll(async () => {
    const image = await ensureFreshImage(release);
    host = await bootHost({ name: `fresh-${release}`, image, install: false });
    cloneInto(host);
    // The admin answers yes, and has fetched the lists of packages.
    await host.writeFile('/etc/apt/apt.conf.d/yes', 'APT::Get::Assume-Yes "true";\n');
    await runWithNetwork(host, 'apt-get', ['update'], { timeoutMs: 300_000 });
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

    expect(await systemctl(host, 'is-enabled', 'lxc@web')).toBe('enabled-runtime\n');
    await systemctl(host, 'disable', 'lxc@web');
    expect(await systemctl(host, 'is-enabled', 'lxc@web')).toBe('enabled-runtime\n');
    const leader = await guestPid(host, 'web');
    await systemctl(host, 'start', 'lxc-autostart.target');
    expect(await guestPid(host, 'web')).toBe(leader);
    const { exitCode } = await host.run('lockerctl', ['import'], { reject: false });
    expect(exitCode).toBe(0);
  });
});

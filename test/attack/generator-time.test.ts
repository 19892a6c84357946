import { execFileSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Host } from '../host/host.ts';
import { hungServer } from '../machines/hung-server.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { journalOf, offline, systemctl, timed } from '../machines/support.ts';
import { bootAttackHost, perlInGuest } from './attack-host.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 900_000 });

/**
 * The guest's root puts forty links at the bottom of a path of 2000 directories; the file at their
 * end is absent, so that each part of the path is looked for again with each link.
 */
const deepChain = `
use strict; use warnings;
chdir '/' or die;
rename 'sbin/init', 'sbin/init.real' or die "$!";
my $depth = 2000;
my $path = join '/', ('a') x $depth;
for (1 .. $depth) { mkdir 'a' or die "$!"; chdir 'a' or die "$!"; }
for my $n (0 .. 37) { symlink 'L' . ($n + 1), "L$n" or die "$!"; }
open my $file, '>', 'L38' or die "$!"; close $file;
chdir '/' or die;
symlink "/$path/L0", 'sbin/init' or die "$!";
print 'deep';
`;

const hungPaths = ['/var/lib/lxc/hungroot/rootfs', '/var/lib/lxc/hungconfig', '/mnt/hung'];
/** Answers at first. */
const latePath = '/var/lib/lxc/lateconfig';

let host: Host;
beforeAll(async () => {
  host = await bootAttackHost('gentime', {
    prepare: async (made) => {
      const define = (name: string, config: string): Promise<void> =>
        made.writeFile(`/var/lib/lxc/${name}/config`, config);
      await define(
        'hungroot',
        `${offline.join('\n')}\nlxc.rootfs.path = dir:/var/lib/lxc/hungroot/rootfs\n`,
      );
      await define('hungconfig', 'lxc.uts.name = x\n');
      await define('lateconfig', 'lxc.uts.name = x\n');
      await define('hunginclude', 'lxc.include = /mnt/hung/common.conf\n');
      await define('hunglink', 'lxc.uts.name = x\n');
      await define('fifoinclude', 'lxc.include = /srv/fifo\n');
      await define('fifofstab', 'lxc.mount.fstab = /srv/fifo\n');
      for (const path of hungPaths) await made.writeFile(`${path}/.keep`, '');
      for (const path of ['/srv/fifo', '/var/lib/lxc/fifo/config']) {
        await made.writeFile(`${path}.d/.keep`, '');
        execFileSync('mkfifo', [`${made.root}${path}`]);
      }
      execFileSync('rm', [`${made.root}/var/lib/lxc/hunglink/config`]);
      symlinkSync('/mnt/hung/config', `${made.root}/var/lib/lxc/hunglink/config`);
      await made.writeFile('/root/hung.pl', hungServer);
    },
  });
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function reload(): Promise<number> {
  return (await timed(() => systemctl(host, 'daemon-reload'))).ms;
}

const dropIn = (name: string): Promise<string> =>
  host.readFile(`/run/systemd/generator/lxc@${name}.service.d/60-container.conf`);

async function expectSound(names: readonly string[]): Promise<void> {
  for (const name of names) {
    expect([name, (await dropIn(name)).includes('refuse-start')]).toEqual([name, false]);
  }
}

test('a FIFO where a file belongs refuses its container and holds up nothing', async () => {
  expect(await reload()).toBeLessThan(30_000);
  for (const name of ['fifo', 'fifoinclude', 'fifofstab']) {
    expect(await dropIn(name)).toMatch(/refuse-start.*(FIFO|is not a file)/);
  }
  await expectSound(['web', 'evil', 'mapped']);
});

test("a guest's chain of links costs a daemon-reload next to nothing", async () => {
  const before = await reload();
  await systemctl(host, 'start', 'lxc@evil');
  await host.waitForGuest('evil');
  expect((await perlInGuest(host, 'evil', deepChain)).output).toBe('deep');
  expect(await reload()).toBeLessThan(5 * before + 2000);
  expect(await dropIn('evil')).toMatch(/stop-guest 37 30$/m);
  expect(await journalOf(host, 'init.scope')).toBeDefined();
  await expectSound(['web', 'evil', 'mapped']);
});

async function serveHung(unit: string, path: string, ...args: string[]): Promise<void> {
  await host.run('systemd-run', [
    '--quiet',
    `--unit=${unit}`,
    'perl',
    '/root/hung.pl',
    path,
    ...args,
  ]);
  await host.waitFor(`${path} is mounted`, async () =>
    (await host.readFile('/proc/self/mountinfo')).includes(` ${path} `),
  );
}

test('a file system that hangs while it is read is given up, and nobody else is', async () => {
  try {
    await serveHung('late', latePath, 'late');
    expect(await reload()).toBeLessThan(60_000);
    await expectSound(['web', 'evil', 'mapped', 'hungroot', 'hungconfig']);
    expect(await dropIn('lateconfig')).toMatch(/refuse-start.*does not answer.*daemon-reload/);
    expect(await dropIn('lateconfig')).not.toMatch(/^SourcePath=/m);
  } finally {
    await systemctl(host, 'stop', 'late.service');
    await host.run('umount', ['-l', latePath], { reject: false });
  }
  await reload();
  await expectSound(['lateconfig']);
});

test('file systems that do not answer take a few seconds and nobody else', async () => {
  const units = hungPaths.map((_, index) => `hung${index}.service`);
  try {
    for (const [index, path] of hungPaths.entries()) await serveHung(`hung${index}`, path);
    // Without a limit, systemd kills its generators after 90 seconds and no container has a unit.
    expect(await reload()).toBeLessThan(45_000);
    await expectSound(['web', 'evil', 'mapped', 'hungroot']);
    expect(await dropIn('hungroot')).toMatch(/stop-guest 37 30$/m);
    for (const name of ['hungconfig', 'hunginclude', 'hunglink']) {
      expect(await dropIn(name)).toMatch(/refuse-start.*does not answer.*daemon-reload/);
      // systemd itself looks at what it is told to be the source of a unit.
      expect(await dropIn(name)).not.toMatch(name === 'hunginclude' ? /^$/ : /^SourcePath=/m);
    }
    expect(await systemctl(host, 'is-active', 'lxc@evil')).toBe('active\n');
  } finally {
    // With its server, a file system of this kind begins to answer with errors.
    await systemctl(host, 'stop', ...units);
    for (const path of hungPaths) await host.run('umount', ['-l', path], { reject: false });
  }
  await reload();
  await expectSound(['hungconfig']);
});

import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { mountUnit } from '../../src/model/unit-name.ts';
import type { Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../host/journal.ts';
import { expectState, lockersSeenBy, systemctl } from '../host/support.ts';
import { bootAttackHost, perlInGuest } from './attack-host.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 900_000 });

/** Directories of the host that a guest points its links at; something is mounted on the second. */
const [bare, busyPlace] = ['/etc/victim.d', '/opt/victim'];

let host: Host;
beforeAll(async () => {
  host = await bootAttackHost('mount-point', {
    prepare: async (tree) => {
      await tree.writeFile(`${bare}/hostfile`, 'host\n');
      await tree.writeFile('/srv/victim/hostfile', 'host\n');
      await tree.writeFile(`${busyPlace}/.keep`, '');
      // Locker "data" comes with the container.
      await tree.writeFile('/etc/lockerd/containers/evil.conf', 'lockers = data\n');
    },
  });
  await host.run('mount', ['--bind', '/srv/victim', busyPlace]);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

beforeEach(async () => {
  await systemctl(host, 'start', 'lxc@evil');
  await host.waitForGuest('evil');
});

/** Mount points of the host outside wormholes, sorted. */
async function hostMounts(): Promise<string[]> {
  const mountinfo = await host.readFile('/proc/self/mountinfo');
  return [...mountinfo.matchAll(/^(?:\S+ ){4}(\S+)/gm)]
    .map(([, path = '']) => path)
    .filter((path) => !path.startsWith('/var/locker-mappings/') && !path.startsWith('/run/'))
    .sort();
}

async function lockerctl(...args: string[]): Promise<{ exitCode: number; output: string }> {
  const options = { reject: false, timeoutMs: 120_000 };
  const { exitCode, stdout, stderr } = await host.run('lockerctl', args, options);
  return { exitCode, output: stdout + stderr };
}

/**
 * In the guest: makes the wormhole writable by each way there is, and takes the locker's mount off
 * the guest's own list, without which its directory cannot be renamed.
 */
const takeOver = `
  use strict; use warnings;
  my ($name, $target) = @ARGV;
  chdir '/lockers' or die "chdir: $!";
  system "mount -o remount,bind,rw /lockers; mount -o remount,rw /lockers; " .
    "mkdir -p /mnt/w; mount --bind /lockers /mnt/w; mount -o remount,bind,rw /mnt/w; " .
    "umount -l /lockers/$name; umount -l /mnt/w/$name";
  my @places = ('/lockers', '/mnt/w');
  sub swap { for my $place (@places) {
    rename "$place/$name", "$place/moved";
    symlink $target, "$place/$name" or next;
  } }
  sub restore { for my $place (@places) {
    unlink "$place/$name";
    rename "$place/moved", "$place/$name" or mkdir "$place/$name";
  } }
`;

/** The mount point is a directory and a link in turn, until the file is gone. */
const flip = `${takeOver}
  open my $file, '>', '/run/flip' or die $!;
  my $flips = 0;
  while (-e '/run/flip') { swap(); select undef, undef, undef, 0.0003; restore(); $flips++; }
  print "flipped\\n" if $flips;
`;

test('a guest that swaps the mount point for a link while lockers are attached', async () => {
  const before = await hostMounts();
  const flipping = perlInGuest(host, 'evil', flip, 'music', bare);
  await host.waitFor('the guest flips', () =>
    host.exists('/var/lib/lxc/evil/rootfs/run/flip').then(async (isThere) => {
      if (isThere) return true;
      const { exitCode } = await host.run(
        'lxc-attach',
        ['-n', 'evil', '--', 'test', '-e', '/run/flip'],
        { reject: false },
      );
      return exitCode === 0;
    }),
  );
  for (let round = 0; round < 25; round++) {
    const { output } = await lockerctl('attach', 'evil', 'music');
    expect({ round, output, mounts: await hostMounts() }).toEqual({ round, output, mounts: before });
    await lockerctl('detach', 'evil', 'music');
  }
  await host.run('lxc-attach', ['-n', 'evil', '--', 'rm', '/run/flip']);
  expect((await flipping).output).toContain('flipped');
  expect(await hostMounts()).toEqual(before);
  // What the guest did is over, and so is its harm.
  expect(await lockerctl('attach', 'evil', 'music')).toMatchObject({ exitCode: 0 });
  expect(await lockersSeenBy(host, 'evil')).toContain('music');
  expect(await lockerctl('detach', 'evil', 'music')).toMatchObject({ exitCode: 0 });
});

/** Each way of the host's to unmount what is attached. */
const unmounts: Readonly<Record<string, () => Promise<unknown>>> = {
  'a detach': () => lockerctl('detach', 'evil', 'data'),
  'a detach by force': () => lockerctl('detach', 'evil', 'data', '--force'),
  'a stop of the attachment': () =>
    systemctl(host, 'stop', mountUnit('/var/locker-mappings/evil/data')).catch(() => undefined),
  "a stop of the locker's mount": () => systemctl(host, 'stop', 'lockers-data.mount'),
  'a stop of the container': () => systemctl(host, 'stop', 'lxc@evil'),
};

test.each(Object.keys(unmounts))(
  'a link in the place of a mounted locker and %s',
  async (name) => {
    await host.run('mount', ['/lockers/data'], { reject: false });
    await lockerctl('attach', 'evil', 'data');
    expect(await lockersSeenBy(host, 'evil')).toContain('data');
    const before = (await hostMounts()).filter((path) => path !== '/lockers/data');
    await perlInGuest(host, 'evil', `${takeOver} swap();`, 'data', busyPlace);
    await unmounts[name]?.();
    const after = (await hostMounts()).filter((path) => path !== '/lockers/data');
    expect(after).toEqual(before);
    await systemctl(host, 'stop', 'lxc@evil');
    await host.waitFor('nothing of the container is left', async () => {
      return !(await host.readFile('/proc/self/mountinfo')).includes('/evil');
    });
    await systemctl(host, 'stop', 'lockers-data.mount');
    expect((await hostMounts()).filter((path) => path !== '/lockers/data')).toEqual(before);
    await expectState(host, 'lockers-data.mount', 'inactive');
  },
);

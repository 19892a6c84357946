import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { mountUnit } from '../../src/model/unit-name.ts';
import type { Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { answerOfGuest, expectState, lockersSeenBy, systemctl } from '../machines/support.ts';
import { bootAttackHost, perlInGuest } from './attack-host.ts';

vi.setConfig({ testTimeout: 900_000, hookTimeout: 900_000 });

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
    .filter((path) => !/^\/(?:var\/locker-mappings|run)(?:\/|$)/.test(path))
    .sort();
}

type Answer = Readonly<Record<string, unknown>>;

/** What the helper answers root. */
async function ask(request: object): Promise<Answer> {
  const { stdout } = await host.run('/usr/lib/lockerd/lockerd-helper', [], {
    input: `${JSON.stringify(request)}\n`,
    reject: false,
    timeoutMs: 240_000,
  });
  return JSON.parse(stdout) as Answer;
}

const attach = (locker: string) =>
  ask({ verb: 'attach', container: 'evil', locker, readOnly: false, persist: false });

const detach = (locker: string, force = false) =>
  ask({ verb: 'detach', container: 'evil', locker, force, persist: false });

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
`;

/**
 * In the background, the mount point is a directory and a link in turn, until the file is gone. One
 * system call exchanges the two, so that there is always something in the place.
 */
const flip = `${takeOver}
  use Config;
  my $renameat2 = $Config{archname} =~ /^x86_64/ ? 316 : 276;
  my ($here, $exchange, $other) = (-100, 2, "$name.");
  sub flip_all { for my $place (@places) {
    my ($one, $two) = ("$place/$name", "$place/$other");
    next if syscall($renameat2, $here, $one, $here, $two, $exchange) == 0;
    mkdir $one, 0755;
    symlink $target, $two;
  } }
  exit if fork;
  open STDIN, '<', '/dev/null'; open STDOUT, '>', '/run/flips'; open STDERR, '>&', 'STDOUT';
  open my $file, '>', '/run/flip' or die $!;
  my $flips = 0;
  while (-e '/run/flip') { flip_all(); select undef, undef, undef, 0.0003; $flips++; }
  print "flipped\\n" if $flips;
`;

test('a guest that swaps the mount point for a link while lockers are attached', async () => {
  const before = await hostMounts();
  await perlInGuest(host, 'evil', flip, 'music', bare);
  const isFlipping = ['-n', 'evil', '--', 'test', '-e', '/run/flip'];
  await host.waitFor('the guest flips', async () => {
    return (await host.run('lxc-attach', isFlipping, { reject: false })).exitCode === 0;
  });
  for (let round = 0; round < 25; round++) {
    const answer = await attach('music');
    expect({ answer, mounts: await hostMounts() }).toEqual({ answer, mounts: before });
    await detach('music');
  }
  const end = 'rm /run/flip; sleep 1; cat /run/flips';
  expect(await answerOfGuest(host, 'evil', end)).toContain('flipped');
  expect(await hostMounts()).toEqual(before);
  // What the guest did is over, and so is its harm.
  expect(await attach('music')).toMatchObject({ ok: true });
  expect(await lockersSeenBy(host, 'evil')).toContain('music');
  expect(await detach('music')).toMatchObject({ ok: true });
});

/** Each way of the host's to unmount what is attached. */
const unmounts: Readonly<Record<string, () => Promise<unknown>>> = {
  'a detach': () => detach('data'),
  'a detach by force': () => detach('data', true),
  'a stop of the attachment': () =>
    systemctl(host, 'stop', mountUnit('/var/locker-mappings/evil/data')).catch(() => undefined),
  "a stop of the locker's mount": () => systemctl(host, 'stop', 'lockers-data.mount'),
  'a stop of the container': () => systemctl(host, 'stop', 'lxc@evil'),
};

test.each(Object.keys(unmounts))('a link in the place of a mounted locker and %s', async (name) => {
  await systemctl(host, 'start', 'lockers-data.mount');
  await attach('data');
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
});

/** In the guest: many open files in many processes, and one that uses the locker. */
const openFiles = `
  use strict; use warnings;
  my ($processes, $files) = @ARGV;
  for (1 .. $processes) {
    next if fork;
    open my $out, '>', '/dev/null'; my @open;
    for (1 .. $files) { open my $one, '<', '/dev/null' or last; push @open, $one; }
    sleep 600; exit;
  }
  if (!fork) { chdir '/lockers/data' or die $!; sleep 600; exit; }
  sleep 3;
`;

test('a guest with very many open files does not hold up a detach', async () => {
  await systemctl(host, 'start', 'lockers-data.mount');
  await attach('data');
  await perlInGuest(host, 'evil', openFiles, '300', '1000');
  const answer = await detach('data');
  expect(answer).toMatchObject({ ok: false, error: 'LockerBusy' });
  // It is the working directory that is in the way, which is looked at before open files.
  expect(answer['message']).toMatch(
    /^locker "data" in container "evil" is busy: process \d+ \(perl\)/,
  );
  expect(answer).toHaveProperty('isComplete');
  await systemctl(host, 'stop', 'lxc@evil');
});

/** Asks for an attachment and leaves before it can have been made. */
const leave = `
  const request = { verb: 'attach', container: 'evil', locker: 'music', readOnly: false,
    persist: false };
  const socket = require('node:net').connect('/run/lockerd/helper.sock', () => {
    socket.write(JSON.stringify(request) + String.fromCharCode(10));
    setTimeout(() => socket.destroy(), 2000);
  });
`;

test('who left before the end finds nothing attached', async () => {
  const directory = '/run/lockerd/containers/evil';
  await host.shell(`flock ${directory} sh -c 'while [ ! -e /run/go-on ]; do sleep 0.1; done' \
    </dev/null >/dev/null 2>&1 & sleep 1`);
  await host.run('node', ['-e', leave]);
  await host.run('touch', ['/run/go-on']);
  const attached = async () =>
    (await host.readFile('/proc/self/mountinfo')).includes('/var/locker-mappings/evil/music');
  await host.waitFor('the request has ended', async () => {
    await host.run('journalctl', ['--sync']);
    const { stdout } = await host.run('journalctl', ['-b', '-t', 'lockerd-helper', '-o', 'cat']);
    return stdout.includes('the caller has left') || (await attached());
  });
  expect(await attached()).toBe(false);
});

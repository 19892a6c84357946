import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  answerOfGuest,
  expectState,
  guestPid,
  journalOf,
  lockersSeenBy,
  offline,
  systemctl,
  trySystemctl,
  untilUnmounted,
} from '../machines/support.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

const fstab = `
/dev/absent /srv/data    ext4  nofail,x-systemd.device-timeout=1s 0 0
/dev/absent /srv/root    ext4  noauto,x-systemd.device-timeout=1s 0 0
share       /srv/nas     late  nofail,_netdev                     0 0
/dev/absent /lockers/own ext4  noauto,x-systemd.device-timeout=1s 0 0
`;

/** A server that comes later than the host. */
const mountLate = `#!/bin/sh
[ -e /run/server ] || { echo "no answer from $1" >&2; exit 32; }
exec mount -i -t tmpfs "$1" "$2"
`;

/** Mounts by hand. */
const mountHere = '#!/bin/sh\nmkdir -p "$1" && exec mount -t tmpfs here "$1"\n';
/** The disk with the root file system of "rooted". */
const mountRoot = 'mount-here /srv/root; cp -a /var/lib/lxc/rooted/rootfs /srv/root/';

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'late', boot: false });
  await host.writeFile('/etc/fstab', fstab);
  await host.writeFile('/sbin/mount.late', mountLate, 0o755);
  await host.writeFile('/usr/local/sbin/mount-here', mountHere, 0o755);
  const auto = 'lxc.start.auto = 1';
  const bind = (path: string) => `lxc.mount.entry = ${path} srv none bind,create=dir 0 0`;
  await host.createContainer('bound', 'busybox', { config: [...offline, auto, bind('/srv/data')] });
  await host.createContainer('remote', 'busybox', { config: [...offline, auto, bind('/srv/nas')] });
  await host.createContainer('own', 'busybox', { config: offline });
  await host.createContainer('broken', 'busybox', { config: offline });
  await host.createContainer('rooted', 'busybox', { config: offline });
  const config = '/var/lib/lxc/rooted/config';
  const text = await host.readFile(config);
  await host.writeFile(
    config,
    text.replace(/^lxc\.rootfs\.path.*$/m, 'lxc.rootfs.path = dir:/srv/root/rootfs'),
  );
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function stateOf(name: string): Promise<Record<string, unknown>> {
  const { stdout } = await host.run('lockerctl', ['status', '--json', name], { reject: false });
  const [container] = JSON.parse(stdout) as Record<string, unknown>[];
  return container ?? {};
}

async function until(unit: string, state: string): Promise<void> {
  await host.waitFor(`${unit} is ${state}`, async () => {
    return (await host.unit(unit))['ActiveState'] === state;
  });
}

/** A start that fails for want of something, which is then waited for. */
async function startInVain(name: string): Promise<void> {
  const { exitCode } = await trySystemctl(host, 'start', `lxc@${name}`);
  expect(exitCode).toBe(1);
  await until(`lxc-late@${name}.service`, 'active');
}

/** Long enough for a start that should not come. */
async function expectNoStart(name: string): Promise<void> {
  await host.shell('sleep 12');
  expect(await guestPid(host, name)).toBeUndefined();
}

describe('a container that starts at boot', () => {
  test('starts when a mount that has failed is made by hand, without the service', async () => {
    await until('lxc-late@bound.service', 'active');
    // It runs before it can say so.
    await host.waitFor('it says what is lacking', async () => {
      const { StatusText } = await host.unit('lxc-late@bound.service');
      return StatusText === 'dev-absent.device';
    });
    await expectState(host, 'lockerd.service', 'inactive');
    await host.shell('mount-here /srv/data');
    await until('lxc@bound.service', 'active');
    await until('lxc-late@bound.service', 'inactive');
    expect(await journalOf(host, 'lxc@bound')).toContain('the container starts when the host has');
    await expectState(host, 'lockerd.service', 'inactive');
  });

  test('starts when the server of its mount answers, which is tried again', async () => {
    expect(await stateOf('remote')).toMatchObject({
      state: 'unmet',
      waits_for: ['srv-nas.mount'],
    });
    await host.writeFile('/run/server', '');
    await host.waitFor(
      'the container runs',
      async () => (await stateOf('remote'))['state'] === 'running',
      90_000,
    );
    expect((await stateOf('remote'))['waits_for']).toEqual([]);
  });
});

describe('a root file system that is not there', () => {
  test('a stop ends the waiting', async () => {
    await startInVain('rooted');
    await host.waitFor('lockerctl knows', async () => {
      return (await stateOf('rooted'))['state'] === 'unmet';
    });
    await host.run('lockerctl', ['stop', 'rooted']);
    expect(await stateOf('rooted')).toMatchObject({ state: 'stopped', waits_for: [] });
    await startInVain('rooted');
    await systemctl(host, 'stop', 'lxc@rooted');
    await expectState(host, 'lxc-late@rooted.service', 'inactive');
    await host.shell(mountRoot);
    await expectNoStart('rooted');
    await host.shell('umount /srv/root');
    await untilUnmounted(host, '/srv/root');
  });

  test('what goes again at once starts nothing, and what stays does', async () => {
    await startInVain('rooted');
    await host.shell('mount-here /srv/root; sleep 2; umount /srv/root');
    await expectNoStart('rooted');
    await expectState(host, 'lxc-late@rooted.service', 'active');
    // A reload changes nothing about it.
    await systemctl(host, 'daemon-reload');
    await host.shell(mountRoot);
    await until('lxc@rooted.service', 'active');
    expect(await host.readFile('/run/lockerd/late/rooted')).toMatch(/^\d+ 5$/);
  });

  test('the time that it has to stay grows, and whoever masks the unit is heard', async () => {
    await systemctl(host, 'stop', 'lxc@rooted');
    await host.shell('umount /srv/root');
    await untilUnmounted(host, '/srv/root');
    await startInVain('rooted');
    await host.shell(mountRoot);
    await until('lxc@rooted.service', 'active');
    expect(await host.readFile('/run/lockerd/late/rooted')).toMatch(/^\d+ 10$/);
    await systemctl(host, 'stop', 'lxc@rooted');
    await host.shell('umount /srv/root; rm /run/lockerd/late/rooted');
    await untilUnmounted(host, '/srv/root');
    await startInVain('rooted');
    await systemctl(host, 'mask', 'lxc@rooted');
    await host.shell(mountRoot);
    await until('lxc-late@rooted.service', 'inactive');
    expect(await guestPid(host, 'rooted')).toBeUndefined();
  });
});

test('a strict locker that comes starts its container, which somebody else may do before', async () => {
  await startInVain('own');
  await host.shell('mount-here /lockers/own; systemctl start lxc@own');
  await until('lxc-late@own.service', 'inactive');
  expect(await lockersSeenBy(host, 'own')).toEqual(['own']);
  await systemctl(host, 'stop', 'lxc@own');
  await host.shell('umount /lockers/own');
  await untilUnmounted(host, '/lockers/own');
  await startInVain('own');
  await host.shell('mount-here /lockers/own');
  await until('lxc@own.service', 'active');
  expect(await answerOfGuest(host, 'own', 'echo here > /lockers/own/word')).toBe('0\n');
});

test.each([
  ['start', 'own', '/lockers/own'],
  ['restart', 'own', '/lockers/own'],
  ['start', 'bound', '/srv/data'],
  ['restart', 'bound', '/srv/data'],
])('lockerctl %s %s says that it starts later, and what for', async (verb, name, place) => {
  await systemctl(host, 'stop', `lxc@${name}`);
  // What came lately has to stay longer each time.
  await host.shell(`umount ${place}; rm -f /run/lockerd/late/${name}`);
  await untilUnmounted(host, place);
  const args = [verb, '--json', name];
  const { exitCode, stdout } = await host.run('lockerctl', args, { reject: false });
  const lacked = 'dev-absent.device';
  expect(JSON.parse(stdout)).toMatchObject([
    {
      result: 'failed',
      error: 'org.lockerd1.Error.StartsLater',
      message: expect.stringContaining(`the host lacks ${lacked}; the container starts`) as string,
    },
  ]);
  expect(exitCode).toBe(7);
  expect(await stateOf(name)).toMatchObject({ state: 'unmet', waits_for: [lacked] });
  await host.shell(`mount-here ${place}`);
  await until(`lxc@${name}.service`, 'active');
});

test('a container that fails for another reason is not started again', async () => {
  await host.shell('rm /var/lib/lxc/broken/rootfs/sbin/init');
  await host.shell(
    'echo "lxc.mount.entry = /srv/data srv none bind,create=dir 0 0" >> /var/lib/lxc/broken/config',
  );
  await systemctl(host, 'daemon-reload');
  const { exitCode } = await trySystemctl(host, 'start', 'lxc@broken');
  expect(exitCode).toBe(1);
  await until('lxc@broken.service', 'failed');
  await host.waitFor('the look at it has ended', async () => {
    return /\d/.test((await host.unit('lxc-late@broken.service'))['ExecMainExitTimestamp'] ?? '');
  });
  await expectState(host, 'lxc-late@broken.service', 'inactive');
  expect((await stateOf('broken'))['state']).toBe('failed');
  const again = await host.run('lockerctl', ['start', 'broken'], { reject: false });
  expect(again).toMatchObject({ exitCode: 1 });
  expect(again.stderr).toContain('did not start (exit-code); see: journalctl -u lxc@broken');
});

describe('a locker with auto', () => {
  beforeAll(async () => {
    await host.writeFile('/etc/lockerd/containers/own.conf', 'lockers = disk:auto films:ro:auto\n');
    await host.shell('echo "films /lockers/films tmpfs noauto 0 0" >> /etc/fstab');
    await systemctl(host, 'daemon-reload');
    await systemctl(host, 'restart', 'lxc@own');
    await host.waitForGuest('own');
  });

  async function untilSeen(...lockers: string[]): Promise<void> {
    await host.waitFor(`the guest sees ${lockers.join()}`, async () => {
      return (await lockersSeenBy(host, 'own')).join() === lockers.join();
    });
  }

  test('does not hold the start where it is absent, and is attached when it comes', async () => {
    // Nothing on this host defines the locker.
    await untilSeen('films', 'own');
    await host.shell('mount-here /lockers/disk');
    await untilSeen('disk', 'films', 'own');
    expect(await answerOfGuest(host, 'own', 'echo here > /lockers/disk/word')).toBe('0\n');
    expect(await host.readFile('/lockers/disk/word')).toBe('here\n');
  });

  test('is attached again when it is mounted again', async () => {
    await host.shell('umount /lockers/disk; umount -l /run/lockerd/read-only/films /lockers/films');
    await untilSeen('own');
    await host.shell('mount-here /lockers/disk');
    await untilSeen('disk', 'own');
    await systemctl(host, 'start', 'lockers-films.mount');
    await untilSeen('disk', 'films', 'own');
    expect(await answerOfGuest(host, 'own', 'touch /lockers/films/x')).toContain('Read-only');
  });

  test('is not mounted for a container that does not run', async () => {
    await systemctl(host, 'stop', 'lxc@own');
    await host.shell('umount /lockers/disk');
    await untilUnmounted(host, '/lockers/disk');
    await host.shell('mount-here /lockers/disk');
    await expectState(host, 'lockerd-return.service', 'inactive');
    const { stdout } = await host.run('cat', ['/proc/self/mountinfo']);
    expect(stdout).not.toContain('/var/locker-mappings/own');
  });
});

test('containers on a file system that is mounted late are loaded, and start if they would at boot', async () => {
  await host.writeFile('/etc/lxc/lxc.conf', 'lxc.lxcpath = /srv/lxc\n');
  await host.writeFile('/etc/fstab', '/var/lib/lxc /srv/lxc none bind,noauto 0 0\n');
  await host.reboot();
  await expectState(host, 'lockerd-late.service', 'active');
  expect((await host.unit('lxc@bound'))['SourcePath']).toBeUndefined();
  await systemctl(host, 'start', 'srv-lxc.mount');
  await until('lxc@bound.service', 'active');
  await until('lockerd-late.service', 'inactive');
  await expectState(host, 'lxc@rooted.service', 'inactive');
  expect((await host.unit('lxc@rooted'))['SourcePath']).toBe('/srv/lxc/rooted/config');
});

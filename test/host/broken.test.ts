import { mkdirSync, symlinkSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  expectState,
  guestPid,
  journalOf,
  offline,
  systemctl,
  timed,
  trySystemctl,
} from '../machines/support.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

/** A broken container: its configuration, and what the admin must be told. */
interface Broken {
  readonly config: string;
  readonly says: RegExp;
}

const broken: Readonly<Record<string, Broken>> = {
  unknown: { config: 'lxc.uts.nmae = x\n', says: /config:1: .*lxc\.uts\.nmae/ },
  legacy: {
    config: '# old\nlxc.utsname = x\nlxc.start.auto = 1\n',
    says: /config:2: lxc\.utsname .*lxc-update-config -c \/var\/lib\/lxc\/legacy\/config/,
  },
  include: { config: '\nlxc.include = /nowhere.conf\n', says: /config:2: .*\/nowhere\.conf/ },
  loop: { config: 'lxc.include = /var/lib/lxc/loop/config\n', says: /config:1: .*loop\/config/ },
  assignment: { config: 'lxc.uts.name\n', says: /config:1: / },
  signal: { config: 'lxc.signal.halt = PWR\n', says: /config:1: .*PWR/ },
  huge: { config: `${'#'.repeat(1023)}\n`.repeat(10 * 1024), says: /1 MiB/ },
  binary: {
    config: '\u007fELF\u0002\u0001\u0001\u0000\u0000lxc.uts.name = x\n',
    says: /not a text file/,
  },
};

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'broken', boot: false });
  await host.createContainer('healthy', 'busybox', { config: [...offline, 'lxc.start.auto = 1'] });
  await host.createContainer('turncoat', 'busybox', { config: [...offline, 'lxc.start.auto = 1'] });
  for (const [name, { config }] of Object.entries(broken)) {
    await host.writeFile(`/var/lib/lxc/${name}/config`, config);
  }
  mkdirSync(`${host.root}/var/lib/lxc/folder/config`, { recursive: true });
  symlinkSync('/var/lib/lxc/healthy', `${host.root}/var/lib/lxc/linked`);
  mkdirSync(`${host.root}/var/lib/lxc/${'n'.repeat(250)}`);
  await host.writeFile(`/var/lib/lxc/${'n'.repeat(250)}/config`, 'lxc.uts.name = x\n');
  await host.boot();
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

test('the boot starts the healthy ones all the same', async () => {
  await expectState(host, 'lxc@healthy', 'active');
  await expectState(host, 'lxc@turncoat', 'active');
  await expectState(host, 'lxc@legacy', 'failed');
});

describe.each(Object.entries(broken))('container "%s"', (name, { says }) => {
  test('fails at its start at once and says why', async () => {
    const { result, ms } = await timed(() => trySystemctl(host, 'start', `lxc@${name}`));
    expect(result.exitCode).toBe(1);
    expect(ms).toBeLessThan(15_000);
    expect(await journalOf(host, `lxc@${name}`)).toMatch(says);
    expect(await guestPid(host, name)).toBeUndefined();
  });
});

test('a container whose configuration is a directory fails at its start and says why', async () => {
  const { exitCode } = await trySystemctl(host, 'start', 'lxc@folder');
  expect(exitCode).toBe(1);
  expect(await journalOf(host, 'lxc@folder')).toMatch(/not a (regular )?file|is a directory/i);
});

test('a container whose directory is a symbolic link starts, as with LXC', async () => {
  expect((await trySystemctl(host, 'start', 'lxc@linked')).exitCode).toBe(0);
  expect(await guestPid(host, 'linked')).toBeDefined();
});

test('the kernel log has one line for each broken container, the generator exits 1', async () => {
  await host.shell(': > /run/kmsg');
  const { exitCode, stderr } = await host.run(
    '/usr/lib/systemd/system-generators/lockerd-generator',
    ['/tmp/units', '/tmp/early', '/tmp/late'],
    { reject: false },
  );
  expect(exitCode).toBe(1);
  const kmsg = (await host.readFile('/run/kmsg')).trim().split('\n');
  for (const name of [...Object.keys(broken), 'folder']) {
    const lines = kmsg.filter((line) => line.includes(`container "${name}"`));
    expect({ name, lines: lines.length }).toEqual({ name, lines: 1 });
    expect(lines[0]).toMatch(/^<3>lockerd-generator: /);
  }
  expect(kmsg.filter((line) => line.includes('too long for a unit name'))).toHaveLength(1);
  expect(kmsg.some((line) => line.includes('"healthy"'))).toBe(false);
  expect(stderr.trim().split('\n')).toHaveLength(kmsg.length);
});

test('a container whose configuration breaks while it runs still shuts down gracefully', async () => {
  await host.shell('echo "lxc.network.type = veth" >> /var/lib/lxc/turncoat/config');
  await systemctl(host, 'daemon-reload');
  await expectState(host, 'lxc@turncoat', 'active');
  await host.clearMarker('turncoat');
  await systemctl(host, 'stop', 'lxc@turncoat');
  expect(await host.marker('turncoat')).toBeDefined();
  const { exitCode } = await trySystemctl(host, 'start', 'lxc@turncoat');
  expect(exitCode).toBe(1);
});

test('a container that vanishes while it runs still shuts down', async () => {
  await systemctl(host, 'restart', 'lxc@healthy');
  await host.shell('sleep 1; mv /var/lib/lxc/healthy/config /var/lib/lxc/healthy/config.away');
  await systemctl(host, 'daemon-reload');
  const { ms } = await timed(() => systemctl(host, 'stop', 'lxc@healthy'));
  expect(await guestPid(host, 'healthy')).toBeUndefined();
  expect(ms).toBeLessThan(60_000);
  await host.shell('mv /var/lib/lxc/healthy/config.away /var/lib/lxc/healthy/config');
  await systemctl(host, 'daemon-reload');
});

test('a full disk under the generator is one clear error', async () => {
  const { exitCode, stderr } = await host.run(
    'sh',
    [
      '-euc',
      `mkdir -p /tmp/small; mount -t tmpfs -o size=4k,nr_inodes=12 none /tmp/small
       status=0; /usr/lib/systemd/system-generators/lockerd-generator /tmp/small /e /l || status=$?
       find /tmp/small -name '.lockerd*' >&2; umount /tmp/small; exit $status`,
    ],
    { reject: false },
  );
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/no space is left/);
  expect(stderr).not.toContain('.tmp\n');
});

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  guestPid,
  journalOf,
  lockersSeenBy,
  systemctl,
  timed,
  trySystemctl,
} from '../machines/support.ts';
import { bootAttackHost, perlInGuest } from './attack-host.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

const rootfs = '/var/lib/lxc/web/rootfs';

/** What a guest can leave where its lockers belong, each made by a shell command. */
const traps: readonly (readonly [kind: string, make: string, told: RegExp])[] = [
  ['a FIFO', `mkfifo ${rootfs}/lockers`, /is a FIFO/],
  ['a file', `touch ${rootfs}/lockers`, /is a file/],
  [
    'a socket',
    `perl -MSocket -e 'socket S, PF_UNIX, SOCK_STREAM, 0; bind S, pack_sockaddr_un shift or die' ${rootfs}/lockers`,
    /is a socket/,
  ],
  ['a device', `mknod ${rootfs}/lockers c 5 0`, /is a device/],
  ['a link to a directory of the host', `ln -s /etc ${rootfs}/lockers`, /is a symbolic link/],
  ['a link upwards', `ln -s ../../../../../etc ${rootfs}/lockers`, /is a symbolic link/],
  ['a link through /proc', `ln -s /proc/1/root/etc ${rootfs}/lockers`, /is a symbolic link/],
  ['a dangling link', `ln -s /nowhere ${rootfs}/lockers`, /is a symbolic link/],
];

let host: Host;
beforeAll(async () => {
  host = await bootAttackHost('path', {
    prepare: async (off) => {
      await off.writeFile('/etc/lockerd/lockerd.conf', 'shared-lockers =\n');
      for (const name of ['web', 'evil', 'mapped']) {
        await off.writeFile(`/etc/lockerd/containers/${name}.conf`, 'lockers = data\n');
      }
    },
  });
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

const clear = `rmdir ${rootfs}/lockers 2>/dev/null || rm -f ${rootfs}/lockers`;

async function settings(text: string): Promise<void> {
  await host.writeFile('/etc/lockerd/containers/web.conf', text);
  await systemctl(host, 'daemon-reload');
}

async function mountsOf(path: string): Promise<string> {
  return (await host.run('findmnt', ['--noheadings', path], { reject: false })).stdout;
}

describe.each(traps)('%s in the place of the lockers', (_, make, told) => {
  test('keeps a container that needs its lockers from starting, at once and with the reason', async () => {
    await settings('lockers = data\n');
    await host.shell(`${clear}; ${make}`);
    const { result, ms } = await timed(() => trySystemctl(host, 'start', 'lxc@web'));
    expect(result.exitCode).not.toBe(0);
    expect(ms).toBeLessThan(60_000);
    const journal = await journalOf(host, 'lxc@web');
    expect(journal).toMatch(told);
    expect(journal).toMatch(/web is not started.*remove it, or write "wormhole = no"/);
    expect(await mountsOf('/etc')).toBe('');
    await systemctl(host, 'reset-failed', 'lxc@web');
  });

  test('does not matter to a container without lockers', async () => {
    await settings('');
    await host.shell(`${clear}; ${make}`);
    await systemctl(host, 'start', 'lxc@web');
    await host.waitForGuest('web');
    expect(await lockersSeenBy(host, 'web')).toEqual([]);
    expect(await journalOf(host, 'lxc@web')).toMatch(
      /web starts without lockers, and will see none/,
    );
    await systemctl(host, 'stop', 'lxc@web');
  });
});

test('a link on the way makes no directory on the host', async () => {
  await host.writeFile(
    '/etc/lockerd/lockerd.conf',
    'shared-lockers =\nlocker-path = /opt/x/lockers\n',
  );
  await settings('lockers = data\n');
  await host.shell(
    `${clear}; mkdir -p ${rootfs}/opt /srv/victim; ln -s /srv/victim ${rootfs}/opt/x`,
  );
  expect((await trySystemctl(host, 'start', 'lxc@web')).exitCode).not.toBe(0);
  expect(await journalOf(host, 'lxc@web')).toMatch(/"x" of \/opt\/x\/lockers .* symbolic link/);
  expect((await host.shell('ls -A /srv/victim')).stdout).toBe('');
  await host.shell(`rm ${rootfs}/opt/x; systemctl reset-failed lxc@web`);
  await systemctl(host, 'start', 'lxc@web');
  await host.waitForGuest('web');
  const pid = await guestPid(host, 'web');
  expect(await host.readFile(`/proc/${pid}/mountinfo`)).toContain(' /opt/x/lockers/data ');
  await systemctl(host, 'stop', 'lxc@web');
  await host.writeFile('/etc/lockerd/lockerd.conf', 'shared-lockers =\n');
  await systemctl(host, 'daemon-reload');
});

test.each(['evil', 'mapped'])('the guest "%s" cannot hang its own reboot', async (guest) => {
  // From its second start on, the guest has an empty directory there, which LXC itself mounts on.
  await systemctl(host, 'start', `lxc@${guest}`);
  await host.waitForGuest(guest);
  await systemctl(host, 'stop', `lxc@${guest}`);
  await systemctl(host, 'start', `lxc@${guest}`);
  await host.waitForGuest(guest);
  expect(await lockersSeenBy(host, guest)).toEqual(['data']);
  const tree = `/var/lib/lxc/${guest}/rootfs`;
  const swap = `
use POSIX;
syscall 166, my $p = "/lockers/$_", 2 for 'data', '.';
syscall 166, my $p = '/lockers', 2;
rmdir '/lockers' and POSIX::mkfifo('/lockers', 0600) and print 'swapped';`;
  const { output } = await perlInGuest(host, guest, swap);
  // The mapped guest cannot take the mounts away; what it could do otherwise is done for it.
  if (!output.includes('swapped')) {
    await systemctl(host, 'stop', `lxc@${guest}`);
    await host.shell(`rmdir ${tree}/lockers; mkfifo ${tree}/lockers`);
    await trySystemctl(host, 'start', `lxc@${guest}`);
  } else {
    await host.run('lxc-attach', ['-n', guest, '--clear-env', '--', '/sbin/reboot'], {
      reject: false,
    });
  }
  await host.waitFor(
    'the container has ended',
    async () =>
      ['failed', 'inactive'].includes((await host.unit(`lxc@${guest}`))['ActiveState'] ?? ''),
    60_000,
  );
  expect(await journalOf(host, `lxc@${guest}`)).toMatch(/is a FIFO, not a directory/);
});

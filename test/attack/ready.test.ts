import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Host } from '../host/host.ts';
import { expectState, guestPid, systemctl } from '../machines/support.ts';
import { bootAttackHost, perlAs, perlInGuest, stranger } from './attack-host.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 900_000 });

/** An init that says to the host's systemd what it is ordered to, each order once. */
const orderlyInit = `#!/usr/bin/perl
use strict;
use warnings;
use Socket;
$SIG{PWR} = $SIG{TERM} = sub { exit 0 };
my %done;
socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die;
open my $up, '>', '/dev/booted' or die;
while (1) {
    for my $order (grep { !$done{$_} } sort glob '/orders/*') {
        open my $file, '<', $order or next;
        local $/;
        # A file that is still being written has no end yet.
        my ($message) = <$file> =~ /\\A(.*)\\n\\.\\n\\z/s or next;
        $done{$order} = 1;
        send $socket, $message, 0, pack_sockaddr_un($ENV{NOTIFY_SOCKET});
    }
    while (waitpid(-1, 1) > 0) { }
    select undef, undef, undef, 0.05;
}
`;

let host: Host;
let victim: string;
beforeAll(async () => {
  host = await bootAttackHost('ready', {
    prepare: async (made) => {
      await made.createContainer('booted', 'systemd', { config: ['lxc.net.0.type = empty'] });
      for (const guest of ['evil', 'mapped']) {
        const tree = `/var/lib/lxc/${guest}/rootfs`;
        await made.writeFile(`${tree}/sbin/init`, orderlyInit, 0o755);
        await made.writeFile(`${tree}/orders/.keep`, '');
      }
      for (const guest of ['evil', 'mapped', 'booted']) {
        await made.writeFile(`/etc/lockerd/containers/${guest}.conf`, 'ready = booted\n');
      }
    },
  });
  await host.run('systemd-run', ['--unit=victim', '--', 'sleep', 'infinity']);
  victim = (await host.unit('victim.service'))['MainPID'] ?? '';
});
afterAll(() => host.close());

let orders = 0;

/** Lets the guest's init send a message. */
async function order(guest: string, message: string): Promise<void> {
  orders++;
  const name = String(orders).padStart(4, '0');
  await host.writeFile(`/var/lib/lxc/${guest}/rootfs/orders/${name}`, `${message}\n.\n`);
}

/** Ends when all that was sent to the socket before has been dealt with. */
async function untilHeard(guest: string): Promise<void> {
  const mark = `mark ${orders} ends`;
  await order(guest, `STATUS=${mark}`);
  await host.waitFor(`systemd has the status "${mark}"`, async () => {
    return (await host.unit(`lxc@${guest}`))['StatusText']?.includes(mark) === true;
  });
}

/** All that notifications could change of a unit, but for its status. */
async function stateOf(guest: string): Promise<Record<string, string | undefined>> {
  const unit = await host.unit(`lxc@${guest}`);
  const keys = ['MainPID', 'ActiveState', 'SubState', 'Result', 'StatusErrno', 'WatchdogUSec'];
  const more = [
    'NFileDescriptorStore',
    'TimeoutStartUSec',
    'InvocationID',
    'NRestarts',
    'BusError',
  ];
  return Object.fromEntries([...keys, ...more].map((key) => [key, unit[key]]));
}

const attacks = (): string[] => [
  `MAINPID=${victim}`,
  `READY=0\nMAINPID=${victim}\nMAINPIDFDID=1`,
  'STOPPING=1',
  'RELOADING=1\nMONOTONIC_USEC=1',
  'WATCHDOG=trigger',
  'WATCHDOG=1\nWATCHDOG_USEC=1',
  'FDSTORE=1\nFDNAME=x',
  'BARRIER=1',
  'ERRNO=5\nBUSERROR=org.example.Bad\nEXIT_STATUS=9',
  'EXTEND_TIMEOUT_USEC=1',
  'RESTART_RESET=1',
  'NOTIFYACCESS=all',
];

const sendAsOther = `
  use Socket;
  socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die "$!";
  for my $message (@ARGV) {
    send $socket, $message, 0, pack_sockaddr_un('/run/host/notify') or die "$!";
  }
  print 'sent';`;

describe.each(['evil', 'mapped'])('guest "%s" with ready = booted', (guest) => {
  const unit = `lxc@${guest}`;

  test('is not ready by the word of a process that is not its init', async () => {
    await systemctl(host, 'start', '--no-block', unit);
    await host.waitForGuest(guest);
    const messages = ['READY=1', 'READY=1\nSTATUS=mine', ...attacks()];
    expect((await perlInGuest(host, guest, sendAsOther, ...messages)).output).toBe('sent');
    await untilHeard(guest);
    await expectState(host, unit, 'activating');
    expect(await stateOf(guest)).toMatchObject({ MainPID: await lxcStartOf(guest) });
  });

  test('is ready when its init says so', async () => {
    await order(guest, 'STATUS=up \u001b[31m \u00e9\nREADY=1');
    await host.waitFor('the unit is active', async () => {
      return (await host.unit(unit))['ActiveState'] === 'active';
    });
    expect((await host.unit(unit))['StatusText']).toBe('Guest: up ?[31m ??');
  });

  test('changes nothing of its unit by any message', async () => {
    const before = await stateOf(guest);
    expect(before).toMatchObject({ ActiveState: 'active', MainPID: await lxcStartOf(guest) });
    expect((await perlInGuest(host, guest, sendAsOther, ...attacks())).output).toBe('sent');
    for (const attack of attacks()) await order(guest, attack);
    await untilHeard(guest);
    expect(await stateOf(guest)).toEqual(before);
    await order(guest, `STATUS=${'x'.repeat(3000)}`);
    await host.waitFor('a long status is cut', async () => {
      return /^Guest: x{200}$/.test((await host.unit(unit))['StatusText'] ?? '');
    });
  });

  test('is heard after a flood of messages, which nobody else notices', async () => {
    const before = await stateOf(guest);
    const flood = `
      use Socket;
      socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die "$!";
      setsockopt $socket, SOL_SOCKET, SO_SNDBUF, pack 'i', 1 << 20;
      for my $n (1 .. 3000) {
        for my $size (0, 100, 4095, 4096, 4097, 100000) {
          send $socket, "READY=1\\nSTATUS=$n" . 'x' x $size, 0, pack_sockaddr_un('/run/host/notify');
        }
      }
      print 'sent';`;
    expect((await perlInGuest(host, guest, flood)).output).toBe('sent');
    await untilHeard(guest);
    expect(await stateOf(guest)).toEqual(before);
    const { stdout } = await host.run('sh', [
      '-c',
      'cat /proc/[0-9]*/comm | grep -cE "^(container-notif|systemd-notify)"',
    ]);
    // Never more than one for each such guest, and what one of them has just started.
    expect(Number(stdout)).toBeLessThanOrEqual(4);
  });

  test('cannot be spoken for by a user of the host', async () => {
    const program = `
      use Socket;
      socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die "$!";
      send $socket, 'STATUS=hello', 0, pack_sockaddr_un('/run/lockerd/containers/${guest}/notify')
        or print "$!";`;
    expect((await perlAs(host, stranger, program)).output).toBe('Permission denied');
  });

  test('is heard again after its reboot, and stops with nobody else harmed', async () => {
    const first = await guestPid(host, guest);
    await host.run('lxc-attach', ['-n', guest, '--', '/sbin/reboot', '-f'], { reject: false });
    await host.waitFor('the guest has rebooted', async () => {
      const now = await guestPid(host, guest);
      return now !== undefined && now !== first;
    });
    await host.waitForGuest(guest);
    await untilHeard(guest);
    await expectState(host, unit, 'active');
    await systemctl(host, 'stop', unit);
    await expectState(host, unit, 'inactive');
    expect((await host.unit('victim.service'))['MainPID']).toBe(victim);
    await expectState(host, 'victim.service', 'active');
    // What listened to the guest has gone with it.
    const { exitCode } = await host.run('pgrep', ['-f', 'container-notify'], { reject: false });
    expect(exitCode).toBe(1);
  });

  /** The kernel's word: the parent of the guest's init. */
  async function lxcStartOf(name: string): Promise<string | undefined> {
    const status = await host.readFile(`/proc/${await guestPid(host, name)}/status`);
    return /^PPid:\t(\d+)$/m.exec(status)?.[1];
  }
});

test('a guest with systemd is ready when it has booted, and shows its status', async () => {
  await systemctl(host, 'start', 'lxc@booted');
  expect(await host.unit('lxc@booted')).toMatchObject({
    ActiveState: 'active',
    NotifyAccess: 'main',
    StatusText: expect.stringMatching(/^Guest: \S/) as string,
  });
  await systemctl(host, 'stop', 'lxc@booted');
});

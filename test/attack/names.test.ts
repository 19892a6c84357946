import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { containerProperty, runAs } from '../machines/service.ts';
import { guestPid, journalOf, systemctl, trySystemctl } from '../machines/support.ts';
import { bootAttackHost, perlAs, stranger } from './attack-host.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 900_000 });

const results = '/tmp/results';

/** A socket at an abstract address, of who runs this. */
const listener = `
  use strict; use warnings; use Socket; use IO::Handle;
  sub open_at {
    my ($address, $tries) = @_;
    socket my $socket, AF_UNIX, SOCK_STREAM, 0 or die "socket: $!";
    until (bind $socket, pack_sockaddr_un("\\0$address")) {
      $tries-- > 0 or die "$address: $!";
      select undef, undef, undef, 0.002;
    }
    listen $socket, 128 or die;
    return $socket;
  }
  sub say_ready { open my $file, '>>', '${results}' or die; syswrite $file, "ready\\n" }
`;

/**
 * Answers in the place of LXC: the container is in state FROZEN and process 1 is its init. Writes
 * down which programs of root's have asked for something.
 */
const impostor = `${listener}
  my ($address, $tries, $state) = @ARGV;
  my $socket = open_at($address, $tries);
  say_ready();
  open my $file, '>>', '${results}' or die;
  while (1) {
    accept my $client, $socket or next;
    my ($pid, $uid) = unpack 'iI', getsockopt $client, SOL_SOCKET, SO_PEERCRED;
    # A program that only looks who listens sends nothing.
    while (sysread $client, my $request, 16) {
      my ($command) = unpack 'i', $request;
      open my $comm, '<', "/proc/$pid/comm";
      my $name = $comm ? <$comm> : '?';
      chomp $name;
      syswrite $file, "asked $uid $name $command\\n";
      my $data = $command == 3 ? $state : 1;
      syswrite $client, pack 'i i q', 0, 0, $data;
    }
    close $client;
  }
`;

/** Has sockets at many addresses and takes nobody in. */
const silent = `${listener}
  my ($count, $format) = @ARGV;
  # A process may have about a thousand files open.
  my @parts = map { [$_ * 900 + 1, $_ * 900 + 900] } 0 .. $count / 900;
  for my $part (@parts[1 .. $#parts]) { if (!fork) { @parts = $part; last } }
  my @all = map { open_at(sprintf($format, $_), 0) } $parts[0][0] .. $parts[0][1];
  say_ready() if $parts[0][0] == 1;
  sleep 280;
`;

/** Is lxc-monitord(8) for whoever asks, and tells what it likes, as fast as it can. */
const monitord = `${listener}
  my ($address, $name, $state, $pause) = @ARGV;
  my $socket = open_at($address, 60_000);
  $SIG{PIPE} = 'IGNORE';
  say_ready();
  my @clients;
  while (1) {
    my $readable = '';
    vec($readable, fileno $socket, 1) = 1;
    if (select $readable, undef, undef, $pause) {
      accept my $client, $socket or next;
      push @clients, $client;
    }
    for my $name ($name, '../../../tmp/evil', 'nobody') {
      my $message = pack 'i Z256 i', 0, $name, $state;
      @clients = grep { defined syswrite $_, $message } @clients;
    }
  }
`;

let host: Host;
beforeAll(async () => {
  host = await bootAttackHost('names', {
    prepare: async (made) => {
      await made.createContainer('db', 'busybox', { config: ['lxc.net.0.type = empty'] });
    },
  });
  // Every program of LXC's that root could be made to run with somebody's name or answer.
  await host.shell(`
    for program in lxc-info lxc-ls lxc-freeze lxc-unfreeze lxc-stop; do
      mv /usr/bin/$program /usr/bin/$program.real
      printf '#!/bin/sh\\necho "%s $*" >>/run/lxc-calls\\nexec %s.real "$@"\\n' $program /usr/bin/$program >/usr/bin/$program
      chmod 755 /usr/bin/$program
    done`);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

beforeEach(async () => {
  await host.shell(`rm -f ${results} /run/lxc-calls; install -m 666 /dev/null ${results}`);
  await systemctl(host, 'start', 'lockerd.service');
});

const property = (container: string, key: string) => containerProperty(host, container, key);

async function untilState(container: string, wanted: string, limitMs = 30_000): Promise<void> {
  await host.waitFor(
    `${container} is ${wanted}`,
    async () => (await property(container, 'State')) === wanted,
    limitMs,
  );
}

/** Runs a program of the stranger's while something happens. */
async function during(
  program: string,
  args: readonly string[],
  action: () => Promise<void>,
  isReady = true,
): Promise<void> {
  const running = perlAs(
    host,
    stranger,
    `$0 = 'attack'; $SIG{ALRM} = sub { exit 1 }; alarm 280; ${program}`,
    ...args,
  );
  try {
    if (isReady) {
      await host.waitFor(
        'the attack is on',
        async () => (await host.readFile(results)).includes('ready'),
        90_000,
      );
    }
    await action();
  } finally {
    await host.run('pkill', ['-KILL', '-u', stranger], { reject: false });
    await running;
  }
}

/** What programs of root's have asked of a stranger; LXC's own start looks whether it runs. */
async function askedByRoot(): Promise<string[]> {
  const lines = (await host.readFile(results)).split('\n');
  return lines.filter((line) => line.startsWith('asked 0') && !line.includes('lxc-start'));
}

async function lxcCalls(): Promise<string> {
  return (await host.exists('/run/lxc-calls')) ? host.readFile('/run/lxc-calls') : '';
}

test('names that a stranger has made up are nobody’s names', async () => {
  const address = '/var/lib/lxc//..//..//../tmp/evil%d/command';
  await during(silent, ['800', address], async () => {
    await systemctl(host, 'restart', 'lockerd.service');
    const watch = `(echo '{"verb":"watch"}'; sleep 8) | /usr/lib/lockerd/lockerd-helper`;
    const { stdout } = await host.shell(watch, { timeoutMs: 60_000 });
    const told = [...stdout.matchAll(/"container":"([^"]*)"/g)].map(([, name]) => name);
    expect(new Set(told)).toEqual(new Set(['web', 'evil', 'mapped', 'db']));
    const listed = await host.shell('/usr/lib/lockerd/hooks/socket-owner --running /var/lib/lxc');
    expect(listed.stdout).toBe('');
    expect(await lxcCalls()).not.toContain('..');
  });
});

describe('the command socket of a container that does not run', () => {
  const address = '/var/lib/lxc/web/command';

  test('gives a stranger no say in what is told, and is told of', async () => {
    await during(impostor, [address, '0', '2'], async () => {
      await systemctl(host, 'restart', 'lockerd.service');
      await host.waitFor('it is told who has it', async () => {
        return String(await property('web', 'Problem')).includes('has the container');
      });
      expect(await property('web', 'State')).toBe('stopped');
      expect(await property('web', 'Leader')).toBe(0);
      const status = await runAs(host, 'root', 'lockerctl', 'status', 'web');
      const uid = (await runAs(host, stranger, 'id', '-u')).output.trim();
      expect(status.output).toMatch(new RegExp(`process \\d+ of uid ${uid} has the container`));
      expect(status.exitCode).toBe(3);
      for (const verb of ['freeze', 'thaw']) {
        const request = `echo '{"verb":"${verb}","container":"web"}'`;
        const { stdout } = await host.shell(`${request} | /usr/lib/lockerd/lockerd-helper || true`);
        expect(stdout).toContain('"ok":false');
      }
      expect(await askedByRoot()).toEqual([]);
      // LXC does not start it, and the journal says why.
      const start = await trySystemctl(host, 'start', 'lxc@web');
      expect(start.exitCode).not.toBe(0);
      // What systemctl waits for ends before the unit has told why.
      await host.waitFor('the start has failed', async () => {
        return (await host.unit('lxc@web'))['ActiveState'] === 'failed';
      });
      expect(await journalOf(host, 'lxc@web')).toMatch(
        new RegExp(`process \\d+ of uid ${uid} has the command socket of container "web"`),
      );
      expect(await askedByRoot()).toEqual([]);
    });
    await host.waitFor('it is told that nobody has it', async () => {
      return (await property('web', 'Problem')) === '';
    });
    await trySystemctl(host, 'reset-failed', 'lxc@web');
    await systemctl(host, 'start', 'lxc@web');
    await untilState('web', 'running');
    await systemctl(host, 'stop', 'lxc@web');
  });

  test('is of no use at the moment when a guest has ended by itself', async () => {
    await systemctl(host, 'start', 'lxc@web');
    await host.waitForGuest('web');
    await during(
      impostor,
      [address, '100000', '6'],
      async () => {
        await host.run('lxc-attach', ['-n', 'web', '--', '/sbin/poweroff'], { reject: false });
        await host.waitFor('the stranger has the socket', async () =>
          (await host.readFile(results)).includes('ready'),
        );
        await untilState('web', 'stopped');
        await sleep(2000);
        expect(await askedByRoot()).toEqual([]);
      },
      false,
    );
    // It would have had the host's first process halt.
    expect((await trySystemctl(host, 'is-system-running')).output).toMatch(/running|degraded/);
  });
});

test('thousands of silent sockets keep nobody from the news', async () => {
  const pid = async () => (await host.unit('lockerd.service'))['MainPID'];
  const before = await pid();
  await during(silent, ['5000', '/var/lib/lxc/%-70d/command'], async () => {
    await systemctl(host, 'restart', 'lockerd.service');
    await untilState('db', 'stopped');
    await systemctl(host, 'start', 'lxc@db');
    const start = Date.now();
    await host.waitFor('its leader is known', async () => {
      return (await property('db', 'Leader')) === (await guestPid(host, 'db'));
    });
    expect(Date.now() - start).toBeLessThan(10_000);
    expect(await lxcCalls()).not.toMatch(/^lxc-(info|ls) -P/m);
    await systemctl(host, 'stop', 'lxc@db');
    await untilState('db', 'stopped');
  });
  expect(await pid()).not.toBe(before);
});

describe('a stranger in the place of lxc-monitord', () => {
  const address = 'lxc/ad055575fe28ddd5//var/lib/lxc';

  test.each([
    ['a running container is stopped', 'db', '0', '0.05'],
    ['a stopped container is frozen', 'web', '6', '0'],
  ])('cannot tell that %s, and hides nothing', async (_what, name, state, pause) => {
    await systemctl(host, 'start', 'lxc@db');
    // The real one ends some time after its last client.
    await systemctl(host, 'stop', 'lockerd.service');
    await host.run('pkill', ['lxc-monitor'], { reject: false });
    await host.run('pkill', ['-KILL', 'lxc-monitord'], { reject: false });
    await during(monitord, [address, name, state, pause], async () => {
      await systemctl(host, 'start', 'lockerd.service');
      await untilState('db', 'running');
      const leader = await guestPid(host, 'db');
      await host.waitFor('the leader is known', async () => {
        return (await property('db', 'Leader')) === leader;
      });
      for (let times = 0; times < 20; times++) {
        expect(await property('web', 'State')).toBe('stopped');
        expect(await property('db', 'State')).toBe('running');
        expect(await property('db', 'Leader')).toBe(leader);
        await sleep(200);
      }
      // What happens is seen without it, and so is what happens to a container of no unit.
      await host.run('lxc-start', ['-n', 'web']);
      await untilState('web', 'running');
      expect(await property('web', 'Leader')).toBe(await guestPid(host, 'web'));
      await host.run('lxc-freeze', ['-n', 'web']);
      await untilState('web', 'frozen');
      await host.run('lxc-stop', ['-n', 'web', '--kill']);
      await untilState('web', 'stopped');
      expect(await lxcCalls()).not.toContain('..');
    });
    await systemctl(host, 'stop', 'lxc@db');
  });
});

describe('while the helper does not answer', () => {
  const dropIn = '/run/systemd/system/lockerd-helper@.service.d/refused.conf';

  test.each([
    [
      'because nobody may ask it',
      async () => {
        // What systemd will call instances some day.
        await host.writeFile(
          dropIn,
          '[Service]\nExecStart=\nExecStart=/usr/lib/lockerd/lockerd-helper --peer of-a-new-form\n',
        );
        await systemctl(host, 'daemon-reload');
      },
      async () => {
        await host.run('rm', [dropIn]);
        await systemctl(host, 'daemon-reload');
      },
      /refuses to tell of containers: only lockerd may ask its helper; see "journalctl -t lockerd-h/,
    ],
    [
      'because it is not there',
      () => systemctl(host, 'stop', 'lockerd-helper.socket'),
      () => systemctl(host, 'start', 'lockerd-helper.socket'),
      /cannot be reached; see "systemctl status lockerd-helper.socket"/,
    ],
  ])('%s, nothing that runs is told to be stopped', async (_what, break_, mend, reason) => {
    await systemctl(host, 'start', 'lxc@db');
    await host.run('lxc-start', ['-n', 'web']);
    await untilState('web', 'running');
    await untilState('db', 'running');
    await break_();
    await host.shell("systemctl stop 'lockerd-helper@*.service'");
    await untilState('web', 'unknown', 60_000);
    expect(await property('db', 'State')).toBe('running');
    for (const container of ['web', 'db']) expect(await property(container, 'Leader')).toBe(0);
    const web = await runAs(host, 'root', 'lockerctl', 'status', 'web');
    expect(web.exitCode).toBe(4);
    expect(web.output.replaceAll(/\s+/g, ' ')).toMatch(reason);
    const db = await runAs(host, 'root', 'lockerctl', 'status', 'db');
    expect(db.exitCode).toBe(0);
    expect(db.output.replaceAll(/\s+/g, ' ')).toMatch(reason);
    await host.run('journalctl', ['--sync']);
    const { stdout } = await host.run('journalctl', ['-t', 'lockerd', '-b', '--output=cat']);
    expect(stdout).toMatch(reason);
    await mend();
    await untilState('web', 'running', 60_000);
    expect(await property('web', 'Leader')).toBe(await guestPid(host, 'web'));
    expect(await property('web', 'Problem')).toBe('');
    await host.run('lxc-stop', ['-n', 'web', '--kill']);
    await systemctl(host, 'stop', 'lxc@db');
    await untilState('db', 'stopped');
  });
});

test('the helper answers each request of lockerd’s once, whatever it is', async () => {
  const before = await host.shell('find /etc /var/lib/lxc /lockers -newermt now -o -print | sort');
  await host.writeFile('/tmp/ask.mjs', client, 0o644);
  const { output } = await runAs(host, 'lockerd', 'node', '/tmp/ask.mjs');
  const answers = JSON.parse(output) as { request: string; lines: string[] }[];
  expect(answers.length).toBeGreaterThan(30);
  for (const { request, lines } of answers) {
    expect(lines, request).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? ''), request).toMatchObject({
      ok: false,
      error: expect.stringMatching(
        /^(InvalidArgs|NoSuchContainer|NoSuchLocker|NotRunning|NotFrozen)$/,
      ) as string,
    });
  }
  const after = await host.shell('find /etc /var/lib/lxc /lockers -newermt now -o -print | sort');
  expect(after.stdout).toBe(before.stdout);
  const failed = await trySystemctl(host, 'list-units', '--failed', '--plain', '--no-legend');
  expect(failed.output).not.toContain('lockerd-helper');
});

/** Sends odd requests, eight at a time, and prints what comes back. */
const client = `
import net from 'node:net';
const j = (value) => JSON.stringify(value) + '\\n';
const names = ['../web', '/etc', '.', '..', '--help', 'web\\n', 'web\\0', 'x'.repeat(300), '', 'no', 'web/../db', '\\ud800', 'toString', 7, null];
const requests = [
  'hello\\n', '\\n', '[]\\n', 'null\\n', '1e999\\n', '['.repeat(30000) + '\\n', ' '.repeat(65537) + '\\n',
  '{"verb":"__proto__"}\\n', '{"__proto__":{"verb":"freeze","container":"web"}}\\n', '\\ufeff{"verb":"thaw","container":"web"}\\n',
  '{"verb":"thaw","container":"web"}\\n{"verb":"thaw","container":"web"}\\n', '{"verb":"thaw","verb":"rm","container":"web"}\\n',
  j({ verb: 'rm', container: 'web' }), j({ verb: 'thaw', container: 'web', x: 1 }), j({ verb: 'watch', container: 'web' }),
  j({ verb: 'attach', container: 'web', locker: '../../etc', readOnly: false, persist: true }),
  j({ verb: 'balloon', container: 'web', limit: '-1', force: true, persist: false }),
  j({ verb: 'balloon', container: 'web', limit: '5\\nMemoryMax=1', force: true, persist: true }),
  ...names.map((container) => j({ verb: 'thaw', container })),
];
const ask = (request) => new Promise((resolve) => {
  let text = '';
  const socket = net.connect('/run/lockerd/helper.sock');
  socket.on('data', (chunk) => (text += chunk)).on('error', () => {});
  socket.on('close', () => resolve({ request: request.slice(0, 80), lines: text.split('\\n').slice(0, -1) }));
  socket.write(request);
});
const answers = [];
for (let at = 0; at < requests.length; at += 8) {
  answers.push(...(await Promise.all(requests.slice(at, at + 8).map(ask))));
}
console.log(JSON.stringify(answers));
`;

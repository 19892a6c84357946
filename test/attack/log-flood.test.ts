import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { rmSync } from 'node:fs';
import type { Host } from '../host/host.ts';
import { expectState, journalOf, offline, systemctl, trySystemctl } from '../machines/support.ts';
import { bootAttackHost, perlAs, stranger } from './attack-host.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 900_000 });

let host: Host;
beforeAll(async () => {
  host = await bootAttackHost('log-flood', {
    prepare: async (made) => {
      await made.createContainer('headless', 'busybox', { config: offline });
      rmSync(`${made.root}/var/lib/lxc/headless/rootfs/sbin/init`);
    },
  });
});
afterAll(() => host.close());

/** Talks to the command socket of a container, so often as is said; LXC refuses each time. */
const talk = `
  use Socket;
  my ($name, $count) = @ARGV;
  my $address = pack_sockaddr_un("\\0/var/lib/lxc/$name/command");
  my $end = time + 120;
  for (my $talks = 0; $talks < $count and time < $end;) {
    socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or next;
    connect($socket, $address) or next;
    syswrite $socket, "\\0" x 24;
    # A connection that LXC has closed was refused.
    sysread $socket, my $answer, 1;
    $talks++;
  }
  print 'done';`;

/** What the files of a directory in /run take, in KiB. */
async function kibOf(directory: string): Promise<number> {
  return Number((await host.run('du', ['-sk', directory])).stdout.split('\t')[0]);
}

async function memoryOf(unit: string): Promise<number> {
  const group = (await host.unit(unit))['ControlGroup'] ?? '';
  const file = `/sys/fs/cgroup/memory${group}/memory.usage_in_bytes`;
  return Number(await host.readFile(file));
}

test('a stranger fills neither /run nor the container’s memory nor the journal', async () => {
  await systemctl(host, 'start', 'lxc@web');
  await host.waitForGuest('web');
  const before = { run: await kibOf('/run/lockerd'), memory: await memoryOf('lxc@web') };
  const lines = (await journalOf(host, 'lxc@web')).split('\n').length;

  const talks = 20_000;
  const answers = await Promise.all(
    [1, 2].map(() => perlAs(host, stranger, talk, 'web', String(talks / 2))),
  );
  expect(answers.map(({ output }) => output)).toEqual(['done', 'done']);

  // Each talk is worth some 500 bytes.
  expect((await kibOf('/run/lockerd')) - before.run).toBeLessThanOrEqual(128);
  expect((await memoryOf('lxc@web')) - before.memory).toBeLessThan(6 * 1024 * 1024);
  // What the unit may write within ten minutes, six times over where the disk has room.
  const grown = (await journalOf(host, 'lxc@web')).split('\n').length - lines;
  expect(grown).toBeLessThanOrEqual(500 * 6 + 10);
  // LXC did complain.
  expect(grown).toBeGreaterThan(100);
  await expectState(host, 'lxc@web', 'active');
});

test('the container still says why it has failed, and who has talked', async () => {
  await host.run('systemctl', ['kill', '--kill-who=main', '--signal=KILL', 'lxc@web']);
  await host.waitFor('the unit has failed', async () => {
    return (await host.unit('lxc@web'))['ActiveState'] === 'failed';
  });
  expect(await journalOf(host, 'lxc@web')).toMatch(
    /container-gone\[\d+\]: strangers have talked .*Message denied for '\d{4,}/,
  );
});

test('a start that fails says why, while strangers talk to it and to others', async () => {
  await systemctl(host, 'start', 'lxc@web');
  const flood = Promise.all([
    perlAs(host, stranger, talk, 'web', '8000'),
    // Until the container is there it cannot be talked to.
    perlAs(host, stranger, talk.replace('+ 120', '+ 20'), 'headless', '8000'),
  ]);
  const rounds = 5;
  for (let round = 1; round <= rounds; round++) {
    expect((await trySystemctl(host, 'start', 'lxc@headless')).exitCode).toBe(1);
    await host.waitFor('the unit has failed', async () => {
      return (await host.unit('lxc@headless'))['ActiveState'] === 'failed';
    });
    const said = (await journalOf(host, 'lxc@headless')).match(
      /container-gone\[\d+\]: .*Failed to exec "\/sbin\/init"/g,
    );
    expect(said).toHaveLength(round);
  }
  await flood;
});

/** lockerctl move, between two booted hosts. */

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { expectState } from '../machines/support.ts';
import type { RunResult } from '../machines/execute.ts';
import { moveWith as moveWithBrake, type Brake } from '../machines/move-brake.ts';
import { addresses } from '../machines/ssh-pair.ts';
import type { Host } from './host.ts';
import { createOddGuest, treeOf, withoutLogs } from './odd-guest.ts';
import { bootPair, type Pair } from './pair.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 300_000 });

const address = `root@${addresses.target}`;
const ids = ['lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'];

let pair: Pair;
let source: Host;
let target: Host;

const createGuest = (name: string, config?: string[], shift?: number): Promise<void> =>
  createOddGuest(source, name, config, shift);

async function move(name: string, ...options: string[]): Promise<RunResult> {
  const args = ['move', name, address, ...options];
  return source.run('lockerctl', args, { reject: false, timeoutMs: 170_000 });
}

/** Whole lines. */
async function linesOf(host: Host, name: string): Promise<string[]> {
  const text = await host.readFile(`/var/lib/lxc/${name}/rootfs/numbers`);
  return text.slice(0, text.lastIndexOf('\n')).split('\n');
}

function numbersIn(lines: readonly string[]): number[] {
  return lines.map((line) => Number.parseInt(line, 10));
}

/** The container runs at the source, writes there, and the target shows nothing of it. */
async function expectAsBefore(name: string): Promise<void> {
  await expectState(source, `lxc@${name}.service`, 'active');
  const before = (await linesOf(source, name)).length;
  await source.waitFor('the guest writes again', async () => {
    return (await linesOf(source, name)).length > before;
  });
  expect(await source.exists(`/var/lib/lockerd/moves/${name}.away`)).toBe(false);
  await expectCleanTarget(name);
}

async function expectCleanTarget(name: string): Promise<void> {
  await target.waitFor(
    'the target has undone its part',
    async () => {
      const { stdout } = await target.shell(`
      ls -d /var/lib/lxc/${name} /etc/lockerd/containers/${name}.conf \
        /var/lib/lockerd/moves/${name}.away /run/lockerd/moves/${name}.here 2>/dev/null || true
      systemctl list-units --all --plain --no-legend 'lxc@${name}.service' | grep -v inactive || true
      pgrep -af '[l]xc-start.*${name}' || true
      pgrep -af '[l]ockerd-move receive' || true; pgrep -ax rsync || true`);
      return stdout === '';
    },
    90_000,
  );
}

const brakes = {
  'while it is copied': {
    ...{ host: () => source, program: 'rsync', which: '/tree/', number: 1, when: 'before' },
  },
  'while it is stopped': {
    ...{ host: () => source, program: 'rsync', which: '/tree/', number: 3, when: 'before' },
  },
  'while it starts there': {
    ...{ host: () => target, program: 'systemctl', which: 'start', number: 1, when: 'before' },
  },
  'when it runs there': {
    ...{ host: () => target, program: 'systemctl', which: 'start', number: 1, when: 'after' },
  },
} as const satisfies Record<string, Omit<Brake, 'host'> & { host: () => Host }>;

/** Does something in the middle of a move, lets that go on, and gives its end. */
async function moveWith(
  name: string,
  at: keyof typeof brakes,
  action: (mover: string) => Promise<unknown>,
): Promise<RunResult> {
  const brake = brakes[at];
  return moveWithBrake(
    { ...brake, host: brake.host() },
    () => move(name),
    async () => action((await source.shell("pgrep -f '[l]ockerctl move'")).stdout.trim()),
  );
}

beforeAll(async () => {
  pair = await bootPair();
  ({ source, target } = pair);
});
afterAll(async () => {
  await pair[Symbol.asyncDispose]();
});

describe('a container', () => {
  test('that runs goes on at the target, without a lost write', async () => {
    await createGuest('web', ['lxc.start.auto = 1']);
    await source.writeFile('/etc/lockerd/containers/web.conf', 'stop-timeout = 30s\n');
    await source.run('systemctl', ['daemon-reload']);
    await source.run('systemctl', ['start', 'lxc@web']);
    await source.waitForGuest('web');
    const dry = await move('web', '--dry-run', '--json');
    expect(dry).toMatchObject({ exitCode: 0 });
    expect(JSON.parse(dry.stdout)).toMatchObject({ container: 'web', moved: false });
    await expectCleanTarget('web');
    expect(await source.exists('/var/lib/lockerd/moves/web.json')).toBe(false);

    const { exitCode, stdout, stderr } = await move('web');
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toMatch(
      /^web: moved to root@10\.99\.0\.2: .*; it did not run for [\d.]+s \(.*\)\n$/,
    );
    console.log(stdout.trim());
    await expectState(target, 'lxc@web.service', 'active');
    await expectState(source, 'lxc@web.service', 'inactive');
    const here = await linesOf(source, 'web');
    await target.waitFor('the guest writes', async () => {
      return (await linesOf(target, 'web')).length > here.length + 5;
    });
    const there = await linesOf(target, 'web');
    expect(there.slice(0, here.length)).toEqual(here);
    expect(numbersIn(there)).toEqual(there.map((_, index) => index + 1));
    // The guest has written there since, as each boot does.
    const tree = withoutLogs(await treeOf(target, 'web'));
    expect(tree).toBe(withoutLogs(await treeOf(source, 'web')));
    expect(tree).toMatch(/\nsparse\n1\n$/);
  });

  test('is the target’s for good, and cannot start at the source', async () => {
    const autostart = async (host: Host): Promise<unknown> => {
      const { stdout } = await host.run('lockerctl', ['list', '--json']);
      const [web] = JSON.parse(stdout) as { autostart: boolean; state: string }[];
      return web?.autostart;
    };
    expect(await autostart(target)).toBe(true);
    expect(await autostart(source)).toBe(false);
    expect(await target.readFile('/etc/lockerd/containers/web.conf')).toContain(
      'stop-timeout = 30s',
    );
    const start = await source.run('systemctl', ['start', 'lxc@web'], { reject: false });
    expect(start.exitCode).not.toBe(0);
    expect(
      await target.shell('ls -A /var/lib/lxc /var/lib/lockerd/moves /run/lockerd/moves'),
    ).toMatchObject({
      stdout: expect.not.stringMatching(/lockerd-move|away|here|lease/) as string,
    });
    const again = await move('web');
    expect(again).toMatchObject({ exitCode: 1 });
    expect(again.stderr).toContain('it was moved to root@10.99.0.2 already');
    await source.run('lockerctl', ['move', '--abort', 'web']);
    await target.run('systemctl', ['stop', 'lxc@web']);
    await source.run('systemctl', ['start', 'lxc@web']);
    await source.run('systemctl', ['stop', 'lxc@web']);
  });

  test('with ids of its own has the same ids on the disk', async () => {
    for (const host of [source, target]) {
      await host.shell(`for f in subuid subgid; do echo root:100000:65536 >/etc/$f; done`);
    }
    await createGuest('mapped', ids, 100_000);
    await source.run('systemctl', ['daemon-reload']);
    const before = await treeOf(source, 'mapped');
    // One that does not run stays so. Its old files go only where somebody at a terminal says so twice.
    const deleting = `lockerctl move mapped ${address} --delete-source`;
    const script = (answers: string) =>
      source.shell(`printf '${answers}' | script -qec '${deleting}' /dev/null`, { reject: false });
    const unsure = await script('mapped\\nno\\n');
    expect(unsure).toMatchObject({ exitCode: 1 });
    expect(unsure.stdout).toContain('nothing was done');
    const quietly = await move('mapped', '--delete-source');
    expect(quietly).toMatchObject({ exitCode: 2 });
    expect(quietly.stderr).toContain('it needs a terminal');
    await expectCleanTarget('mapped');
    const { exitCode, stdout } = await script('mapped\\nmapped\\n');
    expect(stdout).toMatch(/mapped: moved to \S+: [^;]*\n$/);
    expect(exitCode).toBe(0);
    expect(await treeOf(target, 'mapped')).toBe(before);
    const left = await source.shell(
      'ls -d /var/lib/lxc/mapped /var/lib/lockerd/moves/mapped.* || true',
    );
    expect(left.stdout).toBe('');
    await expectState(target, 'lxc@mapped.service', 'inactive');
    await target.run('systemctl', ['start', 'lxc@mapped']);
    await target.waitForGuest('mapped');
  });
});

/** What a guest does after it was copied while it runs; `$1` is a directory with what there was before. */
const before = `
mkdir -p "$1" && cd "$1" && mkdir -p a/b c/d gone full swap1 swap2 mode one two
echo 1 >a/b/f && ln a/b/f one/link && echo 2 >c/d/f && echo x >gone/x && echo y >full/y && : >directory
echo old >same && echo one >links && ln links two/second && ln links third && ln -s a symbolic
echo 1 >swap1/f && echo 2 >swap2/f && : >'#comment' && : >' space' && echo 1 >moved && echo 2 >over
echo 3 >attribute && cp attribute list && cp attribute setuid && truncate -s 3M holes && ln -s /etc direct`;
const after = `
cd "$1" && when=$(stat -c %y same) && printf new. | head -c 4 >same && touch -d "$when" same
mv a/b a/renamed && mv c other && rm -r gone && rm directory && mkdir directory && echo n >directory/n
rm -r full && echo now >full && ln -sfn c symbolic && rm third && ln links other/fourth
mv swap1 swap && mv swap2 swap1 && mv swap swap2 && chmod 700 mode && touch -d 2001-01-01 mode
echo 2 >>'#comment' && echo 3 >>' space' && echo 4 >"$(printf 'bytes\\377\\nline')" && mv moved over
setfattr -n user.later -v 1 attribute && setfacl -m u:9:r list && chmod 4711 setuid && mkfifo pipe
printf end >>holes && rm direct && mkdir direct && echo own >direct/passwd && mknod null c 1 3`;

test('whatever a guest did after it was copied is there', async () => {
  await createGuest('late');
  const place = '/var/lib/lxc/late/rootfs/odd/late';
  await source.run('sh', ['-euc', before, 'sh', place]);
  await source.run('systemctl', ['daemon-reload']);
  await source.run('systemctl', ['start', 'lxc@late']);
  await source.waitForGuest('late');
  const passwd = await target.readFile('/etc/passwd');
  const brake = { program: 'rsync', which: '/tree/', number: 2, when: 'after' } as const;
  const { exitCode, stderr } = await moveWithBrake(
    { host: source, ...brake },
    () => move('late'),
    () => source.run('sh', ['-euc', after, 'sh', place]),
  );
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  const whole = async (host: Host): Promise<string> => {
    const times = await host.shell(
      `cd ${place} && find . -printf '%p %T@ ' \\( -type d -o -printf %s \\) -printf '\\n' | LC_ALL=C sort`,
    );
    return withoutLogs(await treeOf(host, 'late')) + times.stdout;
  };
  expect(await whole(target)).toBe(await whole(source));
  expect(await target.readFile('/etc/passwd')).toBe(passwd);
  await target.run('systemctl', ['stop', 'lxc@late']);
});

describe('a move that fails leaves the source as it was and the target clean', () => {
  beforeAll(async () => {
    await createGuest('hurt');
    await source.run('systemctl', ['daemon-reload']);
    await source.run('systemctl', ['start', 'lxc@hurt']);
    await source.waitForGuest('hurt');
  });

  const kill = (mover: string) => source.run('kill', ['-KILL', mover]);
  const cut = () => target.shell("pkill -KILL -f '[s]shd: root@notty'");
  const killReceiver = () => target.shell("pkill -KILL -f '[l]ockerd-move receive'");

  test.each([
    ['the mover is killed', 'while it is copied', kill],
    ['the connection is cut', 'while it is copied', cut],
    ['the mover is killed', 'while it is stopped', kill],
    ['the connection is cut', 'while it is stopped', cut],
    ['the mover is killed', 'while it starts there', kill],
    ['the mover is killed', 'when it runs there', kill],
    ['the receiver is killed', 'when it runs there', killReceiver],
  ] as const)('%s %s', async (_, at, action) => {
    const { exitCode } = await moveWith('hurt', at, action);
    expect(exitCode).not.toBe(0);
    await source.waitFor('it runs again', async () => {
      return (await source.unit('lxc@hurt.service'))['ActiveState'] === 'active';
    });
    await expectAsBefore('hurt');
  });

  test('a running guest can lead the copy to nothing of the host', async () => {
    // What rsync saw in the last move that was stopped while it copied.
    const seen = await source.readFile('/usr/local/share/brake/seen');
    const words = seen
      .split('\n')
      .filter((line) => line !== '' && !/^(bin|sbin|lib\w*|usr)$/.test(line));
    expect(words).toEqual(['/:', 'dev', 'etc', 'socket', 'tree', '/etc:', 'ld.so.cache', 'passwd']);
  });

  test('the target has no room left', async () => {
    await target.shell('mount -t tmpfs -o size=12M tmpfs /var/lib/lxc');
    const { exitCode, stderr } = await moveWith('hurt', 'while it is copied', () =>
      target.shell('dd if=/dev/zero of=/var/lib/lxc/full bs=1M 2>/dev/null || true'),
    );
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/No space left on device.*\n[^]*it runs here as before/);
    await target.shell('umount /var/lib/lxc');
    await expectAsBefore('hurt');
  });

  test('the target is not heard any more while it is copied', async () => {
    const { exitCode, stderr } = await moveWith('hurt', 'while it is copied', () =>
      target.run('ip', ['link', 'set', 'move0', 'down']),
    );
    expect(exitCode).toBe(1);
    expect(stderr).toContain('it runs here as before');
    // Both ends have forgotten the connection when they could hear each other again.
    await target.run('ip', ['link', 'set', 'move0', 'up']);
    await expectAsBefore('hurt');
  });

  test('the target is not heard any more when it runs there', async () => {
    const { exitCode, stderr } = await moveWith('hurt', 'when it runs there', () =>
      target.run('ip', ['link', 'set', 'move0', 'down']),
    );
    expect(exitCode).toBe(1);
    // When the source has it again, the target has ended it by itself.
    const left = await target.shell("pgrep -af '[l]xc-start.*hurt' || true");
    expect(left.stdout).toBe('');
    expect(stderr).toContain('it runs here as before');
    await target.run('ip', ['link', 'set', 'move0', 'up']);
    await expectAsBefore('hurt');
  });

  test('the target’s power fails when it runs there', async () => {
    const { exitCode } = await moveWith('hurt', 'when it runs there', () => target.crash());
    expect(exitCode).toBe(1);
    await target.boot();
    await pair.join();
    await expectAsBefore('hurt');
  });

  test('the source’s power fails when it runs there', async () => {
    const { exitCode } = await moveWith('hurt', 'when it runs there', () => source.crash());
    expect(exitCode).not.toBe(0);
    await source.boot();
    await pair.join();
    // It is started by lockerd-moves.service, which waits for the target.
    await source.waitFor(
      'it runs again',
      async () => (await source.unit('lxc@hurt.service'))['ActiveState'] === 'active',
      60_000,
    );
    await expectAsBefore('hurt');
    expect(await source.readFile('/var/lib/lockerd/moves/hurt.json')).toContain('"paused"');
  });

  test('and the next one goes on from what was copied, also where the end was not heard', async () => {
    const copies = (await target.shell('ls -d /var/lib/lxc/.lockerd-move-*')).stdout.split('\n');
    const { id } = JSON.parse(await source.readFile('/var/lib/lockerd/moves/hurt.json')) as {
      id: string;
    };
    expect(copies).toContain(`/var/lib/lxc/.lockerd-move-${id}`);
    expect(await move('hurt')).toMatchObject({ exitCode: 0, stderr: '' });
    expect((await target.shell('ls -d /var/lib/lxc/.lockerd-move-* || true')).stdout).not.toContain(
      id,
    );
    const numbers = numbersIn(await linesOf(target, 'hurt'));
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
    await source.shell('sed -i \'s/"moved"/"keeping"/\' /var/lib/lockerd/moves/hurt.json');
    const ended = await source.run('lockerctl', ['move', '--abort', 'hurt']);
    expect(ended.stdout).toContain('the move had succeeded');
    await expectState(target, 'lxc@hurt.service', 'active');
    await expectState(source, 'lxc@hurt.service', 'inactive');
    expect(await source.exists('/var/lib/lockerd/moves/hurt.away')).toBe(true);
  });
});

test('what the target lacks is said before anything is changed', async () => {
  await createGuest('needy', [
    'lxc.net.0.type = veth',
    'lxc.net.0.link = br-here',
    'lxc.mount.entry = /srv/here srv none bind,create=dir 0 0',
    'lxc.idmap = u 0 4294900000 200000',
  ]);
  await source.shell(
    'mkdir /srv/here && ip link add br-here type bridge && systemctl daemon-reload',
  );
  const refused = await move('needy');
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain('there is no network interface br-here');
  expect(refused.stderr).toContain('there is no /srv/here');
  expect(refused.stderr).toContain('this host does not have uids 4294900000');
  await target.shell('mkdir -p /var/lib/lxc/needy');
  expect((await move('needy')).stderr).toContain('there is a container of this name already');
  await target.shell('rmdir /var/lib/lxc/needy');
  await expectCleanTarget('needy');
  expect((await move('absent')).exitCode).toBe(5);
});

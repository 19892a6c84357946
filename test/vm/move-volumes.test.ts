// Moves between two hosts that have LVM: a root file system on a volume, with a locker on another one, becomes volumes
// of the target, and whatever fails in the middle, the source goes on.

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createOddGuest, numbersIn, treeAt, withoutLogs } from '../host/odd-guest.ts';
import type { RunResult } from '../machines/execute.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { moveWith as moveWithBrake, type Brake } from '../machines/move-brake.ts';
import { addresses } from '../machines/ssh-pair.ts';
import { volumeStores } from '../machines/stores.ts';
import { expectState } from '../machines/support.ts';
import { disks, type VirtualHost } from './vm.ts';
import { WiredPair } from './wired-pair.ts';

// Emulation is slow: each request is a start of Node, which takes some seconds.
vi.setConfig({ testTimeout: 3_600_000, hookTimeout: 3_600_000 });

/** Whether each phase of a move is to be disturbed in each way. */
const areAllAsked = process.env['LOCKERD_TEST_KILLS'] !== undefined;

const address = `root@${addresses.target}`;
/** That of a guest on the host. */
const rootOf = '/proc/$(lxc-info -n web -pH)/root';

let pair: WiredPair;
let source: VirtualHost;
let target: VirtualHost;

async function move(name: string, ...options: string[]): Promise<RunResult> {
  const args = ['move', name, address, '--no-progress', ...options];
  return source.run('lockerctl', args, { reject: false, timeoutMs: 300_000 });
}

/** Gives a container of the source its root file system on a volume, with the ids on the disk moved. */
async function createOnVolume(name: string, config: string[], shift = 0): Promise<void> {
  await createOddGuest(source, name, config, shift);
  await source.shell(
    `lvcreate -qy -L 200M -n ${name} raid && mkfs.ext4 -q -m 0 /dev/raid/${name}
    cd /var/lib/lxc/${name} && mount /dev/raid/${name} /mnt && cp -a rootfs/. /mnt/
    head -c 48M /dev/urandom >/mnt/large && umount /mnt
    rm -r rootfs && mkdir rootfs
    # Its programs are static. With ids of its own, LXC cannot mount what has the mount of the volume below it.
    sed -i '/^lxc.mount.entry = .*lib/d' config
    sed -i 's|^lxc.rootfs.path.*|lxc.rootfs.path = lvm:/dev/raid/${name}|' config`,
    { timeoutMs: 300_000 },
  );
}

/** What a volume has, while its guest may be writing to it. */
async function onVolume<T>(
  host: VirtualHost,
  volume: string,
  look: (path: string) => Promise<T>,
): Promise<T> {
  await host.shell(`mount /dev/raid/${volume} /mnt && mount -o remount,bind,ro /mnt`);
  try {
    return await look('/mnt');
  } finally {
    await host.shell('umount /mnt');
  }
}

const numbersOn = (host: VirtualHost, volume: string): Promise<number[]> =>
  onVolume(host, volume, async (path) => numbersIn(await host.readFile(`${path}/numbers`)));

const treeOn = (host: VirtualHost, volume: string): Promise<string> =>
  onVolume(host, volume, async (path) => withoutLogs(await treeAt(host, path)));

/** What of the container a target shows that has not got it: neither a name nor anything that is in use. */
const leftovers = `
  ls -d /var/lib/lxc/web /etc/lockerd/containers/web.conf /etc/systemd/system/lxc@web.service.d \\
    /var/lib/lockerd/moves/web.away /run/lockerd/moves/web.here /etc/systemd/system/lockers-music.mount \\
    /var/lib/lxc/.lockerd-move-*/volume 2>/dev/null || true
  findmnt -rno SOURCE,TARGET | grep lxc--web || true
  grep ' /lockers/music ' /etc/fstab || true
  pgrep -ax rsync || true; pgrep -af '[l]ockerd-move receive' || true
  systemctl list-units --all --plain --no-legend 'lxc@web.service' | grep -v inactive || true
  pgrep -af '[l]xc-start.*web' || true
  lvs --noheadings -o lv_name,lv_tags raid | grep -v -e lockerd.move= -e lockerd-move- -e '^ *pool ' || true`;

async function expectCleanTarget(): Promise<void> {
  let left = '';
  await target
    .waitFor('the target has undone its part', async () => {
      left = (await target.shell(leftovers)).stdout;
      return left === '';
    })
    .catch((error: unknown) => {
      throw new Error(`there is still:\n${left}`, { cause: error });
    });
}

/** The container runs at the source, writes there, and the target shows nothing of it. */
async function expectAsBefore(): Promise<void> {
  await source.waitFor('it runs again', async () => {
    return (await source.unit('lxc@web.service'))['ActiveState'] === 'active';
  });
  const last = async (): Promise<string> =>
    (await source.shell(`tail -n 1 ${rootOf}/numbers`, { reject: false })).stdout;
  const before = await last();
  await source.waitFor('the guest writes again', async () => (await last()) > before);
  expect(await source.exists('/var/lib/lockerd/moves/web.away')).toBe(false);
  await expectCleanTarget();
}

const onSource = { host: () => source, program: 'rsync', which: '/tree/', when: 'before' } as const;
const onTarget = { host: () => target, program: 'systemctl', which: 'start', number: 1 } as const;

/** Two copies are of the directory, the root file system and the locker each; of the last one, what has changed. */
const brakes = {
  'while it is copied': { ...onSource, number: 2 },
  'while it is stopped': { ...onSource, number: 7 },
  'while it starts there': { ...onTarget, when: 'before' },
  'when it runs there': { ...onTarget, when: 'after' },
} as const satisfies Record<string, Omit<Brake, 'host'> & { host: () => VirtualHost }>;

/** Does something in the middle of a move, and gives its end. */
async function moveWith(
  at: keyof typeof brakes,
  action: () => Promise<unknown>,
): Promise<RunResult> {
  const brake = brakes[at];
  const begin = () => move('web', '--with-lockers');
  return moveWithBrake({ ...brake, host: brake.host() }, begin, action);
}

/** Has the target up again after whatever was done to it. */
async function joinAgain(): Promise<void> {
  if (target.isOn) pair.plug();
  else {
    await target.boot();
    await pair.configure();
  }
}

beforeAll(async () => {
  pair = await WiredPair.boot();
  ({ source, target } = pair);
  for (const host of [source, target]) {
    await host.shell(
      `for f in subuid subgid; do echo root:100000:65536 >/etc/$f; done
      vgcreate -q raid /dev/${disks.data}`,
      { timeoutMs: 300_000 },
    );
  }
  await target.writeFile('/etc/lockerd/lockerd.conf', volumeStores);
  await createOnVolume('web', ['lxc.start.auto = 1']);
  await source.writeFile(
    '/etc/lockerd/containers/web.conf',
    'lockers = music\nstop-timeout = 30s\n',
  );
  await source.writeFile(
    '/etc/systemd/system/lxc@web.service.d/override.conf',
    '[Service]\nNice=1\n',
  );
  await source.shell(
    `lvcreate -qy -L 64M -n music raid && mkfs.ext4 -q /dev/raid/music
    echo '/dev/raid/music /lockers/music ext4 nofail 0 0' >>/etc/fstab
    mkdir -p /lockers/music && mount /lockers/music
    cd /lockers/music && echo song >song && ln song again && setfacl -m u:7:r song && setfattr -n user.a -v b song
    systemctl daemon-reload && systemctl start lockerd-stores.socket lxc@web`,
    { timeoutMs: 300_000 },
  );
  await target.shell(
    `lvcreate -qy -L 400M --thinpool pool raid
    systemctl daemon-reload && systemctl start lockerd-stores.socket`,
    { timeoutMs: 300_000 },
  );
  await source.waitForGuest('web');
});
afterAll(async () => {
  await pair[Symbol.asyncDispose]();
});
attachJournalOnFailure(() => source);
attachJournalOnFailure(() => target);

test('a group without room is said before anything is changed', async () => {
  await target.shell('lvcreate -qy -l 100%FREE -n full raid');
  const { exitCode, stderr } = await move('web', '--with-lockers');
  await target.shell('lvremove -qy raid/full');
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/store "thick" has .* left/);
  expect(await source.exists('/var/lib/lockerd/moves/web.json')).toBe(false);
  expect(
    (await target.shell('ls -A /var/lib/lxc; lvs --noheadings -o lv_name raid')).stdout.trim(),
  ).toBe('pool');
  await expectAsBefore();
});

describe('a move that fails leaves the source as it was and the target clean', () => {
  const kill = () => source.shell("kill -KILL $(pgrep -f '[l]ockerctl move')");
  const cut = () => {
    pair.unplug();
    return Promise.resolve();
  };
  const killReceiver = () => target.shell("pkill -KILL -f '[l]ockerd-move receive'");
  const crash = () => target.crash();

  const usual = [['the target’s power fails', 'while it is stopped', crash]] as const;
  // Under emulation each takes minutes. The same without volumes is in test/host.
  const others = [
    ['the mover is killed', 'when it runs there', kill],
    ['the connection is cut', 'while it is copied', cut],
    ['the mover is killed', 'while it is copied', kill],
    ['the mover is killed', 'while it is stopped', kill],
    ['the mover is killed', 'while it starts there', kill],
    ['the receiver is killed', 'when it runs there', killReceiver],
    ['the connection is cut', 'while it is stopped', cut],
    ['the connection is cut', 'when it runs there', cut],
    ['the target’s power fails', 'while it is copied', crash],
    ['the target’s power fails', 'when it runs there', crash],
  ] as const;

  test.each([...usual, ...(areAllAsked ? others : [])])('%s %s', async (_, at, action) => {
    const { exitCode } = await moveWith(at, action);
    expect(exitCode).not.toBe(0);
    // The source has it again before it can reach the target.
    await source.waitFor('it runs again', async () => {
      return (await source.unit('lxc@web.service'))['ActiveState'] === 'active';
    });
    await joinAgain();
    await expectAsBefore();
  });

  if (areAllAsked) {
    test('the connection is cut in the middle of a file', async () => {
      const moving = move('web', '--with-lockers');
      await target.waitFor('the root file system comes', async () => {
        const { stdout } = await target.shell(
          'readlink /proc/[0-9]*/cwd | grep -c /volume$ || true',
        );
        return Number(stdout) > 0;
      });
      pair.unplug();
      expect(await moving).toMatchObject({ exitCode: 1 });
      pair.plug();
      await expectAsBefore();
    });

    test('the volume there has no room left', async () => {
      const full = '/var/lib/lxc/.lockerd-move-*/volume/lost+found';
      const { exitCode, stderr } = await moveWith('while it is stopped', () =>
        // Where rsync does not look.
        target.shell(`{ head -c 300M /dev/zero >$(echo ${full})/full || true; } 2>/dev/null`, {
          timeoutMs: 120_000,
        }),
      );
      await target.shell(`mount /dev/raid/lxc-web /mnt; rm /mnt/lost+found/full; umount /mnt`);
      expect(exitCode).toBe(1);
      expect(stderr).toContain('No space left on device');
      expect(stderr).toContain('it runs here as before');
      await expectAsBefore();
    });
  }
});

test('the next one goes on from what was copied, without a lost write', async () => {
  const { exitCode, stdout, stderr } = await move('web', '--with-lockers');
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    'its root file system is a volume, and becomes volume /dev/raid/lxc-web there',
  );
  expect(stdout).toMatch(
    /^web: moved to root@10\.99\.0\.2: .*; it did not run for [\d.]+s \(.*\)\n$/,
  );
  console.log(stdout.trim());
  await expectState(target, 'lxc@web.service', 'active');
  await expectState(source, 'lxc@web.service', 'inactive');
  const here = await numbersOn(source, 'web');
  const there = async (): Promise<number[]> => numbersOn(target, 'lxc-web');
  await target.waitFor('the guest writes', async () => (await there()).length > here.length + 5);
  const numbers = await there();
  expect(here.length).toBeGreaterThan(100);
  expect(numbers.slice(0, here.length)).toEqual(here);
  expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  expect(await treeOn(target, 'lxc-web')).toBe(await treeOn(source, 'web'));
  const content = async (host: VirtualHost): Promise<string> =>
    (
      await host.shell(`cd /lockers/music && sha256sum * && getfacl -n -p * && getfattr -d -m user *
        stat -c '%n %a %u %g %h' *; findmnt -no FSTYPE .`)
    ).stdout;
  expect(await content(target)).toBe(await content(source));
  const { stdout: tags } = await target.shell(
    `lvs --noheadings -o lv_name,lv_tags raid; findmnt -rno SOURCE /lockers/music; ls -A /var/lib/lxc
    systemctl show -P Nice lxc@web`,
  );
  expect(tags).not.toMatch(/lockerd[.-]move/);
  expect(tags).toMatch(/\/raid-locker--music\nweb\n1\n$/);
});

test('one with ids of its own becomes a thin volume', async () => {
  const ids = ['lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'];
  await createOnVolume('mapped', ids, 100_000);
  await source.run('systemctl', ['daemon-reload'], { timeoutMs: 180_000 });
  const before = await treeOn(source, 'mapped');
  expect(before).toMatch(/ 101234 104321 /);
  const { exitCode, stderr } = await move('mapped', '--store=thin');
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(await treeOn(target, 'lxc-mapped')).toBe(before);
  const { stdout } = await target.shell('lvs --noheadings -o pool_lv raid/lxc-mapped');
  expect(stdout.trim()).toBe('pool');
  await target.run('systemctl', ['start', 'lxc@mapped'], { timeoutMs: 180_000 });
  await target.waitForGuest('mapped');
});

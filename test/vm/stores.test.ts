import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { offline, systemctl } from '../machines/support.ts';
import { bootVm, disks, type VirtualHost } from './vm.ts';

// Emulation is slow: each request is a start of Node, which takes some seconds.
vi.setConfig({ testTimeout: 3_600_000, hookTimeout: 3_600_000 });

/** At how many of the programs that it runs each change is killed; all of them: 20. */
const kills = Number(process.env['LOCKERD_TEST_KILLS'] ?? 1);
/** How often a locker is made, forgotten and destroyed. */
const cycles = Number(process.env['LOCKERD_TEST_CYCLES'] ?? 1);
/** How often the power is cut. */
const cuts = Number(process.env['LOCKERD_TEST_CUTS'] ?? 1);

const settings = `
default-store = thick
[store thick]
type = lvm
volume-group = raid
[store thin]
type = lvm-thin
volume-group = raid
thin-pool = pool
filesystem = xfs
max-size = 1G
[store tree]
type = btrfs
path = /srv/tree
definition = fstab
[store files]
type = directory
path = /srv/files
[store gone]
type = lvm
volume-group = sold
[store wrong]
type = zfs
`;

/** Sends one request to the stores' socket and writes what comes. */
const ask = `#!/usr/bin/perl
use strict; use IO::Socket::UNIX;
my $socket = IO::Socket::UNIX->new(Peer => '/run/lockerd/stores.sock') or die "connect: $!";
print $socket "$ARGV[0]\\n";
$socket->flush;
print while <$socket>;
`;

/**
 * Sends a request and kills its helper as soon as that has started its Nth program, or, with "mark", only
 * says so in a file and waits. Writes "killed", or the answer of one that came to its end.
 */
const killAt = `#!/usr/bin/perl
use strict; use IO::Socket::UNIX;
my ($at, $request, $mark) = @ARGV;
my $socket = IO::Socket::UNIX->new(Peer => '/run/lockerd/stores.sock') or die "connect: $!";
print $socket "$request\\n";
$socket->flush;
my ($helper, %seen);
for (;;) {
    if (!defined $helper) {
        for my $directory (glob '/proc/[0-9]*') {
            open my $file, '<', "$directory/cmdline" or next;
            my $line = join ' ', split /\\0/, <$file> // '';
            $helper = $directory if $line =~ m{^/usr/bin/node /usr/lib/lockerd/lockerd-helper --stores --peer};
        }
        next;
    }
    last if !-e $helper;
    for my $path (glob "$helper/task/*/children") {
        open my $file, '<', $path or next;
        $seen{$_} = 1 for split ' ', <$file> // '';
    }
    next if keys %seen < $at;
    if (defined $mark) { open my $file, '>', $mark; close $file; sleep 600; }
    kill 'KILL', $helper =~ /(\\d+)/;
    print "killed\\n";
    exit;
}
print while <$socket>;
`;

/** What is not as it should be, a line each; for a host on which no change is under way. */
const inspect = `
ls -A /var/lib/lockerd/changes | sed 's/^/change /'
lvs --noheadings -o lv_name,lv_tags raid | grep lockerd.change= | sed 's/^/tag /'
ls -A /etc/systemd/system | grep '\\.new$' | sed 's/^/file /'
for unit in /etc/systemd/system/lockers-*.mount; do
  test -e $unit || continue
  name=$(sed -n 's|^Where=/lockers/||p' $unit)
  test -h /etc/systemd/system/local-fs.target.wants/$(basename "$unit") || echo "not enabled: $name"
  mountpoint -q /lockers/$name || echo "not mounted: $name"
done
for place in /lockers/*; do
  test -e $place || continue
  mountpoint -q $place || echo "directory $place"
done
findmnt -rn -o TARGET | grep '^/run/lockerd/stores' | sed 's/^/mount /'
systemctl --failed --no-legend --plain | grep -e lockers- -e lockerd- | sed 's/^/failed /'
true`;

let vm: VirtualHost;
beforeAll(async () => {
  vm = await bootVm({ name: 'stores' });
  await vm.writeFile('/usr/local/sbin/ask', ask, 0o755);
  await vm.writeFile('/usr/local/sbin/kill-at', killAt, 0o755);
  await vm.writeFile('/etc/lockerd/lockerd.conf.d/stores.conf', settings);
  await vm.writeFile(
    '/etc/fstab',
    '# the admin’s own\n/dev/raid/tree /srv/tree btrfs nofail 0 0\n' +
      '/dev/raid/files /srv/files ext4 nofail,prjquota 0 0',
  );
  await vm.shell(
    `
    vgcreate -q raid /dev/${disks.data}
    lvcreate -qy -L 800M --thinpool pool raid
    lvcreate -qy -L 300M -n tree raid
    mkfs.btrfs -q /dev/raid/tree
    lvcreate -qy -L 100M -n files raid
    mkfs.ext4 -q -O project,quota /dev/raid/files
    mkdir -p /srv/tree /srv/files
    systemctl daemon-reload
    mount /srv/tree
    mount /srv/files
    systemctl start lockerd-stores.socket`,
    { timeoutMs: 300_000 },
  );
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

type Json = Readonly<Record<string, unknown>>;

function parseLines(text: string): Json[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Json);
}

const isProgress = (line: Json): boolean => 'progress' in line;

/** The lines that a request is answered with, without those of progress. */
async function request(value: Json): Promise<Json[]> {
  const { stdout } = await vm.run('ask', [JSON.stringify(value)], { timeoutMs: 180_000 });
  return parseLines(stdout).filter((line) => !isProgress(line));
}

async function answer(value: Json): Promise<Json> {
  return (await request(value)).at(-1) ?? {};
}

async function done(value: Json): Promise<Json> {
  const got = await answer(value);
  expect(got, JSON.stringify(value)).toMatchObject({ ok: true });
  return got;
}

function newLocker(store: string, locker: string, megabytes: number): Json {
  const size = (megabytes * 1024 * 1024).toString();
  const rights = { owner: '1000:1001', mode: '2770', encrypt: 'no', creator: '1000' };
  return { verb: 'create-locker', locker, store, size, ...rights };
}

async function words(locker: string): Promise<string> {
  return (await vm.readFile(`/lockers/${locker}/words`)).trim();
}

async function expectClean(): Promise<void> {
  expect((await vm.shell(inspect, { timeoutMs: 180_000 })).stdout).toBe('');
}

const mebibyte = 1024 * 1024;

describe.each([
  { store: 'thick', size: 48, more: 64 },
  { store: 'thin', size: 304, more: 340 },
  { store: 'tree', size: 40, more: 60 },
  { store: 'files', size: 20, more: 30 },
])('a locker of the store $store', ({ store, size, more }) => {
  const locker = `of-${store}`;
  const restored = `${locker}.2`;

  test('is made with its owner, and mounted', async () => {
    await done(newLocker(store, locker, size));
    const { stdout } = await vm.shell(`stat -c '%u:%g %a' /lockers/${locker}
      findmnt -n -o OPTIONS /lockers/${locker}
      echo first > /lockers/${locker}/words`);
    expect(stdout).toMatch(/^1000:1001 2770\n/);
    expect(stdout).toContain('nosuid,nodev');
  });

  test('grows while it is written to, and takes no more than that', async () => {
    // The smallest xfs is too large to be filled here.
    const count = store === 'thin' ? 1 : size + 4;
    // Quotas of projects do not bind root.
    const owner = 'setpriv --reuid=1000 --regid=1001 --clear-groups';
    const fill = `${owner} dd if=/dev/zero of=/lockers/${locker}/zeros bs=1M count=${count} conv=fsync`;
    const isFull = (await vm.run('sh', ['-c', fill], { reject: false })).exitCode !== 0;
    expect(isFull).toBe(store !== 'thin');
    const writer = `while test -d /lockers/${locker}; do echo x >> /lockers/${locker}/growing; sleep 0.1; done`;
    await vm.shell(`rm /lockers/${locker}/zeros; systemd-run --unit=writer sh -c '${writer}'`);
    const bytes = more * mebibyte;
    const got = await done({ verb: 'grow-locker', locker, size: bytes.toString() });
    await vm.shell(
      `systemctl is-active writer; systemctl stop writer; ${fill}; rm /lockers/${locker}/zeros`,
    );
    expect(Number(got['size'])).toBeGreaterThanOrEqual(bytes);
  });

  test('is copied, and the copy becomes another one', async () => {
    await done({ verb: 'snapshot-locker', locker, snapshot: 'monday', freeze: false });
    await vm.shell(`echo second > /lockers/${locker}/words`);
    await done({
      verb: 'restore-locker',
      locker,
      snapshot: 'monday',
      name: restored,
      creator: '7',
    });
    expect(await words(restored)).toBe('first');
    expect(await words(locker)).toBe('second');
    const looks = await request({ verb: 'look-lockers', lockers: [locker, restored, 'none'] });
    const byName = looks
      .slice(0, -1)
      .sort((a, b) => (String(a['locker']) < String(b['locker']) ? -1 : 1));
    expect(byName).toMatchObject([
      { locker, seen: { health: 'good', store, creator: '1000', snapshots: ['monday'] } },
      { locker: restored, seen: { health: 'good', store, creator: '7', snapshots: [] } },
    ]);
  });

  test('is renamed, forgotten and destroyed, and leaves nothing', async () => {
    const name = `${locker}.3`;
    await done({ verb: 'rename-locker', locker: restored, name });
    expect(await words(name)).toBe('first');
    const { place } = await done({ verb: 'forget-locker', locker: name });
    expect(await vm.exists(String(place))).toBe(true);
    expect(await vm.exists(`/lockers/${name}`)).toBe(false);
    const destroyed: Json[] = [{ locker: name }, { locker, snapshot: 'monday' }, { locker }];
    for (const each of destroyed) {
      const got = await answer({ verb: 'destroy-locker', store, ...each });
      // Of directories, lockerd destroys only what is empty, and says how the rest is removed.
      if (store !== 'files') expect(got).toEqual({ ok: true });
      else {
        const remedy = /rm -r --one-file-system -- \/srv\/files\/\S+$/.exec(String(got['message']));
        await vm.shell(remedy?.[0] ?? 'false');
      }
    }
    expect(await vm.exists(String(place))).toBe(false);
    await expectClean();
    expect(await vm.readFile('/etc/fstab')).not.toContain('lockers');
  });
});

test('what cannot be is refused with the reason', async () => {
  const { stores } = await done({ verb: 'list-stores' });
  const problems = (stores as Json[]).map(
    ({ name, problem = '' }) => `${String(name)} ${String(problem)}`,
  );
  expect(problems.join('\n')).toMatch(
    /^thick \nthin \ntree \nfiles \ngone store "gone" is not there: .*"sold".*\nwrong .*stores.conf:\d+: type="zfs"/,
  );
  const cases: [Json, string, RegExp][] = [
    [newLocker('gone', 'x', 48), 'NoSuchStore', /no volume group "sold"/],
    [newLocker('nowhere', 'x', 48), 'NoSuchStore', /there are "thick", "thin"/],
    [newLocker('thick', 'x', 100_000), 'NoSpace', /vgextend/],
    [newLocker('thin', 'x', 2048), 'InvalidArgs', /"max-size"/],
    [newLocker('thick', 'a b', 48), 'InvalidArgs', /cannot be named "a b"/],
    [newLocker('thick', 'x_tdata', 48), 'InvalidArgs', /LVM keeps/],
    [newLocker('tree', 'x', 100_000), 'NoSpace', /in all/],
  ];
  for (const [value, error, message] of cases) {
    const got = await answer(value);
    expect(got).toMatchObject({ ok: false, error });
    expect(String(got['message'])).toMatch(message);
  }
  await expectClean();
});

test('a locker that a container has is neither forgotten nor renamed; freezing ends in any case', async () => {
  await done(newLocker('thick', 'held', 48));
  await vm.createContainer('box', 'busybox', { config: [...offline] });
  await vm.writeFile('/etc/lockerd/containers/box.conf', 'lockers = held\n');
  await systemctl(vm, 'daemon-reload');
  await systemctl(vm, 'start', 'lxc@box');
  for (const value of [
    { verb: 'forget-locker', locker: 'held' },
    { verb: 'destroy-locker', locker: 'held', store: 'thick' },
    { verb: 'rename-locker', locker: 'held', name: 'other' },
  ]) {
    expect(await answer(value)).toMatchObject({ ok: false, error: 'LockerBusy' });
  }
  expect(await answer({ verb: 'grow-locker', locker: 'held', size: '1048576' })).toMatchObject({
    ok: false,
    error: 'InvalidArgs',
  });
  const copy = { verb: 'snapshot-locker', locker: 'held', snapshot: 'frozen', freeze: true };
  await done(copy);
  const state = async () => (await vm.run('lxc-info', ['-n', 'box', '-sH'])).stdout.trim();
  expect(await state()).toBe('RUNNING');
  // Killed while the guest stands still.
  const args = ['5', JSON.stringify({ ...copy, snapshot: 'killed' })];
  expect((await vm.run('kill-at', args, { timeoutMs: 180_000 })).stdout).toBe('killed\n');
  await vm.waitFor('the guest goes on', async () => (await state()) === 'RUNNING', 60_000);
  await vm.waitFor('the change has ended', async () => {
    return (await vm.shell('ls -A /var/lib/lockerd/changes')).stdout === '';
  });
  await systemctl(vm, 'stop', 'lxc@box');
  await vm.shell('rm /etc/lockerd/containers/box.conf; systemctl daemon-reload');
  await vm.shell(
    `lvs --noheadings -o lv_name,lv_tags raid | grep -c lockerd.snapshot= | grep -x 1`,
  );
  await done({ verb: 'destroy-locker', locker: 'held', store: 'thick', snapshot: 'frozen' });
  await done({ verb: 'destroy-locker', locker: 'held', store: 'thick' });
  await expectClean();
});

/** Programs of the steps at which a change is killed, spread over all of them. */
function points(last: number): number[] {
  if (kills >= last) return Array.from({ length: last }, (_, index) => index + 1);
  return Array.from({ length: kills }, (_, index) => Math.ceil(((index + 1) * last) / (kills + 1)));
}

/** Until what was killed has been brought to an end, by the unit that systemd starts for that. */
async function untilRecovered(): Promise<void> {
  await vm.waitFor(
    'killed changes have ended',
    async () =>
      (
        await vm.shell(`ls -A /var/lib/lockerd/changes
          systemctl list-units --plain --no-legend --state=active,activating,deactivating \\
            'lockerd-stores@*' lockerd-recover.service`)
      ).stdout === '',
    180_000,
  );
}

describe('killed at any step, a change is whole or nothing is left of it', () => {
  const store = 'thick';
  const locker = 'kill';

  async function killed(at: number, value: Json): Promise<void> {
    const args = [String(at), JSON.stringify(value)];
    await vm.run('kill-at', args, { timeoutMs: 300_000 });
    await untilRecovered();
    // What was killed has failed, and systemd may keep it.
    await vm.shell(`systemctl reset-failed 'lockerd-stores@*' 2>/dev/null || true`);
  }

  /** Removes a locker without a request, which would cost as much as the change itself. */
  async function remove(name: string): Promise<void> {
    await vm.shell(
      `if mountpoint -q /lockers/${name}; then umount /lockers/${name}; rmdir /lockers/${name}; fi
       rm -f /etc/systemd/system/lockers-${name}.mount
       rm -f /etc/systemd/system/local-fs.target.wants/lockers-${name}.mount
       systemctl daemon-reload
       if test -e /dev/raid/locker-${name}; then lvremove -qqy raid/locker-${name}; fi`,
      { timeoutMs: 180_000 },
    );
  }

  const isThere = (name: string) => vm.exists(`/dev/raid/locker-${name}`);
  const isDefined = (name: string) => vm.exists(`/etc/systemd/system/lockers-${name}.mount`);

  test.each(points(14))('create-locker, at program %i', async (at) => {
    await killed(at, newLocker(store, locker, 48));
    expect(await isThere(locker)).toBe(await isDefined(locker));
    await expectClean();
    await remove(locker);
  });

  describe('of a locker with data', () => {
    beforeAll(async () => {
      await done(newLocker(store, locker, 48));
      await vm.shell(`echo kept > /lockers/${locker}/words; sync`);
      await done({ verb: 'snapshot-locker', locker, snapshot: 'good', freeze: false });
    });

    async function expectKept(name = locker): Promise<void> {
      expect(await words(name)).toBe('kept');
      await expectClean();
    }

    test.each(points(8))('snapshot-locker, at program %i', async (at) => {
      await killed(at, { verb: 'snapshot-locker', locker, snapshot: 'next', freeze: false });
      await expectKept();
      const { stdout } = await vm.shell(
        `lvs --noheadings -o lv_name -S 'lv_tags="lockerd.snapshot=next"' raid`,
      );
      if (stdout.trim() !== '') await vm.shell(`lvremove -qqy raid/${stdout.trim()}`);
    });

    test.each(points(13))('restore-locker, at program %i', async (at) => {
      const name = 'kill2';
      await killed(at, { verb: 'restore-locker', locker, snapshot: 'good', name, creator: '0' });
      expect(await isThere(name)).toBe(await isDefined(name));
      if (await isThere(name)) expect(await words(name)).toBe('kept');
      await expectKept();
      await remove(name);
    });

    test.each(points(6))('grow-locker, at program %i', async (at) => {
      await killed(at, { verb: 'grow-locker', locker, size: '+4194304' });
      await expectKept();
      // As large as its volume, but for what the file system needs itself.
      const { stdout } = await vm.shell(
        `blockdev --getsize64 /dev/raid/locker-${locker}; dumpe2fs -h /dev/raid/locker-${locker} 2>&1 |
          awk -F: '/^Block count|^Block size/ { print $2 }'`,
      );
      const [volume = 0, count = 0, size = 0] = stdout.trim().split(/\s+/).map(Number);
      expect(count * size).toBe(volume);
    });

    test.each(points(6))('rename-locker, at program %i', async (at) => {
      const name = 'kill3';
      await killed(at, { verb: 'rename-locker', locker, name });
      const after = (await isDefined(name)) ? name : locker;
      expect([await isThere(name), await isThere(locker)]).toEqual([
        after === name,
        after !== name,
      ]);
      await expectKept(after);
      if (after === name) await done({ verb: 'rename-locker', locker: name, name: locker });
    });

    test.each(points(5))('forget-locker, at program %i', async (at) => {
      await killed(at, { verb: 'forget-locker', locker });
      expect(await isThere(locker)).toBe(true);
      await expectClean();
      if (!(await isDefined(locker))) {
        await vm.shell(
          `mount /dev/raid/locker-${locker} /mnt; cat /mnt/words | grep -x kept; umount /mnt`,
        );
        // As an admin would define it again.
        await vm.shell(`printf '[Unit]\\nDescription=again\\n[Mount]\\nWhat=/dev/raid/locker-${locker}\\nWhere=/lockers/${locker}\\nType=ext4\\nOptions=nosuid,nodev\\n[X-Lockerd]\\nStore=${store}\\nCreator=0\\n[Install]\\nWantedBy=local-fs.target\\n' > /etc/systemd/system/lockers-${locker}.mount
          systemctl daemon-reload; systemctl enable --now lockers-${locker}.mount`);
      }
      await expectKept();
    });

    test.each(points(4))('destroy-locker of a snapshot, at program %i', async (at) => {
      await killed(at, { verb: 'destroy-locker', locker, store, snapshot: 'good' });
      await expectKept();
      await vm.shell(
        `lvs -S 'lv_tags="lockerd.snapshot=good"' --noheadings raid | grep -q . || ask '${JSON.stringify(
          { verb: 'snapshot-locker', locker, snapshot: 'good', freeze: false },
        )}'`,
        { timeoutMs: 180_000 },
      );
    });
  });
});

describe('a power cut', () => {
  test.each(Array.from({ length: cuts }, (_, index) => [3, 6, 10][index % 3] ?? 3))(
    'while program %i of create-locker runs leaves nothing, or all',
    async (at) => {
      const value = JSON.stringify(newLocker('thick', 'cut', 48));
      await vm.shell(
        `systemd-run --quiet --unit=cut kill-at ${at} '${value}' /run/now; until test -e /run/now; do sleep 0.05; done`,
        { timeoutMs: 300_000 },
      );
      await vm.crash();
      await vm.boot();
      await untilRecovered();
      expect(await vm.exists('/dev/raid/locker-cut')).toBe(
        await vm.exists('/etc/systemd/system/lockers-cut.mount'),
      );
      expect(await words('kill')).toBe('kept');
      await expectClean();
    },
  );
});

test(`${cycles} lockers that are made, forgotten and destroyed leave nothing`, async () => {
  const steps = [
    newLocker('thick', 'again', 16),
    { verb: 'forget-locker', locker: 'again' },
    { verb: 'destroy-locker', locker: 'again', store: 'thick' },
  ].map((value) => `ask '${JSON.stringify(value)}' | tail -n 1 | grep -q '"ok":true'`);
  for (let cycle = 0; cycle < cycles; cycle++) {
    await vm.shell(steps.join('\n'), { timeoutMs: 300_000 });
  }
  await expectClean();
  await vm.waitFor('systemd has forgotten it', async () => {
    const units =
      "systemctl list-units --all --plain --no-legend '*again*'; ls /dev/mapper | grep again";
    return (await vm.run('sh', ['-c', units], { reject: false })).stdout === '';
  });
});

// Lockers on btrfs, which the machine's own kernel has: what takes minutes on a virtual machine takes seconds here.

import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { orderAt, untilStopped } from '../machines/kill-points.ts';
import { gibibyte, LockerUsers, tellStory } from '../machines/locker-story.ts';
import { cycle, describeKills } from '../machines/store-kills.ts';
import {
  answer,
  done,
  expectClean,
  kinds,
  mebibyte,
  newLocker,
  prepareStores,
} from '../machines/stores.ts';
import { systemctl } from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';
import { ensureToolsImage } from './image.mjs';

vi.setConfig({ testTimeout: 900_000, hookTimeout: 900_000 });

/** How often a locker is made, forgotten and destroyed. */
const cycles = Number(process.env['LOCKERD_TEST_CYCLES'] ?? 10);

const settings = `
default-store = tree
[store tree]
type = btrfs
path = /srv/tree
definition = fstab
max-size = 4G
[store bare]
type = btrfs
path = /srv
[store ext]
type = directory
path = /srv/tree
[store wrong]
type = zfs
`;

let host: Host;
const users = new LockerUsers(() => host);
beforeAll(async () => {
  host = await bootHost({ name: 'stores', boot: false, image: await ensureToolsImage() });
  // It has no keys here.
  fs.symlinkSync('/dev/null', `${host.root}/etc/systemd/system/ssh.service`);
  await host.boot();
  await host.shell(`
    test -c /dev/loop-control || mknod /dev/loop-control c 10 237
    for n in $(seq 0 63); do test -b /dev/loop$n || mknod /dev/loop$n b 7 $n; done
    truncate -s 3G /srv/tree.img
    mkfs.btrfs -q /srv/tree.img
    mkdir -p /srv/tree
    mount -o loop /srv/tree.img /srv/tree`);
  await users.prepare(['tree']);
  await prepareStores(host, settings);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

describe('a user has a locker', () => {
  beforeAll(() => users.start());
  tellStory(() => host, users, {
    ...{ store: 'tree', size: 1024 * mebibyte, by: 256 * mebibyte, fileSystem: 'btrfs' },
    withRefusals: true,
    place: (locker) => `/srv/tree/${locker}`,
  });
  afterAll(async () => {
    // What is left of the story is root's to destroy; and its service would answer for what is killed below.
    for (const [locker, snapshot] of [['ann-tree.2'], ['ann-tree', 'before'], ['ann-tree']]) {
      const what = { locker, store: 'tree', ...(snapshot === undefined ? {} : { snapshot }) };
      await done(host, { verb: 'destroy-locker', ...what });
    }
    await host.shell('systemctl stop lxc@ann-web lockerd.service');
    await expectClean(host);
  });
});

describe('what cannot be is refused over D-Bus with the reason', () => {
  beforeAll(() => systemctl(host, 'start', 'lockerd.service'));
  afterAll(() => host.shell('systemctl stop lockerd.service'));

  const create = (name: string, size: number, store = 'tree') =>
    ['root', 'CreateLocker', [name, size], ['store', 's', store]] as const;
  const small = 16 * mebibyte;
  const names = ['a b', '../x', '-x', '.x', 'x/y', 'é', 'x\nx', '', 'x'.repeat(64)];

  test.each(names)('a locker named %j', async (name) => {
    await users.fails(create(name, small), 'InvalidArgs', /a new locker cannot be named/);
  });

  test.each([
    ['no size', create('x', 0), 'InvalidArgs', /1 byte or more/],
    ['a size below that of a locker', create('x', 4096), 'InvalidArgs', /too few for locker "x"/],
    ['more than the store allows', create('x', 5 * gibibyte), 'InvalidArgs', /max-size/],
    ['more than the store has', create('x', 3.5 * gibibyte), 'NoSpace', /in all; ask for less/],
    ['a store that is not in the settings', create('x', small, 'none'), 'NoSuchStore', /no store/],
    ['a store that is set wrongly', create('x', small, 'wrong'), 'Failed', /type="zfs"/],
    ['a store on no mount', create('x', small, 'bare'), 'Failed', /is not mounted; mount it/],
    [
      'a store of another type',
      create('x', small, 'ext'),
      'Failed',
      /is \w+, and neither ext4 nor/,
    ],
  ] as const)('%s', async (_, request, error, message) => {
    await users.fails(request, error, message);
  });

  test('of a locker that is there, another size, name and snapshot', async () => {
    await users.does(...create('there', small));
    const cases = [
      [create('there', small), 'LockerExists', /there is a locker "there" already/],
      [['root', 'GrowLocker', ['there', small / 2]], 'InvalidArgs', /lockers only grow/],
      [['root', 'RenameLocker', ['there', 'a b']], 'InvalidArgs', /cannot be named "a b"/],
      [['root', 'SnapshotLocker', ['there', 'a/b']], 'InvalidArgs', /cannot be named "a\/b"/],
      [['root', 'RestoreLocker', ['there', 'none', 'x']], 'NoSuchSnapshot', /no snapshot "none"/],
      [['root', 'ForgetLocker', ['none']], 'NoSuchLocker', /no locker "none"/],
      [['root', 'AdoptLocker', ['there']], 'LockerExists', /already/],
      [['root', 'AdoptLocker', ['none']], 'NoSuchLocker', /no store has a locker "none"/],
    ] as const;
    for (const [request, error, message] of cases) await users.fails(request, error, message);
  });

  test('what is on the store and no locker is not taken back', async () => {
    await host.shell('mkdir /srv/tree/plain; btrfs -q subvolume create /srv/tree/sub');
    for (const name of ['plain', 'sub']) {
      await users.fails(['root', 'AdoptLocker', [name]], 'NoSuchLocker', /no store has a locker/);
      const adopt = { verb: 'adopt-locker', locker: name, store: 'tree', creator: '0' };
      expect(await answer(host, adopt)).toMatchObject({ ok: false, error: 'NoSuchLocker' });
    }
    await host.shell('rmdir /srv/tree/plain; btrfs -q subvolume delete /srv/tree/sub');
  });

  test('a full store, and one that vanishes', async () => {
    // Whatever it is full of, a locker may fill up no more; making one needs none of its bytes.
    await users.does('root', 'ForgetLocker', ['there']);
    await host.shell('umount /srv/tree');
    await users.fails(['root', 'AdoptLocker', ['there']], 'NoSuchLocker', /no store has/);
    await users.fails(create('x', small), 'Failed', /is not there: .*is not mounted/);
    await users.fails(
      ['root', 'AdoptLocker', ['there'], ['store', 's', 'tree']],
      'Failed',
      /is not mounted/,
    );
    await host.shell('mount -o loop /srv/tree.img /srv/tree');
    await users.does('root', 'AdoptLocker', ['there']);
    await done(host, { verb: 'destroy-locker', locker: 'there', store: 'tree' });
    await expectClean(host);
  });
});

describeKills(() => host, kinds.tree, { kills: 3 });

test(`${cycles} lockers that are made, forgotten and destroyed leave nothing`, async () => {
  await cycle(host, kinds.tree, cycles);
});

test('a change waits for its own locker, and for no other one', async () => {
  await done(host, newLocker(kinds.tree, 'one'));
  const copy = { verb: 'snapshot-locker', locker: 'one', snapshot: 'slow', freeze: false };
  await host.shell(`${orderAt(10, 'stop')}
    systemd-run --quiet --unit=slow sh -c "ask '${JSON.stringify(copy).replaceAll('"', '\\"')}' > /run/slow"
    ${untilStopped}`);
  await done(host, newLocker(kinds.tree, 'two'));
  await done(host, { verb: 'forget-locker', locker: 'two' });
  await done(host, { verb: 'destroy-locker', locker: 'two', store: 'tree' });
  const waits = await host.shell(`
    systemd-run --quiet --unit=waits sh -c "ask '{\\"verb\\":\\"forget-locker\\",\\"locker\\":\\"one\\"}' > /run/waits"
    sleep 1; test ! -s /run/waits && echo waits
    pkill --signal CONT -f -- '--stores --peer'
    until test -s /run/waits && grep -q ok /run/slow; do sleep 0.1; done
    cat /run/waits`);
  expect(waits.stdout).toMatch(/^waits\n/);
  expect(waits.stdout).toContain('"ok":true');
  await done(host, { verb: 'destroy-locker', locker: 'one', store: 'tree', snapshot: 'slow' });
  await done(host, { verb: 'destroy-locker', locker: 'one', store: 'tree' });
  expect(await answer(host, { verb: 'forget-locker', locker: 'one' })).toMatchObject({
    error: 'NoSuchLocker',
  });
  const locks = await host.shell('ls -A /run/lockerd/stores/lockers');
  expect(locks.stdout).not.toMatch(/^(?:one|two)$/m);
  await expectClean(host);
});

// The life of a locker, as an ordinary user has it by the example rule, in the stores that need a kernel of their
// own; that on btrfs is in test/host.

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { gibibyte, LockerUsers, tellStory, type Story } from '../machines/locker-story.ts';
import { runAs } from '../machines/service.ts';
import { done, mebibyte, prepareStores, type Json } from '../machines/stores.ts';
import { activeSince, answerOfGuest, systemctl } from '../machines/support.ts';
import { bootVm, disks, type VirtualHost } from './vm.ts';

vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 3_600_000 });

const settings = `
default-store = thin

[store thin]
type = lvm-thin
volume-group = fast
thin-pool = pool
max-size = 100G

[store thick]
type = lvm
volume-group = fast

[store safe]
type = lvm
volume-group = fast

[store files]
type = directory
path = /srv/files

[store sold]
type = lvm
volume-group = sold
`;

let vm: VirtualHost;
const users = new LockerUsers(() => vm);
beforeAll(async () => {
  vm = await bootVm({ name: 'lockers' });
  await vm.writeFile('/etc/fstab', '/dev/fast/files /srv/files ext4 nofail,prjquota 0 0\n');
  await vm.shell(
    `
    vgcreate -q fast /dev/${disks.data}
    lvcreate -qy --type thin-pool -L 2200M -n pool fast
    lvcreate -qy -L 200M -n files fast
    mkfs.ext4 -q -O project,quota /dev/fast/files
    mkdir -p /srv/files
    mount /srv/files`,
    { timeoutMs: 300_000 },
  );
  // The bus would wait for them for 25 seconds only, and systemd for 90, which emulation may need.
  await vm.writeFile(
    '/etc/systemd/system/lockerd.service.d/slow.conf',
    '[Service]\nTimeoutStartSec=900\n',
  );
  await users.prepare(['thin', 'thick', 'safe', 'files']);
  await systemctl(vm, 'daemon-reload');
  await prepareStores(vm, settings);
  await users.start();
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

const volumeOf = (locker: string): string => `/dev/fast/locker-${locker}`;
// What is refused is the same in each store, and told in test/host.
const small = {
  ...{ size: 48 * mebibyte, by: 16 * mebibyte, place: volumeOf },
  ...{ fileSystem: 'ext2/ext3', withRefusals: false },
};
const stories: readonly Story[] = [
  { ...small, store: 'thin', size: gibibyte, by: 256 * mebibyte },
  { ...small, store: 'safe', encrypt: 'key-file' },
  { ...small, store: 'files', place: (locker) => `/srv/files/${locker}` },
  { ...small, store: 'thick' },
];
/** Some minutes each under emulation; by default those that differ most. */
const told = process.env['LOCKERD_TEST_STORES'] ?? 'thin safe';

describe.each(stories.filter(({ store }) => told.split(' ').includes(store)))(
  'a user has a locker of the store $store',
  (story) => {
    tellStory(() => vm, users, story);

    test('root alone destroys it', async () => {
      const { store, place } = story;
      const name = `ann-${store}`;
      if (store === 'files') {
        // Of directories lockerd destroys only what is empty.
        await vm.shell(`rm -r /srv/files/.snapshots /srv/files/${name}.2 /srv/files/${name}`);
        return;
      }
      const destroy = (more: Json) => done(vm, { verb: 'destroy-locker', store, ...more });
      if (store === 'thin') {
        const args = ['destroy-locker', '--yes', `${name}.2`, `${name}.2`];
        expect((await runAs(vm, 'ann', 'lockerctl', ...args)).exitCode).toBe(4);
      }
      await destroy({ locker: `${name}.2` });
      expect(await vm.exists(place(`${name}.2`))).toBe(false);
      await destroy({ locker: name, snapshot: 'before' });
      await destroy({ locker: name });
      expect(await vm.exists(place(name))).toBe(false);
    });
  },
);

test('what cannot be is refused with the reason', async () => {
  const create = (store: string, name: string, size: number) =>
    ['root', 'CreateLocker', [name, size], ['store', 's', store]] as const;
  await users.fails(create('sold', 'x', small.size), 'Failed', /no volume group "sold"/);
  await users.fails(create('thick', 'x', 100 * gibibyte), 'NoSpace', /vgextend/);
  await users.fails(create('thin', 'x', 101 * gibibyte), 'InvalidArgs', /max-size/);
  await users.fails(create('thin', 'x', 3 * gibibyte), 'NoSpace', /in all; ask for less/);
  await users.fails(create('thick', 'x_tdata', small.size), 'InvalidArgs', /LVM keeps/);
  await users.fails(create('thick', 'x', mebibyte), 'InvalidArgs', /too few for ext4/);
});

test('a copy that its store has no space for is refused, and what is left of it is told', async () => {
  await users.does('root', 'CreateLocker', ['whole', 8 * mebibyte], ['store', 's', 'files']);
  await vm.shell(`dd if=/dev/urandom of=/lockers/whole/data bs=1M count=4
    dd if=/dev/zero of=/srv/files/zeros bs=1M || true
    truncate -s -1M /srv/files/zeros
    sync`);
  const left =
    /store "files" is full: .*; to remove it: rm -r --one-file-system -- \/srv\/files\/\S+/s;
  await users.fails(['root', 'SnapshotLocker', ['whole', 'x']], 'NoSpace', left);
  await vm.shell('rm -r /srv/files/.snapshots /srv/files/zeros /lockers/whole/data');
  await done(vm, { verb: 'destroy-locker', locker: 'whole', store: 'files' });
});

test('after a reboot a locker is there before the container that has it', async () => {
  await users.does('ann', 'CreateLocker', ['ann-music', small.size], ['store', 's', 'thick']);
  await vm.shell('echo second > /lockers/ann-music/word');
  await vm.writeFile('/etc/lockerd/containers/ann-web.conf', 'lockers = ann-music\n');
  await vm.shell('echo lxc.start.auto = 1 >> /var/lib/lxc/ann-web/config');
  await vm.reboot();
  await vm.waitForGuest('ann-web');
  expect(await answerOfGuest(vm, 'ann-web', 'cat /lockers/ann-music/word')).toBe('second\n0\n');
  const mounted = await activeSince(vm, 'lockers-ann\\x2dmusic.mount');
  expect(mounted).toBeLessThan(await activeSince(vm, 'lxc@ann-web'));
});

// Lockers on btrfs, which the machine's own kernel has: what takes minutes on a virtual machine takes seconds here.

import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { orderAt, untilStopped } from '../machines/kill-points.ts';
import { LockerUsers, mebibyte, tellStory } from '../machines/locker-story.ts';
import { cycle, describeKills } from '../machines/store-kills.ts';
import { answer, done, expectClean, kinds, newLocker, prepareStores } from '../machines/stores.ts';
import { bootHost, type Host } from './host.ts';
import { ensureToolsImage } from './image.mjs';

vi.setConfig({ testTimeout: 900_000, hookTimeout: 900_000 });

/** At how many steps each change is killed; the more, the nearer to all that it has. */
const kills = Number(process.env['LOCKERD_TEST_KILLS'] ?? 3);
/** How often a locker is made, forgotten and destroyed. */
const cycles = Number(process.env['LOCKERD_TEST_CYCLES'] ?? 10);

const settings = `
default-store = tree
[store tree]
type = btrfs
path = /srv/tree
definition = fstab
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

describeKills(() => host, kinds.tree, { kills });

test(`${cycles} lockers that are made, forgotten and destroyed leave nothing`, async () => {
  await cycle(host, kinds.tree, cycles);
});

test('a change waits for no other locker, and says for what it waits', async () => {
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
  await expectClean(host);
});

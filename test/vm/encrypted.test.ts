// Lockers that lockerd encrypts. What containers do with encrypted volumes of others is in crypt.test.ts.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { untilRecovered } from '../machines/kill-points.ts';
import { describeKills } from '../machines/store-kills.ts';
import {
  answer,
  done,
  expectClean,
  kinds,
  newLocker,
  prepareStores,
  type Json,
} from '../machines/stores.ts';
import { systemctl } from '../machines/support.ts';
import { bootVm, disks, type VirtualHost } from './vm.ts';

// Emulation is slow: each request is a start of Node, and deriving a key from a passphrase takes seconds.
vi.setConfig({ testTimeout: 7_200_000, hookTimeout: 3_600_000 });

const settings = '[store thick]\ntype = lvm\nvolume-group = raid\n';
const keys = '/etc/lockerd/keys';

/**
 * Answers whatever systemd asks, each with the next line of a file; "-" refuses to answer. It starts few programs,
 * for whatever it computes the others wait for.
 */
const answering = `#!/bin/sh
exec 3</run/answers
while read -r answer <&3; do
    ask=
    until [ -e "$ask" ]; do
        sleep 1
        for ask in /run/systemd/ask-password/ask.*; do break; done
    done
    socket=$(sed -n 's/^Socket=//p' "$ask")
    if [ "$answer" = - ]; then yes=0; else yes=1; fi
    printf %s "$answer" | /usr/lib/systemd/systemd-reply-password $yes "$socket"
    while [ -e "$ask" ]; do sleep 1; done
done
`;

let vm: VirtualHost;
beforeAll(async () => {
  vm = await bootVm({ name: 'encrypted' });
  await vm.writeFile('/usr/local/sbin/answer', answering, 0o755);
  await vm.shell(`vgcreate -q raid /dev/${disks.data}`, { timeoutMs: 300_000 });
  await prepareStores(vm, settings);
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

const lines = async (command: string): Promise<string[]> =>
  (await vm.run('sh', ['-c', command])).stdout.split('\n').filter(Boolean);

const uuidOf = async (locker: string): Promise<string> =>
  (await lines(`cryptsetup luksUUID /dev/raid/locker-${locker}`))[0] ?? '';

/** All that a locker may leave: volumes, open devices, lines of crypttab, keys, units. */
const traces = (): Promise<string[]> =>
  lines(`
    lvs --noheadings -o name raid
    ls /dev/mapper | grep ^locker-
    grep ^locker- /etc/crypttab
    ls -A ${keys}
    ls -A /var/lib/lockerd/changes
    ls /etc/systemd/system | grep ^lockers-
    true`);

/** From here on somebody answers with these words. */
async function answers(...words: string[]): Promise<void> {
  await vm.writeFile('/run/answers', `${words.join('\n')}\n`);
  await vm.run('systemctl', ['stop', 'answer.service'], { reject: false });
  await vm.shell('systemd-run --quiet --collect --unit=answer /usr/local/sbin/answer');
}

const store = 'thick';
const request = (verb: string, locker: string, more: Json = {}): Json => ({
  verb,
  locker,
  ...more,
});
const asking = (locker: string): Json => ({
  ...newLocker(kinds.safe, locker),
  encrypt: 'passphrase',
});

async function destroy(locker: string): Promise<void> {
  await done(vm, request('destroy-locker', locker, { store }));
}

test('one with a key file is made, grows, and is opened by its key alone', async () => {
  await done(vm, newLocker(kinds.safe, 'one'));
  expect(await lines('findmnt -no SOURCE,FSTYPE /lockers/one')).toEqual([
    expect.stringMatching(/^\/dev\/mapper\/locker-one\s+ext4$/),
  ]);
  const key = `${keys}/${await uuidOf('one')}.key`;
  expect(await lines(`stat -c '%U %a %s' ${keys} ${key} | cut -d ' ' -f 1-2`)).toEqual([
    'root 700',
    'root 600',
  ]);
  expect(await lines('grep ^locker-one /etc/crypttab')).toEqual([
    `locker-one /dev/raid/locker-one ${key} luks,noauto,nofail`,
  ]);
  await vm.shell('echo plaintext-of-the-guest >/lockers/one/word; sync');
  expect(await lines('grep -c plaintext-of-the-guest /dev/raid/locker-one; true')).toEqual(['0']);
  await done(vm, request('grow-locker', 'one', { size: `+${24 * 2 ** 20}` }));
  const [blocks] = await lines('blockdev --getsize64 /dev/mapper/locker-one');
  expect(Number(blocks)).toBeGreaterThan(48 * 2 ** 20);
  const [size] = await lines('df --output=size -B 1M /lockers/one | tail -n 1');
  expect(Number(size)).toBeGreaterThan(44);
});

test('a copy has a key and a UUID of its own, and a rename keeps both', async () => {
  await done(vm, request('snapshot-locker', 'one', { snapshot: 'before', freeze: false }));
  await vm.shell('echo later >/lockers/one/word');
  const copy = { snapshot: 'before', name: 'two', creator: '0' };
  await done(vm, request('restore-locker', 'one', copy));
  const uuid = await uuidOf('two');
  expect(uuid).not.toBe(await uuidOf('one'));
  expect(await vm.exists(`${keys}/${uuid}.key`)).toBe(true);
  await done(vm, request('rename-locker', 'two', { name: 'three-3' }));
  expect(await uuidOf('three-3')).toBe(uuid);
  expect(await lines('cat /lockers/three-3/word /lockers/one/word')).toEqual([
    'plaintext-of-the-guest',
    'later',
  ]);
  expect(await vm.exists('/dev/mapper/locker-two')).toBe(false);
  expect(await lines('grep -c ^locker-two /etc/crypttab; true')).toEqual(['0']);
});

test('one that is forgotten keeps its key, is taken back with it, and goes with it', async () => {
  const key = `${keys}/${await uuidOf('three-3')}.key`;
  const { place } = await done(vm, request('forget-locker', 'three-3'));
  expect(place).toContain(key);
  expect(await vm.exists('/dev/mapper/locker-three-3')).toBe(false);
  expect(await lines('grep -c three-3 /etc/crypttab; true')).toEqual(['0']);
  expect(await vm.exists(key)).toBe(true);
  await done(vm, request('adopt-locker', 'three-3', { store, creator: '0' }));
  expect(await lines('cat /lockers/three-3/word')).toEqual(['plaintext-of-the-guest']);
  expect(await lines('grep ^locker-three-3 /etc/crypttab')).toEqual([
    `locker-three-3 /dev/raid/locker-three-3 ${key} luks,noauto,nofail`,
  ]);
  await destroy('three-3');
  expect(await vm.exists(key)).toBe(false);
});

test('the boot opens and mounts it, after the power was cut while another one was made', async () => {
  const value = JSON.stringify(newLocker(kinds.safe, 'cut')).replaceAll('"', '\\"');
  await vm.shell(
    `printf '#!/bin/sh\\n: > /run/making; exec sleep 600\\n' > /run/mkfs
    chmod 755 /run/mkfs
    mount --bind /run/mkfs /usr/sbin/mkfs.ext4
    systemd-run --quiet sh -c "ask '${value}'"
    until test -e /run/making; do sleep 0.1; done`,
    { timeoutMs: 300_000 },
  );
  await vm.crash();
  await vm.boot();
  await vm.waitFor('it is mounted', async () => {
    return (await vm.unit('lockers-one.mount'))['ActiveState'] === 'active';
  });
  expect(await lines('cat /lockers/one/word')).toEqual(['later']);
  await vm.shell(untilRecovered, { timeoutMs: 300_000 });
  expect((await traces()).filter((trace) => trace.includes('cut'))).toEqual([]);
  await systemctl(vm, 'start', 'lockerd-stores.socket');
  await done(vm, request('destroy-locker', 'one', { store, snapshot: 'before' }));
  await destroy('one');
  expect(await traces()).toEqual([]);
});

test("an admin's line of the same name is left alone", async () => {
  const own = 'locker-own /dev/raid/none /etc/secret noauto\n';
  await vm.shell(
    `touch /etc/crypttab; cp /etc/crypttab /run/crypttab; printf '${own}' >>/etc/crypttab`,
  );
  const got = await answer(vm, newLocker(kinds.safe, 'own'));
  expect(got).toMatchObject({ ok: false, error: 'LockerExists' });
  expect(got['message']).toContain('/etc/crypttab has a line "locker-own" already');
  expect(await vm.readFile('/etc/crypttab')).toContain(own);
  await vm.shell('cat /run/crypttab >/etc/crypttab');
  expect(await traces()).toEqual([]);
});

test('a passphrase is asked for on the host, and a second time when it is mounted', async () => {
  await answers('open sesame', 'open sesame', 'open sesame', 'open sesame', 'open sesame');
  await done(vm, asking('asked'));
  expect(await lines('grep ^locker-asked /etc/crypttab')).toEqual([
    'locker-asked /dev/raid/locker-asked none luks,noauto,nofail',
  ]);
  await vm.shell('echo kept >/lockers/asked/word');
  await done(vm, request('grow-locker', 'asked', { size: `+${24 * 2 ** 20}` }));
  await done(vm, request('forget-locker', 'asked'));
  expect(await vm.exists('/dev/mapper/locker-asked')).toBe(false);
  await done(vm, request('adopt-locker', 'asked', { store, creator: '0' }));
  expect(await lines('cat /lockers/asked/word')).toEqual(['kept']);
  expect(await lines(`ls -A ${keys}`)).toEqual([]);
  await destroy('asked');
  expect(await traces()).toEqual([]);
});

test('where nobody answers, or somebody mistypes, nothing is made', async () => {
  await answers('-');
  const refused = await answer(vm, asking('asked'));
  expect(refused).toMatchObject({ ok: false, error: 'TimedOut' });
  expect(refused['message']).toContain('nobody has entered the passphrase');
  expect(await traces()).toEqual([]);
  // Words of their own: for 150 seconds the kernel's keyring keeps what was entered for a mount, and systemd
  // tries that before it asks.
  await answers('many words', 'many wrods', '-', '-', '-');
  expect(await answer(vm, asking('asked'))).toMatchObject({ ok: false, error: 'Failed' });
  expect(await traces()).toEqual([]);
});

test('a helper that is killed while the passphrase is waited for leaves nothing', async () => {
  await vm.run('systemctl', ['stop', 'answer.service'], { reject: false });
  const value = JSON.stringify(asking('killed')).replaceAll('"', '\\"');
  await vm.shell(
    `systemd-run --quiet sh -c "ask '${value}'"
    until ls /run/systemd/ask-password/ask.* >/dev/null 2>&1; do sleep 0.2; done
    systemctl kill --signal=KILL 'lockerd-stores@*.service'
    ${untilRecovered}`,
    { timeoutMs: 300_000 },
  );
  expect(await traces()).toEqual([]);
});

describeKills(() => vm, kinds.safe, {
  kills: 1,
  verbs: ['create'],
});

test('in the end nothing is left', async () => {
  await done(vm, request('destroy-locker', 'kept', { store, snapshot: 'good' }));
  await destroy('kept');
  expect(await traces()).toEqual([]);
  await expectClean(vm);
});

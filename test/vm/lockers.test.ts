// The life of a locker, as an ordinary user has it by the example rule, from its birth to its end.

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage, runAs } from '../machines/service.ts';
import { activeSince, answerOfGuest, lockersSeenBy, offline, systemctl } from '../machines/support.ts';
import { bootVm, disks, type VirtualHost } from './vm.ts';

// Each program in Node takes seconds to start under emulation.
vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 3_600_000 });

const rule = path.resolve(import.meta.dirname, '../../src/examples/rules/60-lockers.rules');

const settings = `
default-store = users

[store users]
type = lvm-thin
volume-group = fast
thin-pool = pool
max-size = 100G

[store thick]
type = lvm
volume-group = fast
filesystem = ext4
`;

const mebibyte = 2 ** 20;

let vm: VirtualHost;
beforeAll(async () => {
  vm = await bootVm({ name: 'lockers' });
  await vm.createContainer('ann-web', 'busybox', { config: offline });
  await vm.shell(`
    groupadd lockers
    useradd --no-create-home --groups lockers ann
    useradd --no-create-home stranger
    vgcreate -q fast /dev/${disks.data}
    lvcreate -qy --type thin-pool -L 3G -n pool fast`);
  await vm.writeFile('/etc/lockerd/lockerd.conf', settings);
  await vm.writeFile('/etc/polkit-1/rules.d/60-lockers.rules', fs.readFileSync(rule, 'utf8'));
  await configurePackage(vm);
  // The bus would wait for them for 25 seconds only, which emulation may need.
  await systemctl(vm, 'start', 'polkit.service', 'lockerd.service', 'lxc@ann-web');
  await vm.waitForGuest('ann-web');
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

const lockerctl = (user: string, ...args: string[]) => runAs(vm, user, 'lockerctl', ...args);

async function must(user: string, ...args: string[]): Promise<string> {
  const { exitCode, output } = await lockerctl(user, ...args);
  if (exitCode !== 0) throw new Error(`lockerctl ${args.join(' ')}: ${exitCode}: ${output}`);
  return output;
}

async function refused(user: string, ...args: string[]): Promise<void> {
  const { exitCode, output } = await lockerctl(user, ...args);
  expect({ args, exitCode, output }).toMatchObject({
    exitCode: 4,
    output: expect.stringMatching(/polkit does not allow you|takes a password/) as string,
  });
}

interface LockerJson {
  readonly locker: string;
  readonly mounted: boolean;
  readonly size: number;
  readonly used: number;
  readonly store: string;
  readonly health: string;
  readonly creator: number;
  readonly snapshots: readonly string[];
}

async function lockers(): Promise<LockerJson[]> {
  return JSON.parse(await must('ann', '--json=short', 'lockers')) as LockerJson[];
}

async function locker(name: string): Promise<LockerJson | undefined> {
  return (await lockers()).find((one) => one.locker === name);
}

const answer = (command: string) => answerOfGuest(vm, 'ann-web', command);

test('without the rule nothing is allowed, and nothing is done', async () => {
  await refused('stranger', 'create-locker', 'stranger-a', '64M');
  await refused('ann', 'create-locker', 'bob-a', '64M');
  await refused('ann', 'create-locker', 'ann-a', '21G');
  await refused('ann', 'create-locker', '--store=thick', 'ann-a', '64M');
  expect(await lockers()).toEqual([]);
  expect((await vm.run('lvs', ['--noheadings', '-o', 'name', 'fast'])).stdout.trim()).toBe('pool');
});

test('a locker is made, attached and filled', async () => {
  expect(await must('ann', 'create-locker', 'ann-music', '1G')).toContain('ann-music: created, 1G');
  const uid = Number((await vm.run('id', ['-u', 'ann'])).stdout);
  expect(await locker('ann-music')).toMatchObject({
    ...{ mounted: true, size: 1024 * mebibyte, store: 'users', creator: uid, health: 'good' },
  });
  await must('ann', 'attach', 'ann-web', 'ann-music');
  expect(await lockersSeenBy(vm, 'ann-web')).toEqual(['ann-music']);
  // The locker has no more than 1 GiB, whatever the pool has.
  expect(await answer('dd if=/dev/zero of=/lockers/ann-music/fill bs=1M 2>&1')).toContain(
    'No space left',
  );
  expect(await locker('ann-music')).toMatchObject({ health: 'nearly-full' });
});

test('it grows while the guest writes', async () => {
  const write = 'dd if=/dev/zero of=/lockers/ann-music/more bs=1M count=128 conv=notrunc,fsync';
  const writer = `sh -c "until ${write}; do sleep 1; done; : > /lockers/ann-music/done"`;
  expect(await answer(`${writer} >/dev/null 2>&1 </dev/null & echo begun`)).toContain('begun');
  await refused('stranger', 'grow-locker', 'ann-music', '+256M');
  await refused('ann', 'grow-locker', 'ann-music', '21G');
  expect(await vm.exists('/lockers/ann-music/done')).toBe(false);
  expect(await must('ann', 'grow-locker', 'ann-music', '+256M')).toContain('grown to 1.3G');
  await vm.waitFor('the guest has written all', () => vm.exists('/lockers/ann-music/done'));
  expect((await vm.run('stat', ['-c', '%s', '/lockers/ann-music/more'])).stdout.trim()).toBe(
    String(128 * mebibyte),
  );
  const smaller = await lockerctl('ann', 'grow-locker', 'ann-music', '1G');
  expect({ ...smaller }).toMatchObject({ exitCode: 2 });
  expect(smaller.output).toContain('lockers only grow');
});

test('what a snapshot kept comes back as another locker', async () => {
  await answer('rm /lockers/ann-music/fill; echo first > /lockers/ann-music/word; sync');
  await refused('stranger', 'snapshot-locker', 'ann-music', 'before');
  expect(await must('ann', 'snapshot-locker', 'ann-music', 'before')).toContain('snapshot before');
  await answer('echo second > /lockers/ann-music/word');
  expect(await must('ann', '--quiet', 'snapshots', 'ann-music')).toBe('before\n');
  expect(await locker('ann-music')).toMatchObject({ snapshots: ['before'] });
  await refused('stranger', 'restore-locker', 'ann-music', 'before', 'ann-copy');
  await refused('ann', 'restore-locker', 'ann-music', 'before', 'bob-copy');
  await must('ann', 'restore-locker', 'ann-music', 'before', 'ann-copy');
  await must('ann', 'attach', 'ann-web', 'ann-copy');
  expect(await answer('cat /lockers/ann-copy/word /lockers/ann-music/word')).toBe(
    'first\nsecond\n0\n',
  );
});

test('the rule bounds how many a user has', async () => {
  await must('ann', 'create-locker', 'ann-3', '32M');
  await must('ann', 'create-locker', 'ann-4', '32M');
  await refused('ann', 'create-locker', 'ann-5', '32M');
  await refused('ann', 'restore-locker', 'ann-music', 'before', 'ann-5');
  const permissions = JSON.parse(await must('ann', '--json=short', 'permissions')) as object;
  expect(permissions).toMatchObject({ 'org.lockerd1.create-locker': 'challenge' });
  await must('ann', 'rename-locker', 'ann-4', 'ann-four');
  expect((await lockers()).map(({ locker: name }) => name)).toEqual([
    ...['ann-3', 'ann-copy', 'ann-four', 'ann-music'],
  ]);
});

test('after a reboot it is there before the container that has it', async () => {
  await vm.writeFile('/etc/lockerd/containers/ann-web.conf', 'lockers = ann-music\n');
  await vm.shell('echo lxc.start.auto = 1 >> /var/lib/lxc/ann-web/config');
  await vm.reboot();
  await vm.waitForGuest('ann-web');
  expect(await answer('cat /lockers/ann-music/word')).toBe('second\n0\n');
  const [mounted, started] = await Promise.all([
    activeSince(vm, 'lockers-ann\\x2dmusic.mount'),
    activeSince(vm, 'lxc@ann-web'),
  ]);
  expect(mounted).toBeLessThan(started);
  await systemctl(vm, 'start', 'polkit.service', 'lockerd.service');
});

test('it is forgotten when nobody has it, and destroyed by root alone', async () => {
  const busy = await lockerctl('ann', 'forget-locker', 'ann-music');
  expect({ ...busy }).toMatchObject({ exitCode: 1 });
  expect(busy.output).toContain('is attached to');
  await refused('stranger', 'forget-locker', 'ann-copy');
  expect(await must('ann', 'forget-locker', 'ann-copy')).toContain('/dev/fast/locker-ann-copy');
  expect(await locker('ann-copy')).toBeUndefined();
  expect(await vm.exists('/dev/fast/locker-ann-copy')).toBe(true);
  // What was forgotten still takes its place, and counts.
  await refused('ann', 'create-locker', 'ann-5', '32M');
  const destroy = ['destroy-locker', '--yes', 'ann-copy', 'ann-copy'];
  expect((await lockerctl('ann', ...destroy)).exitCode).toBe(4);
  expect((await lockerctl('root', 'destroy-locker', '--yes', 'ann-copy', 'ann-3')).exitCode).toBe(2);
  expect(await must('root', ...destroy)).toContain('ann-copy: destroyed');
  expect(await vm.exists('/dev/fast/locker-ann-copy')).toBe(false);
  await must('ann', 'create-locker', 'ann-5', '32M');
});

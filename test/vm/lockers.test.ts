// The life of a locker, as an ordinary user has it by the example rule, from its birth to its end.

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage, runAs } from '../machines/service.ts';
import {
  activeSince,
  answerOfGuest,
  lockersSeenBy,
  offline,
  systemctl,
} from '../machines/support.ts';
import { bootVm, disks, type VirtualHost } from './vm.ts';

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
`;

const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;

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

/** lockerctl as a user; each program in Node takes many seconds to start under emulation. */
async function lockerctl(user: string, ...args: string[]): Promise<string> {
  const { exitCode, output } = await runAs(vm, user, 'lockerctl', ...args);
  if (exitCode !== 0) throw new Error(`lockerctl ${args.join(' ')}: ${exitCode}: ${output}`);
  return output;
}

/** What methods take behind their names, before the options. */
const signatures = {
  CreateLocker: 'st',
  GrowLocker: 'st',
  RenameLocker: 'ss',
  SnapshotLocker: 'ss',
  RestoreLocker: 'sss',
  ForgetLocker: 's',
  MountLocker: 'ss',
  UnmountLocker: 'ss',
} as const;

/** Calls a method and waits for the end of its job, without a program in Node of the caller's. */
async function call(
  user: string,
  member: keyof typeof signatures,
  args: readonly (string | number)[],
  options: readonly string[] = [],
): Promise<{ exitCode: number; output: string }> {
  const all = ['wait', 'b', 'true', ...options];
  return runAs(
    vm,
    user,
    'busctl',
    ...['--timeout=900', '--allow-interactive-authorization=no', 'call', 'org.lockerd1'],
    ...['/org/lockerd1', 'org.lockerd1.Manager', member, `${signatures[member]}a{sv}`],
    ...[...args.map(String), String(all.length / 3), ...all],
  );
}

async function does(...request: Parameters<typeof call>): Promise<void> {
  const { exitCode, output } = await call(...request);
  if (exitCode !== 0) throw new Error(`${request.join(' ')}: ${output}`);
}

async function isRefused(...request: Parameters<typeof call>): Promise<void> {
  const { exitCode, output } = await call(...request);
  expect({ request, exitCode, output }).toMatchObject({
    exitCode: 1,
    output: expect.stringMatching(/polkit does not allow you|takes a password/) as string,
  });
}

interface LockerJson {
  readonly locker: string;
  readonly [key: string]: unknown;
}

async function lockers(): Promise<LockerJson[]> {
  return JSON.parse(await lockerctl('ann', '--json=short', 'lockers')) as LockerJson[];
}

const answer = (command: string) => answerOfGuest(vm, 'ann-web', command);

test('without the rule, or beyond its bounds, nothing is allowed and nothing is done', async () => {
  await isRefused('stranger', 'CreateLocker', ['stranger-a', 64 * mebibyte]);
  await isRefused('ann', 'CreateLocker', ['bob-a', 64 * mebibyte]);
  await isRefused('ann', 'CreateLocker', ['ann-a', 21 * gibibyte]);
  const thick = ['store', 's', 'thick'];
  await isRefused('ann', 'CreateLocker', ['ann-a', 64 * mebibyte], thick);
  expect((await vm.run('lvs', ['--noheadings', '-o', 'name', 'fast'])).stdout.trim()).toBe('pool');
  expect((await vm.shell('ls -A /lockers /var/lib/lockerd/changes 2>/dev/null || :')).stdout).toBe(
    '',
  );
});

test('a locker of 1 GiB is made, attached and filled', async () => {
  expect(await lockerctl('ann', 'create-locker', 'ann-music', '1G')).toBe(
    'ann-music: created, 1G of store users\n',
  );
  await isRefused('stranger', 'MountLocker', ['ann-web', 'ann-music']);
  await does('ann', 'MountLocker', ['ann-web', 'ann-music']);
  expect(await lockersSeenBy(vm, 'ann-web')).toEqual(['ann-music']);
  // The locker has no more than 1 GiB, whatever its pool has.
  expect(await answer('dd if=/dev/zero of=/lockers/ann-music/fill bs=1M 2>&1')).toContain(
    'No space left',
  );
  const uid = Number((await vm.run('id', ['-u', 'ann'])).stdout);
  expect(await lockers()).toMatchObject([
    {
      ...{ locker: 'ann-music', mounted: true, size: gibibyte, store: 'users', creator: uid },
      ...{ health: 'nearly-full', file_system: 'ext4', snapshots: [] },
      ...{ attached_to: [{ container: 'ann-web', read_only: false }] },
    },
  ]);
});

test('it grows while the guest writes', async () => {
  const write = 'dd if=/dev/zero of=/lockers/ann-music/more bs=1M count=128 conv=notrunc,fsync';
  const writer = `until ${write}; do sleep 1; done; : > /lockers/ann-music/done`;
  expect(await answer(`sh -c "${writer}" >/dev/null 2>&1 </dev/null & echo begun`)).toContain(
    'begun',
  );
  const isDone = () => vm.exists('/lockers/ann-music/done');
  await isRefused('stranger', 'GrowLocker', ['ann-music', 2 * gibibyte]);
  await isRefused('ann', 'GrowLocker', ['ann-music', 21 * gibibyte]);
  expect(await isDone()).toBe(false);
  await does('ann', 'GrowLocker', ['ann-music', 256 * mebibyte], ['by', 'b', 'true']);
  await vm.waitFor('the guest has written all', isDone);
  const { stdout } = await vm.run('stat', ['-c', '%s', '/lockers/ann-music/more']);
  expect(Number(stdout)).toBe(128 * mebibyte);
  const smaller = await call('ann', 'GrowLocker', ['ann-music', gibibyte]);
  expect(smaller.output).toContain('has 1.2G already; lockers only grow');
});

test('what a snapshot kept comes back as another locker', async () => {
  await answer('rm /lockers/ann-music/fill; echo first > /lockers/ann-music/word; sync');
  await isRefused('stranger', 'SnapshotLocker', ['ann-music', 'before']);
  await does('ann', 'SnapshotLocker', ['ann-music', 'before']);
  await answer('echo second > /lockers/ann-music/word');
  expect(await lockerctl('ann', '--quiet', 'snapshots', 'ann-music')).toBe('before\n');
  await isRefused('stranger', 'RestoreLocker', ['ann-music', 'before', 'ann-copy']);
  await isRefused('ann', 'RestoreLocker', ['ann-music', 'before', 'bob-copy']);
  await does('ann', 'RestoreLocker', ['ann-music', 'before', 'ann-copy']);
  await does('ann', 'MountLocker', ['ann-web', 'ann-copy']);
  expect(await answer('cat /lockers/ann-copy/word /lockers/ann-music/word')).toBe(
    'first\nsecond\n0\n',
  );
  await does('ann', 'UnmountLocker', ['ann-web', 'ann-copy']);
});

test('the rule bounds how many a user has, forgotten ones included', async () => {
  await does('ann', 'CreateLocker', ['ann-3', 32 * mebibyte]);
  await does('ann', 'CreateLocker', ['ann-4', 32 * mebibyte]);
  await isRefused('ann', 'CreateLocker', ['ann-5', 32 * mebibyte]);
  await isRefused('ann', 'RestoreLocker', ['ann-music', 'before', 'ann-5']);
  await does('ann', 'RenameLocker', ['ann-4', 'ann-four']);
  await isRefused('stranger', 'ForgetLocker', ['ann-four']);
  await does('ann', 'ForgetLocker', ['ann-four']);
  await isRefused('ann', 'CreateLocker', ['ann-5', 32 * mebibyte]);
  const destroy = ['destroy-locker', '--yes', 'ann-four', 'ann-four'];
  expect((await runAs(vm, 'ann', 'lockerctl', ...destroy)).exitCode).toBe(4);
  expect(await lockerctl('root', ...destroy)).toBe('ann-four: destroyed\n');
  expect((await vm.run('lvs', ['--noheadings', '-o', 'name', 'fast'])).stdout).not.toContain(
    'ann-four',
  );
  await does('ann', 'CreateLocker', ['ann-5', 32 * mebibyte]);
});

test('after a reboot it is there before the container that has it', async () => {
  await vm.writeFile('/etc/lockerd/containers/ann-web.conf', 'lockers = ann-music\n');
  await vm.shell('echo lxc.start.auto = 1 >> /var/lib/lxc/ann-web/config');
  await vm.reboot();
  await vm.waitForGuest('ann-web');
  expect(await answer('cat /lockers/ann-music/word')).toBe('second\n0\n');
  const mounted = await activeSince(vm, 'lockers-ann\\x2dmusic.mount');
  expect(mounted).toBeLessThan(await activeSince(vm, 'lxc@ann-web'));
  await systemctl(vm, 'start', 'polkit.service', 'lockerd.service');
});

test('it is forgotten when nobody has it, and its data stays', async () => {
  const busy = await call('ann', 'ForgetLocker', ['ann-music']);
  expect(busy.output).toContain('locker "ann-music" is attached to container "ann-web"');
  await does('ann', 'UnmountLocker', ['ann-web', 'ann-music']);
  await vm.writeFile('/etc/lockerd/containers/ann-web.conf', '');
  await systemctl(vm, 'daemon-reload');
  await does('ann', 'ForgetLocker', ['ann-music']);
  expect(await lockersSeenBy(vm, 'ann-web')).toEqual([]);
  expect(await vm.exists('/lockers/ann-music')).toBe(false);
  expect(await vm.exists('/etc/systemd/system/lockers-ann\\x2dmusic.mount')).toBe(false);
  expect(await vm.exists('/dev/fast/locker-ann-music')).toBe(true);
  expect((await lockers()).map(({ locker }) => locker)).toEqual(['ann-3', 'ann-5', 'ann-copy']);
});

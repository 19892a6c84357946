// Stores whose tools need a kernel of their own: volumes, thin volumes, and directories with project quotas. What
// users do with them over D-Bus is in lockers.test.ts; btrfs is in test/host.

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { orderAt, spread, untilRecovered, untilStopped } from '../machines/kill-points.ts';
import { cycle, describeKills, makeKept } from '../machines/store-kills.ts';
import {
  answer,
  done,
  expectClean,
  kinds,
  newLocker,
  prepareStores,
  volumeStores,
  type StoreKind,
} from '../machines/stores.ts';
import { offline, systemctl } from '../machines/support.ts';
import { bootVm, disks, type VirtualHost } from './vm.ts';

// Emulation is slow: each request is a start of Node, which takes some seconds.
vi.setConfig({ testTimeout: 7_200_000, hookTimeout: 3_600_000 });

/** How often a locker is made, forgotten and destroyed. */
const cycles = Number(process.env['LOCKERD_TEST_CYCLES'] ?? 1);
/** How often the power is cut. */
const cuts = Number(process.env['LOCKERD_TEST_CUTS'] ?? 1);

const settings = `${volumeStores}filesystem = xfs
[store files]
type = directory
path = /srv/files
`;

let vm: VirtualHost;
beforeAll(async () => {
  vm = await bootVm({ name: 'stores' });
  await vm.writeFile('/etc/fstab', '/dev/raid/files /srv/files ext4 nofail,prjquota 0 0\n');
  await vm.shell(
    `
    vgcreate -q raid /dev/${disks.data}
    lvcreate -qy -L 800M --thinpool pool raid
    lvcreate -qy -L 100M -n files raid
    mkfs.ext4 -q -O project,quota /dev/raid/files
    mkdir -p /srv/files
    mount /srv/files`,
    { timeoutMs: 300_000 },
  );
  await prepareStores(vm, settings);
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

test('a locker that a container has is neither forgotten nor renamed; freezing ends in any case', async () => {
  await done(vm, newLocker(kinds.thick, 'held'));
  await vm.createContainer('box', 'busybox', { config: [...offline] });
  await vm.writeFile('/etc/lockerd/containers/box.conf', 'lockers = held\n');
  await systemctl(vm, 'daemon-reload');
  await systemctl(vm, 'start', 'lxc@box');
  for (const value of [
    { verb: 'forget-locker', locker: 'held' },
    { verb: 'destroy-locker', locker: 'held', store: 'thick' },
    { verb: 'rename-locker', locker: 'held', name: 'other' },
  ]) {
    expect(await answer(vm, value)).toMatchObject({ ok: false, error: 'LockerBusy' });
  }
  const copy = { verb: 'snapshot-locker', locker: 'held', snapshot: 'frozen', freeze: true };
  await done(vm, copy);
  const state = async () => (await vm.run('lxc-info', ['-n', 'box', '-sH'])).stdout.trim();
  expect(await state()).toBe('RUNNING');
  // Killed while the guest stands still.
  const value = JSON.stringify({ ...copy, snapshot: 'killed' }).replaceAll('"', '\\"');
  const { stdout } = await vm.shell(
    `systemd-run --quiet --unit=freezing sh -c "ask '${value}'"
    until test "$(lxc-info -n box -sH)" = FROZEN; do sleep 0.05; done
    systemctl kill --signal=KILL 'lockerd-stores@*.service'
    ${untilRecovered}
    lvs --noheadings -o lv_name,lv_tags raid | grep lockerd.snapshot= | sed 's/.*snapshot=//'`,
    { timeoutMs: 600_000 },
  );
  expect(stdout).toBe('frozen\n');
  await vm.waitFor('the guest goes on', async () => (await state()) === 'RUNNING');
  await systemctl(vm, 'stop', 'lxc@box');
  await vm.shell('rm /etc/lockerd/containers/box.conf; systemctl daemon-reload');
  for (const what of [{ snapshot: 'frozen' }, {}]) {
    await done(vm, { verb: 'destroy-locker', locker: 'held', store: 'thick', ...what });
  }
  await expectClean(vm);
});

/** Removes what the kills of a store were about. */
async function removeKept({ store }: StoreKind): Promise<void> {
  if (store === 'files') {
    await vm.shell('rm /lockers/kept/words; rm -r /srv/files/.snapshots');
  }
  for (const what of store === 'files' ? [{}] : [{ snapshot: 'good' }, {}]) {
    await done(vm, { verb: 'destroy-locker', locker: 'kept', store, ...what });
  }
}

describe('volumes', () => {
  beforeAll(() => makeKept(vm, kinds.thick));

  describeKills(() => vm, kinds.thick, {
    kills: 1,
    isMade: true,
    // Under emulation each takes half a minute.
    verbs: ['create', 'restore'],
  });

  test.each(Array.from({ length: cuts }, (_, index) => [0.25, 0.5, 0.8][index % 3] ?? 0.5))(
    'a power cut after a part of %d of a new locker leaves nothing, or all',
    async (part) => {
      await vm.shell(orderAt(0));
      await done(vm, newLocker(kinds.thick, 'cut'));
      const steps = Number(await vm.readFile('/run/kill-steps'));
      for (const verb of ['forget-locker', 'destroy-locker']) {
        const more = verb === 'destroy-locker' ? { store: 'thick' } : {};
        await done(vm, { verb, locker: 'cut', ...more });
      }
      const value = JSON.stringify(newLocker(kinds.thick, 'cut')).replaceAll('"', '\\"');
      const [at = 1] = spread(1, Math.ceil(2 * part * steps));
      await vm.shell(
        `${orderAt(at, 'stop')}
        systemd-run --quiet --unit=cut sh -c "ask '${value}'"
        ${untilStopped}`,
        { timeoutMs: 300_000 },
      );
      await vm.crash();
      await vm.boot();
      await vm.shell(untilRecovered, { timeoutMs: 300_000 });
      const isThere = await vm.exists('/dev/raid/locker-cut');
      expect(isThere).toBe(await vm.exists('/etc/systemd/system/lockers-cut.mount'));
      expect(await vm.readFile('/lockers/kept/words')).toBe('kept\n');
      await expectClean(vm);
      await systemctl(vm, 'start', 'lockerd-stores.socket');
      if (isThere) await done(vm, { verb: 'destroy-locker', locker: 'cut', store: 'thick' });
    },
  );

  test(`${cycles} lockers that are made, forgotten and destroyed leave nothing`, async () => {
    await cycle(vm, kinds.thick, cycles);
    await removeKept(kinds.thick);
  });
});

describe.each([['thin'], ['files']] as const)('the store %s', (name) => {
  const kind = kinds[name];
  describeKills(() => vm, kind, { kills: 1, verbs: [name === 'thin' ? 'restore' : 'create'] });

  test('is empty in the end', async () => {
    await removeKept(kind);
    await expectClean(vm);
    const { stdout } = await vm.shell(kind.list);
    expect(stdout).not.toContain('kept');
  });
});

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { journalOf, offline, systemctl } from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

/** A whole disk of the machine, which the test host has no node of. */
const [, major = '', minor = ''] =
  /^\s*(\d+)\s+(\d+)\s+\d+ (?:vd|sd|nvme\d+n|xvd)[a-z0-9]$/m.exec(
    readFileSync('/proc/partitions', 'utf8'),
  ) ?? [];
const disk = `${major}:${minor}`;

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'limits', boot: false });
  await host.createContainer('old', 'busybox', {
    config: [
      ...offline,
      'lxc.cgroup.cpu.shares = 512',
      'lxc.cgroup.cpu.cfs_quota_us = 25000',
      'lxc.cgroup.cpu.cfs_period_us = 50000',
      'lxc.cgroup.cpuset.cpus = 0',
      `lxc.cgroup.blkio.throttle.read_bps_device = ${disk} 1048576`,
      `lxc.cgroup.blkio.throttle.write_iops_device = ${disk} 120`,
      'lxc.cgroup.pids.max = 100',
    ],
  });
  await host.createContainer('new', 'busybox', {
    config: [
      ...offline,
      'lxc.cgroup2.cpu.weight = 300',
      'lxc.cgroup2.cpu.max = 30000',
      `lxc.cgroup2.io.max = ${disk} wbps=2097152`,
      'lxc.cgroup2.pids.max = 200',
    ],
  });
  await host.createContainer('tight', 'busybox', {
    config: [...offline, 'lxc.cgroup.pids.max = 6'],
  });
  await host.boot();
  await host.shell(`mkdir -p /dev/block && mknod /dev/block/${disk} b ${major} ${minor}`);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

const unitOf = (name: string) => `lxc@${name}.service`;

/** A file of the unit's group, or of a group below it, in the hierarchy of its controller. */
async function limit(name: string, file: string, below = ''): Promise<string> {
  const [controller = ''] = file.split('.');
  const group = controller === 'cpuset' ? '' : (await host.unit(unitOf(name)))['ControlGroup'];
  const path = `/sys/fs/cgroup/${controller}${group ?? ''}${below}/${file}`;
  return (await host.readFile(path)).trim();
}

test('keys of cgroup v1 are limits of the unit in the kernel, and the guest has no others', async () => {
  await systemctl(host, 'start', unitOf('old'));
  const payload = '/lxc.payload.old';
  expect(await limit('old', 'cpu.shares')).toBe('512');
  expect(await limit('old', 'cpu.shares', payload)).toBe('1024');
  expect(await limit('old', 'cpu.cfs_quota_us')).toBe('25000');
  expect(await limit('old', 'cpu.cfs_period_us')).toBe('50000');
  expect(await limit('old', 'cpu.cfs_quota_us', payload)).toBe('-1');
  expect(await limit('old', 'blkio.throttle.read_bps_device')).toBe(`${disk} 1048576`);
  expect(await limit('old', 'blkio.throttle.read_bps_device', payload)).toBe('');
  expect(await limit('old', 'pids.max')).toBe('116');
  expect(await limit('old', 'pids.max', payload)).toBe('max');
});

test('what systemd cannot limit on cgroup v1 has LXC’s own limit', async () => {
  expect(await limit('old', 'blkio.throttle.write_iops_device', '/lxc.payload.old')).toBe(
    `${disk} 120`,
  );
  expect(await limit('old', 'cpuset.cpus', '/lxc.payload.old')).toBe('0');
});

test('keys of cgroup v2 are limits of the unit as well', async () => {
  await systemctl(host, 'start', unitOf('new'));
  expect(await limit('new', 'cpu.shares')).toBe('3072');
  expect(await limit('new', 'cpu.cfs_quota_us')).toBe('30000');
  expect(await limit('new', 'blkio.throttle.write_bps_device')).toBe(`${disk} 2097152`);
  expect(await limit('new', 'pids.max')).toBe('216');
});

test('a reload takes up what the configuration says now, and "systemctl set-property" wins', async () => {
  await host.shell("sed -i 's/pids.max = .*/pids.max = 50/' /var/lib/lxc/new/config");
  await host.shell("sed -i 's/cpu.weight = .*/cpu.weight = 50/' /var/lib/lxc/new/config");
  await systemctl(host, 'daemon-reload');
  expect(await limit('new', 'pids.max')).toBe('66');
  expect(await limit('new', 'cpu.shares')).toBe('512');
  await systemctl(host, 'set-property', unitOf('new'), 'TasksMax=77', 'CPUQuota=10%');
  await systemctl(host, 'daemon-reload');
  expect(await limit('new', 'pids.max')).toBe('77');
  expect(await limit('new', 'cpu.cfs_quota_us')).toBe('10000');
  await systemctl(host, 'revert', unitOf('new'));
});

test('a guest with room for itself alone starts, reboots and stops', async () => {
  await systemctl(host, 'start', unitOf('tight'));
  await host.waitForGuest('tight');
  expect(await limit('tight', 'pids.max')).toBe('22');
  await systemctl(host, 'stop', unitOf('tight'));
  expect(await host.marker('tight')).toBeDefined();
});

test('nobody complains of limits', async () => {
  for (const name of ['old', 'new', 'tight']) {
    expect(await journalOf(host, unitOf(name))).not.toMatch(/Failed to set|Unknown|Couldn't|ERROR/);
    await systemctl(host, 'stop', unitOf(name));
  }
});

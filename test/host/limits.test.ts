import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage, runAs } from '../machines/service.ts';
import { answerOfGuest, journalOf, offline, systemctl } from '../machines/support.ts';
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
  await configurePackage(host);
  await host.run('useradd', ['--no-create-home', 'stranger']);
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

const lockerctl = (...args: string[]) => runAs(host, 'root', 'lockerctl', ...args);

/** Each that `set` is about here, as the kernel has it. */
async function kernelLimits(): Promise<Record<string, string>> {
  return {
    quota: await limit('new', 'cpu.cfs_quota_us'),
    shares: await limit('new', 'cpu.shares'),
    tasks: await limit('new', 'pids.max'),
    read: await limit('new', 'blkio.throttle.read_bps_device'),
    written: await limit('new', 'blkio.throttle.write_bps_device'),
  };
}

/** Those of the configuration, after the changes above. */
const configured = {
  quota: '30000',
  shares: '512',
  tasks: '66',
  read: '',
  written: `${disk} 2097152`,
};

const controlFiles = async (): Promise<string> =>
  (
    await host.shell(
      'ls /run/systemd/system.control/lxc@new* /etc/systemd/system.control/lxc@new* 2>/dev/null || true',
    )
  ).stdout;

test('"lockerctl set" reaches the kernel, outlives a reload, and ends with the stop', async () => {
  await systemctl(host, 'restart', unitOf('new'));
  await host.waitForGuest('new');
  expect(await kernelLimits()).toEqual(configured);
  const words = ['cpu=50%', 'cpu-weight=200', 'tasks=300', `io-read=${disk}:3M`];
  expect(await lockerctl('set', 'new', ...words)).toEqual({
    exitCode: 0,
    output: `new: set ${words.join(' ')}\n`,
  });
  const set = {
    ...configured,
    quota: '50000',
    shares: '2048',
    tasks: '300',
    read: `${disk} 3145728`,
  };
  expect(await kernelLimits()).toEqual(set);
  await systemctl(host, 'daemon-reload');
  expect(await kernelLimits()).toEqual(set);
  const { output } = await lockerctl('status', 'new');
  expect(output).toMatch(/CPU: .* \(limit: 50%, weight: 200\)/);
  expect(output).toMatch(/Tasks: \d+ \(limit: 300\)/);
  expect(output).toContain(`limit of ${disk}: reads 3M/s, writes 2M/s`);
  // The unit of this one has no limit of disks from the start on.
  await systemctl(host, 'start', unitOf('tight'));
  await host.waitForGuest('tight');
  expect(await lockerctl('set', 'tight', `io-write=${disk}:4M`)).toMatchObject({ exitCode: 0 });
  const guest = await host.shell('cat /proc/$(lxc-info -n tight -pH)/cgroup');
  expect(guest.stdout).toMatch(/:blkio:.*\/lxc@tight\.service\/lxc\.payload\.tight$/m);
  await systemctl(host, 'stop', unitOf('tight'));
  await systemctl(host, 'restart', unitOf('new'));
  await host.waitForGuest('new');
  expect(await kernelLimits()).toEqual(configured);
  expect(await controlFiles()).not.toContain('.conf');
});

test('what one limit fails of, none has changed', async () => {
  const file = `/sys/fs/cgroup/pids${(await host.unit(unitOf('new')))['ControlGroup'] ?? ''}/pids.max`;
  // As if the kernel did not take it: whoever writes is refused.
  await host.shell(`echo 66 > /run/stuck && mount --bind /run/stuck '${file}' &&
    mount -o remount,bind,ro '${file}'`);
  try {
    const { exitCode, output } = await lockerctl('set', 'new', 'cpu=20%', 'tasks=111');
    expect({ exitCode, output }).toMatchObject({
      exitCode: 1,
      output: expect.stringMatching(/"tasks" of container "new" stays as it was/) as string,
    });
    expect(await kernelLimits()).toEqual(configured);
    expect(await controlFiles()).not.toContain('.conf');
  } finally {
    await host.run('umount', [file]);
  }
});

test('what cgroup v1, the host or a drop-in of the administrator forbids is refused', async () => {
  const refusals = [
    [['cpus=0'], 1, /units have no AllowedCPUs= on cgroup v1/],
    [['io-read=999:1:5M'], 2, /the host has no block device 999:1/],
    [['cpu=20%', 'tasks=400'], 1, /99-own\.conf:2 sets TasksMax= .*has the last word/],
  ] as const;
  const dropIn = '/etc/systemd/system/lxc@new.service.d/99-own.conf';
  await host.writeFile(dropIn, '[Service]\nTasksMax=90\n');
  await systemctl(host, 'daemon-reload');
  for (const [words, status, message] of refusals) {
    const { exitCode, output } = await lockerctl('set', 'new', ...words);
    expect(output).toMatch(message);
    expect(exitCode).toBe(status);
  }
  expect(await kernelLimits()).toEqual({ ...configured, tasks: '90' });
  await host.run('rm', [dropIn]);
  await systemctl(host, 'daemon-reload');
});

test('a stranger is refused, and with --persist a limit holds from the next start on', async () => {
  const stranger = await runAs(host, 'stranger', 'lockerctl', 'set', 'new', 'tasks=80');
  expect(stranger.exitCode).toBe(4);
  await systemctl(host, 'stop', unitOf('new'));
  expect(await lockerctl('set', 'new', 'tasks=80')).toMatchObject({ exitCode: 1 });
  expect(await lockerctl('set', '--persist', 'new', 'tasks=80')).toMatchObject({ exitCode: 0 });
  await systemctl(host, 'start', unitOf('new'));
  await host.waitForGuest('new');
  expect(await kernelLimits()).toEqual({ ...configured, tasks: '80' });
  await systemctl(host, 'revert', unitOf('new'));
});

test('"lockerctl top" sees who uses the processor, within its limit', async () => {
  await answerOfGuest(host, 'new', '(while :; do :; done) </dev/null >/dev/null 2>&1 &');
  const { output } = await lockerctl('top', '--iterations=1', '--delay=3s', '--json=short');
  const { containers } = JSON.parse(output) as {
    containers: { container: string; cpu_percent: number }[];
  };
  expect(containers[0]?.container).toBe('new');
  // 30 ms of 100 ms; a busy machine may give less, and never much more.
  expect(containers[0]?.cpu_percent).toBeGreaterThan(2);
  expect(containers[0]?.cpu_percent).toBeLessThan(40);
});

test('nobody complains of limits', async () => {
  for (const name of ['old', 'new', 'tight']) {
    expect(await journalOf(host, unitOf(name))).not.toMatch(/Failed to set|Unknown|Couldn't|ERROR/);
    await systemctl(host, 'stop', unitOf(name));
  }
});

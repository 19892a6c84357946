import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage, runAs } from '../machines/service.ts';
import { journalOf, offline, systemctl } from '../machines/support.ts';
import { bootVm, type VirtualHost } from './vm.ts';

vi.setConfig({ testTimeout: 900_000, hookTimeout: 1_800_000 });

const unit = 'lxc@web.service';

let vm: VirtualHost;
/** Major and minor number of the disk. */
let disk = '';
beforeAll(async () => {
  vm = await bootVm({ name: 'limits' });
  disk = (await vm.shell('cat /sys/class/block/vda/dev')).stdout.trim();
  await vm.createContainer('web', 'busybox', {
    config: [
      ...offline,
      'lxc.cgroup2.cpu.weight = 250',
      'lxc.cgroup2.cpu.max = 30000 60000',
      'lxc.cgroup2.cpuset.cpus = 0',
      'lxc.cgroup2.cpuset.mems = 0',
      `lxc.cgroup2.io.max = ${disk} rbps=104857600 wiops=5000`,
      'lxc.cgroup2.io.weight = 300',
      'lxc.cgroup2.pids.max = 200',
    ],
  });
  await vm.createContainer('old', 'busybox', {
    config: [
      ...offline,
      'lxc.cgroup.cpu.shares = 512',
      'lxc.cgroup.cpuset.cpus = 0',
      `lxc.cgroup.blkio.throttle.read_iops_device = ${disk} 4000`,
      'lxc.cgroup.blkio.weight = 250',
      'lxc.cgroup.pids.max = 50',
    ],
  });
  await configurePackage(vm);
  await systemctl(vm, 'start', 'polkit.service', 'lockerd.service');
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

/** What files of the control group of a container's unit have, or of a group below it. */
async function groupFiles(name: string, names: readonly string[], below = '.'): Promise<string[]> {
  // In one go, because each call takes its time here.
  const script = `
    cd "/sys/fs/cgroup$(systemctl show -p ControlGroup --value "lxc@$1.service")/$2"
    shift 2
    for file; do text=$(cat "$file"); printf '%s\\n--\\n' "$text"; done`;
  const { stdout } = await vm.run('sh', ['-euc', script, 'sh', name, below, ...names]);
  return stdout.split('\n--\n').slice(0, -1);
}

const files = [
  ...['cpu.weight', 'cpu.max', 'cpuset.cpus', 'cpuset.mems'],
  ...['io.max', 'io.weight', 'pids.max'],
];

const kernelLimits = (name: string, below = '.') => groupFiles(name, files, below);

const lockerctl = (...args: string[]) => runAs(vm, 'root', 'lockerctl', ...args);

const configured = () => [
  '250',
  '30000 60000',
  '0',
  '0',
  `${disk} rbps=104857600 wbps=max riops=max wiops=5000`,
  ...['default 300', '216'],
];

test('keys of cgroup v2 are limits of the unit in the kernel, and the guest has no others', async () => {
  await systemctl(vm, 'start', unit);
  expect(await kernelLimits('web')).toEqual(configured());
  expect(await kernelLimits('web', 'lxc.payload.web')).toEqual([
    ...['100', 'max 100000', '', '', '', 'default 100', 'max'],
  ]);
  expect(await groupFiles('web', ['cpuset.cpus.effective'], 'lxc.payload.web')).toEqual(['0']);
});

test('keys of cgroup v1, which LXC ignores here, are limits as well', async () => {
  await systemctl(vm, 'start', 'lxc@old.service');
  expect(await kernelLimits('old')).toEqual([
    ...['50', 'max 100000', '0', ''],
    ...[`${disk} rbps=max wbps=max riops=4000 wiops=max`, 'default 50', '66'],
  ]);
});

test('"lockerctl set" reaches the kernel, and ends with the stop', async () => {
  await vm.waitForGuest('web');
  const words = [
    ...['cpu=70%', 'cpu-weight=90', 'cpus=all', `io-write=${disk}:50M`],
    ...[`io-writes=vda:max`, 'io-weight=40', 'tasks=333'],
  ];
  expect(await lockerctl('set', 'web', ...words)).toEqual({
    exitCode: 0,
    output: `web: set ${words.join(' ')}\n`,
  });
  const set = [
    ...['90', '42000 60000', '0', '0'],
    ...[`${disk} rbps=104857600 wbps=52428800 riops=max wiops=max`, 'default 40', '333'],
  ];
  expect(await kernelLimits('web')).toEqual(set);
  await systemctl(vm, 'daemon-reload');
  expect(await kernelLimits('web')).toEqual(set);
  const { output } = await lockerctl('status', 'web');
  expect(output).toMatch(/CPU: .* \(limit: 70%, weight: 90, processors: 0, memory nodes: 0\)/);
  expect(output).toMatch(/Tasks: \d+ \(limit: 333\)/);
  await systemctl(vm, 'restart', unit);
  await vm.waitForGuest('web');
  expect(await kernelLimits('web')).toEqual(configured());
});

test('what the host does not have is refused, and nothing has changed', async () => {
  expect(await lockerctl('set', 'web', 'tasks=99', 'cpus=7')).toMatchObject({
    exitCode: 2,
    output: expect.stringContaining('the host has no processor 7') as string,
  });
  expect(await kernelLimits('web')).toEqual(configured());
});

test('bytes of disks are counted', async () => {
  await vm.waitForGuest('web');
  await vm.run('lxc-attach', [
    ...['-n', 'web', '--', 'sh', '-c'],
    'dd if=/dev/zero of=/some bs=1M count=3 conv=fsync 2>/dev/null',
  ]);
  // Alone, as a warning may stand on the error output where the machine is slow.
  const { stdout } = await vm.run('lockerctl', ['--json=short', 'status', 'web']);
  const [status] = JSON.parse(stdout) as { io_written_bytes: number; cpu_usec: number }[];
  expect(status?.io_written_bytes).toBeGreaterThanOrEqual(3 * 2 ** 20);
  expect(status?.cpu_usec).toBeGreaterThan(0);
});

test('systemd and LXC complain of no limit', async () => {
  for (const name of [unit, 'lxc@old.service'])
    expect(await journalOf(vm, name)).not.toMatch(/Failed to set|Unknown key|ERROR/);
});

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { expectOldUnitIsTold, untilServiceSees } from '../machines/old-unit.ts';
import { configurePackage, runAs } from '../machines/service.ts';
import { journalOf, offline, systemctl } from '../machines/support.ts';
import { bootVm, type VirtualHost } from './vm.ts';

vi.setConfig({ testTimeout: 900_000, hookTimeout: 1_800_000 });

const mib = 2 ** 20;
const hook = '/var/lib/lxc/web/leaves-a-daemon';

let vm: VirtualHost;
beforeAll(async () => {
  vm = await bootVm({ name: 'groups' });
  await vm.createContainer('web', 'busybox', {
    config: [
      ...offline,
      `lxc.hook.pre-start = ${hook}`,
      'lxc.cgroup2.cpu.weight.nice = 5',
      'lxc.cgroup2.memory.max = 400M',
      'lxc.cgroup.dir.monitor = a/monitor',
      'lxc.cgroup.dir.monitor.pivot = a/pivot',
      'lxc.cgroup.dir.container = b',
      'lxc.cgroup.dir.container.inner = inner',
    ],
  });
  await vm.writeFile(hook, '#!/bin/sh\nsleep 9999 </dev/null >/dev/null 2>&1 &\n', 0o755);
  await vm.createContainer('old', 'busybox', { config: offline });
  await configurePackage(vm);
  await systemctl(vm, 'start', 'polkit.service', 'lockerd.service');
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

const untilSeen = (name: string) => untilServiceSees(vm, name);

const lockerctl = (...args: string[]) => runAs(vm, 'root', 'lockerctl', ...args);

async function guest(command: string): Promise<void> {
  await vm.run('lxc-attach', ['-n', 'web', '--', 'sh', '-c', command]);
}

/** The helper's answer to the request of the service. */
async function applyLimits(): Promise<object> {
  const script = `use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new('/run/lockerd/helper.sock');
    syswrite $s, qq({"verb":"apply-limits","container":"web"}\\n); print while <$s>`;
  const { stdout } = await vm.run('perl', ['-e', script]);
  return JSON.parse(stdout.trim().split('\n').pop() ?? '') as object;
}

const unitOf = (name: string) => `lxc@${name}.service`;

async function groupOf(name: string): Promise<string> {
  return `/sys/fs/cgroup${(await vm.unit(unitOf(name)))['ControlGroup']}`;
}

/** Replaces a line of web's configuration and reloads systemd. */
async function setLimit(limit: string): Promise<void> {
  const script = `sed -i 's/memory.max = .*/memory.max = ${limit}/' /var/lib/lxc/web/config`;
  await vm.shell(script);
  await systemctl(vm, 'daemon-reload');
}

test('a daemon of a hook and directories of its own keep no container from its limits', async () => {
  await systemctl(vm, 'start', unitOf('web'));
  await untilSeen('web');
  const group = await groupOf('web');
  for (const below of ['', 'lxc.pivot/']) {
    const payload = `${group}/${below}lxc.payload.web`;
    expect((await vm.readFile(`${payload}/cpu.weight.nice`)).trim()).toBe('5');
    const daemons = await vm.readFile(`${group}/${below}lockerd/cgroup.procs`);
    expect(await vm.readFile(`/proc/${Number(daemons)}/cmdline`)).toMatch(/^sleep/);
    // The same after a reboot of the guest, when LXC has another group above the guest's.
    if (below === '') {
      expect(await lockerctl('reboot', 'web')).toMatchObject({ exitCode: 0 });
      await untilSeen('web');
    }
  }
  expect(await lockerctl('balloon', 'web', '300M')).toMatchObject({ exitCode: 0 });
  expect((await vm.readFile(`${group}/memory.max`)).trim()).toBe(String(300 * mib));
  await systemctl(vm, 'stop', unitOf('web'));
});

test('a healthy start logs no error, and one that fails says why', async () => {
  const journal = await journalOf(vm, unitOf('web'));
  expect(journal).toContain('Started lxc@web.service');
  expect(journal).not.toMatch(/Could not enable|ERROR|lxc-start: /);
  await vm.shell("echo 'lxc.cgroup2.pids.nothing = 1' >> /var/lib/lxc/old/config");
  await expect(systemctl(vm, 'start', unitOf('old'))).rejects.toThrow();
  expect(await journalOf(vm, unitOf('old'))).toMatch(/pids\.nothing/);
  await vm.shell("sed -i '/pids.nothing/d' /var/lib/lxc/old/config");
});

test('a limit that is lowered in the configuration waits for the next start', async () => {
  await systemctl(vm, 'start', unitOf('web'));
  await untilSeen('web');
  const group = await groupOf('web');
  const limits = async () => [
    (await vm.unit(unitOf('web')))['MemoryMax'],
    (await vm.readFile(`${group}/memory.max`)).trim(),
  ];
  await guest('mount -t tmpfs none /tmp && dd if=/dev/zero of=/tmp/x bs=1M count=150');
  await setLimit('100M');
  // systemd tells the kernel when something changes nearby, and the service when it has a look.
  await systemctl(vm, 'set-property', '--runtime', unitOf('web'), 'CPUWeight=50');
  expect(await limits()).toEqual(all(400));
  expect(await vm.readFile(`${group}/memory.events`)).toMatch(/^oom_kill 0$/m);
  await systemctl(vm, 'restart', unitOf('web'));
  await untilSeen('web');
  expect(await limits()).toEqual(all(100));
  // What only the kernel lacks is reached without a kill, or not at all.
  await guest('mount -t tmpfs none /tmp && dd if=/dev/zero of=/tmp/x bs=1M count=50');
  await vm.shell(`echo 400M > ${await groupOf('web')}/memory.max`);
  expect(await applyLimits()).toMatchObject({ ok: true });
  expect(await limits()).toEqual(all(100));
  await vm.shell(`echo 400M > ${await groupOf('web')}/memory.max`);
  await guest('dd if=/dev/zero of=/tmp/y bs=1M count=100');
  expect(await applyLimits()).toMatchObject({ ok: false, error: 'LimitBelowUsage' });
  expect(await limits()).toEqual([all(100)[0], all(400)[1]]);
  expect(await vm.readFile(`${group}/memory.events`)).toMatch(/^oom_kill 0$/m);
  // Once the kernel has it again, a higher one holds at once.
  await guest('rm /tmp/y');
  expect(await applyLimits()).toMatchObject({ ok: true });
  await setLimit('200M');
  await vm.waitFor('the higher one holds', async () => {
    return JSON.stringify(await limits()) === JSON.stringify(all(200));
  });
});

test('a limit that is lowered by a drop-in kills nothing, and waits for the next start', async () => {
  await setLimit('400M');
  await systemctl(vm, 'restart', unitOf('web'));
  await untilSeen('web');
  const group = await groupOf('web');
  await guest('mount -t tmpfs none /tmp && dd if=/dev/zero of=/tmp/x bs=1M count=150');
  const file = `/etc/systemd/system/${unitOf('web')}.d/override.conf`;
  await vm.writeFile(file, '[Service]\nMemoryMax=100M\nMemorySwapMax=0\n');
  await systemctl(vm, 'daemon-reload');
  // systemd tells the kernel when something changes nearby.
  await systemctl(vm, 'set-property', '--runtime', unitOf('web'), 'CPUWeight=60');
  expect((await vm.readFile(`${group}/memory.max`)).trim()).toBe(all(400)[1]);
  expect(await vm.readFile(`${group}/memory.events`)).toMatch(/^oom_kill 0$/m);
  await systemctl(vm, 'restart', unitOf('web'));
  await untilSeen('web');
  expect((await vm.readFile(`${await groupOf('web')}/memory.max`)).trim()).toBe(all(100)[1]);
  await vm.run('rm', [file]);
  await setLimit('200M');
});

const all = (size: number): string[] => [1, 2].map(() => String(size * mib));

test('what runs since before the installation is said to, with what to do', async () => {
  await expectOldUnitIsTold(vm, 'old');
});

test('a limit that no controller can keep is warned of, and a balloon says why', async () => {
  await systemctl(vm, 'stop', unitOf('web'));
  const slice = '/run/systemd/system/system-lxc.slice.d/no-memory.conf';
  await vm.writeFile(slice, '[Slice]\nDisableControllers=memory\n');
  await systemctl(vm, 'daemon-reload');
  await systemctl(vm, 'stop', 'system-lxc.slice');
  await systemctl(vm, 'start', unitOf('web'));
  await untilSeen('web');
  expect(await journalOf(vm, unitOf('web'))).toMatch(
    /40-limits\.conf: MemoryMax=209715200 has no effect: .* no memory controller/,
  );
  const { output } = await lockerctl('balloon', 'web', '150M');
  expect(output).toMatch(/container "web" has no memory controller.*DisableControllers=memory/);
});

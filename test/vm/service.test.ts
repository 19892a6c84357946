import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { untilServiceSees } from '../machines/old-unit.ts';
import { configurePackage, containerProperty, runAs } from '../machines/service.ts';
import { answerOfGuest, guestPid, lockersSeenBy, offline, systemctl } from '../machines/support.ts';
import { bootVm, type VirtualHost } from './vm.ts';

vi.setConfig({ testTimeout: 900_000, hookTimeout: 1_800_000 });

const fstab = `
data         /lockers/data   tmpfs  mode=755,size=1m  0 0
/srv/mapped  /lockers/mapped none   bind,noauto       0 0
`;

let vm: VirtualHost;
beforeAll(async () => {
  vm = await bootVm({ name: 'service' });
  await vm.createContainer('web', 'busybox', { config: offline });
  await vm.createContainer('ids', 'busybox', {
    config: [...offline, 'lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'],
  });
  await vm.shell(`
    chown -R 100000:100000 /var/lib/lxc/ids/rootfs
    chmod 755 /var/lib/lxc/ids
    mkdir -p /srv/mapped/hosts
    useradd --no-create-home stranger`);
  for (const file of ['subuid', 'subgid']) {
    await vm.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
  await vm.writeFile(
    '/etc/lockerd/containers/ids.conf',
    'lockers = mapped data:ro\nidmap-lockers = yes\n',
  );
  await vm.writeFile('/etc/fstab', fstab);
  await configurePackage(vm);
  // The bus would wait for them for 25 seconds only, which emulation may need.
  await systemctl(vm, 'start', 'polkit.service', 'lockerd.service', 'lockers-data.mount');
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

const lockerctl = (...args: string[]) => runAs(vm, 'root', 'lockerctl', ...args);

async function must(...args: string[]): Promise<string> {
  const { exitCode, output } = await lockerctl(...args);
  if (exitCode !== 0) throw new Error(`lockerctl ${args.join(' ')}: ${exitCode}: ${output}`);
  return output;
}

// Not by lockerctl, as each start of Node takes seconds here.
const property = (container: string, key: string) => containerProperty(vm, container, key);

/** Until the service has this state of the container "web"; LXC has its own word for it. */
async function untilState(wanted: string): Promise<void> {
  const isThere = async () => (await property('web', 'State')) === wanted;
  await vm.waitFor(`web is ${wanted}`, isThere);
  expect(await lxcState('web')).toBe(wanted.toUpperCase());
}

async function lxcState(container: string): Promise<string> {
  return (await vm.run('lxc-info', ['-n', container, '-sH'])).stdout.trim();
}

test('a container is started, frozen, thawed, rebooted and stopped', async () => {
  await must('start', 'web');
  await vm.waitForGuest('web');
  const leader = await guestPid(vm, 'web');
  const { stdout } = await vm.run('lockerctl', ['--json', 'status', 'web']);
  expect(JSON.parse(stdout)).toMatchObject([{ state: 'running', leader }]);
  await must('freeze', 'web');
  await untilState('frozen');
  await must('thaw', 'web');
  await untilState('running');
  await must('reboot', 'web');
  expect(await guestPid(vm, 'web')).not.toBe(leader);
  await vm.waitForGuest('web');
  await vm.clearMarker('web');
  await must('stop', 'web');
  await untilState('stopped');
  expect(await vm.marker('web')).toBeDefined();
});

test('a stranger is refused', async () => {
  const { exitCode, output } = await runAs(vm, 'stranger', 'lockerctl', 'start', 'web');
  expect({ exitCode, output }).toMatchObject({ exitCode: 4 });
  expect(await lxcState('web')).toBe('STOPPED');
});

test('a locker is attached and detached, unless a process uses it', async () => {
  await systemctl(vm, 'start', 'lxc@web');
  await untilServiceSees(vm, 'web');
  await must('attach', 'web', 'data');
  expect(await lockersSeenBy(vm, 'web')).toEqual(['data']);
  expect(await answerOfGuest(vm, 'web', 'echo guest > /lockers/data/word')).toBe('0\n');
  expect(await vm.readFile('/lockers/data/word')).toBe('guest\n');
  const hold = 'sh -c "exec 3</lockers/data/word; exec sleep 10000" >/dev/null 2>&1 </dev/null &';
  expect(await answerOfGuest(vm, 'web', `${hold} echo $!`)).toMatch(/^\d+\n0\n$/);
  let holder = '';
  await vm.waitFor('the guest holds a file', async () => {
    const { stdout } = await vm.shell('find /proc/[0-9]*/fd -lname /lockers/data/word || :');
    [, holder = ''] = /^\/proc\/(\d+)\//.exec(stdout) ?? [];
    return holder !== '' && (await vm.readFile(`/proc/${holder}/comm`)) === 'sleep\n';
  });
  const busy = await lockerctl('detach', 'web', 'data');
  expect(busy.exitCode).toBe(1);
  expect(busy.output).toContain(
    `locker "data" in container "web" is busy: process ${holder} (sleep) uses it`,
  );
  expect(await lockersSeenBy(vm, 'web')).toEqual(['data']);
  await vm.run('kill', [holder]);
  await vm.waitFor('nobody holds it', async () => !(await vm.exists(`/proc/${holder}`)));
  await must('detach', 'web', 'data');
  expect(await lockersSeenBy(vm, 'web')).toEqual([]);
});

test('an OOM kill is signalled when it happens', async () => {
  const file = '/run/signals';
  const monitor = `exec busctl --json=short monitor --match "type='signal',sender='org.lockerd1'"`;
  const { stdout: pid } = await vm.shell(`
    (${monitor}) > ${file} 2>/dev/null </dev/null &
    echo $!`);
  const signals = async () => {
    // The last line may not be complete yet.
    const lines = (await vm.readFile(file)).split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Signal);
  };
  let limit = 64 * 2 ** 20;
  await vm.waitFor('the monitor hears of a limit', async () => {
    limit += 2 ** 20;
    await systemctl(vm, 'set-property', '--runtime', 'lxc@web', `MemoryMax=${limit}`);
    return (await signals()).some(({ member }) => member === 'PropertiesChanged');
  });
  const kills = 5;
  const before = Number(await property('web', 'OomKills'));
  for (let kill = 1; kill <= kills; kill++) {
    const hog = 'dd if=/dev/zero of=/dev/null bs=200M count=1';
    expect(await answerOfGuest(vm, 'web', hog)).toMatch(/137\n$/);
    await vm.waitFor('the kill is told', async () => {
      return (await signals()).some((signal) => killsIn(signal) === before + kill);
    });
  }
  await vm.run('kill', [pid.trim()]);
  expect(Number(await property('web', 'OomKills'))).toBe(before + kills);
  const told = (await signals()).filter((signal) => (killsIn(signal) ?? 0) > before);
  const delays = (await kernelKills()).slice(-kills).map((killed, index) => {
    return (told[index]?.['timestamp-realtime'] ?? Infinity) / 1e6 - killed;
  });
  expect(delays).toHaveLength(kills);
  // The machine under the virtual one may be busy with other things now and then.
  console.info(`OOM kills were signalled after ${delays.map((s) => s.toFixed(3)).join(', ')} s`);
  expect(Math.min(...delays)).toBeLessThan(1);
  await systemctl(vm, 'stop', 'lxc@web');
});

interface Signal {
  readonly member?: string;
  readonly 'timestamp-realtime': number;
  readonly payload?: { readonly data: readonly unknown[] };
}

/** What a signal says about OOM kills. */
function killsIn({ payload }: Signal): number | undefined {
  const changed = payload?.data[1] as { OomKills?: { data: number } } | undefined;
  return changed?.OomKills?.data;
}

/** When the kernel killed for want of memory: seconds of the clock that signals are stamped by. */
async function kernelKills(): Promise<number[]> {
  // The kernel's log has a clock of its own, so one entry is made at a known time.
  const { stdout } = await vm.shell('date +%s.%N; echo lockerd-clock > /dev/kmsg; dmesg');
  const logged = (pattern: string) =>
    [...stdout.matchAll(new RegExp(`^\\[ *([\\d.]+)\\] .*${pattern}`, 'gm'))].map(([, time]) =>
      Number(time),
    );
  const [now = NaN] = logged('lockerd-clock').slice(-1);
  return logged('oom-kill:').map((time) => Number(stdout.split('\n', 1)[0]) - now + time);
}

test('an unprivileged guest sees a mapped locker with the ids that are on it', async () => {
  await systemctl(vm, 'start', 'lxc@ids');
  await vm.waitForGuest('ids');
  const pid = await guestPid(vm, 'ids');
  expect(await vm.readFile(`/proc/${pid}/uid_map`)).toMatch(/^\s+0 +100000 +65536$/m);
  const answer = (command: string) => answerOfGuest(vm, 'ids', command);
  expect(await answer('stat -c %u:%g /lockers/mapped/hosts')).toBe('0:0\n0\n');
  expect(await answer('touch /lockers/mapped/by-root')).toBe('0\n');
  expect(await answer('touch /lockers/data/x')).toMatch(/Read-only file system\n1\n$/);
  expect((await vm.shell('stat -c %u:%g /srv/mapped/by-root')).stdout).toBe('0:0\n');
  await systemctl(vm, 'stop', 'lxc@ids');
});

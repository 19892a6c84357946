import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Host } from '../host/host.ts';
import { journalOf, systemctl } from '../machines/support.ts';
import { bootAttackHost, perlInGuest } from './attack-host.ts';

vi.setConfig({ testTimeout: 400_000, hookTimeout: 900_000 });

let host: Host;
beforeAll(async () => {
  host = await bootAttackHost('groups');
  await systemctl(host, 'start', 'lxc@evil', 'lxc@web');
  await host.waitForGuest('evil');
  await host.shell('busctl call org.lockerd1 /org/lockerd1 org.freedesktop.DBus.Peer Ping');
});
afterAll(() => host.close());

/** Where the guest sees its memory hierarchy. */
const mounted = `
  mkdir '/m'; system('mountpoint -q /m || mount -t cgroup -o memory none /m') == 0 or die;
`;

interface Cost {
  /** Of one processor, in per cent. */
  readonly processor: number;
  readonly descriptors: number;
}

/** What the service, its helper and their children take, over some seconds. */
async function cost(): Promise<Cost> {
  const script = `
    pids() {
      for unit in lockerd.service $(systemctl list-units --plain --no-legend 'lockerd-helper@*' |
        cut -d ' ' -f 1); do
        group=$(systemctl show -p ControlGroup --value "$unit")
        cat "/sys/fs/cgroup/systemd$group/cgroup.procs" "/sys/fs/cgroup/unified$group/cgroup.procs"
      done 2>/dev/null | sort -u
    }
    ticks() { for pid in $(pids); do cat /proc/$pid/stat; done 2>/dev/null | sed 's/.*) //' |
      awk '{ sum += $12 + $13 } END { print sum }'; }
    a=$(ticks); sleep 15; b=$(ticks)
    echo $((b - a)) $(for pid in $(pids); do ls /proc/$pid/fd; done | wc -l)`;
  const { stdout } = await host.shell(script, { timeoutMs: 60_000 });
  const [ticks = NaN, descriptors = NaN] = stdout.trim().split(' ').map(Number);
  return { processor: ticks / 15, descriptors };
}

function expectNoMore(now: Cost, quiet: Cost): void {
  const said = JSON.stringify({ quiet, now });
  expect(now.processor - quiet.processor, said).toBeLessThan(6);
  expect(now.descriptors - quiet.descriptors, said).toBeLessThan(40);
}

test('control groups that a guest makes cost next to nothing, however many', async () => {
  const quiet = await cost();
  const made = await perlInGuest(
    host,
    'evil',
    `${mounted}
     for my $n (1 .. 4000) { mkdir '/m/' . 'g' x 200 . $n or die $!; }
     chdir '/m'; for (1 .. 300) { mkdir 'deep' or last; chdir 'deep' or last; }
     print 'made';`,
  );
  expect(made.output).toBe('made');
  expectNoMore(await cost(), quiet);
  const churn = perlInGuest(
    host,
    'evil',
    `my $end = time + 40; while (time < $end) {
       my $n = int rand 50; mkdir "/m/churn$n"; rmdir '/m/churn' . int rand 50; }`,
  );
  await new Promise((resolve) => setTimeout(resolve, 3000));
  expectNoMore(await cost(), quiet);
  await churn;
});

test('kills are counted beside them, and a balloon finds the guest', async () => {
  await systemctl(host, 'set-property', '--runtime', 'lxc@evil', 'MemoryMax=100M');
  await perlInGuest(host, 'evil', `my @a; push @a, 'x' x 1e6 while 1;`);
  const property = ['/org/lockerd1/container/evil', 'org.lockerd1.Container', 'OomKills'];
  await host.waitFor('the kill is counted', async () => {
    const { stdout } = await host.shell(`busctl get-property org.lockerd1 ${property.join(' ')}`);
    return Number(stdout.split(' ')[1]) > 0;
  });
  const { exitCode, stderr } = await host.run('lockerctl', ['balloon', 'evil', '200M'], {
    reject: false,
  });
  expect([exitCode, stderr]).toEqual([0, '']);
});

test('a guest that hides its processes in many groups can be given memory', async () => {
  const { output } = await perlInGuest(
    host,
    'evil',
    `${mounted}
     my @procs = do { open my $f, '<', '/m/cgroup.procs'; <$f> };
     my $moved = 0; for (@procs) { open my $f, '>', '/m/deep/deep/deep/cgroup.procs' or die $!;
       $moved += defined syswrite $f, $_; } print $moved > 0 ? 'hidden' : 'none';`,
  );
  expect(output).toBe('hidden');
  const { exitCode, stderr } = await host.run('lockerctl', ['balloon', 'evil', '300M'], {
    reject: false,
  });
  expect([exitCode, stderr]).toEqual([0, '']);
});

test('the groups that a killed guest leaves hold up neither its stop nor its next start', async () => {
  // Where systemd has no group of the unit, and so does not clear it.
  const made = await perlInGuest(
    host,
    'evil',
    `mkdir '/h'; my $made = 0;
     for my $hierarchy (qw(freezer perf_event net_cls,net_prio cpuset)) {
       system("mount -t cgroup -o $hierarchy none /h 2>/dev/null") == 0 or next;
       for my $n (1 .. 5000) { $made += mkdir "/h/g$n"; }
       system('umount /h');
     }
     print $made >= 5000 ? 'made' : "no more than $made";`,
  );
  expect(made.output).toBe('made');
  const count = 'find /sys/fs/cgroup -path "*/lxc.payload.evil*" -name "g[1-9]*" -type d | wc -l';
  const before = Number((await host.shell(count)).stdout);
  expect(before).toBeGreaterThanOrEqual(5000);
  const since = Date.now();
  await systemctl(host, 'kill', '--kill-whom=main', '--signal=KILL', 'lxc@evil');
  await host.waitFor(
    'the unit has ended',
    async () => (await host.unit('lxc@evil.service'))['ActiveState'] === 'failed',
    120_000,
  );
  const seconds = (Date.now() - since) / 1000;
  const after = Number((await host.shell(count)).stdout);
  expect(seconds).toBeLessThan(45);
  // What stays is told.
  const told = await journalOf(host, 'lxc@evil');
  expect(told.includes('control groups stay behind')).toBe(after > 0);
  await systemctl(host, 'start', 'lxc@evil');
  await host.waitForGuest('evil');
  await systemctl(host, 'stop', 'lxc@evil');
});

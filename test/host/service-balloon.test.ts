import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { MemoryGuest, mib } from '../machines/memory-guest.ts';
import { configurePackage, runAs } from '../machines/service.ts';
import { answerOfGuest, offline, systemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

const unit = 'lxc@web.service';

let host: Host;
let web: MemoryGuest;
beforeAll(async () => {
  host = await bootHost({ name: 'service-balloon', boot: false });
  web = new MemoryGuest(host, 'web');
  await host.createContainer('web', 'busybox', { config: offline });
  await host.writeFile('/etc/fstab', 'data /lockers/data tmpfs size=1m 0 0\n');
  await host.boot();
  await configurePackage(host);
  await host.run('useradd', ['--no-create-home', 'stranger']);
  await systemctl(host, 'start', unit);
  await host.waitForGuest('web');
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function lockerctl(...args: string[]): Promise<{ output: string; exitCode: number }> {
  return runAs(host, 'root', 'lockerctl', ...args);
}

/** The limit in bytes, as the service has it, and as systemd's two commands and the kernel do. */
async function limits(): Promise<string[]> {
  const args = ['org.lockerd1', '/org/lockerd1/container/web', 'org.lockerd1.Container'];
  const { stdout } = await host.run('busctl', ['get-property', ...args, 'MemoryLimit']);
  await web.locate();
  return [stdout.trim().replace(/^t /, ''), await web.limit()];
}

const all = (bytes: number): string[] => [1, 2].map(() => String(bytes));

test('a balloon is the same to the service, systemd and the kernel', async () => {
  expect(await lockerctl('balloon', 'web', '200M')).toEqual({
    output: expect.stringMatching(
      /^web: memory limit max \S+ 200M, guest stalled \d+ ms\n$/,
    ) as string,
    exitCode: 0,
  });
  expect(await limits()).toEqual(all(200 * mib));
  expect((await lockerctl('balloon', 'web', '-25%')).output).toMatch(
    /^web: memory limit 200M \S+ 150M, guest stalled \d+ ms\n$/,
  );
  await systemctl(host, 'daemon-reload');
  await systemctl(host, 'set-property', '--runtime', unit, 'CPUWeight=50');
  expect(await limits()).toEqual(all(150 * mib));
});

test('a limit below what the guest holds is refused, and nothing changes', async () => {
  const { output, exitCode } = await lockerctl('balloon', 'web', '1M');
  expect(exitCode).not.toBe(0);
  expect(output).toContain('cannot balloon "web"');
  expect(await limits()).toEqual(all(150 * mib));
});

test('a refusal names a limit that can be typed, and that one works', async () => {
  const fill =
    'mkdir /full && mount -t tmpfs full /full && head -c 90000000 /dev/zero > /full/file';
  expect(await answerOfGuest(host, 'web', fill)).toBe('0\n');
  const refused = await lockerctl('balloon', 'web', '64M');
  expect(refused.exitCode).toBe(1);
  const [, lowest = ''] =
    /"web" cannot live with 64M: .* the lowest limit that would have worked is (\d+M)\b/.exec(
      refused.output,
    ) ?? [];
  expect(await limits()).toEqual(all(150 * mib));
  expect(await lockerctl('balloon', 'web', lowest)).toMatchObject({ exitCode: 0 });
  expect(await limits()).toEqual(all(parseInt(lowest) * mib));
  expect(await answerOfGuest(host, 'web', 'umount /full && rmdir /full')).toBe('0\n');
  expect(await lockerctl('balloon', 'web', '150M')).toMatchObject({ exitCode: 0 });
});

test('the limit of swap is changed with it, for the service, systemd and the kernel', async () => {
  /** The limit of swap as the service and systemd have it, and the kernel's sum with memory. */
  const swapLimits = async (): Promise<string[]> => {
    const { stdout } = await host.shell(`
      busctl get-property org.lockerd1 /org/lockerd1/container/web org.lockerd1.Container SwapLimit
      systemctl show -p MemorySwapMax --value ${unit}
      cat "/sys/fs/cgroup/memory$(systemctl show -p ControlGroup --value ${unit})/memory.memsw.limit_in_bytes"`);
    return stdout.trim().replace(/^t /, '').split('\n');
  };
  expect(await lockerctl('balloon', '--swap=50M', 'web', '150M')).toEqual({
    output: expect.stringMatching(
      /^web: memory limit 150M \S+ 150M, swap limit max \S+ 50M\n$/,
    ) as string,
    exitCode: 0,
  });
  expect(await swapLimits()).toEqual([50, 50, 200].map((size) => String(size * mib)));
  await systemctl(host, 'daemon-reload');
  expect(await lockerctl('balloon', 'web', '160M')).toMatchObject({ exitCode: 0 });
  expect(await swapLimits()).toEqual([50, 50, 210].map((size) => String(size * mib)));
  // The kernel does not keep the sum where there is no limit of memory.
  const { output } = await lockerctl('balloon', '--swap=60M', 'web', 'max');
  expect(output).toContain('lockerctl: warning: without a limit of memory, cgroup v1');
  expect(await lockerctl('balloon', '--swap=max', 'web', '150M')).toMatchObject({ exitCode: 0 });
  expect(await limits()).toEqual(all(150 * mib));
  const elsewhere = await host.run(
    'busctl',
    ['call', 'org.lockerd1', '/org/lockerd1', 'org.lockerd1.Manager', 'FreezeContainer'].concat(
      ...['sa{sv}', 'web', '1', 'swap', 't', '1'],
    ),
    { reject: false },
  );
  expect(elsewhere.stderr).toContain('option "swap" means nothing for this method');
});

test('a stranger cannot balloon', async () => {
  const refused = await runAs(host, 'stranger', 'lockerctl', 'balloon', 'web', '100M');
  expect(refused.exitCode).toBe(4);
  expect(await limits()).toEqual(all(150 * mib));
});

test('what an admin sets is respected, and told', async () => {
  await systemctl(host, 'set-property', '--runtime', unit, 'MemoryMax=300M');
  await host.waitFor('the service knows', async () => (await limits())[0] === String(300 * mib));
  expect(await limits()).toEqual(all(300 * mib));
});

test('two clients and systemctl at once end with one limit for all', async () => {
  const answers = await Promise.all([
    lockerctl('balloon', 'web', '180M'),
    lockerctl('balloon', 'web', '190M'),
    runAs(host, 'root', 'systemctl', 'set-property', '--runtime', unit, 'MemoryMax=220M'),
  ]);
  // Whoever came second is refused, or came when the first was done.
  for (const { exitCode, output } of answers) {
    if (exitCode !== 0) expect(output).toMatch(/another|busy|already|job \d+/);
  }
  expect(answers.filter(({ exitCode }) => exitCode === 0).length).toBeGreaterThanOrEqual(2);
  await host.waitFor('all agree', async () => new Set(await limits()).size === 1);
  expect([180, 190, 220].map((size) => String(size * mib))).toContain((await limits())[0]);
});

test('a limit above the host is set with a warning', async () => {
  const { output, exitCode } = await lockerctl('balloon', 'web', '4096G');
  expect(exitCode).toBe(0);
  expect(output).toContain("lockerctl: warning: the limit is above the host's memory");
  await lockerctl('balloon', 'web', '200M');
});

test('a lasting limit is for the next start too, also where the container is stopped', async () => {
  expect(await lockerctl('stop', 'web')).toMatchObject({ exitCode: 0 });
  expect((await lockerctl('balloon', 'web', '120M')).exitCode).not.toBe(0);
  expect(await lockerctl('balloon', 'web', '128M', '--persist')).toMatchObject({ exitCode: 0 });
  expect(await lockerctl('start', 'web')).toMatchObject({ exitCode: 0 });
  expect(await limits()).toEqual(all(128 * mib));
});

test('a limit outlasts all but the stop, and a lasting one the reboot of the host', async () => {
  const leaderOf = async (): Promise<string> =>
    (await host.run('lxc-info', ['-n', 'web', '-pH'])).stdout.trim();
  await host.waitForGuest('web');
  expect(await lockerctl('balloon', 'web', '200M')).toMatchObject({ exitCode: 0 });
  const leader = await leaderOf();
  expect(await lockerctl('reboot', 'web')).toMatchObject({ exitCode: 0 });
  expect(await leaderOf()).not.toBe(leader);
  expect(await limits()).toEqual(all(200 * mib));
  // LXC has moved the guest to another control group.
  expect(await lockerctl('balloon', 'web', '190M')).toMatchObject({ exitCode: 0 });
  expect(await web.leftovers()).toEqual([]);
  expect(await lockerctl('balloon', 'web', '200M')).toMatchObject({ exitCode: 0 });
  expect(await limits()).toEqual(all(200 * mib));
  await systemctl(host, 'restart', 'lockerd.service');
  expect(await limits()).toEqual(all(200 * mib));
  await systemctl(host, 'daemon-reload');
  await systemctl(host, 'set-property', unit, 'CPUWeight=60');
  expect(await limits()).toEqual(all(200 * mib));

  expect(await lockerctl('balloon', 'web', '220M', '--persist')).toMatchObject({ exitCode: 0 });
  expect(await limits()).toEqual(all(220 * mib));
  await host.reboot();
  expect(await lockerctl('start', 'web')).toMatchObject({ exitCode: 0 });
  expect(await limits()).toEqual(all(220 * mib));
  await systemctl(host, 'revert', unit);
  await host.waitFor('the service knows', async () => (await limits())[1] === 'max');
  expect(await limits()).toEqual([String(2n ** 64n - 1n), 'max']);
});

/** Lets the guest be killed at; ends with the seconds from then until the signal. */
async function signalledAfter(): Promise<number> {
  const property = ['/org/lockerd1/container/web', 'org.lockerd1.Container', 'OomKills'];
  const { stdout } = await host.shell(
    `told() { grep -o '"OomKills":{[^}]*}' /run/signals | tail -n 1; }
     before=$(told)
     set -- $(busctl get-property org.lockerd1 ${property.join(' ')})
     # More than any limit here, and in one process: tail(1) keeps what has no end of a line.
     lxc-attach -n web --clear-env -- /bin/sh -c 'tail /dev/zero; true' >&2
     killed=$(date +%s%3N)
     for try in $(seq 400); do
       ! told | grep -q "[^0-9]$2}" && [ "$(told)" != "$before" ] && break
       sleep 0.02
     done
     echo $(($(date +%s%3N) - killed))`,
    { timeoutMs: 120_000 },
  );
  return Number(stdout) / 1000;
}

test('OOM kills are signalled within a second, whose limit of the container it is', async () => {
  const match = `--match "type='signal',sender='org.lockerd1'"`;
  const { stdout: pid } = await host.shell(`
    (exec busctl --json=short ${match} monitor >/run/signals 2>/dev/null) </dev/null &
    echo $!`);
  const delays: number[] = [];
  const setGuestLimit = async (limit: string): Promise<void> => {
    await web.locate();
    await host.writeFile(`${web.group('guest')}/memory.limit_in_bytes`, limit);
  };
  await host.waitForGuest('web');
  await systemctl(host, 'set-property', '--runtime', unit, 'MemoryMax=60M');
  delays.push(await signalledAfter(), await signalledAfter());
  await web.reset();
  await setGuestLimit('60M');
  delays.push(await signalledAfter(), await signalledAfter());
  await setGuestLimit('-1');
  expect(await lockerctl('reboot', 'web')).toMatchObject({ exitCode: 0 });
  await setGuestLimit('60M');
  delays.push(await signalledAfter(), await signalledAfter());
  // It is started again when it is looked for new groups, and hears all of them.
  const listeners = async (): Promise<string> =>
    (await host.shell("pgrep -f 'hooks/oom-watc[h]' || :")).stdout.trim();
  const listener = await listeners();
  expect(listener).toMatch(/^\d+$/);
  await host.run('kill', ['-KILL', listener]);
  await host.waitFor('another one listens', async () => /^\d+$/.test(await listeners()));
  delays.push(await signalledAfter(), await signalledAfter());
  await setGuestLimit('-1');
  await host.run('kill', [pid.trim()]);
  console.info(`OOM kills were signalled after ${delays.map((s) => s.toFixed(2)).join(', ')} s`);
  // The machine may be busy with other things now and then. Who looks every five seconds has one
  // chance in five each time.
  const late = delays.filter((delay) => delay >= 1);
  expect(late.length, delays.join(' ')).toBeLessThan(2);
  await systemctl(host, 'stop', 'lockerd.service');
  await host.waitFor('nobody listens any more', async () => (await listeners()) === '');
  await systemctl(host, 'start', 'lockerd.service');
});

test('a locker that is taken away from under its user is told of', async () => {
  await host.waitForGuest('web');
  expect(await lockerctl('attach', 'web', 'data')).toMatchObject({ exitCode: 0 });
  await host.shell(
    "lxc-attach -n web --clear-env -- /bin/sh -c 'exec 3> /lockers/data/file; exec sleep 1000' " +
      '</dev/null >/dev/null 2>&1 & until test -e /lockers/data/file; do sleep 0.1; done',
  );
  const busy = await lockerctl('detach', 'web', 'data');
  expect(busy.exitCode).toBe(1);
  const forced = await lockerctl('detach', 'web', 'data', '--force');
  expect(forced.output).toContain('web: detached data\n');
  expect(forced.output).toContain('lockerctl: warning: locker "data" is out of sight');
});

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { runAs } from '../machines/service.ts';
import {
  expectState,
  guestPid,
  journalOf,
  offline,
  systemctl,
  trySystemctl,
} from '../machines/support.ts';
import { bootVm, type VirtualHost } from '../vm/vm.ts';

/** The package on the next release of Debian, on which containers ran before it was installed. */
vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 3_600_000 });

const project = path.resolve(import.meta.dirname, '../..');

let vm: VirtualHost;
let installation = '';
beforeAll(async () => {
  vm = await bootVm({ name: 'package', install: false });
  await vm.createContainer('web', 'busybox', { config: offline });
  await vm.createContainer('headless', 'busybox', { config: offline });
  await vm.shell('rm /var/lib/lxc/headless/rootfs/sbin/init');
  await vm.createContainer('old', 'busybox', {
    config: [...offline, 'lxc.cgroup.memory.limit_in_bytes = 256M'],
  });
  installation = await installPackage();
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);

/** Installs the Debian package, which dpkg refuses where a dependency is missing; tells what it said. */
async function installPackage(): Promise<string> {
  const directory = mkdtempSync(path.join(tmpdir(), 'lockerd-deb-'));
  try {
    execFileSync(process.execPath, ['src/build/deb.mjs', '--output', directory], { cwd: project });
    const [deb = ''] = readdirSync(directory).filter((name) => /^lockerd_.*\.deb$/.test(name));
    const text = readFileSync(path.join(directory, deb)).toString('base64');
    await vm.shell('base64 --decode > /tmp/lockerd.deb', { input: text });
    const { stdout, stderr } = await vm.shell('dpkg --install /tmp/lockerd.deb', {
      timeoutMs: 300_000,
    });
    return stdout + stderr;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('is installed, and says what does not start under this LXC and what to write', async () => {
  const { stdout } = await vm.run('dpkg-query', ['-W', '-f', '${db:Status-Abbrev}', 'lockerd']);
  expect(stdout).toBe('ii ');
  expect(installation).toMatch(
    /old\/config:\d+: LXC \d+\.\d+ refuses lxc\.cgroup\.memory\.limit_in_bytes.*write: lxc\.cgroup2\.memory\.max = 256M/,
  );
});

test('has units of which systemd has nothing to complain', async () => {
  const { stdout } = await vm.shell('dpkg -L lockerd | sed -n s,^/usr/lib/systemd/system/,,p');
  const units = stdout.split('\n').flatMap((name) => {
    if (!/^[^/]+\.(service|socket|path|target|slice)$/.test(name)) return [];
    // Pins a mount, which has to be there.
    return name.startsWith('lockerd-pin@')
      ? ['lockerd-pin@-.service']
      : [name.replace('@.', '@x.')];
  });
  expect(units.length).toBeGreaterThan(10);
  const args = ['--man=no', 'verify', ...units, 'lxc@web.service', 'lxc.service'];
  const { stdout: said, stderr } = await vm.run('systemd-analyze', args, { reject: false });
  expect(said + stderr).toBe('');
});

describe('a container', () => {
  test('has the unit of lockerd, whatever that of LXC says', async () => {
    const unit = await vm.unit('lxc@web');
    expect(unit['ExecStop']).toMatch(/^\{ path=\/usr\/lib\/lockerd\/hooks\/stop-guest [^}]*\}$/);
    // Shown only where it is not empty.
    expect(unit).not.toHaveProperty('StateDirectory');
    expect(unit).toMatchObject({
      Type: 'notify',
      KillMode: 'mixed',
      KillSignal: '10',
      TimeoutStopUSec: '2min',
      Delegate: 'yes',
    });
  });

  test('starts and stops without a line of LXC in the journal', async () => {
    await systemctl(vm, 'start', 'lxc@web');
    await vm.waitForGuest('web');
    await vm.clearMarker('web');
    await systemctl(vm, 'stop', 'lxc@web');
    expect(await vm.marker('web')).toBeDefined();
    const lines = (await journalOf(vm, 'lxc@web')).trim().split('\n');
    expect(lines.filter((line) => !line.includes(' systemd[1]: '))).toEqual([]);
  });

  test('whose directory is behind a link starts all the same', async () => {
    await vm.shell(
      'mv /var/lib/lxc /srv/lxc; ln -s /srv/lxc /var/lib/lxc; systemctl daemon-reload',
    );
    try {
      await systemctl(vm, 'start', 'lxc@web');
      expect(await guestPid(vm, 'web')).toBeDefined();
      await systemctl(vm, 'restart', 'lxc');
      await systemctl(vm, 'stop', 'lxc@web');
    } finally {
      await vm.shell('rm /var/lib/lxc; mv /srv/lxc /var/lib/lxc; systemctl daemon-reload');
    }
  });

  test('that cannot start has failed when systemctl returns, and the journal says why', async () => {
    const { exitCode, output } = await trySystemctl(vm, 'start', 'lxc@headless');
    await expectState(vm, 'lxc@headless', 'failed');
    expect(exitCode).toBe(1);
    expect(output).toMatch(/^Job for lxc@headless\.service failed/);
    const journal = await journalOf(vm, 'lxc@headless');
    expect(journal).toContain('Failed to exec "/sbin/init"');
    expect(journal).not.toContain('Could not enable');
  });

  test('with limits of cgroup v1 is refused, with the line to write', async () => {
    expect((await trySystemctl(vm, 'start', 'lxc@old')).exitCode).toBe(1);
    expect(await journalOf(vm, 'lxc@old')).toMatch(
      /refuse-start.*old\/config:\d+: LXC \d+\.\d+ refuses .*write: lxc\.cgroup2\.memory\.max = 256M/,
    );
    await vm.shell(`
      sed -i 's/^lxc.cgroup.memory.*/lxc.cgroup2.memory.max = 256M/' /var/lib/lxc/old/config
      systemctl daemon-reload`);
    await systemctl(vm, 'start', 'lxc@old');
    const { ControlGroup: group = '' } = await vm.unit('lxc@old');
    expect(await vm.readFile(`/sys/fs/cgroup${group}/memory.max`)).toBe(`${256 * 1024 ** 2}\n`);
    await systemctl(vm, 'stop', 'lxc@old');
  });
});

test('the service says what is so, or that it does not know yet', async () => {
  await systemctl(vm, 'start', 'lxc@web');
  await vm.waitForGuest('web');
  const leader = (await guestPid(vm, 'web')) ?? NaN;
  await trySystemctl(vm, 'start', 'lxc@headless');
  const known = new RegExp(
    `^(headless failed null|old (stopped|broken) null|web running ${leader})$`,
  );
  // What a slow helper has not reported yet.
  const possible = /^(headless (failed|unknown)|old (stopped|broken|unknown)|web running) null$/;
  // The bus would wait for them for 25 seconds only, which emulation may need.
  await systemctl(vm, 'start', 'polkit.service', 'lockerd.service');
  await vm.waitFor('all states are known', async () => {
    const { output } = await runAs(vm, 'root', 'lockerctl', '--json', 'list');
    const listed = (JSON.parse(output) as Listed[]).map((one) => {
      return `${one.container} ${one.state} ${one.leader}`;
    });
    const unknown = listed.filter((line) => !known.test(line));
    expect(unknown.filter((line) => !possible.test(line))).toEqual([]);
    return listed.length === 3 && unknown.length === 0;
  });
});

interface Listed {
  readonly container: string;
  readonly state: string;
  readonly leader: number | null;
}

test('the package is removed while a container runs on', async () => {
  const before = await guestPid(vm, 'web');
  expect(before).toBeDefined();
  await vm.run('dpkg', ['--remove', 'lockerd'], { timeoutMs: 300_000 });
  expect(await guestPid(vm, 'web')).toBe(before);
  expect(await vm.exists('/usr/lib/systemd/system/lxc@.service.d/50-lockerd.conf')).toBe(false);
});

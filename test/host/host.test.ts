import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type GuestKind, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';

// The image may have to be built first.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

type HostPlace = Pick<Host, 'name' | 'root'>;

/** All that a host has on the machine. */
function tracesOf(host: HostPlace): string[] {
  const mounts = fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(host.name));
  const cgroups = fs
    .readdirSync('/sys/fs/cgroup')
    .map((hierarchy) => `/sys/fs/cgroup/${hierarchy}/lockerd-${host.name}`)
    .filter((directory) => fs.existsSync(directory));
  const processes = fs
    .readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && commandOf(entry).includes(host.name));
  const directory = path.dirname(host.root);
  const files = fs
    .readdirSync(path.dirname(directory))
    .filter((entry) => entry.startsWith(host.name));
  const propagate = `/run/systemd/nspawn/propagate/${host.name}`;
  const left = fs.existsSync(propagate) ? [propagate] : [];
  return [...mounts, ...cgroups, ...processes.map(commandOf), ...files, ...left];
}

function commandOf(pid: string): string {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    // It ended while we looked.
    return '';
  }
}

async function guestInit(host: Host, name: string): Promise<string> {
  return (await host.run('lxc-info', ['-n', name, '-pH'], { reject: false })).stdout.trim();
}

describe('a booted host', () => {
  let host: Host;
  beforeAll(async () => {
    host = await bootHost({ name: 'self', install: false });
  });
  afterAll(() => host.close());
  attachJournalOnFailure(() => host);

  test('has systemd, D-Bus, polkit, udev and LXC at work', async () => {
    const { stdout } = await host.run('systemctl', ['is-system-running']);
    expect(stdout.trim()).toBe('running');
    const active = await host.unit('lxc-net.service');
    expect(active).toMatchObject({ Id: 'lxc-net.service', ActiveState: 'active' });
    const bridge = await host.unit('sys-subsystem-net-devices-lxcbr0.device');
    expect(bridge).toMatchObject({ ActiveState: 'active' });
    await host.run('pkcheck', ['--action-id', 'org.freedesktop.systemd1.manage-units', '-p', '1']);
    expect(await host.journal('lxc.service')).toContain('lxc.service');
  });

  test('runs commands inside its own cgroups, with a clean environment', async () => {
    const { stdout: cgroups } = await host.run('cat', ['/proc/self/cgroup']);
    expect(cgroups.split('\n').filter((line) => line.includes('..'))).toEqual([]);
    const entered = spawn('nsenter', [...host.enterArguments(), 'cat', '/proc/self/cgroup']);
    const [text] = (await once(entered.stdout, 'data')) as [Buffer];
    expect(text.toString()).toBe(cgroups);
    const { stdout: variables } = await host.run('env', [], { env: { LOCKERD_WORD: 'one two' } });
    expect(variables.trim().split('\n').sort()).toEqual([
      'HOME=/root',
      'LANG=C.UTF-8',
      'LOCKERD_WORD=one two',
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    ]);
  });

  test('tells what a failing command said', async () => {
    const failing = host.shell('echo said; echo complained >&2; exit 3');
    await expect(failing).rejects.toThrow(/exit status 3.*\nsaid\ncomplained/);
    const tolerated = await host.shell('echo said; exit 3', { reject: false });
    expect(tolerated).toEqual({ stdout: 'said\n', stderr: '', exitCode: 3 });
    await expect(host.waitFor('pigs fly', () => Promise.resolve(false), 1)).rejects.toThrow(
      'pigs fly',
    );
  });

  test('bounds a command, also when something in the background holds its output', async () => {
    const start = Date.now();
    await host.shell('sleep 300 & echo started');
    const endless = host.run('sleep', ['300'], { timeoutMs: 1000 });
    await expect(endless).rejects.toThrow('sleep 300: no end after 1000 ms');
    expect(Date.now() - start).toBeLessThan(10_000);
  });

  test('keeps files over a reboot, and runs through all of shutdown and boot', async () => {
    await host.writeFile('/var/lib/kept/file', 'kept', 0o600);
    await host.writeFile('/run/lost', 'lost');
    expect((await host.run('stat', ['-c', '%a', '/var/lib/kept/file'])).stdout.trim()).toBe('600');
    await host.reboot();
    expect(await host.readFile('/var/lib/kept/file')).toBe('kept');
    expect(await host.exists('/run/lost')).toBe(false);
    const { stdout } = await host.run('journalctl', ['--no-pager', '--boot=-1']);
    expect(stdout).toContain('reboot.target');
  });

  test('can be read and prepared while it is off', async () => {
    await host.powerOff();
    expect(fs.readFileSync(`${host.root}/var/lib/kept/file`, 'utf8')).toBe('kept');
    expect(await host.readFile('/var/lib/kept/file')).toBe('kept');
    await host.writeFile('/var/lib/kept/prepared', 'while off');
    await host.createContainer('prepared', 'busybox');
    await expect(host.run('true')).rejects.toThrow('is off');
    await host.boot();
    expect(await host.readFile('/var/lib/kept/prepared')).toBe('while off');
    expect((await host.run('lxc-ls')).stdout.trim()).toBe('prepared');
  });

  test('survives a power cut with its files, and without any shutdown', async () => {
    await host.createContainer('cut', 'sysvinit');
    await host.run('lxc-start', ['-n', 'cut']);
    await host.crash();
    expect(host.isOn).toBe(false);
    await host.boot();
    expect(await host.marker('cut')).toBeUndefined();
    const { stdout } = await host.run('journalctl', ['--no-pager', '--boot=-1']);
    expect(stdout).not.toContain('Reached target poweroff.target');
  });
});

describe('guests', () => {
  let host: Host;
  beforeAll(async () => {
    host = await bootHost({ name: 'guests', install: false });
  });
  afterAll(() => host.close());
  attachJournalOnFailure(() => host);

  test.each<GuestKind>(['busybox', 'sysvinit', 'systemd'])(
    '%s boots, reboots from inside, and leaves a new marker at each shutdown',
    async (kind) => {
      await host.createContainer(kind, kind);
      await host.run('lxc-start', ['-n', kind]);
      const init = await guestInit(host, kind);
      await host.waitForGuest(kind);
      expect(await host.marker(kind)).toBeUndefined();

      await host.run('lxc-attach', ['-n', kind, '--', 'reboot'], { reject: false });
      await host.waitFor(`${kind} has a new init`, async () => {
        const now = await guestInit(host, kind);
        return now !== '' && now !== init;
      });
      const rebooted = await host.marker(kind);
      expect(rebooted).toMatch(/^\d+ [-0-9a-f]{36}$/);

      await host.waitForGuest(kind);
      const start = Date.now();
      await host.run('lxc-stop', ['-n', kind, '--timeout', '30']);
      expect(Date.now() - start).toBeLessThan(20_000);
      const stopped = await host.marker(kind);
      expect(stopped).toMatch(/^\d+ [-0-9a-f]{36}$/);
      expect(stopped).not.toBe(rebooted);
      await host.clearMarker(kind);
      expect(await host.marker(kind)).toBeUndefined();
    },
  );

  test('one can be deaf to its halt signal', async () => {
    await host.createContainer('deaf', 'busybox', { shutdown: 'ignored' });
    await host.run('lxc-start', ['-n', 'deaf']);
    await host.waitForGuest('deaf');
    await host.run('lxc-stop', ['-n', 'deaf', '--nokill', '--timeout', '4'], { reject: false });
    expect(await guestInit(host, 'deaf')).not.toBe('');
    await host.run('lxc-stop', ['-n', 'deaf', '--kill']);
    expect(await host.marker('deaf')).toBeUndefined();
  });

  test('one can take its time to shut down', async () => {
    const config = ['lxc.environment = COLOUR=blue'];
    await host.createContainer('slow', 'busybox', { shutdown: { seconds: 6 }, config });
    await host.run('lxc-start', ['-n', 'slow']);
    await host.waitForGuest('slow');
    const start = Date.now();
    await host.run('lxc-stop', ['-n', 'slow', '--timeout', '30']);
    expect(Date.now() - start).toBeGreaterThan(6000);
    expect(await host.marker('slow')).toBeDefined();
    const { stdout } = await host.run('lxc-info', ['-n', 'slow', '-c', 'lxc.environment']);
    expect(stdout).toContain('COLOUR=blue');
  });
});

describe('the end of a host', () => {
  test('two run side by side, and each leaves nothing', async () => {
    const hosts = await Promise.all([
      bootHost({ name: 'left', install: false }),
      bootHost({ name: 'right', install: false }),
    ]);
    const [left, right] = hosts;
    try {
      for (const host of hosts) {
        await host.createContainer('web', 'busybox');
        await host.run('lxc-start', ['-n', 'web']);
        await host.writeFile('/root/whoami', host.name);
      }
      expect(await left.readFile('/root/whoami')).toBe(left.name);
      expect(await right.readFile('/root/whoami')).toBe(right.name);
      await left.run('lxc-stop', ['-n', 'web', '--kill']);
      expect(await guestInit(right, 'web')).not.toBe('');

      await left.close();
      expect(tracesOf(left)).toEqual([]);
      expect((await right.run('systemctl', ['is-system-running'])).stdout.trim()).toBe('running');
      expect(tracesOf(right)).not.toEqual([]);
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
    expect(tracesOf(right)).toEqual([]);
  });

  test('nothing is left when the test process is killed', async () => {
    const script = `
      import { bootHost } from ${JSON.stringify(path.join(import.meta.dirname, 'host.ts'))};
      const { name, root } = await bootHost({ name: 'orphan', install: false });
      console.log(JSON.stringify({ name, root }));
      setInterval(() => undefined, 1000);`;
    const loader = path.join(import.meta.dirname, '../typescript.mjs');
    const args = ['--import', loader, '--input-type=module', '--eval', script];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const orphan = JSON.parse(line.toString()) as HostPlace;
    expect(tracesOf(orphan)).not.toEqual([]);
    child.kill('SIGKILL');
    await vi.waitFor(
      () => {
        expect(tracesOf(orphan)).toEqual([]);
      },
      { timeout: 30_000, interval: 100 },
    );
  });

  test('nothing is left when the supervisor is killed and another host starts', async () => {
    await using host = await bootHost({ name: 'victim', install: false });
    const supervisors = fs
      .readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry))
      .filter((entry) => commandOf(entry).includes('supervisor.mjs'))
      .filter((entry) => commandOf(entry).includes(host.name));
    expect(supervisors).toHaveLength(1);
    process.kill(Number(supervisors[0]), 'SIGKILL');
    await using after = await bootHost({ name: 'after', install: false });
    expect(after.isOn).toBe(true);
    expect(tracesOf(host)).toEqual([]);
    await expect(host.run('true')).rejects.toThrow('supervisor');
  });
});

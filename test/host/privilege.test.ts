import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage, runAs } from '../machines/service.ts';
import { expectState, offline, systemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

const systemd = 'org.freedesktop.systemd1';
const managerPath = '/org/freedesktop/systemd1';
const webUnit = 'lxc@web.service';

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'privilege', boot: false });
  await host.createContainer('web', 'busybox', { config: offline });
  for (const unit of ['toy.service', 'lxc@.service.evil.service', 'xlxc@web.service']) {
    await host.writeFile(
      `/etc/systemd/system/${unit}`,
      '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecReload=/bin/true\n',
    );
  }
  await host.boot();
  await configurePackage(host);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

type Answer = Awaited<ReturnType<typeof runAs>>;

/** Calls a method of the manager object as user lockerd; a password prompt would find nobody. */
function call(member: string, signature = '', ...args: string[]): Promise<Answer> {
  const what = [systemd, managerPath, `${systemd}.Manager`, member];
  const options = ['--system', '--allow-interactive-authorization=no', 'call'];
  return runAs(host, 'lockerd', 'busctl', ...options, ...what, signature, ...args);
}

function expectRefused(answer: Answer, orBecause = /^$/): void {
  expect(answer.exitCode, answer.output).not.toBe(0);
  if (orBecause.test(answer.output)) return;
  expect(answer.output).toMatch(/Access denied|Interactive authentication required|not permitted/i);
}

describe('user lockerd', () => {
  test('has no shell, no group but its own and no files', async () => {
    const { stdout } = await host.run('getent', ['passwd', 'lockerd']);
    expect(stdout).toMatch(/:\/usr\/sbin\/nologin$/m);
    expect((await host.run('id', ['-nG', 'lockerd'])).stdout).toBe('lockerd\n');
  });

  test('starts, kills, restarts and stops containers', async () => {
    expect(await call('StartUnit', 'ss', webUnit, 'replace')).toMatchObject({ exitCode: 0 });
    await host.waitFor('the container is active', async () => {
      return (await host.unit(webUnit))['ActiveState'] === 'active';
    });
    await host.waitForGuest('web');
    expect(await call('KillUnit', 'ssi', webUnit, 'main', '18')).toMatchObject({ exitCode: 0 });
    expect(await runAs(host, 'lockerd', 'systemctl', 'restart', webUnit)).toEqual({
      exitCode: 0,
      output: '',
    });
    await host.waitForGuest('web');
    expect(await call('StopUnit', 'ss', webUnit, 'replace')).toMatchObject({ exitCode: 0 });
    await host.waitFor('the container is inactive', async () => {
      return (await host.unit(webUnit))['ActiveState'] === 'inactive';
    });
  });

  test.each([
    'toy.service',
    'xlxc@web.service',
    'lxc@.service.evil.service',
    'lxc.service',
    'lxc-net.service',
    'lockerd-helper.socket',
    'lxc-delay@web.service',
    'lxc-group@onboot.target',
    'rescue.target',
    'var-locker\\x2dmappings-web.mount',
  ])('cannot start, stop or kill another unit: %s', async (unit) => {
    const before = (await host.unit(unit))['ActiveState'];
    expectRefused(await call('StartUnit', 'ss', unit, 'replace'));
    expectRefused(await call('RestartUnit', 'ss', unit, 'replace'));
    // What is not loaded has nothing to stop, which is said before anybody is asked.
    expectRefused(await call('KillUnit', 'ssi', unit, 'all', '15'), /not loaded/);
    expectRefused(await call('StopUnit', 'ss', unit, 'replace'), /not loaded/);
    expect((await host.unit(unit))['ActiveState']).toBe(before);
  });

  test.each([
    'lxc@x.service/../toy.service',
    'lxc@x.service\ntoy.service',
    'toy.service\nlxc@web.service',
    'lxc@web.service\n',
    'lxc@.service',
    'lxc@.service.evil',
    'lxc@web.service evil',
    'lxc@web.target',
    'lxc@web.mount',
    'LXC@web.service',
    '../lxc@web.service',
    'lxc@%n/x.service',
    '',
  ])('cannot trick the rule with the name %j', async (unit) => {
    for (const member of ['StartUnit', 'StopUnit', 'RestartUnit']) {
      const answer = await call(member, 'ss', unit, 'replace');
      expect(answer.exitCode, `${member}: ${answer.output}`).not.toBe(0);
    }
    await expectState(host, 'toy.service', 'inactive');
    await expectState(host, webUnit, 'inactive');
  });

  test('cannot do other things with a container’s unit', async () => {
    // What is not loaded is refused for that alone.
    await systemctl(host, 'start', webUnit);
    expectRefused(await call('ReloadUnit', 'ss', webUnit, 'replace'));
    expectRefused(await call('TryRestartUnit', 'ss', webUnit, 'replace'));
    expectRefused(await call('ReloadOrRestartUnit', 'ss', webUnit, 'replace'));
    expectRefused(await call('ResetFailedUnit', 's', webUnit));
    expectRefused(await call('RefUnit', 's', webUnit));
    expectRefused(await call('FreezeUnit', 's', webUnit));
    expectRefused(await call('CleanUnit', 'sas', webUnit, '1', 'all'));
    expectRefused(
      await call('SetUnitProperties', 'sba(sv)', webUnit, 'true', '1', 'MemoryMax', 't', '1'),
    );
    expectRefused(
      await call('AttachProcessesToUnit', 'ssau', webUnit, '', '1', '1'),
      /manager process/,
    );
    expectRefused(await call('BindMountUnit', 'sssbb', webUnit, '/etc', '/mnt', 'no', 'no'));
    await expectState(host, webUnit, 'active');
    await systemctl(host, 'stop', webUnit);
  });

  test('cannot change unit files or systemd itself', async () => {
    expectRefused(await call('EnableUnitFiles', 'asbb', '1', webUnit, 'no', 'no'));
    expectRefused(await call('DisableUnitFiles', 'asb', '1', webUnit, 'no'));
    expectRefused(await call('MaskUnitFiles', 'asbb', '1', webUnit, 'yes', 'no'));
    expectRefused(await call('LinkUnitFiles', 'asbb', '1', '/tmp/lxc@x.service', 'yes', 'no'));
    expectRefused(await call('Reload'));
    expectRefused(await call('Reexecute'));
    expectRefused(await call('SetEnvironment', 'as', '1', 'LD_PRELOAD=/tmp/x'));
    expectRefused(await call('Reboot'));
    expectRefused(await call('CancelJob', 'u', '1'), /does not exist/);
    expectRefused(await call('ClearJobs'));
    expectRefused(await call('ResetFailed'));
  });

  test.each(['evil.service', 'lxc@web.service', 'lxc@new.service'])(
    'cannot bring a unit of its own making: %s',
    async (unit) => {
      const exec = ['ExecStart', 'a(sasb)', '1', '/bin/touch', '2', 'touch', '/run/evil', 'no'];
      const args = [unit, 'replace', '1', ...exec, '0'];
      const answer = await call('StartTransientUnit', 'ssa(sv)a(sa(sv))', ...args);
      expect(answer.exitCode, answer.output).not.toBe(0);
      expect(await host.exists('/run/evil')).toBe(false);
    },
  );

  test('cannot use what else asks polkit', async () => {
    const hostname = ['org.freedesktop.hostname1', '/org/freedesktop/hostname1'];
    const set = ['org.freedesktop.hostname1', 'SetHostname', 'sb', 'evil', 'false'];
    expectRefused(await runAs(host, 'lockerd', 'busctl', '--system', 'call', ...hostname, ...set));
  });
});

describe('another user', () => {
  test('cannot do what lockerd can', async () => {
    const answer = await runAs(host, 'daemon', 'systemctl', '--no-ask-password', 'start', webUnit);
    expectRefused(answer);
    await expectState(host, webUnit, 'inactive');
  });

  test('cannot own the bus name, and neither can root', async () => {
    const request = ['RequestName', 'su', 'org.lockerd1', '0'];
    const driver = 'org.freedesktop.DBus';
    const what = [driver, '/org/freedesktop/DBus', driver, ...request];
    for (const user of ['daemon', 'root']) {
      const answer = await runAs(host, user, 'busctl', '--system', 'call', ...what);
      expectRefused(answer);
    }
    expect(await runAs(host, 'lockerd', 'busctl', '--system', 'call', ...what)).toEqual({
      exitCode: 0,
      output: 'u 1\n',
    });
  });
});

/** What a unit may be exposed to systemd-analyze security, which counts from 0 to 10. */
const exposed: Readonly<Record<string, number>> = {
  'lockerd.service': 1.5,
  'lockerd-autoballoon.service': 1.5,
  'lockerd-balloon-undo@.service': 1.5,
  'lockerd-containers.service': 3,
  'lockerd-rescan.service': 3,
  'lockerd-automounts.service': 3,
  'lockerd-check.service': 3,
  'lxc-delay@.service': 1.5,
  'lxc-started@.service': 1.5,
  'lxc-needs@.service': 5,
  'lxc-late@.service': 5,
  'lockerd-return.service': 5,
  'lockerd-late.service': 5,
  'lockerd-pin@.service': 3,
  // It unmounts, so it has the host's mounts and whatever would need others is missing.
  'lockerd-helper@.service': 4.5,
  // They run the tools of volumes and file systems.
  'lockerd-stores@.service': 5.3,
  'lockerd-recover.service': 5.3,
  // It runs ssh(1) as root has it configured.
  'lockerd-moves.service': 3,
};

test.each(Object.entries(exposed))('%s is exposed less than %d', async (unit, most) => {
  const args = ['security', '--no-pager', unit.replace('@', '@x')];
  const { stdout } = await host.run('systemd-analyze', args);
  const level = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
  expect(level).toBeLessThan(most);
  expect(level).toBeGreaterThan(0);
});

test('every packaged service but that of the containers has such a bound', async () => {
  const { stdout } = await host.shell(
    "cd /usr/lib/systemd/system; ls | grep -E '^(lockerd|lxc-delay|lxc-needs|lxc-late|lxc-started).*[.]service$'",
  );
  expect(stdout.trim().split('\n').sort()).toEqual(Object.keys(exposed).sort());
});

test('the helpers share one limit of memory and tasks, below which each has its own', async () => {
  const slice = 'system-lockerd.slice';
  expect((await host.unit('lockerd-helper@x.service'))['Slice']).toBe(slice);
  expect(await host.unit(slice)).toMatchObject({
    MemoryMax: String(1024 ** 3),
    TasksMax: '1024',
  });
});

describe('lockerd.service', () => {
  test('leaves Node all it needs, and nothing more', async () => {
    const script = `
      const fs = require('fs'), { execFileSync } = require('child_process'), net = require('net');
      const out = {};
      const attempt = (name, action) => {
        try { out[name] = action() ?? true; } catch (error) { out[name] = error.code ?? String(error); }
      };
      // Hot enough that it is compiled to machine code.
      attempt('jit', () => { let n = 0; for (let i = 0; i < 1e7; i++) n = (n * 31 + i) | 0; return n !== 1; });
      attempt('uid', () => process.getuid());
      attempt('generator', () => fs.readdirSync('/run/systemd/generator').length > 0);
      attempt('cgroup', () => fs.readFileSync('/sys/fs/cgroup/memory/memory.usage_in_bytes', 'utf8').length > 0);
      attempt('journal', () => {
        const entry = Buffer.from('MESSAGE=from the sandbox\\nLOCKERD_TEST=1\\n');
        const input = Buffer.concat([Buffer.from([entry.length, 0, 0, 0]), entry]);
        const answer = execFileSync('/usr/lib/lockerd/hooks/write-journal', [], { input, env: {} });
        if (String(answer) !== '\\n') throw new Error(String(answer));
      });
      attempt('write', () => fs.writeFileSync('/run/lockerd/x', ''));
      attempt('etc', () => fs.writeFileSync('/etc/x', ''));
      attempt('lxc', () => fs.readdirSync('/var/lib/lxc'));
      attempt('shadow', () => fs.readFileSync('/etc/shadow'));
      attempt('others', () => fs.readFileSync('/proc/1/environ'));
      attempt('watch', () => { fs.watch('/sys/fs/cgroup/memory/memory.limit_in_bytes').close(); });
      const listener = net.createServer().on('error', (error) => done({ tcp: error.code })).listen(0, '127.0.0.1', () => done({ tcp: true }));
      const done = (more) => {
        const bus = net.connect('/run/dbus/system_bus_socket');
        const end = (busResult) => { console.log('RESULT' + JSON.stringify({ ...out, ...more, bus: busResult })); process.exit(0); };
        bus.on('connect', () => end(true)).on('error', (error) => end(error.code));
      };`;
    await host.writeFile('/usr/local/lib/probe.js', script);
    await host.writeFile(
      '/run/systemd/system/lockerd.service.d/probe.conf',
      '[Service]\nType=oneshot\nRestart=no\nRestartForceExitStatus=\nExecStart=\nExecStart=/usr/bin/node /usr/local/lib/probe.js\n',
    );
    await systemctl(host, 'daemon-reload');
    await systemctl(host, 'start', 'lockerd.service');
    await host.run('journalctl', ['--sync']);
    const result = /RESULT(\{.*\})/.exec(await host.journal('lockerd.service'))?.[1] ?? '{}';
    const uid = Number((await host.run('id', ['-u', 'lockerd'])).stdout);
    expect(JSON.parse(result)).toEqual({
      jit: true,
      uid,
      generator: true,
      cgroup: true,
      journal: true,
      watch: true,
      bus: true,
      write: 'EACCES',
      etc: 'EROFS',
      lxc: 'EACCES',
      shadow: 'EACCES',
      others: expect.stringMatching(/^(ENOENT|EACCES)$/) as string,
      tcp: 'EAFNOSUPPORT',
    });
    const own = ['--unit=lockerd', 'LOCKERD_TEST=1', '--output=cat'];
    const { stdout } = await host.run('journalctl', own);
    expect(stdout).toBe('from the sandbox\n');
  });
});

describe('lockerd-containers.path', () => {
  test('lets systemd load a container when it is complete', { timeout: 120_000 }, async () => {
    await systemctl(host, 'start', 'lockerd-containers.path');
    const dropIn = '/run/systemd/generator/lxc@late.service.d/60-container.conf';
    await host.shell('mkdir /var/lib/lxc/late && touch /var/lib/lxc/late/partial');
    const template = await host.readFile('/var/lib/lxc/web/config');
    await host.writeFile('/var/lib/lxc/late/config', template.replaceAll('/web/', '/late/'));
    await host.shell('sleep 4');
    expect(await host.exists(dropIn)).toBe(false);
    await host.shell('rm /var/lib/lxc/late/partial');
    await host.waitFor('late is loaded', () => host.exists(dropIn), 60_000);
    await host.shell('mv /var/lib/lxc/late /root/late');
    await host.waitFor('late is gone', async () => !(await host.exists(dropIn)), 60_000);
  });

  test('watches the directory that lxc.lxcpath names', { timeout: 120_000 }, async () => {
    const template = await host.readFile('/var/lib/lxc/web/config');
    await host.writeFile('/etc/lxc/lxc.conf', 'lxc.lxcpath = /srv/my containers\n');
    await host.shell('mkdir "/srv/my containers"');
    await systemctl(host, 'daemon-reload');
    const dropIn = '/run/systemd/generator/lxc@moved.service.d/60-container.conf';
    await host.shell('mkdir "/srv/my containers/moved"');
    const config = template.replaceAll('/var/lib/lxc/web/', '/srv/my containers/moved/');
    await host.writeFile('/srv/my containers/moved/config', config);
    await host.waitFor('moved is loaded', () => host.exists(dropIn), 60_000);
    await host.shell('rm -r "/srv/my containers/moved"');
    await host.waitFor('moved is gone', async () => !(await host.exists(dropIn)), 60_000);
  });
});

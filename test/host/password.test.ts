import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage, runAs } from '../machines/service.ts';
import { expectState, offline } from '../machines/support.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

const password = 'open sesame';

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'password', boot: false });
  await host.createContainer('web_vm', 'busybox', { config: offline });
  await host.writeFile('/etc/fstab', 'data  /lockers/data  tmpfs  size=1m  0 0\n');
  await host.boot();
  await configurePackage(host);
  // Whom polkit's own rule of the distribution takes for an administrator.
  await host.run('useradd', ['--no-create-home', '--groups', 'sudo', 'admin']);
  await host.run('chpasswd', [], { input: `admin:${password}\n` });
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

/**
 * What the user "admin", who has logged in, sees on a terminal and types when asked for a password.
 * Without a login polkit uses no agent that is for terminals.
 */
async function onTerminal(command: string, keys: string): Promise<string> {
  await host.writeFile('/tmp/keys', keys);
  await host.writeFile('/tmp/command', `#!/bin/sh\n${command}\necho status $?\n`, 0o755);
  await host.shell(
    `rm -f /tmp/screen /tmp/over
    : > /tmp/screen && chmod 666 /tmp/screen
    {
      until grep -q 'Password: ' /tmp/screen || [ -e /tmp/over ]; do sleep 0.2; done
      cat /tmp/keys
      until [ -e /tmp/over ]; do sleep 0.2; done
    } | {
      su admin -c 'script --quiet --flush --command /tmp/command /tmp/screen' > /dev/null || :
      : > /tmp/over
    }`,
    { timeoutMs: 180_000 },
  );
  return (await host.readFile('/tmp/screen')).replaceAll(/\r|\u001b\[[0-9;]*m/g, '');
}

test('a wrong password changes nothing', async () => {
  const screen = await onTerminal('lockerctl start web_vm', 'wrong\n');
  expect(screen).toContain("Authentication is required to start the container 'web_vm'.");
  expect(screen).toContain('AUTHENTICATION FAILED');
  expect(screen).not.toContain('wrong');
  expect(screen).toMatch(/^status 4$/m);
  await expectState(host, 'lxc@web_vm.service', 'inactive');
});

test('a prompt that is left with Ctrl-C changes nothing', async () => {
  const screen = await onTerminal('lockerctl start web_vm', '\u0003');
  expect(screen).toContain('Password: ');
  expect(screen).not.toContain('web_vm: started');
  await host.waitFor('the check has ended', async () => {
    // By its identifier: the journal may not know the unit of what writes one line and ends.
    const { stdout } = await host.run('journalctl', ['--identifier=lockerd', '--output=cat']);
    return stdout.split('\n').filter((line) => /denied|the caller left/.test(line)).length === 2;
  });
  await expectState(host, 'lxc@web_vm.service', 'inactive');
});

test('the password of an administrator starts a container', async () => {
  const screen = await onTerminal('lockerctl start web_vm', `${password}\n`);
  expect(screen).toContain('AUTHENTICATION COMPLETE');
  expect(screen).not.toContain(password);
  expect(screen).toMatch(/^web_vm: started\nstatus 0$/m);
  await expectState(host, 'lxc@web_vm.service', 'active');
});

test('is asked for each time, in words that name container, locker and mode', async () => {
  await host.waitForGuest('web_vm');
  const attach = await onTerminal('lockerctl attach --read-only web_vm data', `${password}\n`);
  expect(attach).toContain(
    "Authentication is required to attach the locker 'data' to the container 'web_vm' (ro).",
  );
  expect(attach).toMatch(/^web_vm: attached data\nstatus 0$/m);
  const detach = await onTerminal('lockerctl detach web_vm data', `${password}\n`);
  expect(detach).toContain(
    "Authentication is required to detach the locker 'data' from the container 'web_vm'.",
  );
  expect(detach).toMatch(/^web_vm: detached data\nstatus 0$/m);
});

describe('without a password, root', () => {
  const settings = '/etc/lockerd/containers/web_vm.conf';

  async function lockerctl(...args: string[]): Promise<{ exitCode: number; output: string }> {
    const { exitCode, stdout, stderr } = await host.run('lockerctl', args, {
      reject: false,
      timeoutMs: 180_000,
    });
    return { exitCode, output: stdout + stderr };
  }

  test('learns who keeps a locker busy, and any user may learn that much', async () => {
    expect(await lockerctl('attach', 'web_vm', 'data')).toMatchObject({ exitCode: 0 });
    await host.writeFile('/lockers/data/diary', 'secret\n');
    await host.shell(
      'lxc-attach -n web_vm -- sh -c "exec 5< /lockers/data/diary; sleep 1000" </dev/null >/dev/null 2>&1 &',
    );
    await host.waitFor('the guest holds the locker', async () => {
      const { exitCode } = await host.run('pgrep', ['-x', '-f', 'sleep 1000'], { reject: false });
      return exitCode === 0;
    });
    const { exitCode, output } = await lockerctl('detach', 'web_vm', 'data');
    expect(exitCode).toBe(1);
    expect(output).toMatch(/busy: process \d+ \(sleep\) uses it/);
    expect(output).not.toContain('diary');
    const jobs = ['call', 'org.lockerd1', '/org/lockerd1', 'org.freedesktop.DBus.ObjectManager'];
    const everything = await runAs(host, 'admin', 'busctl', ...jobs, 'GetManagedObjects');
    expect(everything.output).toContain('org.lockerd1.Error.LockerBusy');
    expect(everything.output).not.toContain('diary');
    await host.shell('pkill -x -f "sleep 1000"');
  });

  test('makes lasting what is attached for now, and takes that back while nothing runs', async () => {
    const again = await lockerctl('attach', 'web_vm', 'data');
    expect(again).toMatchObject({
      exitCode: 1,
      output: expect.stringContaining('already') as string,
    });
    expect(await lockerctl('attach', '--persist', 'web_vm', 'data')).toMatchObject({ exitCode: 0 });
    expect(await host.readFile(settings)).toBe('lockers = data\n');
    expect(await lockerctl('stop', 'web_vm')).toMatchObject({ exitCode: 0 });
    expect(await lockerctl('detach', 'web_vm', 'data')).toMatchObject({
      exitCode: 1,
      output: expect.stringContaining('is not in container') as string,
    });
    expect(await lockerctl('detach', '--persist', 'web_vm', 'data')).toMatchObject({ exitCode: 0 });
    expect(await host.exists(settings)).toBe(false);
  });
});

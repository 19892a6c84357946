import { symlinkSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage } from '../machines/service.ts';
import { expectState, offline, systemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

/** One user may say what starts at boot, but nothing else; and one thing only for one container. */
const rules = `
polkit.addRule(function (action, subject) {
  if (action.id !== "org.lockerd1.set-autostart" || subject.user !== "keeper") return polkit.Result.NO;
  if (action.lookup("container") === "linked") return polkit.Result.YES;
  return action.lookup("autostart") === "no" && action.lookup("container") === "mine"
    ? polkit.Result.NO
    : polkit.Result.YES;
});
`;

const auto = [...offline, 'lxc.start.auto = 1'];
const settings = (name: string) => `/etc/lockerd/containers/${name}.conf`;

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'autostart', boot: false });
  for (const name of ['web', 'mine', 'app', 'dep']) {
    await host.createContainer(name, 'busybox', { config: auto });
  }
  for (const name of ['db', 'linked', 'scripted', 'masked', 'wrong', 'my box']) {
    await host.createContainer(name, 'busybox', { config: offline });
  }
  await host.writeFile(settings('web'), '# kept\nstop-timeout = 20s ; so\n');
  await host.writeFile(settings('app'), 'needs = dep\n');
  await host.writeFile(settings('wrong'), 'ready = running\nunknown = 1\n');
  const script = '#!/bin/sh\n### BEGIN INIT INFO\n# Provides: lxc.scripted\n### END INIT INFO\n';
  await host.writeFile('/etc/init.d/lxc.scripted', script, 0o755);
  symlinkSync('../init.d/lxc.scripted', `${host.root}/etc/rc3.d/S20lxc.scripted`);
  await host.writeFile('/etc/polkit-1/rules.d/10-keeper.rules', rules);
  await host.boot();
  await configurePackage(host);
  await host.run('useradd', ['--no-create-home', 'keeper']);
  await host.run('useradd', ['--no-create-home', 'stranger']);
  await systemctl(host, 'enable', 'lxc@linked');
  await systemctl(host, 'mask', 'lxc@masked');
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function lockerctl(user: string, ...args: string[]) {
  const as = ['--reuid', user, '--regid', user, '--init-groups', 'lockerctl', ...args];
  const { exitCode, stdout, stderr } = await host.run('setpriv', as, { reject: false });
  return { status: exitCode, stdout: stdout.trimEnd(), stderr };
}

/** `yes (config)` of each container. */
async function autostartColumn(): Promise<Readonly<Record<string, string>>> {
  const { stdout } = await host.run('lockerctl', ['list', '--json']);
  const containers = JSON.parse(stdout) as {
    container: string;
    autostart: boolean;
    autostart_reasons: string[];
  }[];
  return Object.fromEntries(
    containers.map(({ container, autostart, autostart_reasons: [reason = ''] }) => [
      container,
      `${autostart ? 'yes' : 'no'} ${reason}`.trim(),
    ]),
  );
}

describe('who may', () => {
  test('is what polkit says, by container and by what is wanted', async () => {
    expect((await lockerctl('stranger', 'disable', 'web')).status).toBe(4);
    expect((await lockerctl('keeper', 'disable', 'mine')).status).toBe(4);
    expect(await host.exists(settings('mine'))).toBe(false);
    expect((await lockerctl('keeper', 'start', 'db')).status).toBe(4);
  });
});

describe('what the settings decide', () => {
  test('is changed, keeps all else in the file, and is told truthfully', async () => {
    expect(await lockerctl('keeper', 'disable', 'web')).toEqual({
      status: 0,
      stdout: 'web: does not start at boot: "autostart" in its settings',
      stderr: '',
    });
    expect(await host.readFile(settings('web'))).toBe(
      '# kept\nstop-timeout = 20s ; so\nautostart = no\n',
    );
    expect(await lockerctl('keeper', 'enable', 'db', 'my box')).toMatchObject({
      status: 0,
      stdout: ['db', 'my box']
        .map((name) => `${name}: starts at boot: "autostart" in its settings`)
        .join('\n'),
    });
    expect(await host.readFile(settings('my box'))).toBe('autostart = yes\n');
    expect(await autostartColumn()).toMatchObject({
      ...{ web: 'no setting', db: 'yes setting', 'my box': 'yes setting', mine: 'yes config' },
    });
    // It neither starts nor stops anything.
    await expectState(host, 'lxc@web', 'active');
    await expectState(host, 'lxc@db', 'inactive');
  });

  test('stays as it is where the boot does that already', async () => {
    const inode = async () => (await host.run('stat', ['-c', '%i %Y', settings('web')])).stdout;
    const before = await inode();
    const { stdout } = await lockerctl('keeper', 'disable', 'web');
    expect(stdout).toBe('web: does not start at boot: "autostart" in its settings');
    expect(await inode()).toBe(before);
    expect((await lockerctl('keeper', 'enable', 'mine')).stdout).toBe(
      'mine: starts at boot: lxc.start.auto',
    );
    expect(await host.exists(settings('mine'))).toBe(false);
  });

  test('is loaded also where an edit by hand had not been', async () => {
    await host.writeFile(settings('my box'), 'autostart = no\n');
    expect((await lockerctl('keeper', 'disable', 'my box')).stdout).toContain(
      'my box: does not start at boot',
    );
    expect(await autostartColumn()).toMatchObject({ 'my box': 'no' });
  });
});

describe('what others decide is named, and what is advised helps', () => {
  async function refusal(command: string, container: string): Promise<string> {
    const { status, stderr } = await lockerctl('keeper', command, container);
    expect(status).toBe(1);
    expect(stderr).toContain('nothing was changed');
    expect(await host.exists(settings(container))).toBe(container === 'wrong');
    return stderr;
  }

  test.each([
    ['enable', 'masked', 'lxc@masked.service is masked; run: ', 'yes setting'],
    ['disable', 'linked', 'lxc@linked.service is enabled in multi-user.target; run: ', 'no'],
    ['disable', 'scripted', '/etc/rc3.d/S20lxc.scripted starts its init script; run: ', 'no'],
  ])('%s %s', async (command, container, why, after) => {
    const message = await refusal(command, container);
    expect(message).toContain(why);
    const remedy = message.split('run: ')[1]?.trim() ?? '';
    await host.shell(remedy);
    expect((await lockerctl('keeper', command, container)).status).toBe(0);
    expect((await autostartColumn())[container]).toBe(after);
  });

  test('a container that needs it starts it, which is a warning', async () => {
    const { status, stdout, stderr } = await lockerctl('keeper', 'disable', 'dep');
    expect(status).toBe(0);
    expect(stdout).toBe('dep: starts at boot: a container that starts needs or wants it');
    expect(stderr).toContain('starts at boot all the same, as "app" starts then');
    expect((await autostartColumn())['dep']).toBe('yes needed');
  });

  test('mistakes in the settings, with file and line', async () => {
    expect(await refusal('enable', 'wrong')).toContain(`${settings('wrong')}:2: unknown key`);
  });
});

test('the next boot does what was said', async () => {
  const said = await autostartColumn();
  await host.reboot();
  await host.waitFor('the containers that start', async () => {
    return (await host.unit('lxc@dep'))['ActiveState'] === 'active';
  });
  const starts = await Promise.all(
    Object.keys(said).map(async (name) => {
      const unit = `lxc@${name === 'my box' ? 'my\\x20box' : name}`;
      return [name, (await host.unit(unit))['ActiveState'] === 'active'] as const;
    }),
  );
  expect(Object.fromEntries(starts)).toEqual(
    Object.fromEntries(Object.entries(said).map(([name, word]) => [name, word.startsWith('yes')])),
  );
  expect(starts.filter(([, isUp]) => isUp).map(([name]) => name)).toEqual([
    'app',
    'db',
    'dep',
    'masked',
    'mine',
  ]);
});

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readFileSync } from 'node:fs';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { expectState, guestPid, journalOf, offline, systemctl } from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'machine', boot: false });
  await host.createContainer('full', 'systemd', { config: offline });
  await host.createContainer('tiny', 'busybox');
  // No host is called so.
  await host.createContainer('odd..name', 'busybox', { config: offline });
  await host.createContainer('apart', 'busybox', { config: offline });
  await host.writeFile('/etc/lockerd/containers/apart.conf', 'machined = no\n');
  await host.boot();
  await systemctl(host, 'start', 'lxc@full', 'lxc@tiny', 'lxc@odd..name', 'lxc@apart');
  for (const name of ['full', 'tiny']) await host.waitForGuest(name);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function machines(): Promise<string[]> {
  const { stdout } = await host.run('machinectl', ['list', '--no-legend', '--no-pager']);
  return stdout
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
    .filter((name) => name !== '' && name !== '.host')
    .sort();
}

async function property(name: string, key: string): Promise<string> {
  const { stdout } = await host.run('machinectl', ['show', '--value', '-p', key, '--', name]);
  return stdout.trim();
}

/** Until systemd-machined has forgotten a guest that has stopped. */
async function untilForgotten(name: string): Promise<void> {
  await host.waitFor(`${name} is no machine`, async () => !(await machines()).includes(name));
}

async function untilStopped(name: string): Promise<void> {
  await host.waitFor(`${name} has stopped`, async () => {
    return (await host.unit(`lxc@${name}`))['ActiveState'] === 'inactive';
  });
}

/** What a program writes in some seconds that wants a terminal on which nobody types. */
async function onTerminal(command: string): Promise<string> {
  const script = 'sleep 6 | timeout 8 script -qec "$1" /dev/null';
  return (await host.run('sh', ['-c', script, 'sh', command], { reject: false })).stdout;
}

async function expectRegistered(name: string): Promise<void> {
  expect(await property(name, 'Leader')).toBe(String(await guestPid(host, name)));
  expect(await property(name, 'Unit')).toBe(`lxc@${name}.service`);
  expect(await property(name, 'Service')).toBe('lockerd');
}

describe('a running container', () => {
  test('is a machine, if its name is that of a host and the setting allows it', async () => {
    expect(await machines()).toEqual(['full', 'tiny']);
    await expectRegistered('full');
    await expectRegistered('tiny');
    for (const name of ['full', 'tiny', 'odd..name', 'apart']) {
      expect(await journalOf(host, `lxc@${name}`)).not.toContain('not a machine');
    }
  });

  test('shows its addresses and interfaces', async () => {
    const { stdout } = await host.run('machinectl', ['status', '--no-pager', 'tiny']);
    expect(stdout).toMatch(/Iface: veth/);
    expect(stdout).toMatch(/Address: 10\.0\.3\.\d+/);
    expect(stdout).toContain('Unit: lxc@tiny.service');
  });

  test('with systemd takes orders like one of systemd-nspawn', async () => {
    expect(await onTerminal('machinectl shell full /bin/cat /etc/os-release')).toContain('Debian');
    expect(await onTerminal('machinectl login full')).toMatch(/login:/);
    const run = ['-M', 'full', '--wait', '--pipe', '--quiet', '/bin/sh', '-c', 'uname -n'];
    expect((await host.run('systemd-run', run)).stdout.trim()).toBe('full');
    const active = ['-M', 'full', 'is-active', 'shutdown-marker.service'];
    expect((await host.run('systemctl', active)).stdout.trim()).toBe('active');
    await host.run('systemd-run', ['-M', 'full', '--wait', '-q', '/bin/echo', 'written inside']);
    const inside = ['-M', 'full', '--no-pager', '-o', 'cat'];
    await host.waitFor('the entry is in the journal of the guest', async () =>
      (await host.run('journalctl', inside)).stdout.includes('written inside'),
    );
    await host.writeFile('/root/letter', 'from the host');
    await host.run('machinectl', ['copy-to', 'full', '/root/letter', '/root/letter']);
    expect(await host.readFile('/var/lib/lxc/full/rootfs/root/letter')).toBe('from the host');
  });

  test.each([
    ['full', 'systemctl reboot'],
    ['tiny', 'reboot'],
  ])('%s is a machine again after "%s" inside', async (name, command) => {
    const before = await guestPid(host, name);
    await host.run('lxc-attach', ['-n', name, '--', '/bin/sh', '-c', command], { reject: false });
    await host.waitFor('it has rebooted', async () => {
      const now = await guestPid(host, name);
      return now !== undefined && now !== before;
    });
    await host.waitForGuest(name);
    await expectRegistered(name);
  });
});

describe('a container that stops', () => {
  test.each(['tiny', 'full'])('%s leaves no machine behind, and is one again', async (name) => {
    await systemctl(host, 'stop', `lxc@${name}`);
    await untilForgotten(name);
    await systemctl(host, 'start', `lxc@${name}`);
    await systemctl(host, 'restart', `lxc@${name}`);
    await host.waitForGuest(name);
    await expectRegistered(name);
  });

  test('nor does one whose monitor is killed', async () => {
    const { MainPID = '' } = await host.unit('lxc@tiny');
    await host.run('kill', ['-9', MainPID]);
    await untilForgotten('tiny');
    await systemctl(host, 'start', 'lxc@tiny');
    await host.waitForGuest('tiny');
    await expectRegistered('tiny');
  });
});

describe('machinectl', () => {
  test('terminate stops the unit: the guest shuts down', async () => {
    await host.clearMarker('tiny');
    await host.run('machinectl', ['terminate', 'tiny']);
    await untilStopped('tiny');
    expect(await host.marker('tiny')).toBeDefined();
    expect((await host.unit('lxc@tiny'))['Result']).toBe('success');
    await untilForgotten('tiny');
    await systemctl(host, 'start', 'lxc@tiny');
    await host.waitForGuest('tiny');
  });

  test('poweroff and reboot are heard by systemd alone', async () => {
    const before = await guestPid(host, 'full');
    await host.run('machinectl', ['reboot', 'full']);
    await host.waitFor('it has rebooted', async () => {
      const now = await guestPid(host, 'full');
      return now !== undefined && now !== before;
    });
    await host.waitForGuest('full');
    await host.clearMarker('full');
    await host.run('machinectl', ['poweroff', 'tiny', 'full']);
    await untilStopped('full');
    expect(await host.marker('full')).toBeDefined();
    await expectState(host, 'lxc@tiny', 'active');
    await systemctl(host, 'start', 'lxc@full');
  });

  test("is a second door for whom polkit lets in, and the example's rule shuts it", async () => {
    const terminate = async (): Promise<string> => {
      const user = ['--reuid=65534', '--regid=65534', '--clear-groups', 'machinectl'];
      const args = [...user, '--no-ask-password', 'terminate', 'tiny'];
      const { stdout, stderr, exitCode } = await host.run('setpriv', args, { reject: false });
      return exitCode === 0 ? 'done' : stdout + stderr;
    };
    expect(await terminate()).toMatch(/Interactive authentication required/);
    const open = `polkit.addRule(function (action) {
      if (action.id === "org.freedesktop.machine1.manage-machines") return polkit.Result.YES;
    });\n`;
    await host.writeFile('/etc/polkit-1/rules.d/61-open.rules', open);
    await host.waitFor('the rule counts', async () => (await terminate()) === 'done');
    await untilStopped('tiny');
    await systemctl(host, 'start', 'lxc@tiny');
    const rule = new URL('../../src/examples/rules/60-machines.rules', import.meta.url);
    await host.writeFile('/etc/polkit-1/rules.d/60-machines.rules', readFileSync(rule, 'utf8'));
    await host.waitFor('the example counts', async () => {
      const answer = await terminate();
      if (answer === 'done') await systemctl(host, 'start', 'lxc@tiny');
      return /Access denied|not authorized/i.test(answer);
    });
    await expectState(host, 'lxc@tiny', 'active');
    // Root is not asked.
    await host.run('machinectl', ['terminate', 'tiny']);
    await untilStopped('tiny');
  });
});

test('a machine that is not ours stays, with a warning, and the container runs', async () => {
  await untilForgotten('tiny');
  const manager = ['org.freedesktop.machine1', '/org/freedesktop/machine1'];
  const { MainPID = '' } = await host.unit('systemd-udevd.service');
  await host.run('busctl', [
    ...['call', '--quiet', ...manager, 'org.freedesktop.machine1.Manager', 'RegisterMachine'],
    ...['sayssus', 'tiny', '0', 'somebody', 'container', MainPID, ''],
  ]);
  await systemctl(host, 'start', 'lxc@tiny');
  expect(await property('tiny', 'Service')).toBe('somebody');
  expect(await journalOf(host, 'lxc@tiny')).toContain(
    'not a machine of systemd-machined: there is another machine of the name tiny',
  );
});

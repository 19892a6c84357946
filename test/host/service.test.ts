import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { escapeLabel } from '../../src/model/object-label.ts';
import { escapeInstance } from '../../src/model/unit-name.ts';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage, containerProperty, runAs } from '../machines/service.ts';
import { guestPid, offline, systemctl, trySystemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

const name = 'org.lockerd1';
const manager = '/org/lockerd1';
const many = Array.from({ length: 50 }, (_, index) => `n${String(index + 1).padStart(2, '0')}`);

/** A user with a rule; nobody else is allowed anything. */
const rules = `
polkit.addRule(function (action, subject) {
  if (action.id.indexOf("org.lockerd1.") === 0 && subject.user === "keeper") {
    return polkit.Result.YES;
  }
});
`;

const fstab = `
/srv/web_vol  /lockers/web_vol  none   bind     0 0
data          /lockers/data     tmpfs  size=1m  0 0
`;

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'service', boot: false });
  await host.createContainer('web_vm', 'busybox', { config: offline });
  await host.createContainer('db', 'sysvinit', { config: offline });
  await host.createContainer('deaf', 'busybox', { config: offline, shutdown: 'ignored' });
  await host.createContainer('slow', 'busybox', {
    config: [...offline, 'lxc.hook.pre-start = /usr/local/bin/slow'],
  });
  for (const container of many) {
    await host.createContainer(container, 'busybox', { config: offline });
  }
  await host.writeFile('/usr/local/bin/slow', '#!/bin/sh\nexec sleep 60\n', 0o755);
  await host.writeFile('/etc/lockerd/containers/deaf.conf', 'stop-timeout = 60s\n');
  await host.writeFile('/etc/fstab', fstab);
  await host.writeFile('/srv/web_vol/file', 'text\n');
  await host.writeFile('/etc/polkit-1/rules.d/10-keeper.rules', rules);
  await host.boot();
  await configurePackage(host);
  await host.run('useradd', ['--no-create-home', 'keeper']);
  await host.run('useradd', ['--no-create-home', 'stranger']);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

beforeEach(async () => {
  // Whatever the test before has left.
  await systemctl(host, 'start', 'lockerd.service');
});

const pathOf = (container: string) => `${manager}/container/${escapeLabel(container)}`;
const unitOf = (container: string) => `lxc@${escapeInstance(container)}.service`;

const property = (container: string, key: string) => containerProperty(host, container, key);

const state = (container: string) => property(container, 'State');

async function untilState(container: string, wanted: string): Promise<void> {
  await host.waitFor(`${container} is ${wanted}`, async () => (await state(container)) === wanted);
}

type Answer = Awaited<ReturnType<typeof runAs>>;

function callAs(user: string, member: string, ...args: string[]): Promise<Answer> {
  const options = ['--timeout=150', '--allow-interactive-authorization=no', 'call'];
  const target = [name, manager, `${name}.Manager`, member];
  return runAs(host, user, 'busctl', ...options, ...target, ...args);
}

/** Calls as root and waits for the job's end. */
function order(member: string, container: string, ...options: string[]): Promise<Answer> {
  const all = ['wait', 'b', 'true', ...options];
  return callAs('root', member, 'sa{sv}', container, String(all.length / 3), ...all);
}

async function expectDone(answer: Promise<Answer>): Promise<void> {
  const { output } = await answer;
  expect(output).toMatch(/^o "\/org\/lockerd1\/job\/\d+"/);
}

/** Starts an operation and answers with its job's path. */
async function begin(member: string, container: string): Promise<string> {
  const { output } = await callAs('root', member, 'sa{sv}', container, '0');
  return /"(.*)"/.exec(output)?.[1] ?? output;
}

async function resultOf(job: string): Promise<string> {
  const target = [name, job, `${name}.Job`, 'Wait', 't', '100000000'];
  return (await host.run('busctl', ['--timeout=150', 'call', ...target])).stdout;
}

/** Everything that the service tells while something happens, as JSON lines. */
async function signalsDuring(action: () => Promise<void>): Promise<string> {
  const file = '/run/signals';
  const match = `type='signal',sender='${name}'`;
  await host.shell(`
    (exec busctl --json=short --match "${match}" monitor > ${file} 2> /dev/null) < /dev/null &
    echo $! > ${file}.pid
    until busctl --no-legend list | grep -q "busctl"; do sleep 0.1; done; sleep 1`);
  try {
    await action();
    await new Promise((resolve) => setTimeout(resolve, 500));
  } finally {
    await host.shell(`kill "$(cat ${file}.pid)"`);
  }
  return host.readFile(file);
}

/** The words that a container's State had, in the order they were told. */
function statesIn(signals: string, container: string): string[] {
  return signals.split('\n').flatMap((line) => {
    if (!line.includes('"PropertiesChanged"')) return [];
    const { path, payload } = JSON.parse(line) as {
      path: string;
      payload: { data: [string, Record<string, { data: string } | undefined>] };
    };
    const told = path === pathOf(container) ? payload.data[1]['State'] : undefined;
    return told ? [told.data] : [];
  });
}

describe('a container is seen as it is', () => {
  test('when systemctl starts and stops it', async () => {
    const signals = await signalsDuring(async () => {
      await systemctl(host, 'start', unitOf('db'));
      await untilState('db', 'running');
      expect(await property('db', 'Leader')).toBe(await guestPid(host, 'db'));
      await host.waitForGuest('db');
      await systemctl(host, 'stop', unitOf('db'));
      await untilState('db', 'stopped');
      expect(await property('db', 'Leader')).toBe(0);
    });
    const states = statesIn(signals, 'db');
    expect(states.filter((one) => one === 'running')).toHaveLength(1);
    expect(states.slice(0, 2)).toEqual(['starting', 'running']);
    expect(states.slice(-2)).toEqual(['stopping', 'stopped']);
  });

  test('when LXC freezes, thaws and stops it', async () => {
    await systemctl(host, 'start', unitOf('db'));
    await host.waitForGuest('db');
    await host.run('lxc-freeze', ['-n', 'db']);
    await untilState('db', 'frozen');
    await host.run('lxc-unfreeze', ['-n', 'db']);
    await untilState('db', 'running');
    await host.run('lxc-stop', ['-n', 'db'], { timeoutMs: 90_000 });
    await untilState('db', 'stopped');
  });

  test('when the guest reboots and powers off by itself', async () => {
    await systemctl(host, 'start', unitOf('db'));
    await host.waitForGuest('db');
    const before = await guestPid(host, 'db');
    await host.run('lxc-attach', ['-n', 'db', '--', '/sbin/reboot'], { reject: false });
    await host.waitFor('another guest runs', async () => {
      const leader = await property('db', 'Leader');
      return leader !== before && leader !== 0 && (await state('db')) === 'running';
    });
    expect(await property('db', 'Leader')).toBe(await guestPid(host, 'db'));
    await host.waitForGuest('db');
    await host.run('lxc-attach', ['-n', 'db', '--', '/sbin/poweroff'], { reject: false });
    await untilState('db', 'stopped');
  });

  test('when its monitor is killed', async () => {
    await systemctl(host, 'start', unitOf('db'));
    await untilState('db', 'running');
    await host.run('kill', ['-KILL', (await host.unit(unitOf('db')))['MainPID'] ?? '']);
    await untilState('db', 'failed');
    expect(await property('db', 'Leader')).toBe(0);
    await systemctl(host, 'reset-failed', unitOf('db'));
    await untilState('db', 'stopped');
  });

  test('when it runs outside its unit, which a stop does not pretend to change', async () => {
    await host.run('lxc-start', ['-n', 'db']);
    await untilState('db', 'running');
    await host.waitForGuest('db');
    const { output } = await order('StopContainer', 'db');
    expect(output).toContain(
      `runs outside its unit ${unitOf('db')}; to start it there, first stop it with: lxc-stop -n`,
    );
    expect(await state('db')).toBe('running');
    await host.run('lxc-stop', ['-n', 'db'], { timeoutMs: 90_000 });
    await untilState('db', 'stopped');
  });

  test('when it is made and destroyed', async () => {
    const containers = async () => (await callAs('root', 'ListContainers')).output;
    await host.createContainer('fresh', 'busybox', { config: offline });
    await systemctl(host, 'daemon-reload');
    await host.waitFor('fresh is there', async () => (await containers()).includes('"fresh"'));
    await host.run('lxc-destroy', ['-n', 'fresh']);
    await systemctl(host, 'daemon-reload');
    await host.waitFor('fresh is gone', async () => !(await containers()).includes('"fresh"'));
  });
});

describe('an operation', () => {
  test('is told before its reply, from start to stop', async () => {
    await expectDone(order('StartContainer', 'web_vm'));
    expect(await state('web_vm')).toBe('running');
    const sandboxless = [['web_vol', `${manager}/locker/web_5fvol`, false]];
    expect(await property('web_vm', 'Lockers')).toEqual(sandboxless);
    await host.waitForGuest('web_vm');
    await expectDone(order('FreezeContainer', 'web_vm'));
    expect(await state('web_vm')).toBe('frozen');
    await expectDone(order('ThawContainer', 'web_vm'));
    expect(await state('web_vm')).toBe('running');
    const mount = ['ssa{sv}', 'web_vm', 'data', '2', 'wait', 'b', 'true', 'read-only', 'b', 'true'];
    await expectDone(callAs('root', 'MountLocker', ...mount));
    expect(await property('web_vm', 'Lockers')).toEqual([
      ['data', `${manager}/locker/data`, true],
      ...sandboxless,
    ]);
    const unmount = ['ssa{sv}', 'web_vm', 'data', '1', 'wait', 'b', 'true'];
    await expectDone(callAs('root', 'UnmountLocker', ...unmount));
    expect(await property('web_vm', 'Lockers')).toEqual(sandboxless);
    const leader = await property('web_vm', 'Leader');
    await expectDone(order('RebootContainer', 'web_vm'));
    expect(await property('web_vm', 'Leader')).not.toBe(leader);
    await host.waitForGuest('web_vm');
    await host.clearMarker('web_vm');
    await expectDone(order('StopContainer', 'web_vm'));
    expect(await state('web_vm')).toBe('stopped');
    expect(await property('web_vm', 'Lockers')).toEqual([]);
    expect(await host.marker('web_vm')).toBeDefined();
  });

  test('has one container for itself, and both clients learn how it ended', async () => {
    const first = await begin('StartContainer', 'slow');
    await untilState('slow', 'starting');
    const second = await callAs('keeper', 'StartContainer', 'sa{sv}', 'slow', '0');
    expect(second.output).toMatch(/busy with job \d+ \(start of container "slow"\)/);
    const waiting = resultOf(first);
    // A stop is what an admin wants now.
    await expectDone(order('StopContainer', 'slow'));
    expect(await waiting).toContain('"cancelled" "org.lockerd1.Error.Cancelled"');
    expect(await state('slow')).not.toBe('running');
    expect((await host.unit(unitOf('slow')))['ActiveState']).not.toMatch(/^(de)?activ/);
  });

  test('of a start is undone when it is cancelled', async () => {
    const job = await begin('StartContainer', 'slow');
    await untilState('slow', 'starting');
    await host.run('busctl', ['call', name, job, `${name}.Job`, 'Cancel', 'a{sv}', '0']);
    expect(await resultOf(job)).toContain('"cancelled"');
    expect((await host.unit(unitOf('slow')))['ActiveState']).not.toMatch(/^(de)?activ/);
  });

  test('with force ends a guest that does not listen', async () => {
    await systemctl(host, 'start', unitOf('deaf'));
    await host.waitForGuest('deaf');
    const polite = await begin('StopContainer', 'deaf');
    await untilState('deaf', 'stopping');
    await expectDone(order('StopContainer', 'deaf', 'force', 'b', 'true'));
    expect(await resultOf(polite)).toContain('"cancelled"');
    expect(await guestPid(host, 'deaf')).toBeUndefined();
    expect(await state('deaf')).toMatch(/^(stopped|failed)$/);
    await trySystemctl(host, 'reset-failed', unitOf('deaf'));
  });

  test('of systemctl in between is seen in its result', async () => {
    const job = await begin('StartContainer', 'slow');
    await untilState('slow', 'starting');
    await systemctl(host, 'stop', unitOf('slow'));
    expect(await resultOf(job)).toContain('"failed" "org.lockerd1.Error.Failed"');
  });

  test('on fifty containers at once', async () => {
    const drive = (member: string) => {
      const calls = many.map(
        (container) =>
          `busctl --timeout=200 call ${name} ${manager} ${name}.Manager ${member} 'sa{sv}' ` +
          `${container} 1 wait b true &`,
      );
      return host.shell(`${calls.join('\n')}\nwait`, { timeoutMs: 220_000 });
    };
    const started = await drive('StartContainer');
    expect(started.stdout.match(/^o /gm) ?? [], started.stderr).toHaveLength(many.length);
    const all = async () => (await callAs('root', 'ListContainers')).output;
    expect((await all()).match(/"n\d\d" "running"/g)).toHaveLength(many.length);
    const stopped = await drive('StopContainer');
    expect(stopped.stdout.match(/^o /gm) ?? [], stopped.stderr).toHaveLength(many.length);
    expect((await all()).match(/"n\d\d" "stopped"/g)).toHaveLength(many.length);
  });
});

describe('strangers', () => {
  /** Objects below the manager, as the service lists them. */
  async function objects(): Promise<string[]> {
    const { stdout } = await host.run('busctl', ['tree', '--list', name]);
    return stdout.split('\n').filter((line) => line.startsWith(manager));
  }

  test('may look at everything and do nothing', async () => {
    await systemctl(host, 'start', unitOf('db'));
    await host.waitForGuest('db');
    // lockerd hears of the guest a moment later.
    await untilState('db', 'running');
    // A job of somebody else's.
    const job = await begin('StartContainer', 'slow');
    await untilState('slow', 'starting');
    const before = await callAs('root', 'ListContainers');
    const jobs = await callAs('root', 'ListJobs');
    let refused = 0;
    const kinds = (await objects()).filter((path) => !/\/(n\d\d|job\/\d+)$/.test(path));
    for (const path of [...kinds, job]) {
      for (const { iface, member, args } of await guarded(path)) {
        const options = ['--timeout=60', '--allow-interactive-authorization=no', 'call'];
        const target = [name, path, iface, member, ...args];
        const { exitCode, output } = await runAs(host, 'stranger', 'busctl', ...options, ...target);
        const what = `${path} ${member}: ${output}`;
        expect(exitCode, what).not.toBe(0);
        expect(output, what).toMatch(/Access denied|Interactive authentication required|password/);
        refused++;
      }
    }
    // Of the manager, of each of the containers and lockers that were walked, and of the job.
    expect(refused).toBe(17 + 10 * 4 + 5 * 2 + 1);
    expect(await callAs('stranger', 'ListContainers')).toEqual(before);
    expect(await callAs('stranger', 'ListJobs')).toEqual(jobs);
    await expectDone(order('StopContainer', 'slow'));
  });

  /** Methods that are not free, with arguments that make sense. */
  async function guarded(
    path: string,
  ): Promise<{ iface: string; member: string; args: string[] }[]> {
    const xml = (await host.run('busctl', ['introspect', '--xml-interface', name, path])).stdout;
    const values: Record<string, readonly string[]> = {
      container: ['db'],
      locker: ['data'],
      limit_bytes: ['1073741824'],
      size_bytes: ['1073741824'],
      name: ['fresh'],
      snapshot: ['monday'],
      limits: ['1', 'tasks', 't', '50'],
      autostart: ['true'],
      options: ['0'],
    };
    const free = /^(List|Get|Describe|Look)|^Wait$/;
    const found = [];
    for (const [, iface = '', body = ''] of xml.matchAll(
      /<interface name="(org\.lockerd1\.\w+)">([^]*?)<\/interface>/g,
    )) {
      for (const [, member = '', inner = ''] of body.matchAll(
        /<method name="(\w+)">([^]*?)<\/method>/g,
      )) {
        if (free.test(member)) continue;
        const incoming = [...inner.matchAll(/<arg name="(\w+)" type="([^"]+)" direction="in"\/>/g)];
        const signature = incoming.map(([, , type]) => type).join('');
        const args = incoming.flatMap(([, argument = '']) => values[argument] ?? ['?']);
        found.push({ iface, member, args: [signature, ...args] });
      }
    }
    return found;
  }

  test('learn what they may do', async () => {
    const permissions = async (user: string) =>
      (await callAs(user, 'GetPermissions', 'o', pathOf('db'))).output;
    expect(await permissions('stranger')).not.toContain('"yes"');
    expect(await permissions('keeper')).toContain('"org.lockerd1.start" "yes"');
  });

  test('leave their names in the journal', async () => {
    const { output } = await callAs('stranger', 'StopContainer', 'sa{sv}', 'db', '0');
    expect(output).not.toMatch(/^o /);
    const uid = (await host.run('id', ['-u', 'stranger'])).stdout.trim();
    await host.waitFor('the decision is in the journal', async () => {
      const fields = [`LOCKERD_UID=${uid}`, 'LOCKERD_VERB=stop', 'LOCKERD_CONTAINER=db'];
      const { stdout } = await host.run('journalctl', ['--sync']);
      const options = ['-t', 'lockerd', '--output=json', '--no-pager'];
      const entries = await host.run('journalctl', [...options, ...fields]);
      return stdout === '' && entries.stdout.includes('"LOCKERD_DECISION":"challenge"');
    });
  });
});

describe('the journal', () => {
  /** Messages of the service's own entries, the oldest first. */
  const entries = async (...matches: string[]) => {
    await host.run('journalctl', ['--sync']);
    const { stdout } = await host.run('journalctl', ['--unit=lockerd', '--output=cat', ...matches]);
    return stdout.split('\n');
  };

  test('has every entry of the service under its unit, also the last ones', async () => {
    const uid = (await host.run('id', ['-u', 'stranger'])).stdout.trim();
    const match = [`LOCKERD_UID=${uid}`, 'LOCKERD_CONTAINER=db'];
    const before = (await entries(...match)).length;
    for (let count = 0; count < 20; count++) {
      await callAs('stranger', 'StopContainer', 'sa{sv}', 'db', '0');
    }
    await systemctl(host, 'stop', 'lockerd.service');
    expect((await entries(...match)).length - before).toBe(20);
  });

  test('has what systemctl service-log-level says', async () => {
    const level = (...args: string[]) => host.run('systemctl', ['service-log-level', ...args]);
    expect((await level('lockerd')).stdout).toBe('info\n');
    await level('lockerd', 'debug');
    expect((await level('lockerd')).stdout).toBe('debug\n');
    await callAs('stranger', 'ListContainers');
    await host.waitFor('the call is told of', async () =>
      (await entries('LOCKERD_MEMBER=ListContainers')).some((line) => line.includes('answered')),
    );
    await level('lockerd', 'info');
  });
});

test('no container has to wait for news until the hook of another one ends', async () => {
  await systemctl(host, 'start', unitOf('web_vm'));
  await host.waitForGuest('web_vm');
  await begin('StartContainer', 'slow');
  await untilState('slow', 'starting');
  const helper = '/usr/lib/lockerd/lockerd-helper';
  const { stdout } = await host.shell(`(echo '{"verb":"watch"}'; sleep 12) | ${helper}`);
  const events = stdout.split('\n');
  const ready = events.indexOf('{"event":"ready"}');
  expect(ready, stdout).toBeGreaterThan(0);
  const first = events.slice(0, ready);
  const leader = String(await guestPid(host, 'web_vm'));
  const running = `{"event":"state","container":"web_vm","state":"RUNNING","leader":${leader}}`;
  expect(first).toContain(running);
  expect(first.join()).toContain('"container":"slow"');
  expect(stdout.match(/"container":"n\d\d","state":"STOPPED"/g)).toHaveLength(many.length);
  await expectDone(order('StopContainer', 'slow'));
});

describe('whatever ends', () => {
  test('a killed lockerd comes back and finds what goes on', async () => {
    await systemctl(host, 'start', unitOf('web_vm'));
    await host.waitForGuest('web_vm');
    const leader = await guestPid(host, 'web_vm');
    await begin('StartContainer', 'slow');
    await untilState('slow', 'starting');
    const pid = (await host.unit('lockerd.service'))['MainPID'] ?? '';
    await host.run('kill', ['-KILL', pid]);
    await host.waitFor('another lockerd runs', async () => {
      const unit = await host.unit('lockerd.service');
      return unit['ActiveState'] === 'active' && unit['MainPID'] !== pid;
    });
    expect(await state('slow')).toBe('starting');
    expect(await state('web_vm')).toBe('running');
    await host.waitFor('LXC has told its leader', async () => {
      return (await property('web_vm', 'Leader')) === leader;
    });
    expect((await callAs('root', 'ListJobs')).output).toBe('a(usso) 0\n');
    await expectDone(order('StopContainer', 'slow'));
  });

  test('systemd executes itself anew, and its news still arrive', async () => {
    await systemctl(host, 'daemon-reexec');
    expect(await state('web_vm')).toBe('running');
    await systemctl(host, 'stop', unitOf('web_vm'));
    await untilState('web_vm', 'stopped');
    await expectDone(order('StartContainer', 'web_vm'));
    expect(await state('web_vm')).toBe('running');
  });

  test('polkit is stopped, and is started again when it is needed', async () => {
    await systemctl(host, 'stop', 'polkit.service');
    await expectDone(order('StopContainer', 'web_vm'));
  });

  test('the bus is restarted, and no container is harmed', async () => {
    await systemctl(host, 'start', unitOf('web_vm'));
    await host.waitForGuest('web_vm');
    const leader = await guestPid(host, 'web_vm');
    await systemctl(host, 'restart', 'dbus.service');
    await host.waitFor('lockerd answers again', async () => {
      const { output } = await callAs('root', 'ListContainers');
      return output.includes('"web_vm" "running"');
    });
    expect(await guestPid(host, 'web_vm')).toBe(leader);
    await expectDone(order('StopContainer', 'web_vm'));
  });
});

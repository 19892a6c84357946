import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const source = readFileSync(join(import.meta.dirname, '../../hooks/container-start'), 'utf8');
const services = 'usr/share/dbus-1/system-services';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-machined-'));
  for (const directory of [services, 'etc/systemd/system', 'run/systemd/system']) {
    mkdirSync(join(root, directory), { recursive: true });
  }
  writeFileSync(join(root, services, 'org.freedesktop.machine1.service'), '');
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

/** What container-start gives to lxc-start, on a host whose files are below `root`. */
function argumentsOf(environment: Record<string, string> = {}): string {
  const script = source
    .replaceAll('/usr/bin/lxc-start', '/bin/echo')
    .replaceAll(/'(\/(?:etc|run|usr\/share|sys\/fs)\/)/g, `'${root}$1`);
  const { status, stdout, stderr } = spawnSync('perl', ['-e', script, '--', 'web'], {
    encoding: 'utf8',
    env: { RUNTIME_DIRECTORY: root, LOCKERD_LOG: 'own', ...environment },
  });
  expect(status, stderr).toBe(0);
  expect(stdout).toMatch(/^web/);
  return stdout.trim();
}

const hook = (name: string): string => `-s lxc.hook.start-host=/usr/lib/lockerd/hooks/${name}`;

function isRegistered(environment: Record<string, string> = {}): boolean {
  const text = argumentsOf(environment);
  // LXC writes "exec" before a hook.
  const start = `-s lxc.hook.start-host=</dev/null; [ ! -e "$RUNTIME_DIRECTORY/started" ] || `;
  const stop = `-s lxc.hook.post-stop=</dev/null; [ ! -h "/run/systemd/machines/unit:$LOCKERD_UNIT" ] || `;
  const hooks = '/usr/lib/lockerd/hooks';
  if (!text.includes('machine')) return false;
  expect(text).toContain(`${start}exec ${hooks}/register-machine`);
  expect(text).toContain(`${stop}exec ${hooks}/forget-machine`);
  return true;
}

test('where systemd-machined is installed and not masked, it is told of the guest', () => {
  expect(isRegistered()).toBe(true);
  rmSync(join(root, services), { recursive: true });
  expect(isRegistered()).toBe(false);
});

test.each(['etc', 'run'])(
  'a mask in /%s keeps it from that, unless the settings say yes',
  (place) => {
    symlinkSync('/dev/null', join(root, place, 'systemd/system/systemd-machined.service'));
    expect(isRegistered()).toBe(false);
    expect(isRegistered({ LOCKERD_MACHINED: 'yes' })).toBe(true);
  },
);

test('the settings can say no', () => {
  expect(isRegistered({ LOCKERD_MACHINED: 'no' })).toBe(false);
});

describe('without systemd-machined', () => {
  const none = { LOCKERD_MACHINED: 'no' };

  test.each([{}, { LOCKERD_JOURNAL: 'guest' }, { CREDENTIALS_DIRECTORY: '' }])(
    'nothing is added for %j',
    (environment) => {
      expect(argumentsOf({ ...none, ...environment })).toBe('web');
    },
  );

  test('the journal is linked where the settings say so', () => {
    expect(argumentsOf({ ...none, LOCKERD_JOURNAL: 'host' })).toBe(`web ${hook('link-journal')}`);
  });

  test('credentials of the unit are passed, unless the init is another than systemd', () => {
    const unit = { ...none, CREDENTIALS_DIRECTORY: '/run/credentials/lxc@web.service' };
    expect(argumentsOf(unit)).toBe(
      'web -s lxc.environment=CREDENTIALS_DIRECTORY=/run/host/credentials ' +
        hook('pass-credentials'),
    );
    expect(argumentsOf({ ...unit, LOCKERD_INIT: 'other' })).toBe('web');
  });
});

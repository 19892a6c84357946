import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

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

/** Whether container-start has lxc-start run the hook, on a host whose files are below `root`. */
function isRegistered(environment: Record<string, string> = {}): boolean {
  const script = source
    .replaceAll('/usr/bin/lxc-start', '/bin/echo')
    .replaceAll(/'(\/(?:etc|run|usr\/share|sys\/fs)\/)/g, `'${root}$1`);
  const { status, stdout, stderr } = spawnSync('perl', ['-e', script, '--', 'web'], {
    encoding: 'utf8',
    env: { RUNTIME_DIRECTORY: root, LOCKERD_LOG: 'own', ...environment },
  });
  expect(status, stderr).toBe(0);
  expect(stdout).toMatch(/^web/);
  return stdout.includes('lxc.hook.start-host=/usr/lib/lockerd/hooks/register-machine');
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

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { generate } from '../../src/generator/main.ts';
import { Files } from '../../src/host/files.ts';
import { HostReader } from '../../src/host/read.ts';
import { unitWord } from '../../src/model/unit-syntax.ts';
import { containerUnit, mountUnit } from '../../src/model/unit-name.ts';

const hook = join(import.meta.dirname, '../../hooks/rescan');

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-rescan-'));
  put('bin/systemctl', `#!/bin/sh\necho "$@" >>'${root}/calls'\n`);
  mkdirSync(join(root, 'lxc'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text, { mode: 0o755 });
}

/** What the generator has written of a container. */
function knows(name: string): void {
  put(`units/${containerUnit(name)}.d/60-container.conf`, '');
}

function knowsLockers(place: string, ...lockers: string[]): void {
  const lines = lockers.map((name) => `Locker=${unitWord(name)} ${unitWord(`${place}/${name}`)}\n`);
  put(
    'units/lockerd.service.d/60-host.conf',
    `[X-Lockerd]\nLockerDirectory=${unitWord(place)}\n${lines.join('')}`,
  );
}

function mounted(...mounts: [path: string, type?: string][]): void {
  const lines = mounts.map(
    ([path, type = 'zfs']) =>
      `30 22 0:30 / ${path.replaceAll(' ', '\\040')} rw shared:2 - ${type} tank rw\n`,
  );
  put('mountinfo', lines.join(''));
}

function seen(path: string): string {
  const { dev, ino } = statSync(join(root, path), { bigint: true });
  return `${dev}:${ino}=${root}/${path}`;
}

/** Runs the hook with its directories in ours; answers what it said and asked of systemd. */
function rescan(...args: string[]): { said: string; calls: string } {
  const text = readFileSync(hook, 'utf8')
    .replaceAll('/run/systemd/generator', `${root}/units`)
    .replaceAll('/proc/1/mountinfo', `${root}/mountinfo`);
  const { stdout, stderr } = spawnSync('perl', ['-e', text, '--', ...args], {
    encoding: 'utf8',
    env: { PATH: `${root}/bin:${process.env['PATH'] ?? ''}` },
  });
  const calls = join(root, 'calls');
  return {
    said: (stdout + stderr).replaceAll(root, ''),
    calls: existsSync(calls) ? readFileSync(calls, 'utf8') : '',
  };
}

const reloaded = 'daemon-reload\nstart --no-block lxc-autostart.target\n';

test('what is as the generator saw it needs no second run', () => {
  for (const name of ['web', 'my web', 'ä-1@x', 'a\\b%']) {
    knows(name);
    put(`lxc/${name}/config`, '');
  }
  put('lxc/.hidden/config', '');
  put('lxc/no-container/x', '');
  put(`lxc/${'x'.repeat(250)}/config`, '');
  put('lxc/con\ttrol/config', '');
  knowsLockers('/my lockers', 'a', 'with "quote" 50%');
  mounted(
    ['/my lockers/a'],
    ['/my lockers/with "quote" 50%'],
    ['/my lockers/idle', 'autofs'],
    ['/my lockers/a/deep'],
    ['/my lockersx/b'],
    ['/my lockers'],
  );
  expect(rescan(seen('lxc'), `-=${root}/absent`)).toEqual({ said: '', calls: '' });
});

test('a path that was mounted makes the generator run again', () => {
  const { said, calls } = rescan(`1:2=${root}/lxc`);
  expect(said).toBe('/lxc has been mounted or changed since the generator ran\n');
  expect(calls).toBe(reloaded);
});

test.each(['web', 'my web', 'ä-1@x'])('a container "%s" that has appeared is found', (name) => {
  put(`lxc/${name}/config`, '');
  const { said, calls } = rescan(seen('lxc'));
  expect(said).toBe(`the container "${name}" has appeared since the generator ran\n`);
  expect(calls).toBe(reloaded);
});

test('a container is found whose config or directory is a link', () => {
  put('elsewhere/config', '');
  symlinkSync('../elsewhere', join(root, 'lxc/one'));
  mkdirSync(join(root, 'lxc/two'));
  symlinkSync('nowhere', join(root, 'lxc/two/config'));
  expect(rescan(seen('lxc')).said).toMatch(/"one" has appeared.*\n.*"two" has appeared/);
});

test('a locker that somebody has mounted is found', () => {
  knowsLockers('/lockers', 'a');
  mounted(['/lockers/a'], ['/lockers/my films', 'btrfs']);
  const { said, calls } = rescan();
  expect(said).toBe('the locker /lockers/my films has appeared since the generator ran\n');
  expect(calls).toBe(reloaded);
});

test('a locker is found that another generator has a unit for', () => {
  knowsLockers('/my-lockers', 'a');
  mounted();
  for (const path of ['/my-lockers/a', '/my-lockers/b-c', '/my-lockers/b-c/deep', '/srv']) {
    put(`units.late/${mountUnit(path)}`, '');
  }
  const { said, calls } = rescan();
  expect(said).toBe('the locker /my-lockers/b-c has appeared since the generator ran\n');
  expect(calls).toBe(reloaded);
});

describe('wake-automounts', () => {
  const idle = 'units/lockerd-automounts';

  /** Runs the hook; "sleep" is counted, and "systemctl" does what the generator would. */
  function wake(reload: string): { said: string; calls: string } {
    put('bin/sleep', `#!/bin/sh\necho "sleep $1" >>'${root}/calls'\n${reload}\n`);
    put('bin/systemctl', `#!/bin/sh\necho "$@" >>'${root}/calls'\nrm -f '${root}/${idle}'\n`);
    const text = readFileSync(join(dirname(hook), 'wake-automounts'), 'utf8').replaceAll(
      '/run/systemd/generator',
      `${root}/units`,
    );
    const { stdout, stderr } = spawnSync('sh', ['-c', text], {
      encoding: 'utf8',
      timeout: 10_000,
      env: { PATH: `${root}/bin:${process.env['PATH'] ?? ''}` },
    });
    const calls = join(root, 'calls');
    return { said: stdout + stderr, calls: existsSync(calls) ? readFileSync(calls, 'utf8') : '' };
  }

  test('reloads systemd once something is mounted', () => {
    put(idle, `${root}/absent\n${root}/my lxc\n`);
    mkdirSync(join(root, 'my lxc'));
    const { said, calls } = wake('');
    expect(said).toBe('automounts that containers need are mounted now\n');
    expect(calls).toBe('daemon-reload\nsleep 1\n');
  });

  test('tries again later and later what cannot be mounted', () => {
    put(idle, `${root}/absent\n`);
    const { said, calls } = wake(
      `[ "$(grep -c sleep '${root}/calls')" -lt 8 ] || mkdir -p '${root}/absent'`,
    );
    expect(said).toBe('automounts that containers need are mounted now\n');
    const pauses = [1, 2, 4, 8, 16, 32, 64, 64].map((seconds) => `sleep ${seconds}\n`);
    expect(calls).toBe(`${pauses.join('')}daemon-reload\nsleep 64\n`);
  });

  test('has nothing to do where nothing is idle', () => {
    expect(wake('')).toEqual({ said: '', calls: '' });
  });
});

describe('the generator lists an automount that was idle', () => {
  const line = (path: string, options = 'rw,fd=30,pgrp=1,timeout=0') =>
    `30 22 0:30 / ${path} rw shared:2 - autofs systemd-1 ${options}\n`;
  const listed = (mountinfo: string): string | undefined =>
    generate('', new Files(mountinfo, (paths) => new Set(paths))).outputs.find(
      ({ path }) => path === 'lockerd-automounts',
    )?.text;

  test('when it had to read there', () => {
    expect(listed(line('/etc'))).toBe('/etc\n');
    expect(listed(line('/nowhere'))).toBeUndefined();
  });

  test('and not for the sake of a guest', () => {
    const files = new Files(line(root), (paths) => new Set(paths));
    const host = new HostReader('', files);
    expect(host.guestInit([root], undefined).init).toBe('unknown');
    expect(files.idleAutomounts).toEqual([]);
    expect(host.readText(`${root}/config`).problem?.isHung).toBe(true);
    expect(files.idleAutomounts).toEqual([root]);
  });
});

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse as parseIni } from 'ini';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseContainerSettings, settingsKeys } from '../../src/host/settings.ts';
import { formatProblem } from '../../src/model/problem.ts';

const hooks = join(import.meta.dirname, '../../hooks');

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockerd-settings-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** What the hooks for lxc-start find wrong. */
function hookProblems(text: string): string[] {
  const file = join(directory, 'web.conf');
  writeFileSync(file, text);
  const script = `. '${hooks}/locker-common'; settings_problems '${file}'`;
  const { stdout, stderr, status } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  return stdout.split('\n').slice(0, -1);
}

/** What the generator finds wrong. */
function unitProblems(text: string): string[] {
  const file = { path: join(directory, 'web.conf'), text, values: parseIni(text) };
  return parseContainerSettings(file, { ready: 'running' }).problems.map(formatProblem);
}

const timespans = ['90', '5min', '1min 30s', '1.5h', 'infinity', '0', ' 2 weeks ', '3d4h', '90 30'];
const noTimespans = ['soon', '', '5 years', '-1', '1..2s', '5MIN', 's', '1s,', '1'.repeat(65)];
const ranges = ['no', '512M 2G', '16M 17m', '0x1000000 1T', '020000000000 0x100000000', '4096k 1G'];
const noRanges = ['yes', '2G 512M', '8M 1G', '512M', '1G max', '512M 2G 3G', '08 1G', '1G 9E', ''];

test.each([
  '',
  '# only\n\n  ; comments\n',
  ...[...timespans, ...noTimespans].map((value) => `start-timeout = ${value}\n`),
  ...noTimespans.map((value) => `# first\nstop-timeout = ${value} # why\n`),
  ...[...ranges, ...noRanges].map((value) => `autoballoon = ${value}\n`),
  'ready = booted\n',
  'ready = boot\n',
  'log-level = debug\n',
  'log-level = LOUD\n',
  'log-level = DEBUG, INFO\n',
  'lockers = music:ro a\\040b extra:rw\n',
  'lockers = ../x\n',
  'lockers = . x\n',
  'lockers = x ..:ro\n',
  'lockers = :ro\n',
  'lockers =\n',
  'wormhole = maybe\n',
  'strict-lockers\n',
  'idmap-lockers = YES\n',
  'locker = music\n',
  'Lockers = music\n',
  'toString = 1\n',
  'locker-directory = /srv\n',
  'bridge-timeout = 5s\nroot-without-polkit = yes\n',
  'stop-timeout = soon\nstop-timeout = 5min\n',
  'stop-timeout = 5min\nready = booted\nstop-timeout = soon\n',
  'ready = "boot"\n',
  "ready = 'booted'\n",
  'lockers[] = music\n',
  '[web]\nready = nonsense\n',
  'stop-timeout = 5min\n[limits]\nx = 1\n[more]\n',
  '[open\n',
  'ready = booted\r\nfoo = 1\r\n',
  'nonsense without a sign\n',
  '= 5\n',
])('the hooks for lxc-start refuse what the unit refuses: %j', (text) => {
  expect(hookProblems(text)).toEqual(unitProblems(text));
});

test('the hooks know every key', () => {
  const text = Object.keys(settingsKeys)
    .map((key) => `${key} = /\n`)
    .join('');
  expect(unitProblems(text)).toHaveLength(Object.keys(settingsKeys).length);
  expect(hookProblems(text)).toEqual(unitProblems(text));
});

/** Runs locker-pre-start on settings of ours, with programs that leave this machine as it is. */
function preStart(settings: string): { status: number | null; said: string } {
  const at = (...path: string[]): string => join(directory, ...path);
  for (const name of ['bin', 'hooks', 'etc/containers']) mkdirSync(at(name), { recursive: true });
  for (const program of [
    'mkdir',
    'mount',
    'umount',
    'mountpoint',
    'findmnt',
    'systemctl',
    'rmdir',
  ]) {
    writeFileSync(at('bin', program), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  }
  writeFileSync(at('bin/logger'), '#!/bin/sh\n', { mode: 0o755 });
  // The mount namespace is always that of the host.
  writeFileSync(at('bin/readlink'), '#!/bin/sh\necho mnt\n', { mode: 0o755 });
  for (const hook of ['locker-common', 'locker-pre-start']) {
    const text = readFileSync(join(hooks, hook), 'utf8')
      .replaceAll('/etc/lockerd', at('etc'))
      .replaceAll('/run/lockerd', at('run'));
    writeFileSync(at('hooks', hook), text, { mode: 0o755 });
  }
  writeFileSync(at('etc/containers/web.conf'), settings);
  const { status, stderr } = spawnSync(at('hooks/locker-pre-start'), [], {
    encoding: 'utf8',
    env: { PATH: `${at('bin')}:${process.env['PATH'] ?? ''}`, LXC_NAME: 'web' },
  });
  return { status, said: stderr.replaceAll(at('etc'), '/etc/lockerd') };
}

test('locker-pre-start says each problem and lets the container not start', () => {
  expect(preStart('locker = music\nstop-timeout = soon\n')).toEqual({
    status: 1,
    said:
      'lockerd: container web: /etc/lockerd/containers/web.conf:1: unknown key "locker"; ' +
      'see lockerd.conf(5)\n' +
      'lockerd: container web: /etc/lockerd/containers/web.conf:2: stop-timeout="soon" ' +
      'is not valid; write a time span such as "90s", "5min" or "infinity"\n',
  });
  // With sound ones it goes on, as far as it comes here.
  expect(preStart('stop-timeout = 5min\n').said).toMatch(/cannot make .*wormholes\/web/);
});

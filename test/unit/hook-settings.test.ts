import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parse as parseIni } from 'ini';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseContainerSettings, settingsKeys } from '../../src/host/settings.ts';
import { main, startLines } from '../../src/lockers/main.ts';
import { formatProblem } from '../../src/model/problem.ts';

const hooks = join(import.meta.dirname, '../../hooks');

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockerd-settings-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** Writes a file of a host whose root directory is ours. */
function put(path: string, text: string): void {
  const file = join(directory, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/** What the program tells the hooks for lxc-start about a container with these settings. */
function linesFor(text: string, name = 'web'): string[] {
  put(`etc/lockerd/containers/${name}.conf`, text);
  return startLines(name, directory);
}

/** What the hooks for lxc-start find wrong. */
function hookProblems(text: string): string[] {
  return linesFor(text).flatMap((line) => /^problem (.*)/.exec(line)?.[1] ?? []);
}

/** What the generator finds wrong. */
function unitProblems(text: string): string[] {
  const file = { path: '/etc/lockerd/containers/web.conf', text, values: parseIni(text) };
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
  for (const name of ['bin', 'hooks']) mkdirSync(at(name), { recursive: true });
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
    const text = readFileSync(join(hooks, hook), 'utf8').replaceAll('/run/lockerd', at('run'));
    writeFileSync(at('hooks', hook), text, { mode: 0o755 });
  }
  put('lines', linesFor(settings).join('\n'));
  writeFileSync(at('lockerd-lockers'), `#!/bin/sh\ncat '${at('lines')}'\n`, { mode: 0o755 });
  const { status, stderr } = spawnSync(at('hooks/locker-pre-start'), [], {
    encoding: 'utf8',
    env: { PATH: `${at('bin')}:${process.env['PATH'] ?? ''}`, LXC_NAME: 'web' },
  });
  return { status, said: stderr };
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

describe('lines of lockerd-lockers', () => {
  const table = (lines: readonly string[]): void => {
    put('etc/fstab', lines.map((line) => `${line}\n`).join(''));
  };
  beforeEach(() => {
    table([
      'a /lockers/web tmpfs noauto 0 0',
      'b /lockers/my\\040data tmpfs noauto,nofail 0 0',
      'c /lockers/sandbox tmpfs noauto 0 0',
      'd /lockers/app_vol tmpfs noauto 0 0',
      'e /lockers/two\\012lines tmpfs noauto 0 0',
      'f /lockers/masked tmpfs noauto 0 0',
    ]);
    put('etc/systemd/system/lockers-masked.mount', '');
    put('lockers/bare/.keep', '');
    put('proc/self/mountinfo', '30 1 0:5 / /lockers/by-hand rw - tmpfs by-hand rw\n');
    put('lockers/by-hand/.keep', '');
    put('etc/lockerd/lockerd.conf', '');
  });

  test('configured, own and shared ones, each once', () => {
    expect(linesFor('lockers = my\\040data:ro by-hand web:ro web')).toEqual([
      'wormhole /lockers',
      'locker ro configured soft /lockers/my data',
      'locker rw configured strict /lockers/by-hand',
      'locker rw configured strict /lockers/web',
      'locker rw shared soft /lockers/sandbox',
    ]);
    expect(linesFor('strict-lockers = no', 'app_vm')).toEqual([
      'wormhole /lockers',
      'locker rw own soft /lockers/app_vol',
      'locker rw shared soft /lockers/sandbox',
    ]);
  });

  test('one that may come later, where it is there', () => {
    const lines = linesFor('lockers = none:auto my\\040data:ro:auto web:auto');
    expect(lines[0]).toMatch(/^say goes without the configured locker none: /);
    expect(lines.slice(2, 4)).toEqual([
      'locker ro configured soft /lockers/my data',
      'locker rw configured soft /lockers/web',
    ]);
  });

  test('what is no locker', () => {
    const missing = (name: string, why: string): string =>
      `missing is not started, because its configured locker ${name} cannot be mounted: ${why}`;
    const unknown = 'is not mounted, and nothing in /etc/fstab or a mount unit mounts it';
    expect(linesFor('lockers = none masked two\\012lines').slice(0, 3)).toEqual([
      missing('none', `/lockers/none ${unknown}`),
      missing('masked', `/lockers/masked ${unknown}`),
      missing('two?lines', 'its name has control characters'),
    ]);
    put('etc/lockerd/lockerd.conf', 'shared-lockers = bare absent\n');
    expect(linesFor('', 'bare')).toEqual([
      'say /lockers/bare is no locker, for nothing mounts it; it is not bound',
      `say goes without the shared locker bare: /lockers/bare ${unknown}`,
      'wormhole /lockers',
    ]);
  });

  test('settings of the host that are wrong have no effect and are said', () => {
    put('etc/lockerd/lockerd.conf', 'locker-directory = nowhere\nlocker-path = "//mnt/./vol/"\n');
    const lines = linesFor('idmap-lockers = yes');
    expect(lines[0]).toMatch(/^say .*lockerd.conf:1: locker-directory="nowhere" is not valid; /);
    expect(lines.slice(1, 3)).toEqual([
      'say idmap-lockers has no effect outside the unit',
      'wormhole /mnt/vol',
    ]);
  });

  test('no wormhole', () => {
    expect(linesFor('wormhole = no')).toEqual([]);
    expect(linesFor('wormhole = no\nlockers = web')).toEqual([
      'problem /etc/lockerd/containers/web.conf:2: lockers are set, and so is "wormhole = no"; ' +
        'remove one of the two',
    ]);
  });

  test.each(['', '.', '..', '.web', 'a/b', '../x', 'a\nb', '\ufffd', 'a'.repeat(256)])(
    'a name that no container has: %j',
    (name) => {
      const refused = ['problem a container of this name cannot have lockers'];
      expect(startLines(name, directory)).toEqual(refused);
    },
  );

  test('arguments', () => {
    const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    const complain = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    try {
      expect(main(['--name=--help'], { LOCKERD_ROOT: `${directory}/` })).toBe(0);
      expect(write).toHaveBeenLastCalledWith(expect.stringContaining('wormhole /lockers\n'));
      expect(main(['--help'], {})).toBe(0);
      expect(main(['--version'], {})).toBe(0);
      expect(write).toHaveBeenLastCalledWith('lockerd-lockers test\n');
      for (const wrong of [[], ['web'], ['--name=web', 'more']]) expect(main(wrong, {})).toBe(2);
      expect(complain).toHaveBeenCalledTimes(3);
    } finally {
      vi.restoreAllMocks();
    }
  });
});

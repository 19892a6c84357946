import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { main } from '../../src/generator/main.ts';
import { system } from '../../src/host/system.ts';

const fixtures = new URL('../fixtures/generator', import.meta.url).pathname;

let directory = '';
let root = '';
let stdout = '';
let stderr = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockerd-main-'));
  root = join(directory, 'root');
  cpSync(join(fixtures, 'broken-unknown-key/root'), root, { recursive: true });
  stdout = '';
  stderr = '';
  // This process is no generator that could be run once more, whatever is mounted here.
  vi.spyOn(system, 'runWatched').mockReturnValue({ status: -1 });
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

function run(...args: string[]): number {
  // Whatever other disks this machine has, nothing is waited for.
  return main(args, { LOCKERD_ROOT: `${root}/` }, '');
}

test.each(['--help', '-h'])('%s shows how to use it', (option) => {
  expect(run(option)).toBe(0);
  expect(stdout).toMatch(/^Usage: lockerd-generator NORMAL \[EARLY LATE\]\n/);
  expect(stderr).toBe('');
});

test('--version shows the version', () => {
  expect(run('--version')).toBe(0);
  expect(stdout).toBe('lockerd-generator test\n');
});

test.each([[[]], [['a', 'b']], [['a', 'b', 'c', 'd']], [['--dry-run', 'a']], [['--frob']], [['']]])(
  'wrong usage: %j',
  (args) => {
    expect(run(...args)).toBe(2);
    expect(stderr).toMatch(/^Usage: /);
    expect(stdout).toBe('');
  },
);

test('--dry-run prints everything and writes nothing', () => {
  const before = readdirSync(directory, { recursive: true }).sort();
  expect(run('--dry-run')).toBe(1);
  expect(stdout).toMatch(/^# lxc@healthy\.service\.d\/60-container\.conf\n# Written by /m);
  expect(stdout).toMatch(
    /^# multi-user\.target\.wants\/lxc@healthy\.service -> \/usr\/lib\/systemd\/system\/lxc@\.service$/m,
  );
  expect(stderr).toMatch(/^lockerd-generator: container "web" will not start: .*\n$/);
  expect(readdirSync(directory, { recursive: true }).sort()).toEqual(before);
});

describe('with directories', () => {
  const units = [
    'lockerd-rescan.service.d',
    'lockerd.service.d',
    'lxc-autostart.target.wants',
    'lxc-group@onboot.target.d',
    'lxc@healthy.service.d',
    'lxc@web.service.d',
    'multi-user.target.wants',
    'var-locker\\x2dmappings.mount',
  ];

  test.each([[['n']], [['n', 'e', 'l']]])('%j: writes into the first only', (names) => {
    const directories = names.map((name) => join(directory, name));
    for (const each of directories) mkdirSync(each);
    expect(run(...directories)).toBe(1);
    expect(directories.map((each) => readdirSync(each).sort())).toEqual([
      units,
      ...directories.slice(1).map(() => []),
    ]);
    expect(stdout).toBe('');
  });

  test('all is well: nothing is said and the status is 0', () => {
    rmSync(join(root, 'var/lib/lxc/web'), { recursive: true });
    expect(run(join(directory, 'n'))).toBe(0);
    expect(stdout + stderr).toBe('');
  });

  test('one line says that nothing could be written', () => {
    rmSync(join(root, 'var/lib/lxc/web'), { recursive: true });
    writeFileSync(join(directory, 'n'), 'a file is in the way');
    expect(run(join(directory, 'n'))).toBe(1);
    expect(stderr).toMatch(
      /^lockerd-generator: cannot make the directory .*: .* \(and \d more files\)\n$/,
    );
  });

  test('a warning alone leaves the status at 0', () => {
    rmSync(join(root, 'var/lib/lxc/web'), { recursive: true });
    mkdirSync(join(root, 'etc/init.d'), { recursive: true });
    writeFileSync(join(root, 'etc/init.d/lxc.gone'), '');
    expect(run(join(directory, 'n'))).toBe(0);
    expect(stderr).toBe(
      'lockerd-generator: warning: /etc/init.d/lxc.gone: there is no container "gone"; ' +
        'rename or remove the file\n',
    );
  });
});

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const postinst = join(import.meta.dirname, '../../src/debian/postinst');

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockerd-postinst-'));
  mkdirSync(join(directory, 'bin'));
  const commands = ['systemd-sysusers', 'systemctl', 'busctl', 'deb-systemd-invoke', 'lxc-config'];
  for (const command of [...commands, 'socket-owner']) program(command, 'exit 0');
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

function program(name: string, text: string): void {
  writeFileSync(join(directory, 'bin', name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
}

/** Runs the script where the generator says something. */
function configure(said: readonly string[], ...args: readonly string[]): string[] {
  const lines = said.map((line) => `lockerd-generator: ${line}\n`).join('');
  program('generator', `cat >&2 <<'SAID'\n${lines}SAID\necho '# a file'; exit 1`);
  const script = readFileSync(postinst, 'utf8')
    .replaceAll('[ -d /run/systemd/system ]', 'true')
    .replaceAll('/usr/lib/lockerd/hooks/socket-owner', 'socket-owner')
    .replaceAll('timeout 60 /usr/lib/systemd/system-generators/lockerd-generator', 'generator');
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script, 'postinst', ...args], {
    encoding: 'utf8',
    env: { PATH: `${join(directory, 'bin')}:${process.env['PATH'] ?? ''}` },
  });
  expect(stdout).toBe('');
  expect(status).toBe(0);
  return stderr.split('\n').filter((line) => line !== '');
}

const broken = 'container "web" will not start: /var/lib/lxc/web/config:3: unknown key';

test('the first installation lists what will not start, and warnings', () => {
  expect(configure([broken, 'warning: /c:1: something'], 'configure')).toEqual([
    'lockerd: this has to be mended; what it concerns does not start:',
    ` ${broken}`,
    'lockerd: and there are warnings:',
    ' warning: /c:1: something',
  ]);
  expect(configure(['warning: /c:1: something'], 'configure')).toEqual([
    'lockerd: there are warnings about containers:',
    ' warning: /c:1: something',
  ]);
});

test('an upgrade lists what will not start', () => {
  expect(configure(['warning: /c:1: something', broken], 'configure', '0.0.9')).toEqual([
    'lockerd: this has to be mended; what it concerns does not start:',
    ` ${broken}`,
  ]);
});

test('thousands of lines become a few, and long ones are cut', () => {
  const lines = Array.from({ length: 3000 }, () => `${broken} ${'x'.repeat(2000)}`);
  const shown = configure(lines, 'configure');
  expect(shown.length).toBe(22);
  expect(Math.max(...shown.map((line) => line.length))).toBeLessThan(410);
  expect(shown.at(-1)).toContain('--dry-run');
});

test('the path unit for idle automounts is started, which no boot has done yet', () => {
  program('deb-systemd-invoke', `echo "$*" >>'${join(directory, 'invoked')}'`);
  configure([], 'configure');
  program('deb-systemd-invoke', 'exit 0');
  expect(readFileSync(join(directory, 'invoked'), 'utf8')).toMatch(
    /^reload-or-restart .*\blockerd-automounts\.path$/m,
  );
});

test('nothing is said where all is well, or nothing is configured', () => {
  expect(configure([], 'configure')).toEqual([]);
  expect(configure([broken], 'abort-upgrade')).toEqual([]);
});

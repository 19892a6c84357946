import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

const hook = join(import.meta.dirname, '../../hooks/guest-signals');

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockerd-inits-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

let init: ChildProcess | undefined;
afterEach(() => {
  init?.kill('SIGKILL');
});

/** A process whose program has a name, and that handles some signals. */
async function start(program: string, signals: readonly number[]): Promise<number> {
  const path = join(directory, program);
  // The last one may still be running.
  rmSync(path, { force: true });
  copyFileSync('/bin/dash', path);
  const traps = signals.map((signal) => `trap : ${signal}; `).join('');
  const child = spawn(path, ['-c', `${traps} echo ready; read line`]);
  init = child;
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return child.pid ?? 0;
}

/** What a hook would do with candidates: numbers of signals, or "none". */
function chosen(pid: number, ...candidates: readonly number[]): string {
  const script = `init=$1; shift; . ${hook}; choose_signals "$@" && echo $signals || echo none`;
  const args = ['-c', script, 'sh', String(pid), ...candidates.map(String)];
  return execFileSync('sh', args, { encoding: 'utf8' }).trim();
}

describe('without lxc.signal.halt', () => {
  test.each([
    // systemd, behind whatever script; sysvinit, upstart, finit
    ['systemd', [37, 30], '37'],
    ['bash', [37, 15], '37'],
    ['init', [30, 10], '30'],
    // OpenWrt before 2019, and after
    ['procd', [15, 10, 12], '12'],
    ['procd', [15, 10, 12, 30], '30'],
    ['busybox', [15, 10, 12], '12'],
    ['busybox', [15, 10, 12, 30], '30'],
    ['s6-svscan', [15, 30], '15 30'],
    ['s6-svscan', [15, 1], '15'],
    // It blocks what it does not know.
    ['openrc-init', [2, 15, 30, 37], '15'],
    ['dinit', [2, 3, 15], '15'],
    ['runit', [2, 18], '18'],
    // Debian's
    ['runit', [2, 18, 30], '30 18'],
    ['sinit', [2, 10, 37], '10'],
    ['unheard-of', [15], 'none'],
    ['s6-svscan', [1], 'none'],
  ])('%s, which handles %j, gets %s', async (program, handled, signals) => {
    expect(chosen(await start(program, handled), 37, 30)).toBe(signals);
  });

  test('a program that was replaced by an upgrade keeps its name', async () => {
    const pid = await start('runit', [18]);
    rmSync(join(directory, 'runit'));
    expect(chosen(pid, 37, 30)).toBe('18');
  });
});

test('the signal of the configuration is the only one', async () => {
  const pid = await start('procd', [12, 10]);
  expect(chosen(pid, 10)).toBe('10');
  expect(chosen(pid, 30)).toBe('none');
});

test('what hears no halt signal is explained, with the line to write', async () => {
  const pid = await start('my\n"init$(x)', [15, 2]);
  const script = `init=$1; . ${hook}; explain_deafness`;
  const text = execFileSync('sh', ['-c', script, 'sh', String(pid)], { encoding: 'utf8' });
  expect(text).toBe(
    'the guest\'s init "my??init??x?" handles neither SIGRTMIN+3 nor SIGPWR, so a stop waits for ' +
      'the stop timeout and kills it; write the signal on which it shuts down into the ' +
      "container's configuration (it handles SIGTERM SIGINT), for example: " +
      'lxc.signal.halt = SIGTERM\n',
  );
});

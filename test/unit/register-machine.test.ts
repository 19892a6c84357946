import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const hook = join(import.meta.dirname, '../../hooks/register-machine');

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockerd-machine-'));
  program('nsenter', 'echo "2: eth0@if17: <UP> mtu 1500"; echo "3: a@b: <UP>"');
  program('logger', 'cat >> "$LOG"');
  program('sleep', '');
  program('machinectl', 'printf "%s\\n" "Name=web" "Service=${SERVICE}" "Unit=${UNIT}"');
  // The first registration fails where a machine of the name is there.
  program(
    'busctl',
    'shift 6; echo "$*" >> "$CALLS"\n' +
      'if [ "$1" = RegisterMachineWithNetwork ] && [ -n "${REFUSAL:-}" ] && [ ! -e "$CALLS.gone" ]; then\n' +
      '  echo "Call failed: $REFUSAL" >&2; exit 1\nfi\n' +
      'if [ "$1" = UnregisterMachine ]; then : > "$CALLS.gone"; fi',
  );
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

function program(name: string, script: string): void {
  writeFileSync(join(directory, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(directory, name), 0o755);
}

const read = (name: string): string =>
  existsSync(join(directory, name)) ? readFileSync(join(directory, name), 'utf8') : '';

/** What the hook asks of systemd-machined, one call a line, and what it says in the journal. */
function run(variables: Record<string, string> = {}): { calls: string[]; log: string } {
  const { status } = spawnSync('sh', [hook], {
    encoding: 'utf8',
    env: {
      PATH: `${directory}:${process.env['PATH'] ?? ''}`,
      CALLS: join(directory, 'calls'),
      LOG: join(directory, 'log'),
      LXC_NAME: 'web',
      // Of no process, so its network is not the host's.
      LXC_PID: '4000000',
      LOCKERD_UNIT: 'lxc@web.service',
      SERVICE: 'lockerd',
      UNIT: 'lxc@web.service',
      ...variables,
    },
  });
  // A container never fails to start for this.
  expect(status).toBe(0);
  return { calls: read('calls').split('\n').filter(Boolean), log: read('log') };
}

const registration = (name: string): string =>
  `RegisterMachineWithNetwork sayssusai ${name} 0 lockerd container 4000000  1 17`;
const there = { REFUSAL: "Machine 'web' already exists" };

test('one call tells of the guest and of its interfaces', () => {
  expect(run()).toEqual({ calls: [registration('web')], log: '' });
});

describe('names', () => {
  const longest = 'n'.repeat(64);
  test.each(['web', 'a.example.com', '0', 'a-b', longest])('%s is registered', (name) => {
    expect(run({ LXC_NAME: name }).calls).toEqual([registration(name)]);
  });

  test.each([
    ...['', '.', '..', 'a..b', '-a', 'a-', '.a', 'a.', 'a.-b', 'a-.b', 'a b', 'a/b', 'a\nb', 'ä'],
    ...['web_vm', 'a;b', '$(a)', `${longest}n`],
  ])('%j is none of a host and is left out without a word', (name) => {
    expect(run({ LXC_NAME: name })).toEqual({ calls: [], log: '' });
  });
});

test('outside a unit nothing is registered', () => {
  expect(run({ LOCKERD_UNIT: '' }).calls).toEqual([]);
  expect(run({ LXC_PID: '' }).calls).toEqual([]);
});

test('an entry from before a reboot goes first', () => {
  expect(run(there)).toEqual({
    calls: [registration('web'), 'UnregisterMachine s web', registration('web')],
    log: '',
  });
});

test.each([
  ['another service', { SERVICE: 'nspawn' }],
  ['another unit', { UNIT: 'lxc@web2.service' }],
  ['a unit that begins alike', { UNIT: 'lxc@web.service.scope' }],
])('a machine of %s stays, with a warning', (_, of) => {
  const { calls, log } = run({ ...there, ...of });
  expect(calls).toEqual([registration('web')]);
  expect(log).toContain('there is another machine of the name web');
});

test('another refusal is told', () => {
  const { calls, log } = run({ REFUSAL: 'Unit is masked' });
  expect(calls).toHaveLength(1);
  expect(log).toContain('not a machine of systemd-machined: Call failed: Unit is masked');
});

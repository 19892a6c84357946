import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const hooks = join(import.meta.dirname, '../../hooks');

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-needs-'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

/**
 * Runs a hook on a host where only some units are active.
 * @param silences how many questions systemd does not answer before it does
 */
function run(
  hook: string,
  instance: string,
  active: readonly string[],
  requires = '',
  silences = 0,
) {
  for (let index = 0; index < silences; index++) writeFileSync(join(root, `away-${index}`), '');
  const program = (name: string, text: string): void => {
    writeFileSync(join(root, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  };
  const words = active.map((unit) => `'${unit}'`).join(' ');
  program(
    'systemctl',
    `for last; do :; done
for away in '${root}'/away-*; do
    [ ! -e "$away" ] || { rm "$away"; echo 'Connection reset by peer' >&2; exit 1; }
done
case "$*" in
    *ActiveState*)
        for unit in ${words}; do [ "$unit" != "$last" ] || exec echo active; done
        echo inactive
        exit 0
        ;;
    show*) printf '%s\\n' '${requires}'; exit 0 ;;
    *is-active*) for unit in ${words}; do [ "$unit" != "$last" ] || exit 0; done; exit 3 ;;
esac
exit 9`,
  );
  program('logger', `cat >'${root}/logged'`);
  const { status, stdout, stderr } = spawnSync('sh', [join(hooks, hook), instance], {
    env: { PATH: `${root}:/usr/bin:/bin` },
    encoding: 'utf8',
  });
  const file = join(root, 'logged');
  const logged = existsSync(file) ? readFileSync(file, 'utf8') : undefined;
  return { status, output: stdout + stderr, logged };
}

describe('check-needs', () => {
  test('is content when the unit with the mounts is active', () => {
    const needs = 'lxc-needs@web.service';
    expect(run('check-needs', 'lxc-needs@web.service', [needs])).toMatchObject({
      status: 0,
      output: '',
    });
  });

  test('asks again while systemd re-executes itself and answers nobody', () => {
    const needs = 'lxc-needs@web.service';
    expect(run('check-needs', needs, [needs], 'srv-a.mount', 2)).toMatchObject({
      status: 0,
      output: '',
    });
    expect(run('check-needs', needs, ['srv-a.mount'], 'srv-a.mount srv-b.mount', 1)).toMatchObject({
      status: 1,
      output: expect.stringMatching(/^<3>Dependency failed: srv-b\.mount, .*\n$/) as string,
    });
  });

  test('names the mounts that are not there', () => {
    const requires = 'sysinit.target srv-a.mount srv-b\\x2dc.mount -.mount system.slice';
    expect(
      run('check-needs', 'lxc-needs@web.service', ['srv-a.mount', '-.mount'], requires),
    ).toMatchObject({
      status: 1,
      output:
        '<3>Dependency failed: srv-b\\x2dc.mount, without which the container does not start; ' +
        "see: systemctl status 'srv-b\\x2dc.mount'\n",
    });
  });

  test('says where to look when all are there by now', () => {
    expect(
      run('check-needs', 'lxc-needs@my\\x20web.service', ['srv-a.mount'], 'srv-a.mount'),
    ).toMatchObject({
      status: 1,
      output:
        "<3>Dependency failed; see: systemctl list-dependencies 'lxc-needs@my\\x20web.service'\n",
    });
  });
});

describe('needs-gone', () => {
  test('says in the journal of the container that it runs on', () => {
    const { status, logged } = run('needs-gone', 'web', ['lxc@web.service']);
    expect(status).toBe(0);
    expect(logged).toMatch(/^MESSAGE=.*runs on.*\nPRIORITY=4\n/);
    expect(logged).toMatch(/^OBJECT_SYSTEMD_UNIT=lxc@web\.service$/m);
  });

  test('says nothing when the container has ended', () => {
    expect(run('needs-gone', 'web', [])).toEqual({ status: 0, output: '', logged: undefined });
  });
});

test('check-devices names what is no block device', () => {
  const { status, stdout } = spawnSync('sh', [join(hooks, 'check-devices'), '/dev/null', '/a b'], {
    encoding: 'utf8',
  });
  expect(status).toBe(1);
  expect(stdout).toMatch(
    /^<3>Dependency failed: there is no block device \/dev\/null, .*'\/dev\/null'$/m,
  );
  expect(stdout).toMatch(/^<3>.* \/a b, .*systemctl status '\/a b'$/m);
});

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

const hook = join(import.meta.dirname, '../../hooks/container-gone');

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-gone-'));
  writeFileSync(join(root, 'lxc-config'), '#!/bin/sh\necho /nowhere\n', { mode: 0o755 });
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

/** What is said of a container that failed with this log of LXC's. */
function said(...lines: string[]): string {
  writeFileSync(join(root, 'lxc.log'), `\0\0\0${lines.map((line) => `${line}\n`).join('')}`);
  const { status, stdout, stderr } = spawnSync('sh', [hook, 'lockerd-test-container'], {
    env: { PATH: `${root}:/usr/bin:/bin`, SERVICE_RESULT: 'exit-code', RUNTIME_DIRECTORY: root },
    encoding: 'utf8',
  });
  expect(status).toBe(0);
  expect(stderr).toBe('');
  return stdout;
}

const at = 'lxc-start headless 20261129185132.123 ERROR   ';
const early = `${at} cgfsng - ../src/lxc/cgroups/cgfsng.c:__cgfsng_delegate_controllers:3040 - Device or resource busy - Could not enable "+cpuset +cpu +io" controllers in the unified cgroup 11`;
const init = `${at} start - ../src/lxc/start.c:start:2378 - No such file or directory - Failed to exec "/sbin/init"`;
const reason =
  '<2>start - ../src/lxc/start.c:start:2378 - No such file or directory - Failed to exec "/sbin/init"\n';

test('the reason is repeated, but not what LXC says at each start on cgroup v2', () => {
  expect(said(early, init)).toBe(reason);
});

test('the same words are an error when they come again, for the guest', () => {
  expect(said(early, early, init)).toMatch(/^<2>cgfsng - .* Could not enable .*\n<2>start/);
});

test('strangers who were refused are told of once, and are no reason', () => {
  const stranger = `${at} lxc_abstract_unix_recv_cred - ../src/lxc/af_unix.c:lxc_abstract_unix_recv_cred:430 - message denied for 1000/1000`;
  expect(said(stranger, init, stranger)).toBe(
    `${reason}<4>strangers have talked to the command socket: lxc_abstract_unix_recv_cred - ../src/lxc/af_unix.c:lxc_abstract_unix_recv_cred:430 - message denied for 1000/1000\n`,
  );
});

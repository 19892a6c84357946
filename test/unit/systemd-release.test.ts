import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HostReader } from '../../src/host/read.ts';
import { filtersLog } from '../../src/host/systemd-release.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-systemd-'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

test.each([
  ['Debian 12', ['x86_64-linux-gnu/systemd/libsystemd-shared-252.so'], false],
  ['Debian 13', ['x86_64-linux-gnu/systemd/libsystemd-shared-257.so'], true],
  ['arm64', ['aarch64-linux-gnu/systemd/libsystemd-shared-262.so'], true],
  ['other distributions', ['systemd/libsystemd-shared-253.4-1.fc38.so'], true],
  ['a number that only begins like it', ['systemd/libsystemd-shared-2521.so'], true],
  [
    'an upgrade',
    [
      'x86_64-linux-gnu/systemd/libsystemd-shared-252.so',
      'x86_64-linux-gnu/systemd/libsystemd-shared-257.so',
    ],
    false,
  ],
  ['another library', ['x86_64-linux-gnu/systemd/libsystemd-core-257.so'], false],
  ['nothing', [], false],
])('the log is filtered as far as systemd can: %s', (_, files, expected) => {
  for (const file of files) {
    mkdirSync(join(root, 'usr/lib', file, '..'), { recursive: true });
    writeFileSync(join(root, 'usr/lib', file), '');
  }
  expect(filtersLog(new HostReader(root))).toBe(expected);
});

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HostReader } from '../../src/host/read.ts';
import { SetLimits } from '../../src/host/set-limits.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-set-limits-'));
  execFileSync('sh', ['-c', 'mkdir dev && mknod dev/null c 1 3'], { cwd: root });
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

function switchOff(path: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  symlinkSync('/dev/null', join(root, path));
}

/** The limits of a unit as words; no file that says them may be a problem. */
function limitsOf(unit: string): string[] {
  const host = new HostReader(root);
  const limits = new SetLimits(host).of(unit);
  expect(host.problems).toEqual([]);
  return limits.map(({ limit, size, dropIn }) => `${dropIn}: ${limit} ${String(size)}`);
}

test('a masked unit and a masked drop-in set no limit', () => {
  put('/usr/lib/systemd/system/lxc@.service', '[Service]\nMemoryMax=4K\n');
  put('/usr/lib/systemd/system/lxc@.service.d/10-all.conf', '[Service]\nMemoryMax=8K\n');
  put('/usr/lib/systemd/system/lxc@.service.d/20-all.conf', '[Service]\nMemoryLimit=12K\n');
  switchOff('/etc/systemd/system/lxc@.service.d/10-all.conf');
  expect(limitsOf('lxc@db.service')).toEqual([': MemoryMax 4096', '20-all.conf: MemoryMax 12288']);
  switchOff('/etc/systemd/system/lxc@web.service');
  expect(limitsOf('lxc@web.service')).toEqual(['20-all.conf: MemoryMax 12288']);
});

test('a key by the name of what every object has is none', () => {
  put('/etc/systemd/system/lxc@.service.d/10-odd.conf', '[Service]\nconstructor=1K\n');
  expect(limitsOf('lxc@web.service')).toEqual([]);
});

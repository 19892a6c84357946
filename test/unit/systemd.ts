import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Lets the real systemd load a unit of this text and answers what it printed about it: one
 * `KEY: VALUE` a line. A test run of it refuses root, hence the other user.
 */
export function loadBySystemd(unitText: string): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'lockerd-unit-'));
  try {
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, 'probe.service'), unitText, { mode: 0o644 });
    const output = execFileSync(
      '/lib/systemd/systemd',
      ['--test', '--system', '--unit=probe.service'],
      {
        encoding: 'utf8',
        env: { PATH: '/usr/bin:/bin', SYSTEMD_UNIT_PATH: `${directory}:`, LANG: 'C.UTF-8' },
        ...(process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}),
        stdio: ['ignore', 'pipe', 'pipe'],
        maxBuffer: 64 * 1024 * 1024,
      },
    );
    const lines = output.split('\n');
    const start = lines.findIndex((line) => line.includes('-> Unit probe.service:'));
    const end = lines.findIndex((line, index) => index > start && line.includes('-> Unit '));
    return lines.slice(start + 1, end < 0 ? undefined : end).map((line) => line.trim());
  } finally {
    rmSync(directory, { recursive: true });
  }
}

import { afterAll, beforeEach, expect } from 'vitest';
import type { TestHost } from './test-host.ts';

/**
 * Prints the journals of the failed units after each failing test of the file or block that calls
 * it, and looks for warnings of the hooks' Perl at its end. Takes a function because the host is made
 * in a hook.
 */
export function attachJournalOnFailure(host: () => TestHost | undefined): void {
  beforeEach(({ onTestFailed }) => {
    onTestFailed(async () => {
      const current = host();
      if (!current?.isOn) return;
      const failed = ['list-units', '--failed', '--plain', '--no-legend', '--full'];
      const { stdout } = await current.run('systemctl', failed, { reject: false });
      const units = stdout.split('\n').flatMap((line) => /^\S+/.exec(line) ?? []);
      for (const unit of units) {
        console.error(`--- ${current.name}: ${unit}\n${await current.journal(unit)}`);
      }
      if (units.length > 0) return;
      // A namespace host has a file there, with what the generators said.
      const { stdout: said } = await current.run('tail', ['-n', '20', '/run/kmsg'], {
        reject: false,
      });
      const lately = ['--no-pager', '--boot', '--lines=40', '--output=short-precise'];
      const { stdout: journal } = await current.run('journalctl', lately, { reject: false });
      console.error(`--- ${current.name}: no unit failed; the journal's end\n${journal}${said}`);
    });
  });
  afterAll(async () => {
    const current = host();
    if (!current?.isOn) return;
    const search = [
      '--no-pager',
      '--output=cat',
      '--grep=at /usr/lib/lockerd/hooks/.* line [0-9]+',
    ];
    const { stdout } = await current.run('journalctl', search, { reject: false });
    expect(stdout.replace('-- No entries --\n', ''), 'warnings of Perl in hooks').toBe('');
  });
}

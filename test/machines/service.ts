import fs from 'node:fs';
import path from 'node:path';
import type { TestHost } from './test-host.ts';

const postinst = path.resolve(import.meta.dirname, '../../src/debian/postinst');

/** What debhelper puts into the script, in short. */
const fromDebhelper = `systemd-sysusers lockerd.conf
  systemctl daemon-reload
  systemctl try-restart lockerd-autoballoon.service`;

/** What the package's own script does on a booted host after its files are there. */
export async function configurePackage(host: TestHost): Promise<void> {
  const script = fs.readFileSync(postinst, 'utf8').replace('#DEBHELPER#', fromDebhelper);
  await host.run('sh', ['-s', 'configure', '0'], { input: script, timeoutMs: 180_000 });
}

/** Runs a program as another user, with no group but its own. */
export async function runAs(
  host: TestHost,
  user: string,
  program: string,
  ...args: string[]
): Promise<{ exitCode: number; output: string }> {
  const as = ['--reuid', user, '--regid', user, '--init-groups', program, ...args];
  const { exitCode, stdout, stderr } = await host.run('setpriv', as, {
    reject: false,
    timeoutMs: 180_000,
  });
  return { exitCode, output: stdout + stderr };
}

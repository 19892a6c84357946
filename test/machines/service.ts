import fs from 'node:fs';
import path from 'node:path';
import { escapeLabel } from '../../src/model/object-label.ts';
import type { TestHost } from './test-host.ts';

const postinst = path.resolve(import.meta.dirname, '../../src/debian/postinst');

/** What debhelper puts into the script, in short; without its daemon-reload, as the script has its own. */
const fromDebhelper = `systemd-sysusers lockerd.conf
  systemctl try-restart lockerd-autoballoon.service`;

/** What the package's own script does on a booted host after its files are there. */
export async function configurePackage(host: TestHost): Promise<void> {
  const script = fs.readFileSync(postinst, 'utf8').replace('#DEBHELPER#', fromDebhelper);
  await host.run('sh', ['-s', 'configure', '0'], { input: script, timeoutMs: 180_000 });
}

/** A property of a container as the service has it, in the form that JSON has for it. */
export async function containerProperty(
  host: TestHost,
  container: string,
  key: string,
): Promise<unknown> {
  const object = ['org.lockerd1', `/org/lockerd1/container/${escapeLabel(container)}`];
  const args = ['--json=short', 'get-property', ...object, 'org.lockerd1.Container', key];
  const { stdout } = await host.run('busctl', args);
  return (JSON.parse(stdout) as { data: unknown }).data;
}

/** The shell's words for a call of the manager, with its arguments, which ends well when the job has done so. */
export function callForJob(method: string, types: string, ...words: string[]): string {
  const manager = 'org.lockerd1 /org/lockerd1 org.lockerd1.Manager';
  const options = '1 wait b true';
  return `busctl call --quiet --timeout=1200 ${manager} ${method} '${types}a{sv}' ${words.join(' ')} ${options}`;
}

/** Has the service do something with a container, not by lockerctl: emulated, each start of Node takes seconds. */
export async function waitForJob(host: TestHost, method: string, name: string): Promise<void> {
  await host.shell(callForJob(method, 's', name), { timeoutMs: 180_000 });
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

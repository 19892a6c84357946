/** The package, built from the sources as they are, and what a host has of it. */

import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Host } from '../host/host.ts';
import { execute, type RunOptions, type RunResult } from '../machines/execute.ts';

export const project = path.resolve(import.meta.dirname, '../..');

/** Builds the package; `suffix` is put behind its version. Returns the directory of all that came out. */
export async function buildPackage(suffix = ''): Promise<string> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-package-'));
  const options = ['--output', directory, `--suffix=${suffix}`];
  await promisify(execFile)(process.execPath, ['src/build/deb.mjs', ...options], { cwd: project });
  return directory;
}

/** How the names of the two packages end: of that with the programs, and of that with Cockpit's page. */
export const programsDeb = `_${process.arch === 'x64' ? 'amd64' : process.arch}.deb`;
export const pageDeb = '_all.deb';

/** The one file of a directory with such an end. */
export function fileWith(directory: string, end: string): string {
  const [file, ...others] = fs.readdirSync(directory).filter((name) => name.endsWith(end));
  if (file === undefined || others.length > 0)
    throw new Error(`${directory} has not one file *${end}`);
  return path.join(directory, file);
}

/** Puts a file into the host's own /srv; returns its path there. */
export function give(host: Host, file: string): string {
  const name = path.basename(file);
  fs.copyFileSync(file, path.join(host.root, 'srv', name));
  return `/srv/${name}`;
}

/** What the running system, dpkg and LXC write by themselves all the time. */
const restless = [
  '/etc/(ld.so.cache|(passwd|group|shadow|gshadow)-|.pwd.lock)',
  '/(proc|sys|dev|tmp|srv|root)',
  '/var/(cache|lib/dpkg|lib/apt|tmp|log)',
  '/var/lib/systemd/(timers|random-seed|catalog/database)',
  '/var/lib/lxc/[^/]*/rootfs',
  '/var/lib/(lxc/rpool|polkit-1)',
  '/run/(systemd|user|udev|log|lock|lxc|dbus|utmp|kmsg|credentials|sudo)',
].join('|');

/** Files of /etc by content, as accounts come and go; those elsewhere by size and time. */
const listing = `
find / /run -xdev -regextype posix-extended -regex '(${restless})' -prune -o \\
  -type d -printf '%y %m %u:%g %p\\n' -o -path '/etc/*' -printf '%y %m %u:%g %p -> %l\\n' -o \\
  -printf '%y %m %u:%g %s %TY-%Tm-%Td %TT %p -> %l\\n' | sort -u
find /etc -type f -not -regex '.*/\\(passwd\\|group\\|shadow\\|gshadow\\)-' -exec sha256sum {} + | sort
find /etc/systemd /run/systemd/{system,transient,generator,generator.late} 2>/dev/null |
  grep -i locker | sed 's/^/unit file: /' || :
find /run/systemd/system.control -type f 2>/dev/null | sed 's/^/unit file: /' || :
systemctl list-units --all --plain --no-legend 'lockerd*' 'lxc-autostart*' 'lxc-group*' 'lxc-late*' \\
  'lxc-needs*' 'lxc-delay*' '*locker*.mount' 'system-lockerd*' | sed 's/^/unit: /'
systemctl --failed --plain --no-legend | sed 's/^/failed: /'
ps -e -o args= | grep -i '[l]ockerd' | grep -v '^/usr/bin/lxc-start ' | sed 's/^/process: /' || :
sed -n '/ramfs lockerd\\|locker-mappings/s/^/mount: /p' /proc/self/mountinfo
busctl --system --no-legend list --activatable | sed -n '/lockerd/s/^/bus name: /p'`;

/** All that a package could leave, one line each. */
export async function listHost(host: Host): Promise<string[]> {
  const { stdout } = await host.run('bash', ['-euc', listing], { timeoutMs: 120_000 });
  return stdout.split('\n');
}

/**
 * Runs a program in the host but for its network, which is the machine's: so it reaches mirrors and
 * registries, which nothing else in the host does.
 */
export async function runWithNetwork(
  host: Host,
  program: string,
  args: string[],
  options: RunOptions = {},
): Promise<RunResult> {
  for (const file of ['resolv.conf', 'hosts']) {
    await host.writeFile(`/etc/${file}`, fs.readFileSync(`/etc/${file}`, 'utf8'));
  }
  const env: Record<string, string> = { ...options.env };
  // Where a machine reaches a registry through an authority of its own, Node is told so in this way.
  const authorities = process.env['NODE_EXTRA_CA_CERTS'];
  if (authorities !== undefined && fs.existsSync(authorities)) {
    env['NODE_EXTRA_CA_CERTS'] = '/etc/ssl/machine.crt';
    await host.writeFile('/etc/ssl/machine.crt', fs.readFileSync(authorities, 'utf8'));
  }
  const namespaces = ['--mount', '--uts', '--ipc', '--pid', '--cgroup'];
  const enter = ['nsenter', '--target', String(host.leader), ...namespaces];
  return execute(host.name, enter, program, args, { ...options, env });
}

/** The package, built from the sources as they are, and what a host has of it. */

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Host } from '../host/host.ts';

export const project = path.resolve(import.meta.dirname, '../..');

/** Builds the package; `suffix` is put behind its version. Returns the directory of all that came out. */
export function buildPackage(suffix = ''): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-package-'));
  const options = ['--output', directory, `--suffix=${suffix}`];
  execFileSync(process.execPath, ['src/build/deb.mjs', ...options], { cwd: project });
  return directory;
}

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
  '/(proc|sys|dev|tmp|srv|root)',
  '/var/(cache|lib/dpkg|lib/apt|tmp|log)',
  '/var/lib/systemd/(timers|random-seed|catalog/database|deb-systemd-helper-enabled)',
  '/var/lib/lxc/[^/]*/rootfs',
  '/var/lib/(lxc/rpool|polkit-1)',
  '/run/(systemd|user|udev|log|lock|lxc|dbus|utmp|kmsg|credentials|sudo)',
].join('|');

const listing = `
find / /run -xdev -regextype posix-extended -regex '(${restless})' -prune -o \\
  -type d -printf '%y %m %u:%g %p\\n' -o -printf '%y %m %u:%g %s %TY-%Tm-%Td %TT %p -> %l\\n' |
  sort -u
echo 'enabled or wanted:'
find /etc/systemd /run/systemd/system.control /run/systemd/transient /run/systemd/generator* \\
  -regextype posix-extended -not -regex '.*/(lxc@|lxc-).*' 2>/dev/null | grep -i lockerd || :
echo 'units:'
systemctl list-units --all --plain --no-legend 'lockerd*' 'lxc-*' 'run-lockerd*' 'system-lockerd*' | cut -c 1-80
echo 'failed:'
systemctl --failed --plain --no-legend
echo 'processes:'
ps -e -o args= | grep -i '[l]ockerd' || :
echo 'mounts:'
grep -i lockerd /proc/self/mountinfo || :
echo 'names:'
busctl --system --no-legend list --activatable | grep -i lockerd || :`;

/** All that a package could leave, one line each. */
export async function listHost(host: Host): Promise<string[]> {
  const { stdout } = await host.shell(listing, { timeoutMs: 120_000 });
  return stdout.split('\n');
}

// Debian packages that the tests need on the machine they run on. Node built-ins only, because it
// runs before `npm ci` did.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

/** Programs of other packages than the essential ones. */
const packageOf = {
  debootstrap: 'debootstrap',
  'systemd-nspawn': 'systemd-container',
  'systemd-analyze': 'systemd',
  'lxc-info': 'lxc',
  shellcheck: 'shellcheck',
  lintian: 'lintian',
  mandoc: 'mandoc',
  faketime: 'faketime',
  'dbus-daemon': 'dbus-daemon',
  'dbus-broker-launch': 'dbus-broker',
  'dbus-send': 'dbus-bin',
  busctl: 'systemd',
  gdbus: 'libglib2.0-bin',
  script: 'bsdutils',
  zsh: 'zsh',
  fish: 'fish',
  pkttyagent: 'polkitd',
  python3: 'python3',
  'qemu-system-x86_64': 'qemu-system-x86',
  'qemu-img': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  mke2fs: 'e2fsprogs',
  chromium: 'chromium',
  // Not in any PATH, or another one in the shell.
  '/usr/bin/time': 'time',
  '/usr/share/bash-completion/bash_completion': 'bash-completion',
  '/usr/lib/polkit-1/polkitd': 'polkitd',
  '/usr/lib/python3/dist-packages/dasbus': 'python3-dasbus',
  '/usr/lib/python3/dist-packages/jeepney': 'python3-jeepney',
};

/** @typedef {keyof typeof packageOf} Program */

/** What undoes a change of the machine that nobody asked for, once a package is installed. */
const undoOf = {
  // It makes itself the machine's message bus, from the next boot on.
  'dbus-broker': [
    ['systemctl', 'disable', 'dbus-broker.service'],
    ['systemctl', '--global', 'disable', 'dbus-broker.service'],
  ],
};

/** @param {string} program */
function isInstalled(program) {
  if (path.isAbsolute(program)) return fs.existsSync(program);
  const directories = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  return directories.some((directory) => fs.existsSync(path.join(directory, program)));
}

/**
 * Installs what is missing; only root can.
 * @param {Program[]} programs
 */
export function ensurePrograms(programs) {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length === 0) return;
  const packages = missing.map((program) => packageOf[program]);
  const advice = `missing: ${missing.join(', ')}. Install with: apt-get install ${packages.join(' ')}`;
  if (process.getuid?.() !== 0 || !isInstalled('apt-get')) throw new Error(advice);
  console.error(`installing ${packages.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...packages]]) {
    const { status, stdout, stderr } = spawnSync('apt-get', args, { env, encoding: 'utf8' });
    // A foreign repository of the machine may be down while Debian's own is there.
    if (status !== 0 && args[0] === 'install') throw new Error(`${advice}\n${stdout}${stderr}`);
  }
  for (const [name, commands] of Object.entries(undoOf)) {
    if (!packages.includes(name)) continue;
    for (const [command = '', ...args] of commands) spawnSync(command, args);
  }
  const still = missing.filter((program) => !isInstalled(program));
  if (still.length > 0) throw new Error(`still missing after apt-get: ${still.join(', ')}`);
}

// What the tests need from the machine they run on: Debian packages, and the cached image of the
// test hosts. Node built-ins only, because it runs before `npm ci` did.

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const recipe = path.join(import.meta.dirname, 'image');

/** Programs of other packages than the essential ones. */
const packageOf = {
  debootstrap: 'debootstrap',
  'systemd-nspawn': 'systemd-container',
  'systemd-analyze': 'systemd',
  'lxc-info': 'lxc',
  shellcheck: 'shellcheck',
  lintian: 'lintian',
  mandoc: 'mandoc',
  'dbus-daemon': 'dbus-daemon',
  'dbus-send': 'dbus-bin',
  busctl: 'systemd',
  gdbus: 'libglib2.0-bin',
  script: 'bsdutils',
  pkttyagent: 'polkitd',
  python3: 'python3',
  'qemu-system-x86_64': 'qemu-system-x86',
  'qemu-img': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  mke2fs: 'e2fsprogs',
  // Not in any PATH.
  '/usr/share/bash-completion/bash_completion': 'bash-completion',
  '/usr/lib/polkit-1/polkitd': 'polkitd',
  '/usr/lib/python3/dist-packages/dasbus': 'python3-dasbus',
  '/usr/lib/python3/dist-packages/jeepney': 'python3-jeepney',
};

/** @typedef {keyof typeof packageOf} Program */

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
  const still = missing.filter((program) => !isInstalled(program));
  if (still.length > 0) throw new Error(`still missing after apt-get: ${still.join(', ')}`);
}

/** The directory of images and running hosts: outside the checkout, shared by all checkouts. */
export function cacheDirectory() {
  const caches = process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache');
  const directory = process.env['LOCKERD_TEST_CACHE'] ?? path.join(caches, 'lockerd-test');
  if (/[,:\\]/.test(directory))
    throw new Error(`overlay options cannot carry the path ${directory}`);
  return path.resolve(directory);
}

/**
 * The name of an image: another one when any file of its recipe changes, or what else it depends on.
 * @param {string} directory
 * @param {string[]} others
 */
export function recipeKey(directory, ...others) {
  const hash = createHash('sha256');
  for (const file of fs.readdirSync(directory).sort()) {
    hash.update(`${file}\0`).update(fs.readFileSync(path.join(directory, file)));
  }
  for (const other of others) hash.update(`${other}\0`);
  return hash.update(process.arch).digest('hex').slice(0, 16);
}

/**
 * Runs a builder while nobody else does.
 * @param {string} lock
 * @param {string[]} command
 */
export async function runLocked(lock, ...command) {
  fs.mkdirSync(path.dirname(lock), { recursive: true });
  const builder = spawn('flock', [lock, ...command], { stdio: ['ignore', 'inherit', 'inherit'] });
  const status = await new Promise((resolve, reject) => {
    builder.once('error', reject).once('exit', resolve);
  });
  if (status !== 0) throw new Error(`an image of the test hosts was not built (exit ${status})`);
}

/**
 * The image of the test hosts, built first where it is missing (minutes). Parallel callers wait
 * for the one that builds.
 * @returns {Promise<string>} its root tree
 */
export async function ensureImage() {
  if (process.getuid?.() !== 0) {
    throw new Error('test hosts need root: run the tests as root (sudo npm test)');
  }
  ensurePrograms(['debootstrap', 'systemd-nspawn']);
  const images = path.join(cacheDirectory(), 'images');
  const image = path.join(images, recipeKey(recipe));
  if (fs.existsSync(image)) return image;
  await runLocked(path.join(images, 'build.lock'), 'bash', path.join(recipe, 'build.sh'), image);
  return image;
}

// The cached image of the virtual test hosts, and the saved states of ones that have booted. Node
// built-ins only, because it runs before `npm ci` did.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { ensureImage } from '../host/image.mjs';
import { cacheDirectory, cachedImage, digest, runLocked } from '../machines/images.mjs';
import { ensurePrograms } from '../machines/programs.mjs';
import { machineSettings, qemuArguments } from './qemu.mjs';

export const defaultMemoryMiB = 2048;

/** The release of the tier `next`, which moves: its image is built anew each day that it is used. */
export const nextRelease = 'sid';

/** Debian 13, unless the project of vitest that a test belongs to names another release. */
export const vmRelease = process.env['LOCKERD_TEST_RELEASE'] ?? 'trixie';

/**
 * The VMs whose states `npm test` needs.
 * @type {readonly import('./qemu.mjs').Machine[]}
 */
export const usualMachines = [false, true].map((apparmor) => {
  return { memoryMiB: defaultMemoryMiB, apparmor, isNetworked: false };
});

/**
 * The VMs of `npm test` that reach each other.
 * @type {import('./qemu.mjs').Machine}
 */
export const networkedMachine = {
  memoryMiB: defaultMemoryMiB,
  apparmor: false,
  isNetworked: true,
};

/**
 * The image, built first where it is missing (minutes).
 * @param {string} release of Debian
 * @returns {Promise<string>} its directory
 */
export async function ensureVmImage(release = vmRelease) {
  ensurePrograms([
    'debootstrap',
    'qemu-system-x86_64',
    'qemu-img',
    'qemu-storage-daemon',
    'mke2fs',
  ]);
  const images = path.join(cacheDirectory(), 'vm-images');
  // The guests are those of the other hosts.
  const basis = [await ensureImage(), release];
  if (release === nextRelease) basis.push(new Date().toISOString().slice(0, 10));
  return cachedImage(images, path.join(import.meta.dirname, 'recipe'), ...basis);
}

/**
 * The image of VMs that reach each other by ssh, built first where it is missing (two minutes).
 * @returns {Promise<string>} its directory
 */
export async function ensureVmToolsImage() {
  const images = path.join(cacheDirectory(), 'vm-images');
  const recipe = path.join(import.meta.dirname, 'recipe-tools');
  return cachedImage(images, recipe, await ensureVmImage());
}

/**
 * The state of a VM that has booted, made first where it is missing (a minute or more; with
 * AppArmor, whose profiles are compiled then, some minutes).
 * @param {string} image
 * @param {import('./qemu.mjs').Machine} machine
 * @returns {Promise<string>} directory of the state and its root disk
 */
export async function ensureState(image, machine) {
  // A state fits one version of the emulator and one set of arguments.
  const { stdout: version } = spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' });
  const key = digest(version, ...qemuArguments('', '', machine));
  const settings = machineSettings(machine);
  const state = path.join(image, 'states', [...settings, key].join('-'));
  if (fs.existsSync(state)) return state;
  const save = [process.execPath, path.join(import.meta.dirname, 'save.mjs')];
  // Others may use the image meanwhile.
  const locked = ['flock', '--shared', `${image}.lock`, ...save, image, ...settings, state];
  fs.mkdirSync(path.dirname(state), { recursive: true });
  await runLocked(`${state}.lock`, ...locked);
  return state;
}

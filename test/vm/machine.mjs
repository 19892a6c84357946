// The cached image of the virtual test hosts, and the saved states of ones that have booted. Node
// built-ins only, because it runs before `npm ci` did.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import {
  cacheDirectory,
  ensureImage,
  ensurePrograms,
  recipeKey,
  runLocked,
} from '../host/machine.mjs';
import { qemuArguments } from './qemu.mjs';

const recipe = path.join(import.meta.dirname, 'image');

export const defaultMemoryMiB = 2048;

/**
 * The image, built first where it is missing (minutes).
 * @returns {Promise<string>} its directory
 */
export async function ensureVmImage() {
  ensurePrograms([
    'debootstrap',
    'qemu-system-x86_64',
    'qemu-img',
    'qemu-storage-daemon',
    'mke2fs',
  ]);
  const guests = await ensureImage();
  // The saved states fit one version of the emulator and one set of arguments.
  const { stdout: version } = spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' });
  const virtualMachine = qemuArguments('', '', defaultMemoryMiB);
  const key = recipeKey(recipe, path.basename(guests), version, ...virtualMachine);
  const images = path.join(cacheDirectory(), 'vm-images');
  const image = path.join(images, key);
  if (fs.existsSync(image)) return image;
  const build = path.join(recipe, 'build.sh');
  await runLocked(path.join(images, 'build.lock'), 'bash', build, image, guests);
  return image;
}

/**
 * The state of a VM that has booted, made first where it is missing (a minute or more).
 * @param {string} image
 * @param {number} memoryMiB
 * @returns {Promise<string>} directory of the state and its root disk
 */
export async function ensureState(image, memoryMiB) {
  const state = path.join(image, 'states', String(memoryMiB));
  if (fs.existsSync(state)) return state;
  const save = [process.execPath, path.join(import.meta.dirname, 'save.mjs')];
  const locked = ['flock', `${state}.lock`, ...save, image, String(memoryMiB)];
  fs.mkdirSync(path.dirname(state), { recursive: true });
  await runLocked(`${image}.lock`, ...locked);
  return state;
}

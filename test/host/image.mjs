// The cached image of the test hosts. Node built-ins only, because it runs before `npm ci` did.

import path from 'node:path';
import { cacheDirectory, cachedImage } from '../machines/images.mjs';
import { ensurePrograms } from '../machines/programs.mjs';

/** The release of Debian that most tests of hosts run on. */
const usualRelease = 'bookworm';

/**
 * The image, built first where it is missing (minutes).
 * @param {string} [release] LOCKERD_TEST_RELEASE, or Debian 12
 * @returns {Promise<string>} its root tree
 */
export async function ensureImage(release = process.env['LOCKERD_TEST_RELEASE'] ?? usualRelease) {
  if (process.getuid?.() !== 0) {
    throw new Error('test hosts need root: run the tests as root (sudo npm test)');
  }
  ensurePrograms(['debootstrap', 'systemd-nspawn']);
  const images = path.join(cacheDirectory(), 'images');
  const recipe = path.join(import.meta.dirname, 'recipe');
  if (release === usualRelease) return cachedImage(images, recipe);
  return cachedImage(images, recipe, release, await ensureImage(usualRelease));
}

/**
 * The image of hosts that reach each other by ssh, built first where it is missing (a minute).
 * @returns {Promise<string>} its root tree
 */
export async function ensureToolsImage() {
  const images = path.join(cacheDirectory(), 'images');
  const recipe = path.join(import.meta.dirname, 'recipe-tools');
  return cachedImage(images, recipe, await ensureImage(usualRelease));
}

/**
 * The image of hosts that can be the nodes of a cluster, built first where it is missing (two minutes).
 * @returns {Promise<string>} its root tree
 */
export async function ensureClusterImage() {
  const images = path.join(cacheDirectory(), 'images');
  const recipe = path.join(import.meta.dirname, 'recipe-cluster');
  return cachedImage(images, recipe, await ensureImage(usualRelease));
}

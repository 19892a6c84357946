// The cached image of the test hosts. Node built-ins only, because it runs before `npm ci` did.

import path from 'node:path';
import { cacheDirectory, cachedImage } from '../machines/images.mjs';
import { ensurePrograms } from '../machines/programs.mjs';

/**
 * The image, built first where it is missing (minutes).
 * @returns {Promise<string>} its root tree
 */
export async function ensureImage() {
  if (process.getuid?.() !== 0) {
    throw new Error('test hosts need root: run the tests as root (sudo npm test)');
  }
  ensurePrograms(['debootstrap', 'systemd-nspawn']);
  const images = path.join(cacheDirectory(), 'images');
  return cachedImage(images, path.join(import.meta.dirname, 'recipe'));
}

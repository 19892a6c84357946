// The cached images of the hosts on which the package is tried. Node built-ins only, because it runs
// before `npm ci` did.

import path from 'node:path';
import { ensureImage } from '../host/image.mjs';
import { cacheDirectory, cachedImage } from '../machines/images.mjs';

/** The releases of Debian that the package is for. */
export const releases = /** @type {const} */ (['bookworm', 'trixie']);

/**
 * A host as Debian's installer leaves it; built first where it is missing (a minute).
 * @param {string} release
 * @returns {Promise<string>} its root tree
 */
export async function ensureFreshImage(release) {
  const images = path.join(cacheDirectory(), 'fresh-images');
  return cachedImage(
    images,
    path.join(import.meta.dirname, 'fresh-recipe'),
    await ensureImage(),
    release,
  );
}

/**
 * A host with LXC, and with guests for it; built first where it is missing (a minute).
 * @param {string} release
 * @returns {Promise<string>} its root tree
 */
export async function ensurePackageImage(release) {
  const basis = [await ensureFreshImage(release), await ensureImage()];
  const images = path.join(cacheDirectory(), 'package-images');
  return cachedImage(images, path.join(import.meta.dirname, 'recipe'), ...basis);
}

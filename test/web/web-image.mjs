// The cached image of the hosts with Cockpit. Node built-ins only, because it runs before `npm ci` did.

import path from 'node:path';
import { cacheDirectory, cachedImage } from '../machines/images.mjs';
import { ensurePackageImage } from '../package/package-images.mjs';
import { nextRelease } from '../vm/image.mjs';

/**
 * A host with LXC, guests and Cockpit; built first where it is missing (a minute).
 * @param {string} [release] LOCKERD_TEST_WEB, or Debian 12; `sid` is Debian 13 with the Cockpit of sid, which moves:
 *   its image is built anew each day that it is used
 * @returns {Promise<string>} its root tree
 */
export async function ensureWebImage(release = process.env['LOCKERD_TEST_WEB'] ?? 'bookworm') {
  const images = path.join(cacheDirectory(), 'web-images');
  const recipe = path.join(import.meta.dirname, 'recipe');
  if (release !== nextRelease)
    return cachedImage(images, recipe, await ensurePackageImage(release));
  const basis = [await ensureWebImage('trixie'), new Date().toISOString().slice(0, 10)];
  return cachedImage(images, `${recipe}-sid`, ...basis);
}

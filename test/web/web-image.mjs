// The cached image of the hosts with Cockpit. Node built-ins only, because it runs before `npm ci` did.

import path from 'node:path';
import { cacheDirectory, cachedImage } from '../machines/images.mjs';
import { ensurePackageImage } from '../package/package-images.mjs';

/**
 * A host with LXC, guests and Cockpit; built first where it is missing (a minute).
 * @param {string} [release] LOCKERD_TEST_WEB, or Debian 12
 * @returns {Promise<string>} its root tree
 */
export async function ensureWebImage(release = process.env['LOCKERD_TEST_WEB'] ?? 'bookworm') {
  const images = path.join(cacheDirectory(), 'web-images');
  const recipe = path.join(import.meta.dirname, 'recipe');
  return cachedImage(images, recipe, await ensurePackageImage(release));
}

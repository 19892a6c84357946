// The cache of images, from which test hosts of every kind start. A kind has its recipe: a directory
// with `build.sh`. What recipes share is in `image/tree.sh`. Node built-ins only, because it runs
// before `npm ci` did.

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const shared = path.join(import.meta.dirname, 'image');

/** Checkouts with different recipes take turns without building anew each time. */
const unusedDays = 3;

/** The directory of images and running hosts: outside the checkout, shared by all checkouts. */
export function cacheDirectory() {
  const caches = process.env['XDG_CACHE_HOME'] ?? path.join(os.homedir(), '.cache');
  const directory = process.env['LOCKERD_TEST_CACHE'] ?? path.join(caches, 'lockerd-test');
  if (/[,:\\]/.test(directory))
    throw new Error(`overlay options cannot carry the path ${directory}`);
  return path.resolve(directory);
}

/**
 * A short name for some texts.
 * @param {string[]} texts
 */
export function digest(...texts) {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(`${text}\0`);
  return hash.digest('hex').slice(0, 16);
}

/**
 * Names and contents of a recipe's files.
 * @param {string} directory
 */
function recipeText(directory) {
  const files = fs.readdirSync(directory).sort();
  return files.flatMap((file) => [file, fs.readFileSync(path.join(directory, file), 'utf8')]);
}

/**
 * The image of a recipe, built first where it is missing (minutes). Parallel callers wait for the
 * one that builds.
 * @param {string} images directory of the images of this kind
 * @param {string} recipe directory of build.sh
 * @param {string[]} basis images that this one is made from; they are arguments of build.sh
 * @returns {Promise<string>} its directory
 */
export async function cachedImage(images, recipe, ...basis) {
  const from = basis.map((image) => path.basename(image));
  const key = digest(...recipeText(shared), ...recipeText(recipe), ...from, process.arch);
  const image = path.join(images, key);
  if (!fs.existsSync(image)) {
    const build = ['bash', path.join(recipe, 'build.sh'), image, ...basis];
    await runLocked(path.join(images, 'build.lock'), ...build);
    removeUnused(images, image);
  }
  // The time of the lock's file tells when an image was used last.
  const now = new Date();
  fs.closeSync(fs.openSync(`${image}.lock`, 'a'));
  fs.utimesSync(`${image}.lock`, now, now);
  return image;
}

/**
 * Removes images that nobody has used for days, and on which no host runs.
 * @param {string} images
 * @param {string} kept
 */
function removeUnused(images, kept) {
  for (const entry of fs.readdirSync(images, { withFileTypes: true })) {
    const image = path.join(images, entry.name);
    if (!entry.isDirectory() || image === kept || image.endsWith('.draft')) continue;
    const lock = `${image}.lock`;
    const used = fs.existsSync(lock) ? fs.statSync(lock).mtimeMs : 0;
    if (Date.now() - used < unusedDays * 86_400_000) continue;
    const remove = ['rm', '-rf', '--one-file-system', image, lock];
    spawnSync('flock', ['--nonblock', lock, ...remove], { stdio: 'inherit' });
  }
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

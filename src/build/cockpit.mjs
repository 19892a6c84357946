// Bundles the page for Cockpit: one script, one style sheet, and what the browser takes as it is.
import { cpSync, mkdirSync } from 'node:fs';
import { build } from 'esbuild';
import { forBrowser } from './esbuild-options.mjs';

/** @param {string} output a directory */
export async function buildPage(output) {
  mkdirSync(output, { recursive: true });
  await build({ ...forBrowser, outdir: output });
  for (const file of ['index.html', 'manifest.json'])
    cpSync(`src/cockpit/${file}`, `${output}/${file}`);
}

// Writes the completion of lockerctl for bash, zsh and fish, which is made from its tables.
import { rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { esbuildHandlebars } from './handlebars.mjs';

/**
 * The working directory is the project.
 * @param {string} target
 */
export async function buildCompletion(target) {
  const program = resolve(target, 'scripts.mjs');
  await build({
    entryPoints: ['src/cli/completion/scripts.ts'],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    plugins: [esbuildHandlebars],
    logLevel: 'warning',
  });
  /** @type {{ completionScripts: Record<string, string> }} */
  const { completionScripts } = await import(pathToFileURL(program).href);
  rmSync(program);
  for (const [name, script] of Object.entries(completionScripts)) {
    writeFileSync(join(target, name), script);
  }
}

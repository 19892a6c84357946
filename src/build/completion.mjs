// Writes the completion of lockerctl for bash, zsh and fish, which is made from its tables.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { esbuildHandlebars } from './handlebars.mjs';

/**
 * The working directory is the project.
 * @param {string} target
 */
export async function buildCompletion(target) {
  const { outputFiles } = await build({
    entryPoints: ['src/cli/completion/scripts.ts'],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    plugins: [esbuildHandlebars],
    logLevel: 'warning',
  });
  const code = Buffer.from(outputFiles[0]?.contents ?? []).toString('base64');
  /** @type {{ completionScripts: Record<string, string> }} */
  const { completionScripts } = await import(`data:text/javascript;base64,${code}`);
  mkdirSync(target, { recursive: true });
  for (const [name, script] of Object.entries(completionScripts)) {
    writeFileSync(join(target, name), script);
  }
}

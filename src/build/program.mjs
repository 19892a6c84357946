// Makes one of the programs for Node: a file that can be run and, where the program imports something only
// when it needs it, parts that it loads then. Node spends a millisecond for each 30 kB that it reads of a
// program, which is most of what a short command costs.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { build, transform } from 'esbuild';
import { forNode, project } from './esbuild-options.mjs';

/**
 * esbuild divides ES modules alone, and Node starts faster with CommonJS. So each part becomes CommonJS
 * after that. What several parts need is a part too, so that no class is there twice. Their names have
 * a hash of what is in them: parts of two versions never meet.
 * @param {string} name
 * @param {string} entry its source
 * @param {string} directory where it is written
 */
export async function buildProgram(name, entry, directory) {
  const { banner, minifyWhitespace, minifySyntax, ...options } = forNode;
  const top = join(project, directory);
  const { outputFiles } = await build({
    ...options,
    entryPoints: { [name]: entry },
    format: 'esm',
    splitting: true,
    outdir: top,
    // CommonJS wherever they are, whatever package.json is above.
    outExtension: { '.js': '.cjs' },
    chunkNames: `parts/${name}/[name]-[hash]`,
    write: false,
  });
  for (const { path, text } of outputFiles) {
    const isEntry = relative(top, path) === `${name}.cjs`;
    const { code } = await transform(text, {
      format: 'cjs',
      platform: options.platform,
      target: options.target,
      // Node's own import() would load its loader of ES modules first.
      supported: { 'dynamic-import': false },
      minifyWhitespace,
      minifySyntax,
      logLevel: options.logLevel,
    });
    const file = isEntry ? join(top, name) : path;
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, isEntry ? `${banner.js}\n${code}` : code);
    if (isEntry) chmodSync(file, 0o755);
  }
}

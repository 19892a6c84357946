// Makes one of the programs for Node: a file that can be run and, where the program imports something only
// when it needs it, parts that it loads then. Node spends a millisecond for each 30 kB that it reads of a
// program, which is most of what a short command costs.
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { build, transform } from 'esbuild';
import { forNode, project } from './esbuild-options.mjs';

/** What esbuild adds to the name of a part; it depends on where packages are, and not only on what is in it. */
const esbuildHash = /-[0-9A-Z]{8}(?=\.cjs)/g;

/**
 * Names for parts that depend on nothing but what is in them: what they are called by those that load them, and a
 * hash of all, so that parts of two versions never meet.
 * @param {readonly import('esbuild').OutputFile[]} files
 * @returns {Map<string, string>} new file names, by those that esbuild gave
 */
function namesOf(files) {
  const parts = files
    .map(({ path, text }) => ({ old: basename(path), plain: text.replaceAll(esbuildHash, '') }))
    .sort((a, b) => (a.plain < b.plain ? -1 : 1));
  const hash = createHash('sha256').update(parts.map(({ plain }) => plain).join('\0'));
  const version = hash.digest('hex').slice(0, 8);
  return new Map(
    parts.map(({ old }, index) => [old, old.replace(esbuildHash, `-${version}-${index}`)]),
  );
}

/**
 * esbuild divides ES modules alone, and Node starts faster with CommonJS. So each part becomes CommonJS
 * after that. What several parts need is a part too, so that no class is there twice.
 * @param {string} name
 * @param {string} entry its source
 * @param {string} directory where it is written
 */
export async function buildProgram(name, entry, directory) {
  const { banner, minifyWhitespace, minifySyntax, ...options } = forNode;
  const top = join(project, directory);
  const { outputFiles } = await build({
    ...options,
    minifyWhitespace,
    entryPoints: { [name]: entry },
    format: 'esm',
    splitting: true,
    // Paths of packages are in the programs: those of the project, wherever a build has its packages from.
    preserveSymlinks: true,
    outdir: top,
    // CommonJS wherever they are, whatever package.json is above.
    outExtension: { '.js': '.cjs' },
    chunkNames: `parts/${name}/[name]-[hash]`,
    write: false,
  });
  const names = namesOf(outputFiles);
  for (const { path, text } of outputFiles) {
    const isEntry = relative(top, path) === `${name}.cjs`;
    const renamed = text.replaceAll(/[\w-]+\.cjs/g, (old) => names.get(old) ?? old);
    const { code } = await transform(renamed, {
      format: 'cjs',
      platform: options.platform,
      target: options.target,
      // Node's own import() would load its loader of ES modules first.
      supported: { 'dynamic-import': false },
      minifyWhitespace,
      minifySyntax,
      logLevel: options.logLevel,
    });
    const file = isEntry ? join(top, name) : join(dirname(path), names.get(basename(path)) ?? '');
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, isEntry ? `${banner.js}\n${code}` : code);
    if (isEntry) chmodSync(file, 0o755);
  }
}

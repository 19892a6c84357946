// Compiles the generator and lockerd-lockers to one static program, dist/compiled/lockerd-generator:
// the same source as for Node, put together by esbuild and translated by QuickJS's qjsc. Where that
// cannot be done it says why, and the package has the programs for Node instead.
// Usage: node src/build/compile.mjs [--required] [--here]
//
// With --here, this machine has the compiler, as a Debian package's build has; else it is in a tree.
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { buildRoot, run } from './clean-room.mjs';
import { forQuickjs, project } from './esbuild-options.mjs';

process.chdir(project);
const sources = 'src/build/quickjs';
const result = 'dist/compiled/lockerd-generator';
const isHere = process.argv.includes('--here');

/** As Debian names processors; others have other numbers in host/system-quickjs.ts. */
const architecture =
  (isHere ? process.env['DEB_HOST_ARCH'] : undefined) ??
  new Map([
    ['x64', 'amd64'],
    ['arm64', 'arm64'],
  ]).get(process.arch);

/** In a build of the package, dpkg says for which processor and how. */
const steps = `cd "$1"
  qjsc -s -m -c -N program -o program.c program.js
  \${CC:-gcc} \${CPPFLAGS-} \${CFLAGS--O2 -s} -Wall -I/usr/include/quickjs -static \${LDFLAGS-} \\
    -o program main.c calls.c plain-text.c program.c \\
    /usr/lib/\${DEB_HOST_MULTIARCH:-*}/quickjs/libquickjs.a -lm -lpthread
  dpkg-query -W -f '\${source:Package} (= \${source:Version}), ' \\
    "libquickjs:$2" "libc6-dev:$2" | sed 's/, $//'`;

/** Tells the sources of what is in the program. */
async function compile() {
  if (architecture === undefined) throw new Error(`not for ${process.arch}`);
  const tree = isHere ? '' : buildRoot();
  // Debugging information has the name of the directory, so a package has the same one each time.
  const work = isHere ? 'dist/compiled/work' : mkdtempSync(join(tree, 'tmp/lockerd-'));
  mkdirSync(work, { recursive: true });
  try {
    await build({ ...forQuickjs(architecture), outfile: join(work, 'program.js') });
    for (const name of ['main.c', 'calls.c', 'calls.h', 'plain-text.c']) {
      copyFileSync(join(sources, name), join(work, name));
    }
    const shell = ['sh', '-euc', steps, 'sh', work.slice(tree.length), architecture];
    const builtUsing = isHere ? run('env', ...shell) : run('chroot', tree, ...shell);
    mkdirSync('dist/compiled', { recursive: true });
    copyFileSync(join(work, 'program'), result);
    return builtUsing;
  } finally {
    rmSync(work, { recursive: true });
  }
}

rmSync('dist/compiled', { recursive: true, force: true });
const isRequired = process.argv.includes('--required');
try {
  const builtUsing = await compile();
  writeFileSync('dist/compiled/built-using', `${builtUsing}\n`);
  process.stdout.write(`${result}: built using ${builtUsing}\n`);
} catch (error) {
  const why = error instanceof Error ? error.message : String(error);
  process.stderr.write(`compile: the generator is not compiled, and needs Node at boot: ${why}\n`);
  if (isRequired) process.exitCode = 1;
}

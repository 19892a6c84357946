// Compiles the generator and lockerd-lockers to one static program, dist/compiled/lockerd-generator:
// the same source as for Node, put together by esbuild and translated by QuickJS's qjsc. Where that
// cannot be done it says why, and the package has the programs for Node instead.
// Usage: node src/build/compile.mjs [--required]
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { esbuildHandlebars } from './handlebars.mjs';

process.chdir(fileURLToPath(new URL('../..', import.meta.url)));
/** @type {{ version: string }} */
const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
const sources = 'src/build/quickjs';
const result = 'dist/compiled/lockerd-generator';

/** As Debian names processors; others have other numbers in host/system-quickjs.ts. */
const architecture = new Map([
  ['x64', 'amd64'],
  ['arm64', 'arm64'],
]).get(process.arch);

/**
 * @param {string} command
 * @param {string[]} args
 */
function run(command, ...args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (error !== undefined) throw new Error(`${command} cannot be run: ${error.message}`);
  if (status !== 0) throw new Error(`${command} failed:\n${stdout}${stderr}`);
  return stdout;
}

/** The tree with the compiler, which is built when its recipe has changed (a minute). */
function toolchain() {
  if (process.getuid?.() !== 0)
    throw new Error('the compiler is installed in a tree of its own, by root only');
  const recipe = join(sources, 'toolchain.sh');
  const key = createHash('sha256').update(readFileSync(recipe)).update(process.arch).digest('hex');
  const caches = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const directory = join(caches, 'lockerd-build');
  const tree = join(directory, key.slice(0, 16));
  if (!existsSync(tree)) {
    mkdirSync(directory, { recursive: true });
    process.stderr.write('compile: installing the compiler, once\n');
    const lock = join(directory, 'lock');
    // Somebody else may have built it meanwhile.
    run('flock', lock, 'sh', '-c', '[ -d "$2" ] || exec bash "$1" "$2"', 'sh', recipe, tree);
    for (const other of readdirSync(directory)) {
      if (/^[0-9a-f]{16}$/.test(other) && join(directory, other) !== tree) {
        rmSync(join(directory, other), { recursive: true });
      }
    }
  }
  return tree;
}

/** @type {import('esbuild').Plugin} */
const quickjs = {
  name: 'quickjs',
  setup(builder) {
    builder.onResolve({ filter: /^quickjs:/ }, ({ path }) => ({
      path: path.slice('quickjs:'.length),
      external: true,
    }));
    builder.onResolve({ filter: /\/system\.ts$/ }, () => ({
      path: join(process.cwd(), 'src/host/system-quickjs.ts'),
    }));
  },
};

/** @param {string} outfile */
async function bundle(outfile) {
  await build({
    entryPoints: ['generators/compiled.ts'],
    outfile,
    bundle: true,
    minify: true,
    platform: 'neutral',
    format: 'esm',
    mainFields: ['module', 'main'],
    target: 'es2022',
    define: {
      LOCKERD_VERSION: JSON.stringify(version),
      LOCKERD_ARCHITECTURE: JSON.stringify(architecture),
    },
    plugins: [quickjs, esbuildHandlebars],
    logLevel: 'warning',
  });
}

async function compile() {
  if (architecture === undefined) throw new Error(`not for ${process.arch}`);
  const tree = toolchain();
  const work = mkdtempSync(join(tree, 'tmp/lockerd-'));
  try {
    await bundle(join(work, 'program.js'));
    for (const name of ['main.c', 'calls.c', 'calls.h']) {
      copyFileSync(join(sources, name), join(work, name));
    }
    const steps = `cd "$1" &&
      qjsc -s -m -c -N program -o program.c program.js &&
      gcc -O2 -Wall -static -s -I/usr/include/quickjs -o program main.c calls.c program.c \\
        /usr/lib/*/quickjs/libquickjs.a -lm -lpthread`;
    run('chroot', tree, 'sh', '-c', steps, 'sh', work.slice(tree.length));
    mkdirSync('dist/compiled', { recursive: true });
    copyFileSync(join(work, 'program'), result);
    const query = [
      '-W',
      '-f',
      '${source:Package} (= ${source:Version}), ',
      'libquickjs',
      'libc6-dev',
    ];
    return run('chroot', tree, 'dpkg-query', ...query).replace(/, $/, '');
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

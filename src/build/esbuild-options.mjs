// What esbuild makes of the sources: the programs for Node, and the one that is compiled.
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { esbuildDbusNext } from './dbus-next.mjs';
import { esbuildHandlebars } from './handlebars.mjs';

export const project = fileURLToPath(new URL('../..', import.meta.url));

/** @type {{ version: string }} */
export const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));

/** Entry points of the programs, by the programs' names. */
export const programs = {
  'lockerd-generator': 'generators/lockerd-generator.ts',
  lockerd: 'src/service/lockerd.ts',
  'lockerd-lockers': 'src/lockers/lockerd-lockers.ts',
  'lockerd-helper': 'src/helper/lockerd-helper.ts',
  'lockerd-autoballoon': 'src/autoballoon/lockerd-autoballoon.ts',
  'lockerd-move': 'src/move/lockerd-move.ts',
  lockerctl: 'src/cli/lockerctl.ts',
};

/** @satisfies {import('esbuild').BuildOptions} */
export const forNode = {
  absWorkingDir: project,
  bundle: true,
  platform: /** @type {const} */ ('node'),
  // The oldest Node of a supported Debian; CommonJS starts faster there than ES modules.
  target: 'node18.19',
  format: /** @type {const} */ ('cjs'),
  banner: { js: '#!/usr/bin/env node' },
  define: { LOCKERD_VERSION: JSON.stringify(version) },
  plugins: [esbuildHandlebars, esbuildDbusNext],
  // Names stay as they are: they are what a stack trace in the journal says.
  minifyWhitespace: true,
  minifySyntax: true,
  logLevel: /** @type {const} */ ('warning'),
};

/** @type {import('esbuild').Plugin} */
const quickjs = {
  name: 'quickjs',
  setup(builder) {
    builder.onResolve({ filter: /^quickjs:/ }, ({ path }) => ({
      path: path.slice('quickjs:'.length),
      external: true,
    }));
    builder.onResolve({ filter: /\/(?:system|plain-text)\.ts$/ }, ({ path }) => ({
      path: join(project, 'src/host', basename(path).replace('.ts', '-quickjs.ts')),
    }));
  },
};

/**
 * For QuickJS, whose compiler takes one module.
 * @param {string} architecture as Debian names it
 */
export const forQuickjs = (architecture) => ({
  absWorkingDir: project,
  entryPoints: ['generators/compiled.ts'],
  bundle: true,
  minify: true,
  platform: /** @type {const} */ ('neutral'),
  format: /** @type {const} */ ('esm'),
  mainFields: ['module', 'main'],
  target: 'es2022',
  define: {
    LOCKERD_VERSION: JSON.stringify(version),
    LOCKERD_ARCHITECTURE: JSON.stringify(architecture),
  },
  plugins: [quickjs, esbuildHandlebars],
  logLevel: /** @type {const} */ ('warning'),
});

/** PatternFly's fonts: those of Cockpit, in page.css, are of the same names. */
const withoutFonts = {
  name: 'without-fonts',
  setup(/** @type {import('esbuild').PluginBuild} */ builder) {
    builder.onLoad({ filter: /\/react-core\/dist\/styles\/base\.css$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replaceAll(/@font-face \{[^}]*\}/g, ''),
      loader: 'css',
    }));
  },
};

const empty = /** @type {const} */ ('empty');

/**
 * The page for Cockpit. Every Cockpit that we support runs in browsers that know ES2022; the fonts are
 * Cockpit's own.
 * @satisfies {import('esbuild').BuildOptions}
 */
export const forBrowser = {
  absWorkingDir: project,
  entryPoints: { page: 'src/cockpit/index.tsx' },
  bundle: true,
  minify: true,
  platform: /** @type {const} */ ('browser'),
  format: /** @type {const} */ ('iife'),
  target: 'es2022',
  jsx: /** @type {const} */ ('automatic'),
  define: { 'process.env.NODE_ENV': '"production"' },
  plugins: [withoutFonts],
  external: ['../../static/*'],
  // Pictures of PatternFly that no part of the page shows.
  loader: { '.svg': empty },
  legalComments: /** @type {const} */ ('none'),
  logLevel: /** @type {const} */ ('warning'),
};

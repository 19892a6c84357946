// Builds every installed program into dist/, each executable by its own path, and the units.
//
// src/build makes what is installed from all other folders. None of it runs on a host.
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { esbuildDbusNext } from './dbus-next.mjs';
import { esbuildHandlebars } from './handlebars.mjs';
import { buildCompletion } from './completion.mjs';
import { buildUnits } from './units.mjs';

process.chdir(fileURLToPath(new URL('../..', import.meta.url)));
/** @type {{ version: string }} */
const { version } = JSON.parse(readFileSync('package.json', 'utf8'));

rmSync('dist', { recursive: true, force: true });
mkdirSync('dist/hooks', { recursive: true });
// The programs are CommonJS, unlike the project around them.
writeFileSync('dist/package.json', '{ "type": "commonjs" }\n');

/** @type {import('esbuild').BuildOptions} */
const program = {
  bundle: true,
  platform: 'node',
  // The oldest Node of a supported Debian; CommonJS starts faster there than ES modules.
  target: 'node18.19',
  format: 'cjs',
  banner: { js: '#!/usr/bin/env node' },
  define: { LOCKERD_VERSION: JSON.stringify(version) },
  plugins: [esbuildHandlebars, esbuildDbusNext],
  // Names stay as they are: they are what a stack trace in the journal says.
  minifyWhitespace: true,
  minifySyntax: true,
  logLevel: 'warning',
};
const entries = {
  'lockerd-generator': 'generators/lockerd-generator.ts',
  lockerd: 'src/service/lockerd.ts',
  'lockerd-lockers': 'src/lockers/lockerd-lockers.ts',
  'lockerd-helper': 'src/helper/lockerd-helper.ts',
  'lockerd-autoballoon': 'src/autoballoon/lockerd-autoballoon.ts',
  lockerctl: 'src/cli/lockerctl.ts',
};
for (const [name, entry] of Object.entries(entries)) {
  await build({ ...program, entryPoints: [entry], outfile: `dist/${name}` });
  chmodSync(`dist/${name}`, 0o755);
}

for (const hook of readdirSync('hooks')) {
  cpSync(`hooks/${hook}`, `dist/hooks/${hook}`);
  chmodSync(`dist/hooks/${hook}`, 0o755);
}

buildUnits('dist/units/system');
await buildCompletion('dist/completion');

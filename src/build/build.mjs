// Builds every installed program into dist/, each executable by its own path, and the units.
//
// src/build makes what is installed from all other folders. None of it runs on a host.
import { chmodSync, cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { buildPage } from './cockpit.mjs';
import { buildCompletion } from './completion.mjs';
import { programs, project } from './esbuild-options.mjs';
import { buildProgram } from './program.mjs';
import { buildUnits } from './units.mjs';

process.chdir(project);
process.umask(0o022);

rmSync('dist', { recursive: true, force: true });
mkdirSync('dist/hooks', { recursive: true });
// The programs are CommonJS, unlike the project around them.
writeFileSync('dist/package.json', '{ "type": "commonjs" }\n');

for (const [name, entry] of Object.entries(programs)) {
  await buildProgram(name, entry, 'dist');
}

for (const hook of readdirSync('hooks')) {
  cpSync(`hooks/${hook}`, `dist/hooks/${hook}`);
  chmodSync(`dist/hooks/${hook}`, 0o755);
}

buildUnits('dist/units/system');
await buildCompletion('dist/completion');
await buildPage('dist/cockpit');

// Copies the built program into a file system tree, where a package has it.
// Usage: node src/build/install.mjs --destdir DIR
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * From the project's directory to the tree; a directory goes whole.
 * @type {{ source: string, target: string, mode?: number }[]}
 */
const files = [
  {
    source: 'dist/lockerd-generator',
    target: 'usr/lib/systemd/system-generators/lockerd-generator',
    mode: 0o755,
  },
  { source: 'dist/hooks', target: 'usr/lib/lockerd/hooks' },
  { source: 'units/system', target: 'usr/lib/systemd/system' },
];

const project = fileURLToPath(new URL('../..', import.meta.url));
const [option, destination] = process.argv.slice(2);
if (option !== '--destdir' || destination === undefined || destination === '') {
  process.stderr.write('Usage: node src/build/install.mjs --destdir DIR\n');
  process.exit(2);
}
if (!existsSync(join(project, 'dist/lockerd-generator'))) {
  process.stderr.write('install: dist/ is not built; run: npm run build\n');
  process.exit(1);
}

for (const { source, target, mode } of files) {
  const to = join(destination, target);
  mkdirSync(dirname(to), { recursive: true });
  cpSync(join(project, source), to, { recursive: true });
  if (mode !== undefined) chmodSync(to, mode);
}

// Generators run with whatever PATH the manager has; an installed program names its interpreter.
const generator = join(destination, 'usr/lib/systemd/system-generators/lockerd-generator');
const text = readFileSync(generator, 'utf8');
writeFileSync(generator, text.replace(/^#!\/usr\/bin\/env node\n/, '#!/usr/bin/node\n'));

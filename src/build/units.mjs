// Puts the lines that packaged units share in their place: a line "@sandbox/NAME.conf@" stands for
// the file of that name in units/.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * @param {string} text
 * @returns {string}
 */
function withShared(text) {
  return text.replace(/^@(sandbox\/[a-z-]+\.conf)@\n/gm, (_, /** @type {string} */ name) =>
    withShared(readFileSync(join('units', name), 'utf8')),
  );
}

/**
 * Writes every packaged unit and drop-in as it is installed. The working directory is the project.
 * @param {string} target
 */
export function buildUnits(target) {
  for (const name of readdirSync('units/system', { recursive: true, encoding: 'utf8' })) {
    const source = join('units/system', name);
    if (!statSync(source).isFile()) continue;
    mkdirSync(dirname(join(target, name)), { recursive: true });
    writeFileSync(join(target, name), withShared(readFileSync(source, 'utf8')));
  }
}

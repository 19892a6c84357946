// The tier lint: programs that read the sources. Node built-ins only, because `npm ci` may not have
// run when this is loaded.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Bundles, dependencies and the repository itself: nothing here was written by hand. */
const generated = new Set(['node_modules', 'dist', 'coverage', '.git']);

/**
 * @param {string} directory
 * @returns {string[]}
 */
function filesBelow(directory) {
  return fs.readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(directory, entry.name);
    if (entry.isDirectory()) return generated.has(entry.name) ? [] : filesBelow(file);
    return entry.isFile() ? [file] : [];
  });
}

/** @param {string} file */
function isShellScript(file) {
  const [firstLine = ''] = fs.readFileSync(file, 'latin1').split('\n', 1);
  return /^#!\S*\/(env )?(ba|da)?sh\b/.test(firstLine);
}

/** @param {RegExp} pattern */
function filesMatching(pattern) {
  return filesBelow('.').filter((file) => pattern.test(file));
}

const bin = path.join('node_modules', '.bin');

/**
 * One row a check: a program, its arguments, and for programs that take files those files. A row
 * whose list of files is empty has nothing to check. The longest come first, as they run side by
 * side. lintian is not here: the golden tier has it check the package that it builds.
 * @type {{ name: string, command: string, args: string[], files?: () => string[] }[]}
 */
const lintSteps = [
  { name: 'eslint', command: `${bin}/eslint`, args: ['.'] },
  { name: 'tsc', command: `${bin}/tsc`, args: ['--noEmit'] },
  // The page runs in browsers, which have other globals than Node.
  { name: 'tsc for browsers', command: `${bin}/tsc`, args: ['--noEmit', '-p', 'src/cockpit'] },
  { name: 'prettier', command: `${bin}/prettier`, args: ['--check', '.'] },
  { name: 'depcruise', command: `${bin}/depcruise`, args: ['src', 'generators'] },
  { name: 'knip', command: `${bin}/knip`, args: [] },
  {
    name: 'shellcheck',
    command: 'shellcheck',
    args: ['-x'],
    files: () => filesBelow('.').filter(isShellScript),
  },
  {
    name: 'mandoc',
    command: 'mandoc',
    args: ['-T', 'lint', '-W', 'warning'],
    files: () => filesMatching(/^src\/man\/.*\.[1-8]$/),
  },
];

/**
 * Runs a program and shows its output when it has ended: several can run side by side.
 * @param {string} name
 * @param {string} command
 * @param {string[]} args
 * @returns {Promise<boolean>}
 */
export function showAtEnd(name, command, args) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => (output += text));
  }
  child.once('error', (error) => (output += `${command}: ${error.message}\n`));
  return new Promise((resolve) => {
    child.once('close', (status, signal) => {
      console.log(`--- ${name}`);
      process.stdout.write(output);
      if (signal) console.error(`${command}: ended by ${signal}`);
      resolve(status === 0);
    });
  });
}

/**
 * @returns {Promise<{ passed: number, failures: string[] }>} how many checks found nothing, and the
 *   names of the others
 */
export async function lint() {
  let passed = 0;
  /** @type {string[]} */
  const failures = [];
  const waiting = [...lintSteps];
  const work = async () => {
    for (let step = waiting.shift(); step; step = waiting.shift()) {
      const { name, command, args, files } = step;
      const list = files?.();
      if (list?.length === 0) continue;
      if (await showAtEnd(name, command, [...args, ...(list ?? [])])) passed++;
      else failures.push(name);
    }
  };
  await Promise.all(Array.from({ length: os.availableParallelism() }, work));
  return { passed, failures };
}

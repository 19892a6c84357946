// Runs everything, from a fresh clone on: `npm test`, `npm run try`, `npm run lint`, `npm run bench`.
//
//   usage: run.mjs test [TIER...|fast] | lint | try [ARGUMENT...] | bench [ARGUMENT...]
//
// A run of tiers: install what they need; make the images of hosts in the background; lint while the
// programs are built; the tests, in runs of vitest that several tiers share; a table.
//
// Node built-ins only: what npm installs may not be there yet.

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { imagesFor } from './images.mjs';
import { lint, showAtEnd } from './lint.mjs';
import { ensurePrograms } from './machines/programs.mjs';
import { runTests } from './vitest.mjs';

/** @typedef {import('./vitest.mjs').Counts} Counts */
/** @typedef {import('./machines/programs.mjs').Program} Program */
/**
 * Tests of vitest are those of `project`; the others `run` by themselves. Tiers of the same `share`
 * have one run of vitest. What is `apart`
 * runs only when it is named: README.md says why.
 * @typedef {object} Tier
 * @property {string} name
 * @property {string} [project]
 * @property {'machine' | 'hosts'} [share]
 * @property {() => Counts | Promise<Counts>} [run]
 * @property {readonly Program[]} programs
 * @property {keyof typeof imagesFor} [image]
 * @property {boolean} [apart]
 */

process.chdir(path.resolve(import.meta.dirname, '..'));

/**
 * @param {string} command
 * @param {string[]} args
 */
function show(command, args) {
  const { status, signal, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (error) console.error(`${command}: ${error.message}`);
  if (signal) console.error(`${command}: ended by ${signal}`);
  return status === 0;
}

/** @returns {Promise<Counts>} */
async function runLint() {
  const { passed, failures } = await lint();
  const remarks = failures.map((name) => `FAILED: lint: ${name}`);
  return { passed, failed: failures.length, skipped: 0, remarks };
}

/** @returns {Counts} */
function runBench() {
  const isGood = showTypeScript('test/bench/bench.ts', ['generator', '--short']);
  if (isGood) return { passed: 1, failed: 0, skipped: 0 };
  const remarks = ['FAILED: bench: the generator is far slower than recorded'];
  return { passed: 0, failed: 1, skipped: 0, remarks };
}

/** What the tests of the bus run, and those of clients on a host. */
const busPrograms = /** @type {const} */ ([
  'dbus-daemon',
  'dbus-send',
  'busctl',
  'gdbus',
  'script',
  'shellcheck',
  'pkttyagent',
  'python3',
  'zsh',
  'fish',
  '/usr/share/bash-completion/bash_completion',
  '/usr/lib/polkit-1/polkitd',
  '/usr/lib/python3/dist-packages/dasbus',
  '/usr/lib/python3/dist-packages/jeepney',
]);
const goldenPrograms = /** @type {const} */ (['debootstrap', 'systemd-analyze', 'lintian']);
const hostPrograms = /** @type {const} */ (['debootstrap', 'systemd-nspawn']);
const vmPrograms = /** @type {const} */ ([
  ...hostPrograms,
  'qemu-system-x86_64',
  'qemu-img',
  'qemu-storage-daemon',
  'mke2fs',
]);

/**
 * In the order in which they run.
 * @type {Tier[]}
 */
const tiers = [
  { name: 'lint', run: runLint, programs: ['shellcheck', 'mandoc'] },
  { name: 'unit', project: 'unit', share: 'machine', programs: ['lxc-info'] },
  { name: 'golden', project: 'golden', share: 'machine', programs: goldenPrograms },
  { name: 'differential', project: 'diff', share: 'machine', programs: ['lxc-info'] },
  { name: 'bus', project: 'bus', share: 'machine', programs: busPrograms },
  {
    name: 'broker',
    project: 'broker',
    share: 'machine',
    programs: [...busPrograms, 'dbus-broker-launch'],
  },
  {
    name: 'host',
    project: 'host',
    share: 'hosts',
    programs: [...busPrograms, ...hostPrograms],
    image: 'host',
  },
  { name: 'trixie', project: 'trixie', share: 'hosts', programs: hostPrograms, image: 'trixie' },
  { name: 'attack', project: 'attack', share: 'hosts', programs: hostPrograms, image: 'host' },
  {
    name: 'web',
    project: 'web',
    programs: [...hostPrograms, 'chromium'],
    image: 'web',
  },
  { name: 'bench', run: runBench, programs: [] },
  { name: 'swap', project: 'swap', programs: hostPrograms, image: 'host' },
  { name: 'vm', project: 'vm', programs: vmPrograms, image: 'vm' },
  {
    name: 'package',
    project: 'package',
    programs: [...hostPrograms, 'faketime'],
    image: 'package',
    apart: true,
  },
  { name: 'pair', project: 'pair', programs: vmPrograms, image: 'pair', apart: true },
  { name: 'next', project: 'next', programs: vmPrograms, image: 'next', apart: true },
];

/** What is tested between commits, in minutes: all that boots no host. */
const fast = ['lint', 'unit', 'golden', 'differential', 'bus'];

function installDependencies() {
  const installed = 'node_modules/.package-lock.json';
  const current =
    fs.existsSync(installed) &&
    fs.statSync(installed).mtimeMs >= fs.statSync('package-lock.json').mtimeMs;
  if (current) return;
  console.log('--- npm ci');
  if (!show('npm', ['ci', '--no-audit', '--no-fund'])) throw new Error('npm ci failed');
}

/** Whether the programs could be built. Without a compiler, the hosts get those for Node. */
async function build() {
  for (const program of ['src/build/build.mjs', 'src/build/compile.mjs']) {
    if (!(await showAtEnd(program, process.execPath, [program]))) return false;
  }
  return true;
}

/**
 * Begins to make the images of the chosen tiers, with what the tiers before them leave of the
 * processors. A tier that comes too early waits for its own, and says why one cannot be made.
 * @param {Tier[]} chosen
 * @returns {Promise<unknown>} that ends when nothing is made any more
 */
function makeImages(chosen) {
  const names = [...new Set(chosen.flatMap(({ image }) => image ?? []))];
  if (names.length === 0 || process.getuid?.() !== 0) return Promise.resolve();
  const make = [process.execPath, path.join(import.meta.dirname, 'images.mjs'), ...names];
  const child = spawn('nice', ['-n', '19', ...make], { stdio: ['ignore', 'inherit', 'inherit'] });
  return new Promise((resolve) => child.once('error', resolve).once('exit', resolve));
}

/**
 * Tiers that run together, in the order in which they run.
 * @param {Tier[]} chosen
 * @returns {Tier[][]}
 */
function groups(chosen) {
  /** @type {Tier[][]} */
  const found = [];
  for (const tier of chosen) {
    const last = found.at(-1);
    if (tier.share !== undefined && tier.share === last?.[0]?.share) last?.push(tier);
    else found.push([tier]);
  }
  return found;
}

/**
 * @param {Tier[]} group
 * @returns {Promise<Counts[]>} of each tier
 */
async function runGroup(group) {
  try {
    for (const { programs, image } of group) {
      ensurePrograms([...programs]);
      if (image) await imagesFor[image]();
    }
    const [first] = group;
    if (first?.run) return [await first.run()];
    return runTests(group.flatMap(({ project }) => project ?? []));
  } catch (error) {
    const reason = `cannot run: ${error instanceof Error ? error.message : error}`;
    return group.map(({ name }) => notRun(name, reason));
  }
}

/**
 * @param {string} name
 * @param {string} reason
 * @returns {Counts}
 */
function notRun(name, reason) {
  console.log(`${name}: ${reason}`);
  return { passed: 0, failed: 1, skipped: 0, remarks: [`FAILED: ${name}: ${reason}`] };
}

/**
 * A line of the closing table.
 * @typedef {Counts & { name: string, seconds: number }} Row
 */

/** @param {Tier[]} chosen */
async function runTiers(chosen) {
  const start = Date.now();
  const images = makeImages(chosen);
  const needsBuild = chosen.some(({ name }) => name !== 'lint');
  const building = needsBuild ? build() : Promise.resolve(true);
  /** @type {Row[]} */
  const rows = [];
  for (const group of groups(chosen)) {
    const names = group.map(({ name }) => name);
    const [name] = names;
    // Only the sources are linted, which a build leaves alone.
    const built = name === 'lint' || (await building);
    // What measures wants the machine for itself.
    if (name === 'bench' || name === 'swap') await images;
    console.log(`\n=== ${names.join(', ')}`);
    const begin = Date.now();
    const results = built
      ? await runGroup(group)
      : names.map((one) => notRun(one, 'the build failed, so there is nothing to test'));
    for (const [index, counts] of results.entries()) {
      // Files of several tiers ran at the same time.
      const own = counts.files?.reduce((seconds, file) => seconds + file.seconds, 0);
      const seconds = own !== undefined && group.length > 1 ? own : (Date.now() - begin) / 1000;
      rows.push({ name: names[index] ?? '', ...counts, seconds });
    }
  }
  // A failed build is a failure also where no chosen tier needs what it makes.
  if (!(await building)) rows.unshift({ name: 'build', ...notRun('build', 'failed'), seconds: 0 });
  await images;
  return printResults(rows, (Date.now() - start) / 1000);
}

/**
 * @param {Row[]} rows
 * @param {number} seconds
 * @returns {boolean} whether all is well
 */
function printResults(rows, seconds) {
  printSlowest(rows.flatMap(({ files = [] }) => files));
  const total = { passed: 0, failed: 0, skipped: 0, unstable: 0 };
  console.log(`\n${tableLine(['tier', 'passed', 'unstable', 'failed', 'skipped', 'seconds'])}`);
  for (const { name, passed, unstable = 0, failed, skipped, seconds } of rows) {
    console.log(tableLine([name, passed, unstable, failed, skipped, Math.round(seconds)]));
    total.unstable += unstable;
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
  }
  const remarks = rows.flatMap(({ remarks = [] }) => remarks);
  if (remarks.length > 0) console.log(`\n${remarks.join('\n')}`);
  const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : '';
  const unstable = total.unstable > 0 ? `, ${total.unstable} only at the second try` : '';
  const time = `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  console.log(
    `\ntests: ${total.passed} passed, ${total.failed} failed${unstable}${skipped}, in ${time}`,
  );
  return total.failed === 0 && total.passed > 0;
}

/** @param {import('./vitest.mjs').FileResult[]} files */
function printSlowest(files) {
  const slowest = [...files].sort((a, b) => b.seconds - a.seconds).slice(0, 15);
  if (slowest.length === 0) return;
  console.log('\nthe slowest files, in seconds');
  for (const { project, file, seconds } of slowest) {
    console.log(
      `${String(Math.round(seconds)).padStart(5)}  ${project}: ${path.relative('.', file)}`,
    );
  }
}

/** @param {(string | number)[]} cells */
function tableLine([name = '', ...numbers]) {
  return [String(name).padEnd(12), ...numbers.map((cell) => String(cell).padStart(8))].join(' ');
}

/**
 * @param {string} file
 * @param {string[]} args
 */
function showTypeScript(file, args) {
  const loader = new URL('./typescript.mjs', import.meta.url).href;
  return show(process.execPath, ['--import', loader, file, ...args]);
}

/**
 * @param {string | undefined} action
 * @param {string[]} args
 */
async function main(action, args) {
  const names = args.flatMap((name) => (name === 'fast' ? fast : [name]));
  const unknown = names.filter((name) => !tiers.some((tier) => tier.name === name));
  const known = ['test', 'lint', 'try', 'bench'].includes(action ?? '');
  if (!known || (action === 'test' && unknown.length > 0)) {
    const all = tiers.map(({ name }) => name).join(' | ');
    console.error(
      `usage: run.mjs test [fast | ${all}]... | lint | try [ARGUMENT...] | bench [ARGUMENT...]`,
    );
    return false;
  }
  installDependencies();
  if (action === 'try') return (await build()) && showTypeScript('test/host/try.ts', args);
  if (action === 'bench') return (await build()) && showTypeScript('test/bench/bench.ts', args);
  const wanted = action === 'lint' ? ['lint'] : names;
  const chosen = tiers.filter(({ name, apart }) =>
    wanted.length > 0 ? wanted.includes(name) : !apart,
  );
  try {
    ensurePrograms([...new Set(chosen.flatMap(({ programs }) => programs))]);
  } catch (error) {
    // The tiers that need them fail by themselves; the others still tell something.
    console.error(error instanceof Error ? error.message : error);
  }
  return runTiers(chosen);
}

process.exitCode = (await main(process.argv[2], process.argv.slice(3))) ? 0 : 1;

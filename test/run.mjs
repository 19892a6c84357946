// Runs everything, from a fresh clone on: `npm test`, `npm run try`, `npm run lint`, `npm run bench`.
//
//   usage: run.mjs test [TIER...|fast] | lint | try [ARGUMENT...] | bench [ARGUMENT...]
//
// Node built-ins only: what npm installs may not be there yet.

import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ensureImage } from './host/image.mjs';
import { ensurePrograms } from './machines/programs.mjs';
import { ensurePackageImage, releases } from './package/package-images.mjs';
import { ensureState, ensureVmImage, nextRelease, usualMachines } from './vm/image.mjs';

/**
 * Tests; `unstable` ones failed at first and passed when they ran once more.
 * @typedef {{ passed: number, failed: number, skipped: number, unstable?: number }} Counts
 */
/**
 * What is `apart` runs only when it is named: README.md says why.
 * @typedef {{ name: string, run: () => Counts | Promise<Counts>, needsBuild?: boolean, apart?: boolean }} Tier
 */

const root = path.resolve(import.meta.dirname, '..');
process.chdir(root);

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
 * @param {string} command
 * @param {string[]} args
 */
function show(command, args) {
  const { status, signal, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (error) console.error(`${command}: ${error.message}`);
  if (signal) console.error(`${command}: ended by ${signal}`);
  return status === 0;
}

/**
 * Like {@link show}, but shows the output when the program has ended.
 * @param {string} name
 * @param {string} command
 * @param {string[]} args
 * @returns {Promise<boolean>}
 */
function showAtEnd(name, command, args) {
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

/** @returns {Promise<Counts>} */
async function lint() {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const waiting = [...lintSteps];
  const work = async () => {
    for (let step = waiting.shift(); step; step = waiting.shift()) {
      const { name, command, args, files } = step;
      const list = files?.();
      if (list?.length === 0) continue;
      if (await showAtEnd(name, command, [...args, ...(list ?? [])])) counts.passed++;
      else {
        counts.failed++;
        remarks.push(`FAILED: lint: ${name}`);
      }
    }
  };
  await Promise.all(Array.from({ length: os.availableParallelism() }, work));
  return counts;
}

/**
 * One run of vitest over a project, or over some of its files.
 * @param {string} project
 * @param {string[]} options
 * @returns {Counts & { files: string[], failures: string[] }} the files in which tests failed, and
 *   a line each for these tests
 */
function vitestOnce(project, options) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-results-'));
  const file = path.join(directory, 'results.json');
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
    const args = ['run', '--project', project, ...reporters, ...options];
    const good = show(path.join(bin, 'vitest'), args);
    const results = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {};
    /** @type {{ name: string, status: string, message: string, assertionResults: { fullName: string, status: string, failureMessages: string[] }[] }[]} */
    const files = results.testResults ?? [];
    const unloadable = files.filter(
      ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
    );
    const failures = files.flatMap(({ name, status, message, assertionResults }) => {
      const failed = assertionResults.filter((one) => one.status === 'failed');
      const tests = failed.map((one) => ({
        test: one.fullName,
        why: one.failureMessages[0] ?? '',
      }));
      // A file that cannot be loaded, or whose hook failed.
      if (status === 'failed' && tests.length === 0) tests.push({ test: '', why: message });
      return tests.map(({ test, why }) => {
        const [firstLine = ''] = why.split('\n', 1);
        return `${path.relative(root, name)}: ${test}: ${firstLine.slice(0, 300)}`;
      });
    });
    const counts = {
      passed: results.numPassedTests ?? 0,
      failed: (results.numFailedTests ?? 0) + unloadable.length,
      skipped: (results.numPendingTests ?? 0) + (results.numTodoTests ?? 0),
    };
    const ran = counts.passed + counts.failed > 0;
    if (counts.failed === 0 && (!good || !ran)) {
      failures.push(`${project}: ${ran ? 'vitest ended badly' : 'no test ran'}`);
      counts.failed = 1;
    }
    const failedFiles = files.filter(({ status }) => status === 'failed').map(({ name }) => name);
    return { ...counts, files: failedFiles, failures };
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

/** What is repeated below the table, where nobody has to look for it. @type {string[]} */
const remarks = [];

/**
 * The tests of one project of vitest.config.ts. A file that cannot be loaded counts as a failed
 * test, and so does a run that ends badly without one.
 * @param {string} project
 * @param {string[]} [options]
 * @returns {Counts}
 */
function vitest(project, options = []) {
  const { passed, failed, skipped, failures } = vitestOnce(project, options);
  remarks.push(...failures.map((line) => `FAILED: ${line}`));
  return { passed, failed, skipped };
}

/**
 * The same for tests of whole hosts, which a busy machine can disturb: files in which something
 * failed run once more. What passes then is not hidden but told of as unstable.
 * @param {string} project
 * @param {string[]} options
 * @returns {Counts}
 */
function vitestOfHosts(project, options) {
  const { files, failures, ...counts } = vitestOnce(project, options);
  if (counts.failed === 0 || files.length === 0) {
    remarks.push(...failures.map((line) => `FAILED: ${line}`));
    return counts;
  }
  console.log(`\n--- ${project}: once more, the files in which tests failed`);
  const again = vitestOnce(project, [...options, ...files]);
  remarks.push(...again.failures.map((line) => `FAILED: ${line}`));
  const mark = again.failed > 0 ? 'FAILED AT FIRST' : 'UNSTABLE';
  remarks.push(...failures.map((line) => `${mark}: ${line}`));
  const unstable = Math.max(0, counts.failed - again.failed);
  return {
    passed: counts.passed,
    failed: again.failed,
    skipped: counts.skipped,
    unstable,
  };
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
  '/usr/share/bash-completion/bash_completion',
  '/usr/lib/polkit-1/polkitd',
  '/usr/lib/python3/dist-packages/dasbus',
  '/usr/lib/python3/dist-packages/jeepney',
]);

/** @type {Tier[]} */
const tiers = [
  { name: 'lint', run: lint },
  { name: 'unit', run: () => vitest('unit') },
  { name: 'golden', run: () => vitest('golden') },
  { name: 'differential', run: () => vitest('diff') },
  {
    name: 'bus',
    needsBuild: true,
    run: () => {
      ensurePrograms([...busPrograms]);
      return vitestOfHosts('bus', ['--maxWorkers=2']);
    },
  },
  {
    name: 'broker',
    needsBuild: true,
    run: () => {
      ensurePrograms([...busPrograms, 'dbus-broker-launch']);
      return vitestOfHosts('broker', ['--maxWorkers=2']);
    },
  },
  {
    name: 'host',
    needsBuild: true,
    run: async () => {
      ensurePrograms([...busPrograms]);
      await ensureImage();
      // Each file boots hosts of its own; more at once only slow each other down.
      return vitestOfHosts('host', ['--maxWorkers=2']);
    },
  },
  {
    name: 'attack',
    needsBuild: true,
    run: async () => {
      await ensureImage();
      return vitestOfHosts('attack', ['--maxWorkers=2']);
    },
  },
  {
    name: 'bench',
    needsBuild: true,
    run: () => {
      const isGood = showTypeScript('test/bench/bench.ts', ['generator', '--short']);
      if (!isGood) remarks.push('FAILED: bench: the generator is far slower than recorded');
      return { passed: isGood ? 1 : 0, failed: isGood ? 0 : 1, skipped: 0 };
    },
  },
  {
    name: 'swap',
    needsBuild: true,
    run: async () => {
      await ensureImage();
      return vitestOfHosts('swap', []);
    },
  },
  {
    name: 'vm',
    needsBuild: true,
    run: async () => {
      const image = await ensureVmImage();
      for (const machine of usualMachines) await ensureState(image, machine);
      return vitestOfHosts('vm', ['--maxWorkers=2']);
    },
  },
  {
    name: 'package',
    needsBuild: true,
    apart: true,
    run: async () => {
      for (const release of releases) await ensurePackageImage(release);
      return vitestOfHosts('package', ['--maxWorkers=1']);
    },
  },
  {
    name: 'next',
    needsBuild: true,
    apart: true,
    run: async () => {
      const image = await ensureVmImage(nextRelease);
      for (const machine of usualMachines) await ensureState(image, machine);
      return vitestOfHosts('next', ['--maxWorkers=2']);
    },
  },
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

function build() {
  console.log('--- build');
  // Without a compiler, the hosts get the programs for Node.
  return (
    show(process.execPath, ['src/build/build.mjs']) &&
    show(process.execPath, ['src/build/compile.mjs'])
  );
}

/**
 * @param {Tier} tier
 * @param {boolean} built
 * @returns {Promise<Counts>}
 */
async function runTier(tier, built) {
  try {
    if (tier.needsBuild && !built) throw new Error('the build failed, so there is nothing to test');
    return await tier.run();
  } catch (error) {
    const reason = `${tier.name}: cannot run: ${error instanceof Error ? error.message : error}`;
    console.log(reason);
    remarks.push(`FAILED: ${reason}`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

/** @param {Tier[]} chosen */
async function runTiers(chosen) {
  const built = chosen.every(({ name }) => name === 'lint') || build();
  const rows = [];
  // A failed build is a failure also where no chosen tier needs what it makes.
  if (!built)
    rows.push({ name: 'build', passed: 0, failed: 1, skipped: 0, seconds: 0, unstable: 0 });
  for (const tier of chosen) {
    console.log(`\n=== ${tier.name}`);
    const start = Date.now();
    const counts = await runTier(tier, built);
    rows.push({ name: tier.name, ...counts, seconds: Math.round((Date.now() - start) / 1000) });
  }
  const total = { passed: 0, failed: 0, skipped: 0, unstable: 0 };
  console.log(`\n${tableLine(['tier', 'passed', 'unstable', 'failed', 'skipped', 'seconds'])}`);
  for (const { name, passed, unstable = 0, failed, skipped, seconds } of rows) {
    console.log(tableLine([name, passed, unstable, failed, skipped, seconds]));
    total.unstable += unstable;
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
  }
  if (remarks.length > 0) console.log(`\n${remarks.join('\n')}`);
  const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : '';
  const unstable = total.unstable > 0 ? `, ${total.unstable} only at the second try` : '';
  console.log(`\ntests: ${total.passed} passed, ${total.failed} failed${unstable}${skipped}`);
  return total.failed === 0 && total.passed > 0;
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
 * @param {string} file
 * @param {string[]} args
 */
function runTypeScript(file, args) {
  return build() && showTypeScript(file, args);
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
  if (action === 'try') return runTypeScript('test/host/try.ts', args);
  if (action === 'bench') return runTypeScript('test/bench/bench.ts', args);
  try {
    ensurePrograms(['lxc-info', 'systemd-analyze', 'shellcheck', 'mandoc', 'lintian']);
  } catch (error) {
    // The tiers that need them fail by themselves; the others still tell something.
    console.error(error instanceof Error ? error.message : error);
  }
  const chosen = action === 'lint' ? ['lint'] : names;
  return runTiers(
    tiers.filter(({ name, apart }) => (chosen.length > 0 ? chosen.includes(name) : !apart)),
  );
}

process.exitCode = (await main(process.argv[2], process.argv.slice(3))) ? 0 : 1;

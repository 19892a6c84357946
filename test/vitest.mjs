// Runs tests with vitest: several tiers in one run, so that no processor waits for the last file of
// each. Node built-ins only, because `npm ci` may not have run when this is loaded.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/**
 * Tests; `unstable` ones failed at first and passed when they ran once more. `files` says where the
 * time went.
 * @typedef {import('./results.mjs').FileResult} FileResult
 * @typedef {{ passed: number, failed: number, skipped: number, unstable?: number, files?: FileResult[], remarks?: string[] }} Counts
 */

const vitest = path.join('node_modules', '.bin', 'vitest');
const reporter = path.join(import.meta.dirname, 'results.mjs');

/** What a project makes on a busy machine can differ, so its files may run once more. */
const repeatable = new Set([
  'bus',
  'broker',
  'host',
  'trixie',
  'attack',
  'web',
  'swap',
  'vm',
  'next',
]);

/** Tests of hosts that are not emulated leave most of two processors' time to others. */
const waiting = new Set(['host', 'trixie', 'attack']);

/**
 * How many files run at a time.
 * @param {string[]} projects
 */
function workers(projects) {
  const processors = os.availableParallelism();
  if (projects.every((project) => waiting.has(project))) return 3 * processors;
  // One file of several waits at any time.
  return projects.length > 1 ? processors + 1 : processors;
}

/**
 * What is run beside others takes what they leave of the processors, and prints when they have ended.
 * @typedef {Promise<unknown>} Others
 */

/**
 * Runs vitest to its end.
 * @param {string[]} args
 * @param {string} results
 * @param {Others} [others]
 * @returns {Promise<{ status: number | null, ended: string }>}
 */
function execute(args, results, others) {
  const command = others ? ['nice', '-n', '10', vitest] : [vitest];
  const [program = '', ...rest] = [...command, ...args];
  const child = spawn(program, rest, {
    stdio: others ? ['ignore', 'pipe', 'pipe'] : 'inherit',
    env: { ...process.env, LOCKERD_TEST_RESULTS: results },
  });
  /** @type {Buffer[] | undefined} */
  let held = [];
  const show = () => {
    for (const text of held ?? []) process.stdout.write(text);
    held = undefined;
  };
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (text) => void (held ? held.push(text) : process.stdout.write(text)));
  }
  void others?.then(show);
  return new Promise((resolve) => {
    child.once('error', ({ message }) => resolve({ status: null, ended: message }));
    child.once('close', (status, signal) => {
      const ended = signal ? `ended by ${signal}` : `exit status ${status}`;
      resolve({ status, ended });
    });
  });
}

/**
 * One run over projects of vitest.config.ts, or over some of their files.
 * @param {string[]} projects
 * @param {string[]} files
 * @param {Others} [others]
 * @returns {Promise<import('./results.mjs').Results>} each project has a file at least
 */
async function runOnce(projects, files, others) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-results-'));
  const results = path.join(directory, 'results.json');
  try {
    const chosen = projects.flatMap((project) => ['--project', project]);
    const reporters = ['--reporter=default', `--reporter=${reporter}`];
    const args = ['run', `--maxWorkers=${workers(projects)}`, ...chosen, ...reporters, ...files];
    const { status, ended } = await execute(args, results, others);
    /** @type {import('./results.mjs').Results} */
    const found = fs.existsSync(results)
      ? JSON.parse(fs.readFileSync(results, 'utf8'))
      : { files: [], errors: [] };
    const failed = found.files.some(({ failures }) => failures.length > 0);
    if (status !== 0 && !failed && found.errors.length === 0) found.errors.push(ended);
    return found;
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

/** @param {FileResult[]} files */
function failureLines(files) {
  return files.flatMap(({ project, file, failures }) =>
    failures.map(({ test, why }) => {
      return `${project}: ${path.relative('.', file)}: ${test}: ${why}`;
    }),
  );
}

/** @param {FileResult[]} files */
function sum(files) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { passed, skipped, failures } of files) {
    counts.passed += passed;
    counts.skipped += skipped;
    counts.failed += failures.length;
  }
  return counts;
}

/**
 * The counts of a project. Tests of whole hosts can be disturbed by a busy machine: files in which
 * something failed run once more. What passes then is not hidden but told of as unstable.
 * @param {string} project
 * @param {FileResult[]} files
 * @param {Others} [others]
 * @returns {Promise<Counts>}
 */
async function countsOf(project, files, others) {
  const counts = sum(files);
  const failures = failureLines(files);
  if (counts.passed + counts.failed === 0) {
    return { ...counts, failed: 1, remarks: [`FAILED: ${project}: no test ran`] };
  }
  const failed = files.filter((one) => one.failures.length > 0).map(({ file }) => file);
  if (counts.failed === 0 || !repeatable.has(project)) {
    return { ...counts, files, remarks: failures.map((line) => `FAILED: ${line}`) };
  }
  console.log(`\n--- ${project}: once more, the files in which tests failed`);
  const again = await runOnce([project], failed, others);
  const still = [
    ...failureLines(again.files),
    ...again.errors.map((line) => `${project}: ${line}`),
  ];
  if (again.files.length < failed.length) still.push(`${project}: not all files ran again`);
  const mark = still.length > 0 ? 'FAILED AT FIRST' : 'UNSTABLE';
  return {
    passed: counts.passed,
    failed: still.length,
    skipped: counts.skipped,
    unstable: Math.max(0, counts.failed - still.length),
    files,
    remarks: [...still.map((line) => `FAILED: ${line}`), ...failures.map((l) => `${mark}: ${l}`)],
  };
}

/**
 * The tests of some projects of vitest.config.ts. A file that cannot be loaded counts as a failed
 * test, and so does a run that ends badly without one.
 * @param {string[]} projects
 * @param {Others} [others]
 * @returns {Promise<Counts[]>} of each project
 */
export async function runTests(projects, others) {
  const { files, errors } = await runOnce(projects, [], others);
  /** @type {Counts[]} */
  const found = [];
  for (const project of projects) {
    const own = files.filter((one) => one.project === project);
    found.push(await countsOf(project, own, others));
  }
  const [first] = found;
  // Nobody knows which file they belong to.
  if (first && errors.length > 0) {
    first.failed += errors.length;
    const lines = errors.map((line) => `FAILED: ${projects.join(', ')}: ${line}`);
    first.remarks = [...(first.remarks ?? []), ...lines];
  }
  return found;
}

// Runs tests with vitest: several tiers in one run, so that no processor waits for the last file of
// each. Node built-ins only, because `npm ci` may not have run when this is loaded.

import { spawnSync } from 'node:child_process';
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
 * One run over projects of vitest.config.ts, or over some of their files.
 * @param {string[]} projects
 * @param {string[]} files
 * @returns {import('./results.mjs').Results} each project has a file at least
 */
function runOnce(projects, files) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-results-'));
  const results = path.join(directory, 'results.json');
  try {
    const chosen = projects.flatMap((project) => ['--project', project]);
    const { status, signal, error } = spawnSync(
      vitest,
      [
        'run',
        `--maxWorkers=${workers(projects)}`,
        ...chosen,
        '--reporter=default',
        `--reporter=${reporter}`,
        ...files,
      ],
      { stdio: 'inherit', env: { ...process.env, LOCKERD_TEST_RESULTS: results } },
    );
    const ended = error?.message ?? (signal ? `ended by ${signal}` : `exit status ${status}`);
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
 * @returns {Counts}
 */
function countsOf(project, files) {
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
  const again = runOnce([project], failed);
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
 * @returns {Counts[]} of each project
 */
export function runTests(projects) {
  const { files, errors } = runOnce(projects, []);
  return projects.map((project, index) => {
    const own = files.filter((one) => one.project === project);
    const counts = countsOf(project, own);
    // Nobody knows which file they belong to.
    if (index > 0 || errors.length === 0) return counts;
    const lines = errors.map((line) => `FAILED: ${projects.join(', ')}: ${line}`);
    return {
      ...counts,
      failed: counts.failed + errors.length,
      remarks: [...(counts.remarks ?? []), ...lines],
    };
  });
}

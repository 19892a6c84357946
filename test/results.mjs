// A reporter for test/vitest.mjs: writes what came of each file, with the project that it belongs
// to. The file to write is named by LOCKERD_TEST_RESULTS.

import fs from 'node:fs';

/**
 * @typedef {{ test: string, why: string }} Failure
 * @typedef {{ project: string, file: string, seconds: number, passed: number, skipped: number, failures: Failure[] }} FileResult
 * @typedef {{ files: FileResult[], errors: string[] }} Results
 */

/** @param {readonly { message: string }[] | undefined} errors */
function firstLine(errors) {
  const [line = ''] = (errors?.[0]?.message ?? '').split('\n', 1);
  return line.slice(0, 300);
}

/**
 * @param {import('vitest/node').TestModule} module
 * @returns {FileResult}
 */
function resultOf(module) {
  const counts = { passed: 0, skipped: 0 };
  /** @type {Failure[]} */
  const failures = [];
  for (const test of module.children.allTests()) {
    const { state, errors } = test.result();
    if (state === 'passed') counts.passed++;
    else if (state === 'skipped') counts.skipped++;
    else failures.push({ test: test.fullName, why: firstLine(errors) || 'it did not end' });
  }
  // Hooks, and a file that cannot be loaded.
  for (const suite of [module, ...module.children.allSuites()]) {
    const test = suite.type === 'suite' ? suite.fullName : '';
    if (suite.errors().length > 0) failures.push({ test, why: firstLine(suite.errors()) });
  }
  if (module.state() !== 'passed' && module.state() !== 'skipped' && failures.length === 0) {
    failures.push({ test: '', why: 'it did not end' });
  }
  return {
    project: module.project.name,
    file: module.moduleId,
    seconds: module.diagnostic().duration / 1000,
    ...counts,
    failures,
  };
}

export default class {
  /**
   * @param {readonly import('vitest/node').TestModule[]} modules
   * @param {readonly { message: string }[]} unhandled
   */
  onTestRunEnd(modules, unhandled) {
    const errors = unhandled.map((error) => firstLine([error]));
    const text = JSON.stringify({ files: modules.map(resultOf), errors });
    fs.writeFileSync(process.env['LOCKERD_TEST_RESULTS'] ?? '', text);
  }
}

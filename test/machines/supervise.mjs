// What every supervisor of a test host does: it takes orders on stdin, reports on stdout, removes
// what killed supervisors left, and ends with its stdin.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';

/**
 * @param {string} command
 * @param {string[]} args
 */
export function must(command, ...args) {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) {
    throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
  }
}

/**
 * Mount points at or below a directory, in the order in which they were mounted.
 * @param {string} directory
 */
export function mountsBelow(directory) {
  return fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => (line.split(' ')[4] ?? '').replaceAll('\\040', ' '))
    .filter((point) => point === directory || point.startsWith(`${directory}/`));
}

/** @param {string} directory of a host */
export function removeFiles(directory) {
  must('rm', '-rf', '--one-file-system', directory);
  fs.rmSync(`${directory}.lock`, { force: true });
}

/** @param {Record<string, unknown>} event */
export function report(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** @param {unknown} error */
export function reportError(error) {
  report({ event: 'error', message: String(error) });
}

/**
 * Has hosts removed whose supervisor was killed.
 * @param {string} hosts
 * @param {string} program of the supervisor
 */
function sweep(hosts, program) {
  for (const entry of fs.readdirSync(hosts, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const directory = path.join(hosts, entry.name);
    // Holding the lock says that the supervisor is gone, and keeps other sweepers out meanwhile.
    const remove = [process.execPath, program, 'sweep', directory];
    spawnSync('flock', ['--nonblock', `${directory}.lock`, ...remove], { stdio: 'inherit' });
  }
}

/**
 * Makes a host and serves it until stdin ends.
 * @param {object} host
 * @param {string} host.hosts directory of all hosts of this kind
 * @param {string} host.program of the supervisor; with `sweep DIRECTORY` it removes a host
 * @param {() => void} host.make
 * @param {() => Promise<void>} host.close
 * @param {Record<string, () => void | Promise<void>>} host.orders by the word that asks for them
 */
export async function supervise({ hosts, program, make, close, orders }) {
  async function end(status = 0) {
    try {
      await close();
    } catch (error) {
      console.error(error);
      status = 1;
    }
    process.exit(status);
  }
  // The reader is gone when a report fails; its end also closes our stdin, which is what counts.
  process.stdout.on('error', () => undefined);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => void end());
  try {
    sweep(hosts, program);
    make();
  } catch (error) {
    reportError(error);
    await end(1);
  }
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (word) => {
    if (word === 'close') void end();
    else Promise.resolve().then(orders[word]).catch(reportError);
  });
  lines.on('close', () => void end());
}

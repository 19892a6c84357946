import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { LockerdError } from '../model/errors.ts';
import { codeOf } from '../model/errno.ts';
import { isGone, writeFile } from '../cgroup/control-files.ts';
import type { Undo } from '../cgroup/guest-memory.ts';
import { unlimited } from '../model/memory-limit.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import { readUnitMemory } from './unit-memory.ts';

/** What a balloon keeps while it is under way, one directory a unit; only root reaches it. */
export const stateRoot = '/run/lockerd/balloon';

export function stateDirectory(unit: string): string {
  return join(stateRoot, unit);
}

/**
 * Holds the unit's lock until `use` ends; throws jobConflict at once when another balloon has it.
 * A child holds the lock, which ends with our end of its standard input, so that the kernel gives
 * it back whatever ends this process.
 */
export async function withBalloonLock<T>(
  container: string,
  unit: string,
  use: () => Promise<T>,
): Promise<T> {
  const directory = stateDirectory(unit);
  // The service, which is not root, has its socket here.
  mkdirSync(dirname(stateRoot), { recursive: true, mode: 0o755 });
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const child = spawn('/usr/bin/flock', ['--nonblock', join(directory, 'lock'), '/bin/cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {},
  });
  child.stdin.on('error', () => undefined);
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => {
      resolve();
    });
  });
  // What cat(1) sends back shows that flock(1) has the lock.
  child.stdin.write('\n');
  const locked = await Promise.race([once(child.stdout, 'data'), ended]);
  if (!Array.isArray(locked)) {
    throw new LockerdError(
      'JobConflict',
      `the memory of container "${container}" is being changed already; try again when that has ended`,
    );
  }
  try {
    writeFileSync(busyFile(unit), '', { mode: 0o600 });
    return await use();
  } finally {
    rmSync(busyFile(unit), { force: true });
    child.stdin.end();
    await ended;
  }
}

/**
 * Whether somebody holds the unit's lock, for those who must not try it: meanwhile somebody else's
 * attempt would fail. proc_locks(5) would say it too, but guests can make it as long as they like.
 */
export function isBallooning(unit: string): boolean {
  return existsSync(busyFile(unit));
}

/** Of a helper that was killed, hooks/balloon-undo removes it. */
function busyFile(unit: string): string {
  return join(stateDirectory(unit), 'busy');
}

function undoFile(unit: string): string {
  return join(stateDirectory(unit), 'undo');
}

/**
 * Writes down what a trial is about to change. The helper's unit runs hooks/balloon-undo with
 * this file when the helper was killed: one file a line, VALUE PATH.
 */
export function recordUndo(unit: string, changes: readonly Undo[]): void {
  const lines = changes.map(({ value, path }) => `${value} ${path}`);
  writeRecord(unit, lines);
}

function writeRecord(unit: string, lines: readonly string[]): void {
  const file = undoFile(unit);
  writeFileSync(`${file}.new`, lines.map((line) => `${line}\n`).join(''), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** The unit's limit as systemd has it, in the kernel's words. */
async function configuredLimit(
  unit: string,
  path: string,
  systemd: SystemdManager,
): Promise<string> {
  const { memoryMax } = await readUnitMemory(systemd, unit);
  if (memoryMax !== unlimited) return memoryMax.toString();
  return basename(path) === 'memory.limit_in_bytes' ? '-1' : 'max';
}

/**
 * Puts back, in order, what was written down, and forgets it. A group that has gone is left. What
 * cannot be put back stays written down; throws when there is such.
 */
export async function undo(unit: string, systemd: SystemdManager): Promise<void> {
  let text: string;
  try {
    text = readFileSync(undoFile(unit), 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return;
    throw error;
  }
  const left: string[] = [];
  let fault: unknown;
  for (const line of text.split('\n').filter((line) => line !== '')) {
    const blank = line.indexOf(' ');
    const value = line.slice(0, blank);
    const path = line.slice(blank + 1);
    try {
      await writeFile(
        path,
        value === 'MemoryMax' ? await configuredLimit(unit, path, systemd) : value,
      );
    } catch (error) {
      if (isGone(error)) continue;
      fault ??= error;
      left.push(line);
    }
  }
  if (left.length === 0) {
    rmSync(undoFile(unit));
    return;
  }
  writeRecord(unit, left);
  throw fault;
}

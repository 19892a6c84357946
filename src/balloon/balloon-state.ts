/**
 * What a balloon keeps on disk while it is under way: its lock, and the changes that must be undone if the
 * helper is killed. hooks/balloon-undo reads the same files, because a killed helper cannot clean up.
 */

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

/** State of the balloons that are under way, one directory per unit; only root can reach them. */
export const stateRoot = '/run/lockerd/balloon';

export function stateDirectory(unit: string): string {
  return join(stateRoot, unit);
}

/**
 * Holds the unit's lock until `use` ends; throws JobConflict at once if another balloon has it. A
 * child process holds the lock and ends when its standard input closes. So the kernel releases the
 * lock however this process ends.
 */
export async function withBalloonLock<T>(
  container: string,
  unit: string,
  use: () => Promise<T>,
): Promise<T> {
  const directory = stateDirectory(unit);
  // The service, which is not root, has its socket in the parent directory.
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
  // The echo from cat(1) shows that flock(1) has taken the lock.
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
 * Whether a balloon holds the unit's lock, without trying the lock, because a trial would make another
 * balloon's attempt fail. proc_locks(5) would show it too, but guests can make that file very long.
 */
export function isBallooning(unit: string): boolean {
  return existsSync(busyFile(unit));
}

/** If the helper is killed, hooks/balloon-undo removes this file. */
function busyFile(unit: string): string {
  return join(stateDirectory(unit), 'busy');
}

function undoFile(unit: string): string {
  return join(stateDirectory(unit), 'undo');
}

/**
 * Records what a trial is about to change, one file per line, as VALUE PATH. If the helper is killed,
 * its unit runs hooks/balloon-undo, which reads this record.
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

/** The unit's MemoryMax= in the syntax of the control file at `path`. */
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
 * Restores the recorded values in order and removes the record. Skips groups that have gone. Values
 * that cannot be restored stay in the record, and the first error is thrown.
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

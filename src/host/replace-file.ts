/** Files that root's programs change: replaced whole, and removed with what a killed program has left of them. */
import { lstatSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { syncDirectory, writeNewFile } from './write-file.ts';
import { codeOf, errnoText } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';

function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** The text of a settings file; empty if there is none. Throws Failed unless it is a regular file. */
export function readSettingsFile(path: string): string {
  const stat = statOf(path);
  if (stat === undefined) return '';
  if (stat.isFile()) return readFileSync(path, 'utf8');
  const what = stat.isSymbolicLink() ? 'a symbolic link' : 'no file';
  throw new LockerdError('Failed', `${path} is ${what}, which is not changed; put a file there`);
}

/** Where a file is written before it takes the place of another one; generators ignore this name. */
function temporaryOf(path: string): string {
  return join(dirname(path), `.${basename(path)}.new`);
}

/** Removes what a killed helper may have left of a file's next version. */
export function removeTemporary(path: string): void {
  rmSync(temporaryOf(path), { force: true });
}

/** Removes a file, and what a killed helper may have left of its next version. Throws Failed. */
export function removeFile(path: string): void {
  try {
    const old = statOf(path);
    rmSync(path, { force: true });
    removeTemporary(path);
    if (old !== undefined) syncDirectory(dirname(path));
  } catch (error) {
    throw unwritable(path, error);
  }
}

/**
 * Replaces a file atomically, so that a reader finds either the old or the new one, even after a crash. Mode
 * and owner stay; a new one is root's, with mode 0644 or, for a secret, 0600. Throws Failed.
 */
export function replaceFile(
  path: string,
  text: string | Uint8Array,
  { isSecret = false } = {},
): void {
  const directory = dirname(path);
  // A file that a killed helper left behind is replaced.
  const temporary = temporaryOf(path);
  try {
    const old = statOf(path);
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    removeTemporary(path);
    writeNewFile(temporary, text, old ?? (isSecret ? { uid: 0, gid: 0, mode: 0o600 } : undefined));
    renameSync(temporary, path);
    syncDirectory(directory);
  } catch (error) {
    throw unwritable(path, error);
  }
}

function unwritable(path: string, error: unknown): LockerdError {
  const why = errnoText(error);
  return new LockerdError('Failed', `${path} cannot be written: ${why}`, { cause: error });
}

/** Replaces a settings file as replaceFile() does; an empty text removes it. Throws Failed. */
export function writeSettingsFile(path: string, text: string): void {
  if (text === '') removeFile(path);
  else replaceFile(path, text);
}

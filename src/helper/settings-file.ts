import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { basename, dirname, join } from 'node:path';
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

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The text of a settings file; empty where there is none. Throws Failed for a link and the like. */
export function readSettingsFile(path: string): string {
  const stat = statOf(path);
  if (stat === undefined) return '';
  if (stat.isFile()) return readFileSync(path, 'utf8');
  const what = stat.isSymbolicLink() ? 'a symbolic link' : 'no file';
  throw new LockerdError('Failed', `${path} is ${what}, which is not changed; put a file there`);
}

/**
 * Replaces a settings file at once, so that whoever reads it, also after a crash, finds the old or
 * the new one; mode and owner stay. The empty text removes it. Throws Failed.
 */
export function writeSettingsFile(path: string, text: string): void {
  const directory = dirname(path);
  // Generators do not take it for settings; one that a killed helper left is made anew.
  const temporary = join(directory, `.${basename(path)}.new`);
  try {
    const old = statOf(path);
    if (text === '') {
      rmSync(path, { force: true });
      rmSync(temporary, { force: true });
      if (old !== undefined) syncDirectory(directory);
      return;
    }
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    rmSync(temporary, { force: true });
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      writeFileSync(fd, text);
      if (old !== undefined) fchownSync(fd, old.uid, old.gid);
      fchmodSync(fd, old === undefined ? 0o644 : old.mode & 0o7777);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    syncDirectory(directory);
  } catch (error) {
    throw new LockerdError('Failed', `${path} cannot be written: ${errnoText(error)}`, {
      cause: error,
    });
  }
}

import { lstatSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { syncDirectory, writeNewFile } from '../host/write-file.ts';
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

/**
 * Replaces a settings file atomically, so that a reader finds either the old or the new file, even
 * after a crash. Mode and owner stay. An empty text removes the file. Throws Failed.
 */
export function writeSettingsFile(path: string, text: string): void {
  const directory = dirname(path);
  // Generators ignore this name. A file that a killed helper left behind is replaced.
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
    writeNewFile(temporary, text, old);
    renameSync(temporary, path);
    syncDirectory(directory);
  } catch (error) {
    throw new LockerdError('Failed', `${path} cannot be written: ${errnoText(error)}`, {
      cause: error,
    });
  }
}

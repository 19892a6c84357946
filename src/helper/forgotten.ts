/**
 * Who had the lockers made that are defined no more: one small file for each, as long as its store has the data.
 * What a user has forgotten still takes its place, so that it still counts as that user's.
 */

import { mkdirSync, readFileSync } from 'node:fs';
import { codeOf } from '../model/errno.ts';
import { isNewName } from '../model/new-name.ts';
import { removeFile, replaceFile } from '../host/replace-file.ts';

const forgottenDirectory = '/var/lib/lockerd/forgotten';

/** Names of stores, and of lockers from stores, can be names of files. */
function pathOf(store: string, locker: string, directory: string): string {
  return `${directory}/${store}/${locker}`;
}

/** Written before the definition goes; a locker that is defined all the same does not count as forgotten. */
export function rememberCreator(
  { store, locker, creator }: { store: string; locker: string; creator: number },
  directory = forgottenDirectory,
): void {
  mkdirSync(`${directory}/${store}`, { recursive: true, mode: 0o700 });
  replaceFile(pathOf(store, locker, directory), `${creator}\n`);
}

/** Undefined where nobody knows. */
export function rememberedCreator(
  store: string,
  locker: string,
  directory = forgottenDirectory,
): number | undefined {
  // A store may have what lockerd did not make.
  if (!isNewName(locker)) return undefined;
  try {
    const text = readFileSync(pathOf(store, locker, directory), 'utf8');
    return /^\d{1,10}\n$/.test(text) ? Number(text) : undefined;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** The data has gone, or is that of a locker again. */
export function dismissCreator(
  store: string,
  locker: string,
  directory = forgottenDirectory,
): void {
  removeFile(pathOf(store, locker, directory));
}

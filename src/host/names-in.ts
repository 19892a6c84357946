import { readdirSync } from 'node:fs';
import { codeOf } from '../model/errno.ts';

/** The names in a directory, sorted; none where there is no such directory. */
export function namesIn(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

import { opendirSync } from 'node:fs';
import { join } from 'node:path';

/** So many entries are read at a time. */
const bufferSize = 64;

/**
 * The directories in a directory, as paths, one after the other: who makes them can make any number,
 * so that whoever asks stops where he has enough. None for a directory that is gone.
 */
export function* subdirectories(directory: string): Generator<string> {
  try {
    const handle = opendirSync(directory, { bufferSize });
    try {
      for (let entry = handle.readSync(); entry !== null; entry = handle.readSync()) {
        if (entry.isDirectory()) yield join(directory, entry.name);
      }
    } finally {
      handle.closeSync();
    }
  } catch {
    // It has just gone, or its path is longer than the kernel takes.
  }
}

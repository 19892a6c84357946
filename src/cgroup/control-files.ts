/**
 * Reads, writes and watches the files and directories of control groups.
 *
 * A guest can create any number of groups and processes below its own group. Therefore every read here
 * is bounded, and directories are listed one entry at a time.
 */
import type { FSWatcher } from 'node:fs';
import {
  closeSync,
  constants,
  existsSync,
  opendirSync,
  openSync,
  readdirSync,
  readSync,
  watch,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../model/errno.ts';

/** Far more than the longest file of figures, memory.stat, which is usually about 2 KiB. */
const fileMaxBytes = 64 * 1024;
/** Directory entries that Node reads at a time. */
const directoryBuffer = 64;

/** Whether an error says that a control group has gone. */
export function isGone(error: unknown): boolean {
  return ['ENOENT', 'ENODEV'].includes(codeOf(error) ?? '');
}

/** Shared by all reads, which saves an allocation for each of many small files. */
const buffer = Buffer.allocUnsafeSlow(fileMaxBytes + 1);

/**
 * Reads up to `maxBytes` from the start of a file, at most 64 KiB. Synchronous, because the kernel
 * answers from memory and a thread pool call would cost much more.
 */
export function readHead(path: string, maxBytes: number): string {
  const file = openSync(path, 'r');
  try {
    let length = 0;
    while (length < maxBytes) {
      const got = readSync(file, buffer, length, maxBytes - length, null);
      if (got === 0) break;
      length += got;
    }
    return buffer.toString('utf8', 0, length);
  } finally {
    closeSync(file);
  }
}

/** Reads a whole file. Throws if it does not exist or is larger than 64 KiB. */
export function readFile(path: string): string {
  const text = readHead(path, buffer.length);
  if (text.length > fileMaxBytes) throw new Error(`${path} is larger than ${fileMaxBytes} bytes`);
  return text;
}

/** Reads a whole file; undefined if it does not exist or cannot be read. */
export function tryReadFile(path: string): string | undefined {
  try {
    return readFile(path);
  } catch {
    return undefined;
  }
}

/**
 * Writes a value with one write(2), without creating the file. Asynchronous, because the kernel may
 * reclaim memory before the call returns. Rejects with the kernel's error.
 */
export async function writeFile(path: string, value: string): Promise<void> {
  // Some files are write-only, which holds even for root if it has no capabilities.
  const file = await open(path, constants.O_WRONLY);
  try {
    await file.write(value);
  } finally {
    await file.close();
  }
}

/** Calls `changed` after each write to the file; returns how to stop. Throws if there is no file. */
export function watchFile(path: string, changed: () => void): () => void {
  let watcher: FSWatcher | undefined = watch(path, () => {
    // The end of its group is no write, and is announced as one all the same.
    if (existsSync(path)) changed();
  });
  const stop = (): void => {
    watcher?.close();
    watcher = undefined;
  };
  // The file goes away with its container, which is no error.
  watcher.on('error', stop);
  return stop;
}

/**
 * The directories in a directory, as paths. The caller stops when it has seen enough. Empty for a
 * directory that has gone.
 */
export function* subdirectories(directory: string): Generator<string> {
  try {
    const handle = opendirSync(directory, { bufferSize: directoryBuffer });
    try {
      for (let entry = handle.readSync(); entry !== null; entry = handle.readSync()) {
        if (entry.isDirectory()) yield join(directory, entry.name);
      }
    } finally {
      handle.closeSync();
    }
  } catch {
    // The directory has just gone, or its path is too long for the kernel.
  }
}

/** All names in a directory; for one in which nobody but root makes any. Empty for a directory that has gone. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** The first `count` items; reads no more than these. */
export function firstOf<T>(items: Iterable<T>, count: number): T[] {
  const first: T[] = [];
  for (const item of items) {
    if (first.push(item) >= count) break;
  }
  return first;
}

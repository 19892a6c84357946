/**
 * Reading, writing and watching of the files and directories of control groups.
 *
 * A guest makes as many groups and processes below its own group as it likes. Therefore nothing here
 * reads more than a bounded part, and directories are listed one entry at a time.
 */
import type { FSWatcher } from 'node:fs';
import { closeSync, constants, opendirSync, openSync, readSync, watch } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../model/errno.ts';

/** Far more than the longest file of figures, memory.stat, of which two KiB are usual. */
const fileMaxBytes = 64 * 1024;
/** Entries of a directory that are read at a time. */
const directoryBuffer = 64;

/** Whether an error says that a control group has gone. */
export function isGone(error: unknown): boolean {
  return ['ENOENT', 'ENODEV'].includes(codeOf(error) ?? '');
}

/** What is read goes through here, which spares an allocation for each of many small files. */
const buffer = Buffer.allocUnsafeSlow(fileMaxBytes + 1);

/**
 * Reads up to `maxBytes` from the start of a file, 64 KiB at most. Not asynchronous: the kernel
 * answers from memory, and a thread for each call costs much more.
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

/** Reads a whole file. Throws when it is not there or larger than any file of figures. */
export function readFile(path: string): string {
  const text = readHead(path, buffer.length);
  if (text.length > fileMaxBytes) throw new Error(`${path} is larger than ${fileMaxBytes} bytes`);
  return text;
}

/** Reads a whole file; undefined when it is not there or cannot be read. */
export function tryReadFile(path: string): string | undefined {
  try {
    return readFile(path);
  } catch {
    return undefined;
  }
}

/**
 * Writes a value by one write(2), without creating the file. Asynchronous, because the kernel may
 * reclaim memory before it returns. Rejects with the kernel's error.
 */
export async function writeFile(path: string, value: string): Promise<void> {
  // Some files can only be written, also by a root without capabilities.
  const file = await open(path, constants.O_WRONLY);
  try {
    await file.write(value);
  } finally {
    await file.close();
  }
}

/** Calls `changed` whenever somebody writes the file. Throws when it is not there. */
export function watchFile(path: string, changed: () => void): () => void {
  let watcher: FSWatcher | undefined = watch(path, changed);
  const stop = (): void => {
    watcher?.close();
    watcher = undefined;
  };
  // The file goes with its container, which is no fault.
  watcher.on('error', stop);
  return stop;
}

/**
 * The directories in a directory, as paths. The caller stops when it has seen enough. None for a
 * directory that is gone.
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
    // It has just gone, or its path is longer than the kernel takes.
  }
}

/** The first so many of any number of items. */
export function firstOf<T>(items: Iterable<T>, count: number): T[] {
  const first: T[] = [];
  for (const item of items) {
    if (first.push(item) >= count) break;
  }
  return first;
}

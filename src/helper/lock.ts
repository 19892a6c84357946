import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, fstatSync, mkdirSync, openSync, rmdirSync, statSync } from 'node:fs';
import { codeOf } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';
import { runtimeName } from '../model/unit-name.ts';
import { hasLeft } from './input.ts';

/**
 * Opens a directory and nothing else, because flock(1) would create a file if there is none. Undefined
 * if there is no directory.
 */
function openDirectory(directory: string): number | undefined {
  try {
    return openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (['ENOENT', 'ENOTDIR'].includes(code)) return undefined;
    throw error;
  }
}

/** Whether a path still leads to the directory that was opened by it. */
function isStillAt(fd: number, directory: string): boolean {
  const opened = fstatSync(fd);
  const now = statSync(directory, { throwIfNoEntry: false });
  return now?.dev === opened.dev && now.ino === opened.ino;
}

interface LockOptions {
  /** Go on without a lock if the directory does not exist. */
  readonly mayBeAbsent?: boolean;
  /** Ends the waiting. */
  readonly signal?: AbortSignal | undefined;
  /** Make the directory where there is none, and remove it afterwards; it is there for the lock alone. */
  readonly isMade?: boolean;
  /** What another one would be doing, for the error. */
  readonly what?: string | (() => string);
}

async function lock(
  fd: number,
  waitSec: number,
  { signal, what = 'request for the same container' }: LockOptions,
): Promise<void> {
  // flock(1) locks the open directory that it shares with this process. So the lock outlasts flock(1),
  // and the kernel releases it however this process ends.
  const child = spawn('/usr/bin/flock', ['--exclusive', '--wait', String(waitSec), '3'], {
    stdio: ['ignore', 'ignore', 'inherit', fd],
    env: {},
    ...(signal === undefined ? {} : { signal }),
  });
  const [status] = (await once(child, 'close').catch((error: unknown) => {
    if (hasLeft(signal)) throw new LockerdError('Cancelled', 'the caller has left');
    throw error;
  })) as [number | null];
  if (status === 0) return;
  const other = typeof what === 'string' ? what : what();
  throw new LockerdError('TimedOut', `another ${other} is still under way`);
}

/**
 * Holds flock(2) on a directory until `use` ends, and until whatever got the descriptor has ended that `use`
 * is called with; undefined without a lock. Only root can reach the directories that are locked. Throws TimedOut,
 * Cancelled, and Failed if the directory does not exist.
 */
export async function withLock<T>(
  directory: string,
  waitSec: number,
  use: (lock: number | undefined) => Promise<T>,
  options: LockOptions = {},
): Promise<T> {
  for (;;) {
    if (options.isMade === true) mkdirSync(directory, { recursive: true, mode: 0o700 });
    const fd = openDirectory(directory);
    // Whoever had it has just removed it.
    if (fd === undefined && options.isMade === true) continue;
    if (fd === undefined) {
      if (options.mayBeAbsent === true) return use(undefined);
      throw new LockerdError('Failed', `there is no directory ${directory}`);
    }
    try {
      await lock(fd, waitSec, options);
      // If the directory was replaced meanwhile, this lock excludes nobody.
      if (isStillAt(fd, directory)) return await useLock(fd, directory, use, options);
    } finally {
      closeSync(fd);
    }
  }
}

/** A directory is removed under its lock: whoever waits for that finds another one there, and waits anew. */
async function useLock<T>(
  fd: number,
  directory: string,
  use: (lock: number) => Promise<T>,
  { isMade = false }: LockOptions,
): Promise<T> {
  try {
    return await use(fd);
  } finally {
    if (isMade) removeEmpty(directory);
  }
}

function removeEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY'].includes(codeOf(error) ?? '')) throw error;
  }
}

/** Seconds that a request waits for another request about the same container. */
const containerWaitSec = 60;

/** Serves one request at a time per container; a stopped container has no mounts to protect. */
export async function withContainerLock<T>(
  instance: string,
  use: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const directory = `/run/lockerd/containers/${runtimeName(instance)}`;
  return withLock(directory, containerWaitSec, use, { mayBeAbsent: true, signal });
}

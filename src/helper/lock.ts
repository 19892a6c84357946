import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs';
import { LockerdError } from '../model/errors.ts';
import { hasLeft } from './input.ts';

/**
 * Opens a directory and nothing else: flock(1) would make a file where there is none. Undefined
 * where no directory is.
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

/** Whether a path still leads to what was opened by it. */
function isStillAt(fd: number, directory: string): boolean {
  const opened = fstatSync(fd);
  const now = statSync(directory, { throwIfNoEntry: false });
  return now?.dev === opened.dev && now.ino === opened.ino;
}

async function lock(fd: number, waitSec: number, signal: AbortSignal | undefined): Promise<void> {
  // What flock(1) locks is the open directory that it shares with this process, so the lock stays
  // when it ends, and the kernel gives it back whatever ends this process.
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
  throw new LockerdError('TimedOut', 'another request for the same container is still under way');
}

interface LockOptions {
  /** Go on without a lock where the directory is not there. */
  readonly mayBeAbsent?: boolean;
  /** Ends the waiting. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Holds flock(2) on a directory until `use` ends. Only root can reach the directories that are
 * locked. Throws TimedOut, Cancelled, and Failed where the directory is not there.
 */
export async function withLock<T>(
  directory: string,
  waitSec: number,
  use: () => Promise<T>,
  { mayBeAbsent = false, signal }: LockOptions = {},
): Promise<T> {
  for (;;) {
    const fd = openDirectory(directory);
    if (fd === undefined) {
      if (mayBeAbsent) return use();
      throw new LockerdError('Failed', `there is no directory ${directory}`);
    }
    try {
      await lock(fd, waitSec, signal);
      // One that was removed and made anew meanwhile is locked by somebody else.
      if (isStillAt(fd, directory)) return await use();
    } finally {
      closeSync(fd);
    }
  }
}

/** Seconds that a request waits for another one about the same container. */
const containerWaitSec = 60;

/** One request at a time for one container; one that does not run has nothing that could change. */
export async function withContainerLock<T>(
  instance: string,
  use: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const directory = `/run/lockerd/containers/${instance}`;
  return withLock(directory, containerWaitSec, use, { mayBeAbsent: true, signal });
}

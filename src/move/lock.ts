/** One move of a container at a time, at each end. */
import { mkdirSync } from 'node:fs';
import { withLock } from '../helper/lock.ts';
import { escapeInstance } from '../model/unit-name.ts';
import { makeRunDirectory } from './guard.ts';
import { runDirectory } from './record.ts';

/** Holds the lock until `use` ends, or this process. Throws TimedOut. */
export async function withMoveLock<T>(
  container: string,
  waitSec: number,
  use: () => Promise<T>,
): Promise<T> {
  makeRunDirectory();
  const directory = `${runDirectory}/${escapeInstance(container)}.lock`;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return withLock(directory, waitSec, use);
}

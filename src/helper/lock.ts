import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { HelperError } from './errors.ts';

/**
 * Holds flock(2) on a directory until `use` ends. A child holds it, which ends with our end of its
 * standard input: so the kernel gives the lock back whatever ends this process. Only root can reach
 * the directories that are locked. Throws TimedOut.
 */
export async function withLock<T>(
  directory: string,
  waitSec: number,
  use: () => Promise<T>,
): Promise<T> {
  const child = spawn(
    '/usr/bin/flock',
    ['--exclusive', '--wait', String(waitSec), directory, '/bin/cat'],
    { stdio: ['pipe', 'pipe', 'inherit'], env: {} },
  );
  child.stdin.on('error', () => undefined);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  // What cat(1) sends back shows that flock(1) has the lock.
  child.stdin.write('\n');
  const locked = await Promise.race([once(child.stdout, 'data'), ended]);
  if (!Array.isArray(locked)) {
    throw new HelperError('TimedOut', 'another request for the same container is still under way');
  }
  try {
    return await use();
  } finally {
    child.stdin.end();
    await ended;
  }
}

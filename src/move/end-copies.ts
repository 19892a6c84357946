/**
 * Ends what rsync(1) still runs at the target when the move is undone. sshd does not know that a connection was cut
 * until it has something to say, so its rsync waits on, in a directory that is to be renamed or unmounted.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { namesIn } from '../host/names-in.ts';
import { isAtOrBelow } from '../model/path.ts';

/** How long a process may take to end that writes to a slow disk, milliseconds. */
const endMs = 10_000;
const pauseMs = 50;

/** Whether it is what ssh has started for the rsync of another host, and works in one of the directories. */
function isCopy(pid: string, directories: readonly string[]): boolean {
  try {
    if (!/^[^\0]*rsync\0--server\0/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8')))
      return false;
    const at = readlinkSync(`/proc/${pid}/cwd`);
    return directories.some((directory) => isAtOrBelow(at, directory));
  } catch {
    // It has ended.
    return false;
  }
}

function copiesIn(directories: readonly string[]): number[] {
  const pids = namesIn('/proc').filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => isCopy(pid, directories)).map(Number);
}

/** Kills them, and waits for their end, though not for ever. @param directories clean absolute paths */
export async function endCopies(directories: readonly string[]): Promise<void> {
  const end = Date.now() + endMs;
  while (Date.now() < end) {
    const pids = copiesIn(directories);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    await sleep(pauseMs);
  }
}

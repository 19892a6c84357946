/**
 * systemd waits for its generators, and after 90 seconds none of them has made a unit. So the
 * process that it waits for touches no disk but the one with the root directory: where others are
 * mounted, a second process reads. It is given up where it stops, and begins again without the file
 * system that stopped it.
 */
import { Files } from '../host/files.ts';
import { doneNote } from '../host/system-calls.ts';
import { system } from '../host/system.ts';

/** Has the mount points that do not answer, for a run that is watched. */
const watchedVariable = 'LOCKERD_GENERATOR_WATCHED';

/** More than asking file systems may take in host/mounts.ts. */
const stallMs = 4_000;
const totalMs = 12_000;

export type Environment = Readonly<Record<string, string | undefined>>;

/** How the files are read in a run that is watched; undefined in one that is not. */
export function watchedFiles(environment: Environment): Files | undefined {
  const hung = environment[watchedVariable];
  if (hung === undefined) return undefined;
  let count = 0;
  return new Files(undefined, undefined, {
    distrusted: new Set(hung.split('\n')),
    note: (path) => {
      system.note(`${String(++count)} ${path}`);
    },
  });
}

/** To be called in a run that is watched when it reads no more. */
export function noteDone(): void {
  system.note(doneNote);
}

/**
 * Has the generator run where nothing can keep this process waiting.
 * @param say hears what was given up
 * @returns the exit status of the run that has written everything, or how this one reads files
 */
export function runSafely(
  args: readonly string[],
  mountinfo: string | undefined,
  say: (text: string) => void,
): number | Files {
  const all = new Files(mountinfo);
  if (!all.mayWait) return all;
  const others = new Files(mountinfo, undefined, { distrusted: 'other disks' });
  const hung = new Set<string>();
  const end = system.now() + totalMs;
  for (;;) {
    const watched = system.runWatched({
      args,
      environment: { [watchedVariable]: [...hung].join('\n') },
      directory: args[0] ?? '',
      stallMs,
      totalMs: end - system.now(),
    });
    if ('status' in watched) return watched.status < 0 ? all : watched.status;
    const path = watched.note.slice(watched.note.indexOf(' ') + 1);
    const mount = path.startsWith('/') ? others.riskBehind(path) : undefined;
    const isKnown = mount !== undefined && !mount.includes('\n') && !hung.has(mount);
    if (!isKnown || system.now() + stallMs > end) {
      say(`reading ${path} took too long, so no disk but that of the root directory is read`);
      return others;
    }
    say(`the file system at ${mount} does not answer: reading ${path} was given up`);
    hung.add(mount);
  }
}

/**
 * How many processes of a container the kernel has killed for want of memory. On cgroup v2 the kernel
 * counts them in memory.events, which can be watched. On v1 a kill counts in the group of the killed
 * process only, and the kernel announces it to root only, before it kills. So all groups are counted
 * now and then, and a moment after an announcement, see expect().
 */
import { watchFile } from './control-files.ts';
import type { GroupV1 } from './group-v1.ts';
import type { GroupV2 } from './group-v2.ts';
import { KillCounter } from './kill-counter.ts';

/** For limits that a guest has set in itself, for a host that is short, and while there is no helper. */
const defaultPollMs = 5000;
/** An announcement comes before the kill. */
const recountMs = [20, 100, 300, 700];
/** So many groups cost little to look through. */
const groupsFew = 100;
/** More of them are looked at more and more rarely while nothing is killed in them. */
const pollMaxMs = 60_000;
/** A guest at its limit has the kernel write memory.events all the time. */
const lookEveryMs = 250;

interface Watched {
  /** Counted last; undefined before the first count. */
  kills: bigint | undefined;
  readonly recountSoon: () => void;
}

/** Kills in the control groups of containers, some of which are watched. */
export class OomKills {
  readonly #pollMs: number;
  readonly #counter = new KillCounter();
  /** By the directory of a watched group, on cgroup v1. */
  readonly #watched = new Map<string, Watched>();

  constructor(pollMs: number = defaultPollMs) {
    this.#pollMs = pollMs;
  }

  /** Kills up to now. Anybody may ask, so that a watched group is not counted anew. */
  async count(group: GroupV1 | GroupV2): Promise<bigint> {
    if (group.version === 2) return group.oomKills() ?? 0n;
    const known = this.#watched.get(group.directory)?.kills;
    return known ?? (await this.#counter.count(group.directory)).kills ?? 0n;
  }

  /** Reports the number of kills now and at every change. Settles after the first report. */
  watch(group: GroupV1 | GroupV2, changed: (kills: bigint) => void): Promise<() => void> {
    return group.version === 2
      ? Promise.resolve(watchV2(group, changed))
      : this.#watchV1(group, changed);
  }

  /** Kills in a watched group have been announced; they are counted a moment later. */
  expect(directory: string): void {
    this.#watched.get(directory)?.recountSoon();
  }

  /** Looks now and then, and more often when kills are expected. */
  async #watchV1({ directory }: GroupV1, changed: (kills: bigint) => void): Promise<() => void> {
    let isOver = false;
    let waitMs = this.#pollMs;
    let next: NodeJS.Timeout | undefined;
    let recounts: NodeJS.Timeout[] = [];
    const cancelRecounts = (): void => {
      for (const timer of recounts) clearTimeout(timer);
    };
    const watched: Watched = {
      kills: undefined,
      recountSoon: () => {
        cancelRecounts();
        recounts = recountMs.map((ms) => setTimeout(() => void look(), ms));
      },
    };
    const look = async (): Promise<void> => {
      const { kills, groups } = await this.#counter.count(directory);
      if (isOver) return;
      const isQuiet = kills === undefined || kills === watched.kills;
      waitMs = isQuiet && groups > groupsFew ? Math.min(waitMs * 2, pollMaxMs) : this.#pollMs;
      if (isQuiet) return;
      watched.kills = kills;
      changed(kills);
    };
    const pollAgain = (): void => {
      if (isOver) return;
      next = setTimeout(() => void look().then(pollAgain), waitMs);
      next.unref();
    };
    this.#watched.set(directory, watched);
    await look();
    pollAgain();
    return () => {
      isOver = true;
      clearTimeout(next);
      cancelRecounts();
      if (this.#watched.get(directory) === watched) this.#watched.delete(directory);
    };
  }
}

function watchV2(group: GroupV2, changed: (kills: bigint) => void): () => void {
  let last: bigint | undefined;
  let timer: NodeJS.Timeout | undefined;
  const look = (): void => {
    const kills = group.oomKills();
    // The control group goes with the container, and its count with it.
    if (kills === undefined || kills === last) return;
    last = kills;
    changed(kills);
  };
  const stop = watchFile(group.file('events'), () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      look();
    }, lookEveryMs);
  });
  look();
  return () => {
    clearTimeout(timer);
    stop();
  };
}

/**
 * Counts the OOM kills of a container. On cgroup v2 the kernel counts them in memory.events, which can be
 * watched. On v1 a kill counts only in the group of the killed process, and the kernel announces it only
 * to root, before it kills. So all groups are counted at intervals, and shortly after an announcement;
 * see expect().
 */
import { watchFile } from './control-files.ts';
import type { GroupV1 } from './group-v1.ts';
import type { GroupV2 } from './group-v2.ts';
import { KillCounter } from './kill-counter.ts';

/** For kills that no helper announces: limits set inside a guest, a host out of memory, no helper. */
const defaultPollMs = 5000;
/** When to count after an announcement, which comes before the kill. */
const recountMs = [20, 100, 300, 700];
/** Up to this many groups are cheap to count. */
const groupsFew = 100;
/** More groups are counted more and more rarely, up to this interval, while no kills occur. */
const pollMaxMs = 60_000;
/** A guest at its limit makes memory.events change constantly, so the file is read this often. */
const lookEveryMs = 250;

interface Watched {
  /** The last count; undefined before the first. */
  kills: bigint | undefined;
  readonly recountSoon: () => void;
}

/** Kills in the control groups of containers, some of which are watched. */
export class OomKills {
  readonly #pollMs: number;
  readonly #counter = new KillCounter();
  /** The watched groups of cgroup v1, by directory. */
  readonly #watched = new Map<string, Watched>();

  constructor(pollMs: number = defaultPollMs) {
    this.#pollMs = pollMs;
  }

  /** Kills up to now. Any user may ask, so a watched group is not counted again. */
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

  /** Counts a watched group a moment later, because kills in it were announced. */
  expect(directory: string): void {
    this.#watched.get(directory)?.recountSoon();
  }

  /** Counts at intervals, and more often when kills are expected. */
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
    // The control group, and its count, go away with the container.
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

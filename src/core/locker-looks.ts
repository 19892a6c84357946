/**
 * What is seen of lockers: sizes, health, stores, snapshots. The service never looks at a mount itself,
 * as a dead disk would hang it; the helper looks, in its own time. What was seen last stays known.
 *
 * Nobody looks without need. Whoever asks for it gets a look; while somebody who has asked is on the bus,
 * what happens to a locker is followed by a look at it, and every minute all are looked at: the kernel
 * tells nobody that a file system fills up.
 */

import type { Clock } from './clock.ts';
import type { HostState } from './host-state.ts';
import { Listeners } from './listeners.ts';
import type { LockerLook, LockersPort } from './locker-ports.ts';
import type { ReportProblem } from './retried-watch.ts';
import { portionsOf, SharedLook } from './shared-look.ts';

/** Time between two looks at all, milliseconds. */
export const slowLookMs = 60_000;
/** How long a look is good for callers, milliseconds. */
const freshMs = 1_000;
/** What happens to a locker seldom comes alone. */
const gatherMs = 500;

export class LockerLooks {
  readonly #host: HostState;
  readonly #port: Pick<LockersPort, 'look'>;
  readonly #clock: Clock;
  readonly #reportProblem: ReportProblem;
  readonly #seen = new Map<string, LockerLook>();
  /** When each was looked at, milliseconds of the clock. */
  readonly #seenMs = new Map<string, number>();
  readonly #shared = new SharedLook<undefined>((names) => this.#look(names));
  /** What was told of each locker last, beside what is seen here. */
  readonly #told = new Map<string, string>();
  readonly #touched = new Set<string>();
  #isFollowed = false;
  #isGathering = false;
  /** Whether somebody is on the bus who may want to know. */
  isWanted: () => boolean = () => false;
  /** Something else is seen of this locker. */
  readonly changed = new Listeners<[locker: string]>();

  constructor(
    host: HostState,
    port: Pick<LockersPort, 'look'>,
    clock: Clock,
    reportProblem: ReportProblem,
  ) {
    this.#host = host;
    this.#port = port;
    this.#clock = clock;
    this.#reportProblem = reportProblem;
    host.changed.add(({ kind, type, name }) => {
      if (type !== 'locker') return;
      if (kind === 'removed') this.#forget(name);
      else this.#onTold(name);
    });
  }

  /** What was seen last; undefined where nobody has looked. */
  of(locker: string): LockerLook | undefined {
    return this.#seen.get(locker);
  }

  /** All that was seen, by name, also of lockers that are not defined yet. */
  get all(): ReadonlyMap<string, LockerLook> {
    return this.#seen;
  }

  /**
   * Looks now at some lockers; names without a locker are left out. Rejects with LockerdError where the
   * helper does.
   */
  async refresh(names: Iterable<string>): Promise<void> {
    const known = [...new Set(names)].filter((name) => this.#host.locker(name) !== undefined);
    if (known.length > 0) await this.#shared.join(known);
  }

  /** Looks at those that nobody has looked at for a moment, so that callers cannot keep root at it. */
  async renew(names: Iterable<string>): Promise<void> {
    await this.refresh([...names].filter((name) => !this.#isYounger(name, freshMs)));
  }

  /** Looks at those that nobody has looked at yet. */
  async complete(): Promise<void> {
    await this.refresh(this.#names().filter((name) => !this.#seenMs.has(name)));
  }

  /** What is known of a locker without a look, as lockerd has just made it. */
  note(locker: string, facts: Partial<LockerLook>): void {
    this.#take(locker, { health: 'unknown', ...this.#seen.get(locker), ...facts });
  }

  /** Somebody has asked for what is seen of a locker, or of all, and may stay on the bus. */
  follow(locker?: string): void {
    if (locker !== undefined && !this.#isYounger(locker, slowLookMs)) this.#touch(locker);
    if (this.#isFollowed) return;
    this.#isFollowed = true;
    this.#clock.after(slowLookMs, () => void this.#lookSlowly());
  }

  #isYounger(locker: string, thanMs: number): boolean {
    const ms = this.#seenMs.get(locker);
    return ms !== undefined && this.#clock.nowMs() - ms < thanMs;
  }

  #names(): string[] {
    return this.#host.lockers.map(({ name }) => name);
  }

  /** Never rejects. */
  async #lookSlowly(): Promise<void> {
    this.#isFollowed = false;
    if (!this.isWanted()) return;
    await this.#tryRefresh(this.#names());
    this.follow();
  }

  /** Never rejects. */
  async #tryRefresh(names: readonly string[]): Promise<void> {
    try {
      await this.refresh(names);
    } catch (error) {
      this.#reportProblem('lockers cannot be looked at', error);
    }
  }

  #onTold(name: string): void {
    const locker = this.#host.locker(name);
    const image = JSON.stringify([
      ...[locker?.definition, locker?.isMounted, locker?.source, locker?.attachedTo],
    ]);
    if (this.#told.get(name) === image) return;
    this.#told.set(name, image);
    if (this.#isFollowed && this.isWanted()) this.#touch(name);
  }

  /** Has a locker looked at soon, together with others. */
  #touch(name: string): void {
    this.#touched.add(name);
    if (this.#isGathering) return;
    this.#isGathering = true;
    this.#clock.after(gatherMs, () => {
      this.#isGathering = false;
      const names = [...this.#touched];
      this.#touched.clear();
      void this.#tryRefresh(names);
    });
  }

  async #look(names: readonly string[]): Promise<undefined> {
    for (const part of portionsOf(names)) {
      const looks = await this.#port.look(part);
      const nowMs = this.#clock.nowMs();
      for (const name of part) {
        if (this.#host.locker(name) === undefined) continue;
        this.#seenMs.set(name, nowMs);
        this.#take(name, withSize(looks.get(name), this.#seen.get(name)));
      }
    }
    return undefined;
  }

  #take(name: string, look: LockerLook): void {
    const before = this.#seen.get(name);
    this.#seen.set(name, look);
    if (before === undefined || imageOf(before) !== imageOf(look)) this.changed.emit(name);
  }

  #forget(name: string): void {
    this.#seen.delete(name);
    this.#seenMs.delete(name);
    this.#told.delete(name);
    this.#touched.delete(name);
  }
}

/** A size stays known while the locker cannot be looked at: its creator's quota goes by it. */
function withSize(look: LockerLook | undefined, before: LockerLook | undefined): LockerLook {
  if (look === undefined) return { ...before, health: 'unknown' };
  const size = look.size ?? before?.size;
  return size === undefined ? look : { ...look, size };
}

function imageOf(look: LockerLook): string {
  return Object.entries(look)
    .map(([key, value]) => `${key}=${String(value)}`)
    .sort()
    .join('\n');
}

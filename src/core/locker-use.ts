/** How much of the host's stores each user has: what polkit's rules bound. */

import type { Job } from './job-queue.ts';
import type { LockerLooks } from './locker-looks.ts';
import type { Store } from './locker-ports.ts';

/** What the lockers come to that a user has had made. */
export interface UserUse {
  readonly lockers: number;
  /** Bytes. */
  readonly size: bigint;
  /** A locker of the user's of which nobody knows the size. */
  readonly unknown: string | undefined;
}

interface Claim {
  readonly uid: number;
  readonly locker: string;
  /** Bytes. */
  readonly size: bigint;
}

/**
 * Counts what there is and what unfinished jobs make of it: two requests at the same time must not
 * both be told that nothing is there yet.
 */
export class LockerUse {
  readonly #looks: LockerLooks;
  readonly #claims = new Map<Job, Claim>();

  constructor(looks: LockerLooks) {
    this.#looks = looks;
  }

  /** Counts what a job makes until it has ended. */
  claim(job: Job, locker: string, size: bigint): void {
    this.#claims.set(job, { uid: job.uid, locker, size });
    void job.ended.then(() => this.#claims.delete(job));
  }

  /** @param without a locker that does not count */
  of(uid: number, without: string, stores: readonly Store[]): UserUse {
    const sizes = new Map<string, bigint | undefined>();
    for (const [name, { creator, size }] of this.#looks.all) {
      if (creator === uid) sizes.set(name, size);
    }
    for (const claim of this.#claims.values()) {
      const isOwn = claim.uid === uid && this.#creatorOf(claim.locker, uid) === uid;
      const known = sizes.get(claim.locker) ?? 0n;
      if (isOwn) sizes.set(claim.locker, known > claim.size ? known : claim.size);
    }
    sizes.delete(without);
    const forgotten = stores.flatMap((store) => store.forgotten);
    const all = [
      ...[...sizes].map(([name, size]) => ({ name, size })),
      ...forgotten.filter(({ creator }) => creator === uid),
    ];
    return {
      lockers: all.length,
      size: all.reduce((sum, { size = 0n }) => sum + size, 0n),
      unknown: all.find(({ size }) => size === undefined)?.name,
    };
  }

  /** A locker that is being made belongs to whoever has it made. */
  #creatorOf(locker: string, maker: number): number | undefined {
    const look = this.#looks.of(locker);
    return look === undefined ? maker : look.creator;
  }
}

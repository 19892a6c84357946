/**
 * How long a target runs a container that is not yet its own. Each answer carries the target's clock; what the
 * source says next has the last such time, and the target goes on for some seconds from that time. So what the
 * network kept back prolongs nothing, and the source knows when a target that it does not hear has ended.
 */
import { readFileSync, renameSync } from 'node:fs';
import { removeFile, replaceFile } from '../host/replace-file.ts';
import { codeOf } from '../model/errno.ts';
import { runDirectory } from './record.ts';

/** How long a target goes on from the last time that the source knows of, milliseconds. */
const leaseMs = 15_000;
/** How long its end may take: the target looks, kills the guest and waits for the unit. */
const endMs = 10_000;
/** How often the source says that it is there. */
export const pingMs = 2_000;
/** How often the target looks. */
export const lookMs = 500;

/** Milliseconds of a clock that all processes of a host share, and no admin sets. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

const leasePath = (id: string): string => `${runDirectory}/${id}.lease`;

/** Whether something that the source says now is recent enough to start by. */
export function isFresh(seenMs: number): boolean {
  return monotonicMs() < seenMs + leaseMs;
}

export function renewLease(id: string, seenMs: number): void {
  replaceFile(leasePath(id), `${seenMs + leaseMs}\n`);
}

export function endLease(id: string): void {
  removeFile(leasePath(id));
}

/**
 * Takes what hangs on the lease: the target's start for good, or its end. Only one of the two gets it.
 * @returns whether it was there to take
 */
export function claimLease(id: string): boolean {
  try {
    renameSync(leasePath(id), `${leasePath(id)}.claimed`);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
  removeFile(`${leasePath(id)}.claimed`);
  return true;
}

/** `ended`: the source was not heard in time. `none`: there is nothing to wait for any more. */
export function leaseState(id: string): 'lasts' | 'ended' | 'none' {
  try {
    return monotonicMs() < Number(readFileSync(leasePath(id), 'utf8')) ? 'lasts' : 'ended';
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return 'none';
    throw error;
  }
}

/** When a target surely has ended that got its last clock back now; CLOCK_REALTIME, milliseconds. */
export function leaseEndFromNow(): number {
  return Date.now() + leaseMs + endMs;
}

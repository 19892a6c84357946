/**
 * The lowest limit that a guest can live with, as far as it is known without a trial: what cannot be taken back
 * from it, and what must stay free. A shrink that is refused names it, and who looks at a guest is told it.
 */

import type { GuestMemory } from '../cgroup/guest-memory.ts';
import { lowestLimit, mebibyte, unlimited } from '../model/memory-limit.ts';

/** Bytes that the unit holds outside the guest, for LXC's monitor. */
export function besideOf(memory: GuestMemory): bigint {
  const beside = memory.unitUsage() - memory.probe().usage;
  return beside > mebibyte ? beside : mebibyte;
}

/** The lowest limit of the unit whose guest cannot do with less than `held` bytes. */
export function lowestFor(held: bigint, beside: bigint): bigint {
  return lowestLimit(held + beside + mebibyte);
}

/**
 * Bytes of swap that the guest may still use; undefined if only the host's swap bounds it.
 * @param allowed what it may use in all; what the kernel has without
 */
export function swapLeft(memory: GuestMemory, allowed = memory.swapLimit()): bigint | undefined {
  if (allowed === undefined || allowed === unlimited) return undefined;
  const used = memory.swapUsed();
  return allowed > used ? allowed - used : 0n;
}

/** The lowest limit, in bytes, that a shrink would name if it were refused just now. */
export function lowestNow(memory: GuestMemory): bigint {
  const { pinned, maybe } = memory.held(swapLeft(memory));
  return lowestFor(pinned + maybe, besideOf(memory));
}

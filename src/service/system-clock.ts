/** The clock of this machine. */

import { performance } from 'node:perf_hooks';
import type { Clock } from '../core/clock.ts';

/** setTimeout() would fire at once for more. */
const longestMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  realtimeUsec: () => BigInt(Date.now()) * 1000n,
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, Math.min(delayMs, longestMs));
    return () => {
      clearTimeout(timer);
    };
  },
};

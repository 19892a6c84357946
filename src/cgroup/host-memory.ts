import { parseMeminfo } from './figures.ts';
import { readFile } from './control-files.ts';

/** Figures of the whole host from /proc/meminfo, in bytes. */
export interface HostMemory {
  readonly total: bigint;
  readonly free: bigint;
  readonly available: bigint;
  readonly swapFree: bigint;
}

export function readHostMemory(): HostMemory {
  const meminfo = readFile('/proc/meminfo');
  const field = (name: string): bigint => parseMeminfo(meminfo, name);
  return {
    total: field('MemTotal'),
    free: field('MemFree'),
    available: field('MemAvailable'),
    swapFree: field('SwapFree'),
  };
}

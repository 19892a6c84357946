import { parseMeminfo } from './figures.ts';
import { readFile } from './control-files.ts';

/** What /proc/meminfo says of the whole host, in bytes. */
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

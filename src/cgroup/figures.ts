/** Parsers for the text of control files and of /proc/meminfo; pure. Amounts are in bytes. */

/** The memory that a shrink cannot count on, from a control group's memory.stat. */
export interface Held {
  /** Memory that reclaim cannot take: locked memory, anonymous memory beyond swap, kernel structures. */
  readonly pinned: bigint;
  /** Kernel memory, part of which may be reclaimable. */
  readonly maybe: bigint;
}

/** Parses lines of the form `NAME VALUE`, as in memory.stat; ignores other lines. */
export function parseFlatKeyed(text: string): ReadonlyMap<string, bigint> {
  const values = new Map<string, bigint>();
  for (const line of text.split('\n')) {
    const [name, value] = line.split(' ');
    if (name === undefined || value === undefined || !/^[0-9]+$/.test(value)) continue;
    values.set(name, BigInt(value));
  }
  return values;
}

function beyond(amount: bigint, swappable: bigint): bigint {
  return amount > swappable ? amount - swappable : 0n;
}

/**
 * For cgroup v2. `swappable` is how much could still be swapped out. Shared memory and tmpfs are on
 * the anonymous lists; locked pages of every kind are "unevictable".
 */
export function heldV2(stat: ReadonlyMap<string, bigint>, swappable: bigint): Held {
  const get = (name: string): bigint => stat.get(name) ?? 0n;
  const kernel = get('kernel') > 0n ? get('kernel') : get('kernel_stack') + get('slab');
  const slab = get('slab_reclaimable');
  return {
    pinned:
      beyond(get('inactive_anon') + get('active_anon'), swappable) +
      get('unevictable') +
      beyond(kernel, slab) +
      get('sock'),
    maybe: slab,
  };
}

/** For cgroup v1: only `total_` values include the groups below, and there is no figure for slabs. */
export function heldV1(stat: ReadonlyMap<string, bigint>, swappable: bigint, kernel: bigint): Held {
  const get = (name: string): bigint => stat.get(`total_${name}`) ?? 0n;
  return {
    pinned: beyond(get('inactive_anon') + get('active_anon'), swappable) + get('unevictable'),
    maybe: kernel,
  };
}

/** Microseconds in which all processes stalled on memory at once (`full ... total=`). */
export function parseStall(pressure: string): number | undefined {
  const [, total] = /^full .*\btotal=([0-9]+)$/m.exec(pressure) ?? [];
  return total === undefined ? undefined : Number(total);
}

/** Per cent of the last ten seconds in which they did (`full avg10=`); 0 if it is not counted. */
export function parseStallShare(pressure: string): number {
  return Number(/^full avg10=(\d+(?:\.\d+)?) /m.exec(pressure)?.[1] ?? 0);
}

/** A field of /proc/meminfo, in bytes. */
export function parseMeminfo(meminfo: string, field: string): bigint {
  const [, kib] = new RegExp(`^${field}: +([0-9]+) kB$`, 'm').exec(meminfo) ?? [];
  return BigInt(kib ?? '0') * 1024n;
}

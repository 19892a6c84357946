/** Memory limits in bytes, as systemd and the kernel represent them. */

/** How systemd writes "no limit" in a property of type `t`. */
export const unlimited = 2n ** 64n - 1n;

const pageBytes = 4096n;

/** Rounds a limit down to whole pages, as the kernel does. */
export function wholePages(bytes: bigint): bigint {
  return bytes === unlimited ? unlimited : bytes - (bytes % pageBytes);
}

/** On cgroup v1 "no limit" is the largest number of pages; any limit from here on counts as that. */
const unlimitedV1 = 2n ** 63n - 2n ** 20n;

/** Parses memory.max, memory.limit_in_bytes and similar files; throws SyntaxError for other text. */
export function parseKernelLimit(text: string): bigint {
  const word = text.trim();
  if (word === 'max') return unlimited;
  const bytes = BigInt(word);
  return bytes >= unlimitedV1 ? unlimited : bytes;
}

export const mebibyte = 2n ** 20n;

/**
 * The smallest limit that is accepted. A busybox guest with its monitor holds 2 MiB, and one with
 * systemd 14 MiB, so a smaller limit is more likely a typing error.
 */
export const minimumLimit = 16n * mebibyte;

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

/** The lowest of some limits; undefined ones do not count, and without any there is no limit. */
export function leastOf(...limits: readonly (bigint | undefined)[]): bigint {
  return limits.filter((limit) => limit !== undefined).reduce(min, unlimited);
}

/**
 * How much a guest must leave free below a new limit before the limit is set. With less to spare, its
 * next cron job would cause an OOM kill.
 */
export function marginOf(limit: bigint): bigint {
  return min(max(limit / 16n, 8n * mebibyte), limit / 4n);
}

/** The smallest limit, in whole MiB, that leaves its margin above the `held` bytes of a guest. */
export function lowestLimit(held: bigint): bigint {
  let limit = max(held, minimumLimit);
  // marginOf() is at most a quarter of the limit, so a few rounds are enough.
  while (limit - marginOf(limit) < held) limit = held + marginOf(limit) + 1n;
  return max(minimumLimit, ((limit + mebibyte - 1n) / mebibyte) * mebibyte);
}

/** Formats a limit exactly, as lockerctl(1) accepts it: `1331M`, `2G`, `max`. */
export function exactLimit(bytes: bigint): string {
  if (bytes === unlimited) return 'max';
  const suffixes = ['', 'K', 'M', 'G', 'T', 'P', 'E'];
  let value = bytes;
  let power = 0;
  while (value > 0n && value % 1024n === 0n && power < suffixes.length - 1) {
    value /= 1024n;
    power++;
  }
  return `${value}${suffixes[power] ?? ''}`;
}

const suffixes = ['', 'K', 'M', 'G', 'T', 'P', 'E'];

/** `2G`, `120.5M`, `17B`: cut, not rounded, to one decimal, as systemctl prints sizes. */
export function formatBytes(bytes: bigint): string {
  for (let index = suffixes.length - 1; index > 0; index--) {
    const factor = 1024n ** BigInt(index);
    if (bytes < factor) continue;
    const tenth = ((bytes % factor) * 10n) / factor;
    return `${bytes / factor}${tenth > 0n ? `.${tenth}` : ''}${suffixes[index] ?? ''}`;
  }
  return `${bytes}B`;
}

/** A limit for people: {@link formatBytes}, or `no limit`. */
export function formatLimit(bytes: bigint): string {
  return bytes === unlimited ? 'no limit' : formatBytes(bytes);
}

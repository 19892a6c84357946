/** Memory limits in bytes, as systemd and the kernel have them. */

/** How systemd writes "no limit" in a property of type `t`. */
export const unlimited = 2n ** 64n - 1n;

const pageBytes = 4096n;

/** The kernel counts pages and rounds down; what is asked for is rounded in the same way. */
export function wholePages(bytes: bigint): bigint {
  return bytes === unlimited ? unlimited : bytes - (bytes % pageBytes);
}

/** On cgroup v1 "no limit" is the largest number of pages. */
const unlimitedV1 = 2n ** 63n - 2n ** 20n;

/** Reads memory.max, memory.limit_in_bytes and their like; throws SyntaxError for what is neither. */
export function parseKernelLimit(text: string): bigint {
  const word = text.trim();
  if (word === 'max') return unlimited;
  const bytes = BigInt(word);
  return bytes >= unlimitedV1 ? unlimited : bytes;
}

export const mebibyte = 2n ** 20n;

/**
 * No smaller limit is accepted. A busybox guest with its monitor holds 2 MiB and one with systemd
 * 14 MiB, so that below this a typing error is more likely than a wish.
 */
export const minimumLimit = 16n * mebibyte;

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

/** The least of some limits; no limit where none is given. */
export function leastOf(...limits: readonly (bigint | undefined)[]): bigint {
  return limits.filter((limit) => limit !== undefined).reduce(min, unlimited);
}

/**
 * What a guest must leave free below a new limit before it gets it. A guest that lives within less
 * than this would be killed by its next cron job.
 */
export function marginOf(limit: bigint): bigint {
  return min(max(limit / 16n, 8n * mebibyte), limit / 4n);
}

/** The smallest limit, in whole MiB, that leaves its margin above what a guest holds. */
export function lowestLimit(held: bigint): bigint {
  let limit = max(held, minimumLimit);
  // marginOf() grows by at most a quarter of the limit, so that a few rounds close the gap.
  while (limit - marginOf(limit) < held) limit = held + marginOf(limit) + 1n;
  return max(minimumLimit, ((limit + mebibyte - 1n) / mebibyte) * mebibyte);
}

/** A limit as lockerctl(1) takes it, not rounded: `1331M`, `2G`, `max`. */
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

/** How people read a limit: `1.5G`, `512M`, `no limit`. */
export function formatLimit(bytes: bigint): string {
  if (bytes === unlimited) return 'no limit';
  const units = ['', 'K', 'M', 'G', 'T', 'P', 'E'];
  let unit = 0;
  let value = bytes;
  let rest = 0n;
  while (value >= 1024n && unit < units.length - 1) {
    rest = value % 1024n;
    value /= 1024n;
    unit++;
  }
  const tenths = (rest * 10n) / 1024n;
  return `${value}${tenths === 0n ? '' : `.${tenths}`}${units[unit] ?? ''}`;
}

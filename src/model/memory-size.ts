/** A limit as a file of a control group accepts it: bytes in whole pages, or none. */
export type MemorySize = bigint | 'unlimited';

const pageBytes = 4096n;
/** PAGE_COUNTER_MAX of the kernel: the largest number of pages whose bytes fit a signed long. */
const largest = 2n ** 63n - pageBytes;

const suffixes = 'KMGTPE';

/**
 * Parses a value as the kernel does when it is written to memory.max (`max` for no limit) or, with
 * `unlimitedWord` `-1`, to memory.limit_in_bytes: C notation, one suffix from K to E, rounded to whole
 * pages (page_counter_memparse() in mm/page_counter.c). Undefined for a value that the kernel refuses.
 */
export function parseMemorySize(text: string, unlimitedWord: 'max' | '-1'): MemorySize | undefined {
  const [, value = ''] = /^[ \t\n\v\f\r]*([^ \t\n\v\f\r]+)[ \t\n\v\f\r]*$/.exec(text) ?? [];
  if (value === unlimitedWord) return 'unlimited';
  const parts = /^(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)([kmgtpe]?)$/i.exec(value);
  const [, digits, suffix = ''] = parts ?? [];
  if (digits === undefined) return undefined;
  const number = BigInt(/^0[0-9]/.test(digits) ? `0o${digits.slice(1)}` : digits);
  const bytes = number << BigInt(10 * (suffixes.indexOf(suffix.toUpperCase() || '-') + 1));
  return bytes >= largest ? 'unlimited' : bytes - (bytes % pageBytes);
}

/**
 * Parses a limit as systemd reads it in a unit file: bytes with one suffix from K to E, a percentage of the
 * host's memory, `infinity`, or nothing, which is no limit either. Undefined for anything else.
 */
export function parseUnitSize(text: string, hostMemory: () => bigint): MemorySize | undefined {
  if (text === '' || text === 'infinity') return 'unlimited';
  const parts = /^(\d{1,19})(?:\.(\d{1,9}))?[ \t]*([KMGTPE%]?)B?$/.exec(text);
  const [, digits, fraction = '', suffix = ''] = parts ?? [];
  if (digits === undefined) return undefined;
  const scale = 10n ** BigInt(fraction.length);
  const number = BigInt(digits + fraction);
  if (suffix === '%') {
    const pages = (hostMemory() / pageBytes) * number;
    return (pages / (100n * scale)) * pageBytes;
  }
  const bytes = (number << BigInt(10 * (suffixes.indexOf(suffix || '-') + 1))) / scale;
  return bytes >= largest ? 'unlimited' : bytes - (bytes % pageBytes);
}

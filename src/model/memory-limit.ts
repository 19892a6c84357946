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

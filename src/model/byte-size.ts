import { unlimited } from './memory-limit.ts';

/** Suffixes of sizes, each 1024 times the one before. */
const suffixes = ['', 'K', 'M', 'G', 'T', 'P', 'E'];
const factors = suffixes.map((_, index) => 1024n ** BigInt(index));

/** Bytes of `2G`, `1.5G`, `512MiB`, `4096`, `17B`; undefined for anything else. */
export function parseBytes(text: string): bigint | undefined {
  const match = /^(\d{1,20})(?:\.(\d{1,18}))?(?:([KMGTPE])(?:iB)?|B)?$/.exec(text);
  if (match === null) return undefined;
  const [, whole = '0', fraction = '', suffix = ''] = match;
  const factor = factors[suffixes.indexOf(suffix)] ?? 1n;
  // There is no part of a byte.
  if (fraction !== '' && factor === 1n) return undefined;
  const scale = 10n ** BigInt(fraction.length);
  const bytes = BigInt(whole) * factor + (BigInt(`0${fraction}`) * factor) / scale;
  return bytes < unlimited ? bytes : undefined;
}

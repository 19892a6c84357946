/** Sizes in bytes, in systemd's notation: the suffixes K, M, G, T, P and E count by 1024. */

import { parseBytes } from '../model/byte-size.ts';
import { formatBytes, unlimited } from '../model/memory-limit.ts';

/** A limit; `max` for none. */
export function formatLimit(bytes: bigint): string {
  return bytes === unlimited ? 'max' : formatBytes(bytes);
}

/** What the argument SIZE of "lockerctl balloon" asks for. */
export type SizeChange =
  | { readonly kind: 'absolute'; readonly bytes: bigint }
  | { readonly kind: 'relative'; readonly sign: 1n | -1n; readonly bytes: bigint }
  | {
      readonly kind: 'proportional';
      readonly sign: 1n | -1n;
      /** Hundredths of a per cent. */
      readonly basisPoints: bigint;
    };

/** Reads `2G`, `+512M`, `-25%`, `max`. @throws {RangeError} that says what would be right */
export function parseSizeChange(text: string): SizeChange {
  if (text === 'max' || text === 'infinity') return { kind: 'absolute', bytes: unlimited };
  const signed = /^[+-]/.test(text);
  const sign = text.startsWith('-') ? -1n : 1n;
  const size = signed ? text.slice(1) : text;
  const percent = /^(\d{1,6})(?:\.(\d{1,2}))?%$/.exec(size);
  if (percent !== null) {
    if (!signed) {
      throw new RangeError(`"${text}" of what? Write +${text} or -${text} of the present limit`);
    }
    const [, whole = '0', fraction = ''] = percent;
    return { kind: 'proportional', sign, basisPoints: BigInt(whole + fraction.padEnd(2, '0')) };
  }
  const bytes = parseBytes(size);
  if (bytes === undefined) {
    throw new RangeError(
      `"${text}" is not a size: write it as 2G, 1536M, +512M, -25% or max (K, M, G and T by 1024)`,
    );
  }
  return signed ? { kind: 'relative', sign, bytes } : { kind: 'absolute', bytes };
}

/**
 * The limit in bytes that a change makes of the present one; unlimited for none.
 * @throws {RangeError} where there is none to start from, or nothing would be left
 */
export function changedLimit(change: SizeChange, present: bigint): bigint {
  if (change.kind === 'absolute') return change.bytes;
  if (present === unlimited) {
    throw new RangeError('it has no memory limit to start from: give a size such as 2G');
  }
  const difference =
    change.kind === 'relative' ? change.bytes : (present * change.basisPoints) / 10_000n;
  const limit = present + change.sign * difference;
  if (limit <= 0n) {
    throw new RangeError(
      `nothing would be left of its memory limit, which is ${formatLimit(present)}`,
    );
  }
  if (limit >= unlimited) throw new RangeError('the limit would be too large: use max for none');
  return limit;
}

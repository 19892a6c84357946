import { utf8Bytes } from './utf8.ts';

function isPlain(byte: number, isFirst: boolean): boolean {
  const isDigit = byte >= 0x30 && byte <= 0x39;
  const isLetter = (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a);
  return isLetter || (isDigit && !isFirst);
}

/**
 * One element of an object path for any text, as sd_bus_path_encode(3) makes it: what is no
 * letter, and a digit at the start, becomes `_XX`; the empty text is a lone `_`.
 */
export function busLabel(text: string): string {
  if (text === '') return '_';
  return utf8Bytes(text)
    .map((byte, index) =>
      isPlain(byte, index === 0)
        ? String.fromCharCode(byte)
        : `_${byte.toString(16).padStart(2, '0')}`,
    )
    .join('');
}

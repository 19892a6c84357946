/**
 * Names as parts of object paths, as sd_bus_path_encode(3) writes them: letters and digits stay,
 * every other byte of the UTF-8 text, and a digit in front, becomes `_` and two hexadecimal digits;
 * nothing becomes `_`.
 */

import { utf8Bytes } from './utf8.ts';

export function escapeLabel(text: string): string {
  if (text === '') return '_';
  return utf8Bytes(text)
    .map((byte, index) => {
      const char = String.fromCharCode(byte);
      const stays = index === 0 ? /[A-Za-z]/.test(char) : /[A-Za-z0-9]/.test(char);
      return stays ? char : `_${byte.toString(16).padStart(2, '0')}`;
    })
    .join('');
}

/**
 * The text behind a label, or undefined when escapeLabel() does not write such a label: a name has
 * one path only.
 */
export function unescapeLabel(label: string): string | undefined {
  if (label === '_') return '';
  try {
    const text = decodeURIComponent(label.replace(/_([0-9a-f]{2})/g, '%$1'));
    return escapeLabel(text) === label ? text : undefined;
  } catch {
    // What is no UTF-8 has no label.
    return undefined;
  }
}

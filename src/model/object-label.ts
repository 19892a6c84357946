/**
 * Encodes names as elements of object paths, as sd_bus_path_encode(3) does: letters and digits stay,
 * every other byte of the UTF-8 text and a leading digit become `_` and two hexadecimal digits. The
 * empty name becomes `_`.
 */

import { utf8Bytes } from './utf8.ts';

export function escapeLabel(text: string): string {
  if (text === '') return '_';
  return text.replaceAll(/^[0-9]|[^A-Za-z0-9]+/g, (part) =>
    utf8Bytes(part)
      .map((byte) => `_${byte.toString(16).padStart(2, '0')}`)
      .join(''),
  );
}

/**
 * Decodes a label; undefined for a label that escapeLabel() does not produce, so that each name has
 * only one path.
 */
export function unescapeLabel(label: string): string | undefined {
  if (label === '_') return '';
  try {
    const text = decodeURIComponent(label.replace(/_([0-9a-f]{2})/g, '%$1'));
    return escapeLabel(text) === label ? text : undefined;
  } catch {
    // Bytes that are not valid UTF-8 have no label.
    return undefined;
  }
}

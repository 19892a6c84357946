/**
 * Names as parts of object paths, as sd_bus_path_encode(3) writes them: letters and digits stay,
 * every other byte of the UTF-8 text, and a digit in front, becomes `_` and two hexadecimal digits;
 * nothing becomes `_`.
 */

export function escapeLabel(text: string): string {
  if (text === '') return '_';
  let label = '';
  for (const [index, byte] of Buffer.from(text, 'utf8').entries()) {
    const char = String.fromCharCode(byte);
    const stays = index === 0 ? /[A-Za-z]/.test(char) : /[A-Za-z0-9]/.test(char);
    label += stays ? char : `_${byte.toString(16).padStart(2, '0')}`;
  }
  return label;
}

/**
 * The text behind a label, or undefined when escapeLabel() does not write such a label: a name has
 * one path only.
 */
export function unescapeLabel(label: string): string | undefined {
  const bytes =
    label === '_'
      ? ''
      : label.replace(/_([0-9a-f]{2})/g, (_, hex: string) =>
          String.fromCharCode(Number.parseInt(hex, 16)),
        );
  const text = Buffer.from(bytes, 'latin1').toString('utf8');
  return escapeLabel(text) === label ? text : undefined;
}

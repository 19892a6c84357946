/** Text for terminals: widths, cuts, and names that somebody else chose. */

import { eastAsianWidth } from 'get-east-asian-width';

const unprintable =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;

/**
 * Makes any text printable on one line: control characters, and those that hide or reorder text,
 * become escape sequences such as `\x1b`.
 */
export function escapeText(text: string): string {
  return text.replaceAll(unprintable, (char) =>
    char < '\u0100' ? `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}` : jsonEscape(char),
  );
}

/** The same for a string of JSON, which stays the same string. */
export function escapeJson(json: string): string {
  return json.replaceAll(unprintable, jsonEscape);
}

function jsonEscape(char: string): string {
  return char
    .split('')
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('');
}

/** What joins the character before it: marks, formats, and the vowels and finals of Hangul. */
const zeroWidth = /[\p{Mn}\p{Me}\p{Cf}\u1160-\u11ff\ud7b0-\ud7fb]/u;

/** As wcwidth(3) of the C library has it, by which terminals go. */
function characterWidth(char: string): number {
  if (char >= ' ' && char <= '~') return 1;
  return zeroWidth.test(char) ? 0 : eastAsianWidth(char.codePointAt(0) ?? 0);
}

/** Columns that a text takes on a terminal. */
export function textWidth(text: string): number {
  let width = 0;
  for (const char of text) width += characterWidth(char);
  return width;
}

/** The longest beginning of a text that fits into so many columns. */
function textHead(text: string, columns: number): string {
  let width = 0;
  let head = '';
  for (const char of text) {
    width += characterWidth(char);
    if (width > columns) break;
    head += char;
  }
  return head;
}

/** Cuts a text to so many columns; `mark` stands at the end of what was cut. */
export function ellipsize(text: string, columns: number, mark: string): string {
  if (textWidth(text) <= columns) return text;
  const markWidth = textWidth(mark);
  if (columns <= markWidth) return textHead(text, columns);
  return textHead(text, columns - markWidth) + mark;
}

/** Fills a text up with blanks to so many columns. */
export function pad(text: string, columns: number, align: 'left' | 'right'): string {
  const blanks = ' '.repeat(Math.max(0, columns - textWidth(text)));
  return align === 'left' ? text + blanks : blanks + text;
}

/** Breaks a text at blanks into lines of at most so many columns; longer words are cut up. */
export function wrapText(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (textWidth(longer) <= columns) {
      line = longer;
      continue;
    }
    if (line !== '') lines.push(line);
    line = word;
    while (textWidth(line) > columns) {
      // At least one character a line, or a narrow terminal would never end.
      const head = textHead(line, columns) || (/^./su.exec(line)?.[0] ?? '');
      lines.push(head);
      line = line.slice(head.length);
    }
  }
  return [...lines, line];
}

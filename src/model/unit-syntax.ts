/**
 * Quoting for unit files (systemd.syntax(7), systemd.service(5)). Every value from a file that an admin
 * or a guest may have written passes through one of these functions. Each throws an Error for a value
 * that no quoting can make safe.
 */

import { isPlainLine, isPlainWord } from './plain-text.ts';

const controlCharacter = /[\u0000-\u001f\u007f]/;

/** Whether a text can be part of a unit file at all: one line, no control characters. */
export function fitsUnitFile(text: string): boolean {
  return isPlainLine(text) || !controlCharacter.test(text);
}

function refuseControls(text: string): void {
  if (!fitsUnitFile(text)) {
    throw new Error(`a control character cannot stand in a unit file: ${JSON.stringify(text)}`);
  }
}

/** Doubles `%`, so that no value is read as a specifier. */
function escapeSpecifiers(text: string): string {
  return text.replaceAll('%', '%%');
}

function quoteWord(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/** Quotes one word of a list setting such as RequiresMountsFor= or After=. */
export function unitWord(text: string): string {
  // A plain word has nothing to escape; most are plain, and there are many.
  if (isPlainWord(text)) return text;
  refuseControls(text);
  return quoteWord(escapeSpecifiers(text));
}

/** Quotes one argument of an Exec…= line; also doubles `$`, which would start a variable. */
export function execArgument(text: string): string {
  if (isPlainWord(text)) return text;
  refuseControls(text);
  return quoteWord(escapeSpecifiers(text).replaceAll('$', '$$$$'));
}

/**
 * Whether a text can be the rest of a line. Surrounding blanks would be lost, and a final backslash
 * would join the next line.
 */
export function fitsRestOfLine(text: string): boolean {
  if (isPlainLine(text)) return true;
  return fitsUnitFile(text) && text === text.trim() && !text.endsWith('\\');
}

/** Quotes the value of a whole line, such as Description= or SourcePath=; see fitsRestOfLine(). */
export function unitText(text: string): string {
  if (isPlainLine(text)) return text;
  refuseControls(text);
  if (!fitsRestOfLine(text)) {
    throw new Error(`systemd would not read this back: ${JSON.stringify(text)}`);
  }
  return escapeSpecifiers(text);
}

/** Makes any text printable on one line, for messages: control characters become `?`. */
export function printable(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '?');
}

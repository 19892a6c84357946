/**
 * Quoting for unit files (systemd.syntax(7), systemd.service(5)). Every value that comes from a
 * file an admin or a guest may have written passes through one of these functions; each refuses
 * what no quoting can make safe.
 */

const controlCharacter = /[\u0000-\u001f\u007f]/;

/** Characters that mean nothing to systemd's word splitting. */
const plainWord = /^[0-9A-Za-z_@+,.:/-][0-9A-Za-z_@+,.:/=-]*$/;

/** Whether a text can stand in a unit file at all: one line, no control characters. */
export function fitsUnitFile(text: string): boolean {
  return !controlCharacter.test(text);
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

/** One word of a list setting such as RequiresMountsFor= or After=. */
export function unitWord(text: string): string {
  refuseControls(text);
  const escaped = escapeSpecifiers(text);
  return plainWord.test(text) ? escaped : quoteWord(escaped);
}

/** One argument of an Exec…= line: `$` would start a variable and is doubled as well. */
export function execArgument(text: string): string {
  refuseControls(text);
  const escaped = escapeSpecifiers(text).replaceAll('$', '$$$$');
  return plainWord.test(text) ? escaped : quoteWord(escaped);
}

/**
 * Whether a text can be the rest of a line: surrounding blanks would be lost, and a final
 * backslash would swallow the next line.
 */
export function fitsRestOfLine(text: string): boolean {
  return fitsUnitFile(text) && text === text.trim() && !text.endsWith('\\');
}

/** The rest of a line, such as Description= or SourcePath=; see fitsRestOfLine(). */
export function unitText(text: string): string {
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

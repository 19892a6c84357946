/** An assignment of an LXC configuration, cut as LXC cuts it. */
export interface LxcAssignment {
  /** Line in the file, counted from 1; only a newline ends a line here, as in `grep -n`. */
  readonly line: number;
  readonly key: string;
  /** Trimmed, one pair of outer quotes taken off, nothing unescaped. */
  readonly value: string;
}

/** A line that makes LXC refuse the file before it even looks at a key. */
interface LxcSyntaxError {
  readonly line: number;
  readonly error: string;
}

type LxcLine = LxcAssignment | LxcSyntaxError;

/** What LXC sees of one file, and what keeps it from being the text an admin sees in an editor. */
export interface LxcText {
  readonly lines: readonly LxcLine[];
  /** The line of the first NUL byte: LXC ignores everything from there on. */
  readonly nulLine?: number;
  /** A byte order mark stands before an `lxc.` key, so LXC does not see that first line. */
  readonly markHidesKey: boolean;
  /** The first control character that no text file holds. */
  readonly control?: { readonly line: number; readonly code: number };
}

const TAB = 0x09;
const SPACE = 0x20;
const BINARY = /[\x01-\x08\x0e-\x1a\x1c-\x1f]/;

/**
 * Cuts a configuration into assignments the way lxc_file_for_each_line_mmap() (LXC's parse.c) and
 * parse_line() (confile.c) do: lines end at a newline or a carriage return, only spaces and tabs
 * count as blank, and whatever does not start with `lxc.` is ignored. Linear in the text's length.
 * @param isPlain see Content in system-calls.ts
 */
export function splitLxcText(text: string, isPlain = false): LxcText {
  // Nothing is to be looked for that a plain text has not.
  return isPlain ? { lines: plainLines(text), markHidesKey: false } : splitAnyText(text);
}

function plainLines(text: string): LxcLine[] {
  const lines: LxcLine[] = [];
  const all = text.split('\n');
  for (let at = 0; at < all.length; at++) {
    const whole = all[at] ?? '';
    const first = whole[0];
    if (first === 'l' || first === ' ' || first === '\t') {
      const cut = cutLine(whole, at + 1, true);
      if (cut !== undefined) lines.push(cut);
    }
  }
  return lines;
}

function splitAnyText(text: string): LxcText {
  const nul = text.indexOf('\0');
  const seen = nul < 0 ? text : text.slice(0, nul);
  const lines: LxcLine[] = [];
  let number = 1;
  for (let start = 0; start < seen.length; number++) {
    const newline = seen.indexOf('\n', start);
    const end = newline < 0 ? seen.length : newline;
    const whole = seen.slice(start, end);
    // A lone carriage return ends a line for LXC, though editors show one line: the number stays.
    for (const part of whole.includes('\r') ? whole.split('\r') : [whole]) {
      const cut = cutLine(part, number, false);
      if (cut !== undefined) lines.push(cut);
    }
    start = end + 1;
  }
  const control = BINARY.exec(text);
  return {
    lines,
    markHidesKey: /^\uFEFF[ \t]*lxc\./.test(text),
    ...(nul < 0 ? {} : { nulLine: lineAt(text, nul) }),
    ...(control === null
      ? {}
      : { control: { line: lineAt(text, control.index), code: control[0].charCodeAt(0) } }),
  };
}

/**
 * The file or directory that a line includes, as it is written there. An empty `lxc.include` is
 * nothing at all, not an error (set_config_includefiles() in LXC's confile.c).
 */
export function includeTarget(line: LxcLine): string | undefined {
  return 'key' in line && line.key === 'lxc.include' && line.value !== '' ? line.value : undefined;
}

/** @param isPlain no character but spaces and tabs is blank */
function cutLine(text: string, line: number, isPlain: boolean): LxcLine | undefined {
  const trim = isPlain ? trimPlain : trimBlanks;
  const begun = text.startsWith('lxc.') ? text : trim(text);
  if (!begun.startsWith('lxc.')) return undefined;
  const equals = begun.indexOf('=');
  if (equals < 0) return { line, error: 'a line that starts with "lxc." has no "="' };
  const value = trim(begun.slice(equals + 1));
  const quote = value[0];
  const isQuoted = (quote === '"' || quote === "'") && value.length > 1 && value.endsWith(quote);
  return {
    line,
    key: trim(begun.slice(0, equals)),
    value: isQuoted ? value.slice(1, -1) : value,
  };
}

/** One call: a thousand containers have ten thousand lines. */
function trimPlain(text: string): string {
  return text.trim();
}

function trimBlanks(text: string): string {
  let first = 0;
  let last = text.length;
  while (isBlank(text.charCodeAt(first))) first++;
  while (last > first && isBlank(text.charCodeAt(last - 1))) last--;
  return text.slice(first, last);
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}

function lineAt(text: string, index: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at >= 0 && at < index; at = text.indexOf('\n', at + 1)) line++;
  return line;
}

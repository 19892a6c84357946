/** Standard output and error: widths, colours, and the line of progress. */

import type { WriteStream } from 'node:tty';
import { toJson, type JsonMode, type JsonValue } from './json.ts';
import { ellipsize, escapeText, textWidth } from './text.ts';

/** What the streams of this process are, decided once. */
export interface TerminalTraits {
  /** Columns of standard output; undefined where it is no terminal. */
  readonly columns: number | undefined;
  /** Lines of standard output where a table can be drawn over the one before; else undefined. */
  readonly rows?: number | undefined;
  /** Columns of standard error where progress can be shown; else undefined. */
  readonly progressColumns: number | undefined;
  readonly colour: boolean;
  readonly utf8: boolean;
  /** Somebody can be asked. */
  readonly inputIsTerminal: boolean;
}

function columnsOf(stream: WriteStream, environment: NodeJS.ProcessEnv): number {
  const given = Number(environment['COLUMNS']);
  if (Number.isInteger(given) && given > 0) return given;
  // A serial line has a size of 0.
  return stream.columns > 0 ? stream.columns : 80;
}

/** Looks at the streams and the environment: TERM, NO_COLOR, COLUMNS and the locale. */
export function readTraits(
  streams: Pick<NodeJS.Process, 'stdin' | 'stdout' | 'stderr'>,
  environment: NodeJS.ProcessEnv,
): TerminalTraits {
  const { stdin, stdout, stderr } = streams;
  // Node.js leaves the property out where a stream is no terminal, whatever its types say.
  const isTerminal = (stream: { readonly isTTY?: boolean }): boolean => stream.isTTY === true;
  const canMove = (environment['TERM'] ?? 'dumb') !== 'dumb';
  const locale =
    [environment['LC_ALL'], environment['LC_CTYPE'], environment['LANG']].find(Boolean) ?? 'C';
  return {
    columns: isTerminal(stdout) ? columnsOf(stdout, environment) : undefined,
    rows: isTerminal(stdout) && canMove ? (stdout.rows > 0 ? stdout.rows : 24) : undefined,
    progressColumns: isTerminal(stderr) && canMove ? columnsOf(stderr, environment) : undefined,
    colour: isTerminal(stdout) && canMove && !environment['NO_COLOR'],
    utf8: /utf-?8/i.test(locale),
    inputIsTerminal: isTerminal(stdin),
  };
}

const sgr = {
  bold: '1',
  underline: '4',
  red: '1;31',
  green: '1;32',
  yellow: '1;33',
  blue: '1;34',
  dim: '2',
} as const;

export type Colour = keyof typeof sgr;

const colourEnd = '\u001b[0m';

function colourStart(colour: Colour): string {
  return `\u001b[${sgr[colour]}m`;
}

/** What paint() adds, and nothing else that a terminal obeys. */
const colourings: ReadonlySet<string> = new Set([
  colourEnd,
  ...(Object.keys(sgr) as Colour[]).map(colourStart),
]);

/** Everything printable, but for our own colours. */
function escapeLine(line: string): string {
  return line
    .split(/(\u001b\[[0-9;]{1,4}m)/)
    .map((part) => (colourings.has(part) ? part : escapeText(part)))
    .join('');
}

export interface Output {
  stdout(text: string): void;
  stderr(text: string): void;
}

/** Standard output and error, with one line of progress at the end of the latter. */
export class Terminal {
  readonly traits: TerminalTraits;
  readonly #output: Output;
  #status = '';

  constructor(traits: TerminalTraits, output: Output) {
    this.traits = traits;
    this.#output = output;
  }

  /** Stands for what was cut. */
  get mark(): string {
    return this.traits.utf8 ? '…' : '...';
  }

  get arrow(): string {
    return this.traits.utf8 ? '→' : '->';
  }

  get bullet(): string {
    return this.traits.utf8 ? '●' : '*';
  }

  paint(text: string, colour: Colour): string {
    if (!this.traits.colour || text === '') return text;
    return colourStart(colour) + escapeText(text) + colourEnd;
  }

  /** Prints lines on standard output; whatever came from elsewhere is escaped here. */
  print(...lines: string[]): void {
    this.#printAll(lines);
  }

  #printAll(lines: readonly string[]): void {
    this.#apartFromStatus(() => {
      const escape = this.traits.colour ? escapeLine : escapeText;
      this.#output.stdout(lines.map((line) => `${escape(line)}\n`).join(''));
    });
  }

  /** Whether {@link redraw} can be used. */
  get canRedraw(): boolean {
    return this.traits.rows !== undefined;
  }

  /** Draws lines over those of the last time, from the upper left corner on; what does not fit is cut. */
  redraw(lines: readonly string[]): void {
    const { rows = 0 } = this.traits;
    const escape = this.traits.colour ? escapeLine : escapeText;
    const fitting = lines.slice(0, Math.max(rows - 1, 1));
    const drawn = fitting.map((line) => `${escape(line)}\u001b[K\n`).join('');
    this.#output.stdout(`\u001b[H${drawn}\u001b[J`);
  }

  /** Prints JSON on standard output. */
  printJson(value: JsonValue, mode: JsonMode): void {
    // Not as arguments: a large host has more lines than a call can have.
    this.#printAll(toJson(value, mode).split('\n'));
  }

  /** Prints one line on standard error; it is escaped here. */
  complain(message: string): void {
    this.#apartFromStatus(() => {
      this.#output.stderr(`${escapeText(message)}\n`);
    });
  }

  /** Shows one line of progress in place of the one before; an empty one takes it away. */
  status(text: string): void {
    const columns = this.traits.progressColumns;
    if (columns === undefined) return;
    // The last column stays free: some terminals go to the next line when it is written.
    const line = ellipsize(escapeText(text), columns - 1, this.mark);
    if (line === this.#status) return;
    this.#status = line;
    this.#draw();
  }

  #draw(): void {
    this.#output.stderr(`\r${this.#status}\u001b[K`);
  }

  #apartFromStatus(write: () => void): void {
    const shown = this.#status;
    if (textWidth(shown) > 0) this.#output.stderr('\r\u001b[K');
    write();
    if (textWidth(shown) > 0) this.#draw();
  }
}

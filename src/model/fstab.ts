/** One line of fstab(5) or of an LXC mount entry, which has the same six fields. */
export interface FstabEntry {
  /** The source of the mount, with escapes such as `\040` decoded. */
  readonly source: string;
  readonly target: string;
  /** Where the line says so, if symbolic links lead from there to the target. */
  readonly written?: string;
  readonly type: string;
  readonly options: readonly string[];
  readonly line: number;
}

const escapes: Readonly<Record<string, string>> = {
  '\\040': ' ',
  '\\011': '\t',
  '\\012': '\n',
  '\\134': '\\',
};

/** Decodes the four escapes that getmntent(3) knows. */
export function decodeField(field: string): string {
  if (!field.includes('\\')) return field;
  return field.replaceAll(/\\(?:040|011|012|134)/g, (escape) => escapes[escape] ?? escape);
}

/** Encodes a field so that decodeField() and getmntent(3) read it back. */
export function encodeField(field: string): string {
  return field
    .replaceAll('\\', '\\134')
    .replaceAll(' ', '\\040')
    .replaceAll('\t', '\\011')
    .replaceAll('\n', '\\012');
}

/** What stands between blanks; a regular expression would take ten times as long. */
function fieldsOf(text: string): string[] {
  const fields = (text.includes('\t') ? text.replaceAll('\t', ' ') : text).split(' ');
  return fields.includes('') ? fields.filter((field) => field !== '') : fields;
}

/** The last ones: the lines of a table have the same ones again and again. */
let lastText = 'defaults';
let lastOptions: readonly string[] = ['defaults'];

function optionsOf(text: string): readonly string[] {
  if (text !== lastText) {
    lastOptions = text.split(',');
    lastText = text;
  }
  return lastOptions;
}

/** Parses one line; undefined for an empty line, a comment or a line without a target. */
export function parseFstabLine(text: string, line: number): FstabEntry | undefined {
  const fields = fieldsOf(text);
  const source = fields[0];
  const target = fields[1];
  if (source === undefined || source.startsWith('#') || target === undefined) return undefined;
  return {
    source: decodeField(source),
    target: decodeField(target),
    type: decodeField(fields[2] ?? 'none'),
    options: optionsOf(fields[3] ?? 'defaults'),
    line,
  };
}

const entries = new Map<string, FstabEntry | undefined>();
const entriesMax = 1000;

/** Parses a mount entry of a container. Most of them stand in files that all containers include. */
export function parseMountEntry(text: string, line: number): FstabEntry | undefined {
  let entry = entries.get(text);
  if (entry === undefined) {
    if (entries.size >= entriesMax) entries.clear();
    entry = parseFstabLine(text, line);
    entries.set(text, entry);
  }
  return entry === undefined || entry.line === line ? entry : { ...entry, line };
}

/** Parses a whole table in file order. */
export function parseFstab(text: string): FstabEntry[] {
  return text
    .split('\n')
    .map((line, index) => parseFstabLine(line, index + 1))
    .filter((entry) => entry !== undefined);
}

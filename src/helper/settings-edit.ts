import { isDeepStrictEqual } from 'node:util';
import { parse as parseIni } from 'ini';
import type { ContainerSettings, LockerChoice } from '../host/settings.ts';
import { parseContainerSettings } from '../host/settings.ts';
import { encodeField } from '../model/fstab.ts';
import { LockerdError } from '../model/errors.ts';

/** What a container's lockers are changed to: the locker's mode, or none. */
export interface LockerChange {
  readonly locker: string;
  /** Undefined takes the locker out. */
  readonly readOnly: boolean | undefined;
}

const key = 'lockers';

/** One entry as settings write it; see parseLockers() in settings.ts. */
function encodeChoice({ name, readOnly }: LockerChoice): string {
  const mode = readOnly ? ':ro' : /:r[ow]$/.test(name) ? ':rw' : '';
  return encodeField(name) + mode;
}

function isSame(a: readonly LockerChoice[], b: readonly LockerChoice[]): boolean {
  return isDeepStrictEqual(a, b);
}

/** The list after a change, in its order; what is new comes last. */
export function changeChoices(
  choices: readonly LockerChoice[],
  { locker, readOnly }: LockerChange,
): LockerChoice[] {
  if (readOnly === undefined) return choices.filter(({ name }) => name !== locker);
  const changed = { name: locker, readOnly };
  // The last entry of a name is the one that counts.
  const last = choices.map(({ name }) => name).lastIndexOf(locker);
  if (last < 0) return [...choices, changed];
  return choices.map((choice, index) => (index === last ? changed : choice));
}

/** The value of a line as ini reads it: where a comment begins, and whether it is quoted. */
function splitValue(raw: string): { value: string; comment: string; isQuoted: boolean } {
  const trimmed = raw.trim();
  const quote = trimmed[0] ?? '';
  if (trimmed.length > 1 && (quote === '"' || quote === "'") && trimmed.endsWith(quote)) {
    return { value: raw, comment: '', isQuoted: true };
  }
  for (let index = 0; index < raw.length; index++) {
    if (raw[index] === '\\') index++;
    else if (raw[index] === '#' || raw[index] === ';') {
      const value = raw.slice(0, index).trimEnd();
      return { value, comment: raw.slice(value.length), isQuoted: false };
    }
  }
  const value = raw.trimEnd();
  return { value, comment: raw.slice(value.length), isQuoted: false };
}

/** Escapes what would begin a comment. */
function escapeIni(word: string): string {
  return word.replaceAll(/[#;]/g, '\\$&');
}

function isLockersLine(line: string): boolean {
  return Object.hasOwn(parseIni(line), key);
}

/** Rewrites one line's value; the key, the blanks around it and a comment stay. */
function editLine(line: string, choices: readonly LockerChoice[]): string {
  const equals = line.indexOf('=');
  const head = equals < 0 ? `${line.trimEnd()} =` : line.slice(0, equals + 1);
  const raw = equals < 0 ? '' : line.slice(equals + 1);
  const { comment } = splitValue(raw);
  const blank = /^[ \t]*/.exec(raw)?.[0] ?? '';
  const words = choices.map((choice) => escapeIni(encodeChoice(choice))).join(' ');
  return `${head}${blank === '' ? ' ' : blank}${words}${comment}`;
}

/** ini takes any of these for the end of a line. */
const lineEnds = /([\r\n]+)/;

/**
 * Puts a list of lockers into the text of a container's settings; undefined takes the key out. All
 * else stays byte by byte.
 */
function writeChoices(text: string, choices: readonly LockerChoice[] | undefined): string {
  const parts = text.split(lineEnds);
  const lines = parts.filter((_, index) => index % 2 === 0);
  const places = lines.flatMap((line, index) => (isLockersLine(line) ? [index * 2] : []));
  if (choices === undefined) {
    // An earlier line must not come back to life.
    for (const place of places) parts.splice(place, 2, '', '');
    return parts.join('');
  }
  const last = places.at(-1);
  if (last !== undefined) {
    parts[last] = editLine(parts[last] ?? '', choices);
    return parts.join('');
  }
  const line = `${key} = ${choices.map((choice) => escapeIni(encodeChoice(choice))).join(' ')}`;
  const end = text.includes('\r\n') ? '\r\n' : '\n';
  const isEnded = text === '' || /[\r\n]$/.test(text);
  return `${text}${isEnded ? '' : end}${line}${isEnded ? end : ''}`;
}

/**
 * Changes one locker in the text of a container's settings file; the empty text stands for no file.
 * The first line of a file takes over what the host's settings give every container, because it
 * goes before them; a list that says the same as these needs no line. Throws Failed when the result
 * would not be read back as what is meant.
 */
export function editSettings(
  text: string,
  change: LockerChange,
  file: string,
  defaults: ContainerSettings,
): string {
  const read = (
    content: string,
  ): ContainerSettings & { readonly choices: readonly LockerChoice[] } => {
    const values: Readonly<Record<string, unknown>> = parseIni(content);
    const { settings, problems } = parseContainerSettings(
      { path: file, text: content, values },
      defaults,
    );
    if (problems.length > 0) {
      throw new LockerdError('Failed', `${file} cannot be changed before its mistakes are mended`);
    }
    return { ...settings, choices: settings.lockers?.value ?? [] };
  };
  const before = read(text);
  const wanted = changeChoices(before.choices, change);
  const isDefault = isSame(wanted, defaults.lockers?.value ?? []);
  const edited = writeChoices(text, isDefault ? undefined : wanted);
  const after = read(edited);
  const rest = (settings: typeof before): unknown => ({
    ...settings,
    lockers: undefined,
    choices: undefined,
  });
  if (!isSame(after.choices, wanted) || !isDeepStrictEqual(rest(after), rest(before))) {
    throw new LockerdError('Failed', `${file} cannot hold locker "${change.locker}"; rename it`);
  }
  return edited;
}

/**
 * Edits one line in the text of a container's settings file and keeps all other bytes. The edit is checked
 * by parsing the result: it must give the wanted value and leave every other setting as it was.
 */

import { isDeepStrictEqual } from 'node:util';
import { parse as parseIni } from 'ini';
import type { ContainerSettings, LockerChoice } from '../host/settings.ts';
import { parseContainerSettings } from '../host/settings.ts';
import { encodeField } from '../model/fstab.ts';
import { LockerdError } from '../model/errors.ts';
import { formatProblem } from '../model/problem.ts';

/** One change of a container's lockers: a locker's new mode, or its removal. */
export interface LockerChange {
  readonly locker: string;
  /** Undefined takes the locker out. */
  readonly readOnly: boolean | undefined;
}

/** Formats one entry of the settings; see parseLockers() in settings.ts. */
function encodeChoice({ name, readOnly, auto }: LockerChoice): string {
  const mode = readOnly ? ':ro' : /:(?:r[ow]|auto)$/.test(name) ? ':rw' : '';
  return encodeField(name) + mode + (auto === true ? ':auto' : '');
}

/** What can be edited. */
type Key = 'lockers' | 'autostart';

function isSame(a: readonly LockerChoice[], b: readonly LockerChoice[]): boolean {
  return isDeepStrictEqual(a, b);
}

/** The list after a change, in the same order; a new entry comes last. */
export function changeChoices(
  choices: readonly LockerChoice[],
  { locker, readOnly }: LockerChange,
): LockerChoice[] {
  if (readOnly === undefined) return choices.filter(({ name }) => name !== locker);
  // The last entry of a name counts.
  const last = choices.map(({ name }) => name).lastIndexOf(locker);
  if (last < 0) return [...choices, { name: locker, readOnly }];
  return choices.map((choice, index) => (index === last ? { ...choice, readOnly } : choice));
}

/** Splits the part after "=" as ini does: value and comment, and whether the value is quoted. */
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

/** Escapes the characters that would begin a comment. */
function escapeIni(word: string): string {
  return word.replaceAll(/[#;]/g, '\\$&');
}

function isLineOf(line: string, key: Key): boolean {
  return Object.hasOwn(parseIni(line), key);
}

/** Rewrites the value of one line; keeps the key, the blanks around it and a comment. */
function editLine(line: string, value: string): string {
  const equals = line.indexOf('=');
  const head = equals < 0 ? `${line.trimEnd()} =` : line.slice(0, equals + 1);
  const raw = equals < 0 ? '' : line.slice(equals + 1);
  const { comment } = splitValue(raw);
  const blank = /^[ \t]*/.exec(raw)?.[0] ?? '';
  return `${head}${blank === '' ? ' ' : blank}${value}${comment}`;
}

/** ini accepts any of these as the end of a line. */
const lineEnds = /([\r\n]+)/;

/**
 * Puts the value of a key, as ini writes it, into the text of a container's settings; undefined removes the
 * key. All other bytes stay.
 */
function writeValue(text: string, key: Key, value: string | undefined): string {
  const parts = text.split(lineEnds);
  const lines = parts.filter((_, index) => index % 2 === 0);
  const places = lines.flatMap((line, index) => (isLineOf(line, key) ? [index * 2] : []));
  if (value === undefined) {
    // Remove every line with the key, because an earlier one would take effect again.
    for (const place of places) parts.splice(place, 2, '', '');
    return parts.join('');
  }
  const last = places.at(-1);
  if (last !== undefined) {
    parts[last] = editLine(parts[last] ?? '', value);
    return parts.join('');
  }
  const line = `${key} = ${value}`;
  const end = text.includes('\r\n') ? '\r\n' : '\n';
  const isEnded = text === '' || /[\r\n]$/.test(text);
  return `${text}${isEnded ? '' : end}${line}${isEnded ? end : ''}`;
}

/** Reads the text of a settings file; throws Failed, with file and line, if it has mistakes. */
function readSettings(text: string, file: string, defaults: ContainerSettings): ContainerSettings {
  const values: Readonly<Record<string, unknown>> = parseIni(text);
  const { settings, problems } = parseContainerSettings({ path: file, text, values }, defaults);
  const [problem] = problems;
  if (problem === undefined) return settings;
  throw new LockerdError('Failed', `nothing was changed: ${formatProblem(problem)}`);
}

/** Whether two readings differ in nothing but one setting, and the lines that others have moved to. */
function areSameBeside(key: Key, a: ContainerSettings, b: ContainerSettings): boolean {
  const rest = ({ needs, wants, lockers, ...settings }: ContainerSettings): unknown => ({
    ...settings,
    ...{ needs: needs?.value, wants: wants?.value, lockers: lockers?.value, [key]: undefined },
  });
  return isDeepStrictEqual(rest(a), rest(b));
}

/**
 * Changes one locker in the text of a container's settings file; an empty text means no file. A
 * `lockers` line overrides the host's defaults, so the first such line starts with them, and a list
 * equal to the defaults needs no line. Throws Failed if the file has mistakes, or if the result would
 * not be read back as intended.
 */
export function editSettings(
  text: string,
  change: LockerChange,
  file: string,
  defaults: ContainerSettings,
): string {
  const before = readSettings(text, file, defaults);
  const wanted = changeChoices(before.lockers?.value ?? [], change);
  const isDefault = isSame(wanted, defaults.lockers?.value ?? []);
  const words = wanted.map((choice) => escapeIni(encodeChoice(choice))).join(' ');
  const edited = writeValue(text, 'lockers', isDefault ? undefined : words);
  const after = readSettings(edited, file, defaults);
  if (!isSame(after.lockers?.value ?? [], wanted) || !areSameBeside('lockers', after, before)) {
    throw new LockerdError('Failed', `${file} cannot hold locker "${change.locker}"; rename it`);
  }
  return edited;
}

/** The same for `autostart`, which then stands in the container's own file. */
export function editAutostart(
  text: string,
  autostart: boolean,
  file: string,
  defaults: ContainerSettings,
): string {
  const before = readSettings(text, file, defaults);
  const edited = writeValue(text, 'autostart', autostart ? 'yes' : 'no');
  const after = readSettings(edited, file, defaults);
  if (after.autostart !== autostart || !areSameBeside('autostart', after, before)) {
    throw new LockerdError('Failed', `${file} cannot be edited; write "autostart" there by hand`);
  }
  return edited;
}

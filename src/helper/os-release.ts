/** os-release(5) of a guest, whose text is the guest's own and may be anything. */

import { printable } from '../model/unit-syntax.ts';

export interface OsRelease {
  /** `Debian GNU/Linux 12 (bookworm)` */
  readonly name?: string;
  /** `debian` */
  readonly id?: string;
  /** `12` */
  readonly version?: string;
}

/** Characters of a value that anybody could want to see. */
const maxLength = 200;

/** What a shell makes of a value, as far as it is a plain one. */
function valueOf(raw: string): string | undefined {
  const text = raw.trim();
  const [, double, single] = /^(?:"((?:[^"\\]|\\.)*)"|'([^']*)')$/s.exec(text) ?? [];
  if (double !== undefined) return double.replaceAll(/\\(["$`\\])/g, '$1');
  if (single !== undefined) return single;
  return /^[^\s"'$`;&|<>()]*$/.test(text) ? text : undefined;
}

/** Reads the text; what is no plain assignment is left out, and values are cut. */
export function parseOsRelease(text: string): OsRelease {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, key = '', raw = ''] = /^([A-Z_]+)=(.*)$/s.exec(line.replace(/\r$/, '')) ?? [];
    if (!['PRETTY_NAME', 'ID', 'VERSION_ID'].includes(key)) continue;
    const value = printable(valueOf(raw) ?? '').slice(0, maxLength);
    if (value !== '') values.set(key, value);
  }
  const [name, id, version] = ['PRETTY_NAME', 'ID', 'VERSION_ID'].map((key) => values.get(key));
  return {
    ...(name === undefined ? {} : { name }),
    ...(id === undefined ? {} : { id }),
    ...(version === undefined ? {} : { version }),
  };
}

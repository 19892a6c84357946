/** The output of --json. */

import { escapeJson } from './text.ts';

/** What --json can print. */
export type JsonValue =
  string | number | bigint | boolean | null | undefined | readonly JsonValue[] | JsonObject;

/** An object of it. */
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** `short` is one line without blanks, `pretty` one line for each value. */
export type JsonMode = 'short' | 'pretty';

function jsonString(text: string): string {
  // JSON leaves some of these as they are; a terminal may obey them.
  return escapeJson(JSON.stringify(text));
}

/** What stands between two brackets. @param end a line feed and blanks; empty for one line */
function enclosed(brackets: '[]' | '{}', items: readonly string[], end: string): string {
  const [open = '', close = ''] = brackets;
  if (items.length === 0) return brackets;
  const start = end === '' ? '' : `${end}  `;
  return open + items.map((item) => start + item).join(',') + end + close;
}

function write(value: JsonValue, end: string): string {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'string') return jsonString(value);
  const inner = end === '' ? '' : `${end}  `;
  if (Array.isArray(value)) {
    const items = value.map((item: JsonValue) => write(item, inner));
    return enclosed('[]', items, end);
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    const colon = end === '' ? ':' : ': ';
    const items = entries.map(([key, item]) => jsonString(key) + colon + write(item, inner));
    return enclosed('{}', items, end);
  }
  return JSON.stringify(value ?? null);
}

/** JSON. 64-bit integers keep all their digits, which JSON.stringify() refuses. */
export function toJson(value: JsonValue, mode: JsonMode = 'short'): string {
  return write(value, mode === 'pretty' ? '\n' : '');
}

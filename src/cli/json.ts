/** The output of --json. */

import { escapeJson } from './text.ts';

/** What --json can print. */
export type JsonValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | undefined
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

function jsonString(text: string): string {
  // JSON leaves some of these as they are; a terminal may obey them.
  return escapeJson(JSON.stringify(text));
}

/** One line of JSON. 64-bit integers keep all their digits, which JSON.stringify() refuses. */
export function toJson(value: JsonValue): string {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'string') return jsonString(value);
  if (Array.isArray(value)) return `[${value.map((item: JsonValue) => toJson(item)).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    return `{${entries.map(([key, item]) => `${jsonString(key)}:${toJson(item)}`).join(',')}}`;
  }
  return JSON.stringify(value ?? null);
}

/**
 * The requests that the helper accepts. parseRequest() is strict: each verb has a fixed set of members with
 * fixed kinds, and a request with any other member is refused, because the helper does not trust its caller.
 */

import { fitsUnitFile } from '../model/unit-syntax.ts';
import { LockerdError } from '../model/errors.ts';
import type { LimitTexts } from '../model/guest-limits.ts';
import { isLimitName, limitRules } from '../model/guest-limits.ts';

/** Maximum length of a request in bytes, with its newline. */
export const requestMaxBytes = 64 * 1024;

/** Limits are bytes in decimal, or `max`. */
export interface BalloonRequest {
  readonly verb: 'balloon';
  readonly container: string;
  readonly limit: string;
  readonly swap?: string;
  readonly force: boolean;
  readonly persist: boolean;
}

/** Limits by their names, each as its text; see src/model/guest-limits.ts. */
export interface LimitsRequest {
  readonly verb: 'set-limits';
  readonly container: string;
  readonly limits: LimitTexts;
  readonly persist: boolean;
}

export type Request =
  | BalloonRequest
  | LimitsRequest
  | {
      readonly verb: 'attach';
      readonly container: string;
      readonly locker: string;
      readonly readOnly: boolean;
      readonly persist: boolean;
    }
  | {
      readonly verb: 'detach';
      readonly container: string;
      readonly locker: string;
      readonly force: boolean;
      readonly persist: boolean;
    }
  | { readonly verb: 'freeze' | 'thaw' | 'apply-limits'; readonly container: string }
  | { readonly verb: 'set-autostart'; readonly container: string; readonly autostart: boolean }
  | { readonly verb: 'look'; readonly containers: readonly string[] }
  | { readonly verb: 'watch' };

type Kind = 'name' | 'names' | 'boolean' | 'limit' | 'limits';

/** The members of each verb's request besides `verb`; no others are allowed. */
const members: Readonly<Record<Request['verb'], Readonly<Record<string, Kind>>>> = {
  attach: { container: 'name', locker: 'name', readOnly: 'boolean', persist: 'boolean' },
  detach: { container: 'name', locker: 'name', force: 'boolean', persist: 'boolean' },
  balloon: {
    container: 'name',
    limit: 'limit',
    swap: 'limit',
    force: 'boolean',
    persist: 'boolean',
  },
  'set-limits': { container: 'name', limits: 'limits', persist: 'boolean' },
  freeze: { container: 'name' },
  thaw: { container: 'name' },
  'apply-limits': { container: 'name' },
  'set-autostart': { container: 'name', autostart: 'boolean' },
  look: { containers: 'names' },
  watch: {},
};

/** Members that a request may leave out. */
const optional: ReadonlySet<string> = new Set(['swap']);

/** NAME_MAX of the kernel: containers and lockers are directories. */
const nameMaxBytes = 255;

/**
 * Whether a value can name a container or a locker: a single path component, not hidden, without
 * control characters or lone surrogates, which no file name can hold.
 */
export function isName(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value !== '' &&
    !value.startsWith('.') &&
    !value.includes('/') &&
    !value.includes('\ufffd') &&
    !/[\u0080-\u009f\u2028\u2029]|\p{Surrogate}/u.test(value) &&
    fitsUnitFile(value) &&
    Buffer.byteLength(value) <= nameMaxBytes
  );
}

/** Whether a value is `max` or a decimal number of bytes that fits D-Bus type `t` (64 bits). */
function isLimit(value: unknown): boolean {
  if (typeof value !== 'string') return false;
  return value === 'max' || (/^[0-9]{1,20}$/.test(value) && BigInt(value) < 2n ** 64n);
}

/** Whether a value is an object of limits, at least one, each with a text that it can have. */
function isLimits(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const entries = Object.entries(value as Readonly<Record<string, unknown>>);
  return (
    entries.length > 0 &&
    entries.every(
      ([name, text]) =>
        isLimitName(name) && typeof text === 'string' && limitRules[name].accepts(text),
    )
  );
}

const kinds: Readonly<
  Record<Kind, { readonly accepts: (value: unknown) => boolean; readonly form: string }>
> = {
  name: { accepts: isName, form: 'the name of a %' },
  names: {
    accepts: (value) => Array.isArray(value) && value.every(isName),
    form: 'a list of names of containers',
  },
  boolean: { accepts: (value) => typeof value === 'boolean', form: 'true or false' },
  limit: { accepts: isLimit, form: 'a number of bytes in decimal, or "max"' },
  limits: { accepts: isLimits, form: 'an object of limits that are known' },
};

function invalid(message: string, options?: ErrorOptions): LockerdError {
  return new LockerdError('InvalidArgs', message, options);
}

function decode(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw invalid('the request is not UTF-8', { cause: error });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid('the request is not JSON', { cause: error });
  }
}

/** Parses one request, without its newline; throws InvalidArgs for anything but exactly one. */
export function parseRequest(bytes: Uint8Array): Request {
  const value = decode(bytes);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid('the request is not a JSON object');
  }
  // A map holds own members only, whatever their names; "__proto__" is an ordinary member here.
  const given = new Map<string, unknown>(Object.entries(value));
  const verb = given.get('verb');
  if (typeof verb !== 'string' || !Object.hasOwn(members, verb)) {
    throw invalid('the request has no verb that is known');
  }
  given.delete('verb');
  const expected = members[verb as Request['verb']];
  for (const [name, kind] of Object.entries(expected)) {
    if (!given.has(name)) {
      if (optional.has(name)) continue;
      throw invalid(`"${name}" is missing for "${verb}"`);
    }
    const { accepts, form } = kinds[kind];
    if (!accepts(given.get(name))) {
      throw invalid(`"${name}" is not ${form.replace('%', name)}`);
    }
    given.delete(name);
  }
  if (given.size > 0) throw invalid(`the request has members that "${verb}" does not know`);
  return value as Request;
}

/**
 * The requests that the helper accepts. parseRequest() is strict: each verb has a fixed set of members with
 * fixed kinds, and a request with any other member is refused, because the helper does not trust its caller.
 */

import { fitsUnitFile } from '../model/unit-syntax.ts';
import { LockerdError } from '../model/errors.ts';
import { encryptModes } from '../model/locker-words.ts';
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

/** Sizes are bytes in decimal, owners `UID:GID`, modes octal. */
export interface CreateLockerRequest {
  readonly verb: 'create-locker';
  readonly locker: string;
  /** Empty for the default one. */
  readonly store: string;
  readonly size: string;
  readonly owner: string;
  readonly mode: string;
  readonly encrypt: string;
  readonly creator: string;
  /** Whose guest the ids of the owner are of; undefined for the host's. */
  readonly container?: string;
}

export interface GrowLockerRequest {
  readonly verb: 'grow-locker';
  readonly locker: string;
  /** With a plus in front: how much more. */
  readonly size: string;
}

export interface SnapshotLockerRequest {
  readonly verb: 'snapshot-locker';
  readonly locker: string;
  readonly snapshot: string;
  readonly freeze: boolean;
}

export interface AdoptLockerRequest {
  readonly verb: 'adopt-locker';
  readonly locker: string;
  readonly store: string;
  /** Who had it made, where nobody knows any more. */
  readonly creator: string;
}

export interface RestoreLockerRequest {
  readonly verb: 'restore-locker';
  readonly locker: string;
  readonly snapshot: string;
  readonly name: string;
  readonly creator: string;
}

export interface DestroyLockerRequest {
  readonly verb: 'destroy-locker';
  readonly locker: string;
  readonly store: string;
  /** Undefined for the locker itself. */
  readonly snapshot?: string;
}

/** What lockerd-stores@.service serves; all else is lockerd-helper@.service's. */
export type StoreRequest =
  | CreateLockerRequest
  | GrowLockerRequest
  | SnapshotLockerRequest
  | RestoreLockerRequest
  | AdoptLockerRequest
  | DestroyLockerRequest
  | { readonly verb: 'rename-locker'; readonly locker: string; readonly name: string }
  | { readonly verb: 'list-snapshots' | 'forget-locker'; readonly locker: string }
  | { readonly verb: 'look-lockers'; readonly lockers: readonly string[] }
  | { readonly verb: 'list-stores' | 'recover' };

export type Request =
  | StoreRequest
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

type Kind =
  | 'name'
  | 'names'
  | 'boolean'
  | 'limit'
  | 'limits'
  | 'store'
  | 'bytes'
  | 'growth'
  | 'owner'
  | 'mode'
  | 'encrypt'
  | 'uid';

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
  'create-locker': {
    locker: 'name',
    store: 'store',
    size: 'bytes',
    owner: 'owner',
    mode: 'mode',
    encrypt: 'encrypt',
    creator: 'uid',
    container: 'name',
  },
  'grow-locker': { locker: 'name', size: 'growth' },
  'rename-locker': { locker: 'name', name: 'name' },
  'snapshot-locker': { locker: 'name', snapshot: 'name', freeze: 'boolean' },
  'list-snapshots': { locker: 'name' },
  'restore-locker': { locker: 'name', snapshot: 'name', name: 'name', creator: 'uid' },
  'forget-locker': { locker: 'name' },
  'adopt-locker': { locker: 'name', store: 'name', creator: 'uid' },
  'list-stores': {},
  'look-lockers': { lockers: 'names' },
  'destroy-locker': { locker: 'name', store: 'name', snapshot: 'name' },
  recover: {},
};

/** The verbs of {@link StoreRequest}. */
const storeVerbs: ReadonlySet<string> = new Set([
  'create-locker',
  'grow-locker',
  'rename-locker',
  'snapshot-locker',
  'list-snapshots',
  'restore-locker',
  'forget-locker',
  'adopt-locker',
  'list-stores',
  'look-lockers',
  'destroy-locker',
  'recover',
] satisfies StoreRequest['verb'][]);

export function isStoreRequest(request: Request): request is StoreRequest {
  return storeVerbs.has(request.verb);
}

/** Members that a request may leave out. */
const optional: Readonly<Partial<Record<Request['verb'], string>>> = {
  balloon: 'swap',
  'create-locker': 'container',
  'destroy-locker': 'snapshot',
};

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

/** Whether a value is a number of bytes in decimal that can be the size of a file system. */
function isBytes(value: unknown): boolean {
  if (typeof value !== 'string' || !/^[1-9][0-9]{0,18}$/.test(value)) return false;
  return BigInt(value) < 2n ** 63n;
}

function isGrowth(value: unknown): boolean {
  return typeof value === 'string' && isBytes(value.startsWith('+') ? value.slice(1) : value);
}

/** Whether a value is a user or group id in decimal. The highest means none. */
function isId(value: unknown): boolean {
  if (typeof value !== 'string' || !/^(?:0|[1-9][0-9]{0,9})$/.test(value)) return false;
  return Number(value) < 2 ** 32 - 1;
}

function isOwner(value: unknown): boolean {
  if (typeof value !== 'string') return false;
  const ids = value.split(':');
  return ids.length === 2 && ids.every(isId);
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
    form: 'a list of names of %',
  },
  boolean: { accepts: (value) => typeof value === 'boolean', form: 'true or false' },
  limit: { accepts: isLimit, form: 'a number of bytes in decimal, or "max"' },
  limits: { accepts: isLimits, form: 'an object of limits that are known' },
  store: {
    accepts: (value) => value === '' || isName(value),
    form: 'the name of a store, or empty',
  },
  bytes: { accepts: isBytes, form: 'a number of bytes in decimal, at least 1' },
  growth: { accepts: isGrowth, form: 'a number of bytes in decimal, with a plus for so many more' },
  owner: { accepts: isOwner, form: 'UID:GID in decimal' },
  mode: {
    accepts: (value) => typeof value === 'string' && /^[0-7]{3,4}$/.test(value),
    form: 'a mode of three or four octal digits',
  },
  encrypt: {
    accepts: (value) => encryptModes.some((mode) => mode === value),
    form: '"no", "key-file" or "passphrase"',
  },
  uid: { accepts: isId, form: 'a user id in decimal' },
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
      if (optional[verb as Request['verb']] === name) continue;
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

/** The options of methods: their names, their types, and what they mean. */

import { LockerdError } from '../model/errors.ts';
import { unlimited } from '../model/memory-limit.ts';
import { isNewName } from '../model/new-name.ts';
import { encryptModes, type EncryptMode } from '../model/locker-words.ts';
import { quoted } from './quoted.ts';

/** An option as it came: its D-Bus signature and what was in it. */
export interface OptionValue {
  readonly signature: string;
  readonly value: unknown;
}
export type OptionBag = ReadonlyMap<string, OptionValue>;

const signatures = {
  interactive: 'b',
  wait: 'b',
  'timeout-usec': 't',
  force: 'b',
  'read-only': 'b',
  persist: 'b',
  swap: 't',
  'request-id': 's',
  store: 's',
  owner: 's',
  mode: 'u',
  container: 's',
  encrypt: 's',
  by: 'b',
  freeze: 'b',
} as const;
export type OptionName = keyof typeof signatures;

export interface Options {
  readonly interactive: boolean;
  readonly wait: boolean;
  /** Microseconds until the job is given up; undefined for the verb's own bound. */
  readonly timeoutUsec: bigint | undefined;
  readonly force: boolean;
  readonly readOnly: boolean;
  readonly persist: boolean;
  /** Bytes of swap beside the memory limit, 2^64-1 for no limit; undefined to leave it. */
  readonly swap: bigint | undefined;
  readonly requestId: string | undefined;
  /** Where a new locker comes from; empty for the host's default. */
  readonly store: string;
  /** Of the root directory of a new locker: `UID:GID`. */
  readonly owner: string;
  /** Of the same directory: four octal digits. */
  readonly mode: string;
  /** Whose ids the owner's are; empty for the host's own. */
  readonly container: string;
  readonly encrypt: EncryptMode;
  /** The size is an amount. */
  readonly by: boolean;
  /** Containers that write to a locker stand still during its snapshot. */
  readonly freeze: boolean;
}

const requestIdMaxLength = 128;

function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(signatures, name);
}

/** What can be said of an option before its value is known. */
export function checkOption(
  name: string,
  signature: string,
  allowed: readonly OptionName[],
): asserts name is OptionName {
  if (!isOptionName(name)) {
    throw new LockerdError('InvalidArgs', `there is no option ${quoted(name)}`);
  }
  if (!allowed.includes(name)) {
    throw new LockerdError('InvalidArgs', `option "${name}" means nothing for this method`);
  }
  if (signature !== signatures[name]) {
    throw new LockerdError(
      'InvalidArgs',
      `option "${name}" has type ${quoted(signature)}, not "${signatures[name]}"`,
    );
  }
}

/**
 * Reads the options of one method, which takes only the `allowed` ones. Anything else is
 * LockerdError invalidArgs: to ignore an option could mislead a caller about safety.
 */
export function parseOptions(bag: OptionBag, allowed: readonly OptionName[]): Options {
  for (const [name, { signature }] of bag) checkOption(name, signature, allowed);
  const flag = (name: OptionName) => bag.get(name)?.value === true;
  const timeout = bag.get('timeout-usec')?.value;
  if (timeout === 0n) throw new LockerdError('InvalidArgs', 'option "timeout-usec" must not be 0');
  const swap = bag.get('swap')?.value;
  const requestId = bag.get('request-id')?.value;
  if (typeof requestId === 'string' && !/^[\x21-\x7e]+$/.test(requestId)) {
    throw new LockerdError('InvalidArgs', 'option "request-id" must be printable ASCII, no blanks');
  }
  if (typeof requestId === 'string' && requestId.length > requestIdMaxLength) {
    throw new LockerdError(
      'InvalidArgs',
      `option "request-id" has more than ${requestIdMaxLength} characters`,
    );
  }
  return {
    interactive: flag('interactive'),
    wait: flag('wait'),
    timeoutUsec: typeof timeout === 'bigint' && timeout !== unlimited ? timeout : undefined,
    force: flag('force'),
    readOnly: flag('read-only'),
    persist: flag('persist'),
    swap: typeof swap === 'bigint' ? swap : undefined,
    requestId: typeof requestId === 'string' ? requestId : undefined,
    ...lockerOptions(bag),
    by: flag('by'),
    freeze: flag('freeze'),
  };
}

/** No id, as chown(2) has it. */
const noId = 2 ** 32 - 1;
/** What it may be beside who may read, write and enter: set-group-ID and sticky. */
const modeMax = 0o3777;

function lockerOptions(
  bag: OptionBag,
): Pick<Options, 'store' | 'owner' | 'mode' | 'container' | 'encrypt'> {
  const text = (name: OptionName) => {
    const value = bag.get(name)?.value;
    return typeof value === 'string' ? value : undefined;
  };
  const store = text('store') ?? '';
  if (store !== '' && !isNewName(store)) {
    throw new LockerdError('InvalidArgs', `option "store" is no name of a store: ${quoted(store)}`);
  }
  const owner = text('owner') ?? '0:0';
  if (!/^(0|[1-9]\d{0,9}):(0|[1-9]\d{0,9})$/.test(owner) || owner.split(':').some(isNoId)) {
    throw new LockerdError('InvalidArgs', 'option "owner" must be UID:GID, such as "1000:1000"');
  }
  const mode = bag.get('mode')?.value ?? 0o750;
  if (typeof mode !== 'number' || mode > modeMax) {
    throw new LockerdError('InvalidArgs', 'option "mode" must be at most 03777');
  }
  const encrypt = encryptModes.find((known) => known === (text('encrypt') ?? 'no'));
  if (encrypt === undefined) {
    throw new LockerdError('InvalidArgs', `option "encrypt" must be ${encryptModes.join(', ')}`);
  }
  const container = text('container') ?? '';
  return { store, owner, mode: mode.toString(8).padStart(4, '0'), container, encrypt };
}

function isNoId(id: string): boolean {
  return Number(id) >= noId;
}

/** Of a call without options. */
export const emptyOptions = parseOptions(new Map(), []);

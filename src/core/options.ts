/** The options of methods: their names, their types, and what they mean. */

import { LockerdError } from '../model/errors.ts';
import { unlimited } from '../model/memory-limit.ts';
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
  };
}

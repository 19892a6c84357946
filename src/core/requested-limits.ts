/** The limits of SetLimits as they come over the bus, checked and as texts. */
import { LockerdError } from '../model/errors.ts';
import type { LimitName, LimitTexts } from '../model/guest-limits.ts';
import {
  deviceText,
  isLimitName,
  limitNames,
  limitRules,
  listedNumbers,
  listText,
  noLimit,
} from '../model/guest-limits.ts';
import { unlimited } from '../model/memory-limit.ts';
import { processorList } from '../model/unit-controls.ts';
import type { OptionBag } from './options.ts';
import { quoted } from './quoted.ts';

/** What can be said of a limit before its value is known. */
export function checkLimit(name: string, signature: string): asserts name is LimitName {
  if (!isLimitName(name)) {
    throw new LockerdError('InvalidArgs', `there is no limit ${quoted(name)}`);
  }
  const expected = limitRules[name].signature;
  if (signature !== expected) {
    throw new LockerdError(
      'InvalidArgs',
      `limit "${name}" has type ${quoted(signature)}, not "${expected}"`,
    );
  }
}

function numberText(value: unknown): string {
  if (typeof value !== 'bigint') return '';
  return value === unlimited ? noLimit : value.toString();
}

/** As every other caller would write the same processors; empty for what is no list. */
function listTextOf(value: unknown): string {
  if (typeof value !== 'string') return '';
  if (value === '') return noLimit;
  const list = processorList(value);
  return list === undefined ? '' : listText(listedNumbers(list));
}

function devicesText(value: unknown): string {
  if (typeof value !== 'object' || value === null) return '';
  const entries = Object.entries(value).map(
    ([device, limit]) => [device, numberText(limit)] as const,
  );
  // What is a list itself would be taken for several devices.
  return entries.every(([device]) => !device.includes(' ')) ? deviceText(new Map(entries)) : '';
}

/** Reads the limits of a call; each refusal is a LockerdError InvalidArgs. */
export function parseLimits(bag: OptionBag): LimitTexts {
  if (bag.size === 0) {
    throw new LockerdError('InvalidArgs', `no limit is given; there are ${limitNames.join(', ')}`);
  }
  const texts = new Map<LimitName, string>();
  for (const [name, { signature, value }] of bag) {
    checkLimit(name, signature);
    const { form, accepts } = limitRules[name];
    const text =
      signature === 't'
        ? numberText(value)
        : signature === 's'
          ? listTextOf(value)
          : devicesText(value);
    if (!accepts(text)) {
      throw new LockerdError('InvalidArgs', `limit "${name}" must be ${form}`);
    }
    texts.set(name, text);
  }
  // In the order of the names, whatever that of the caller.
  return Object.fromEntries(
    limitNames.flatMap((name) => {
      const text = texts.get(name);
      return text === undefined ? [] : [[name, text] as const];
    }),
  );
}

/** The operands of "lockerctl set": `cpu=150%`, `io-read=vda:10M`. */

import { statSync } from 'node:fs';
import { Variant, type VariantMap } from '../bus/values.ts';
import type { LimitName } from '../model/guest-limits.ts';
import { limitRules } from '../model/guest-limits.ts';
import { unlimited } from '../model/memory-limit.ts';
import { parseBytes } from '../model/byte-size.ts';
import { didYouMean } from './suggest.ts';

/** How people write a limit. */
interface Word {
  readonly limit: LimitName;
  /** What stands behind `=`, for the help. */
  readonly shown: string;
  readonly help: string;
  readonly read: (text: string) => unknown;
}

const none = ['max', 'infinity'];

function numberOf(text: string): bigint | undefined {
  return /^\d{1,19}$/.test(text) ? BigInt(text) : undefined;
}

function orNone(read: (text: string) => bigint | undefined): (text: string) => bigint | undefined {
  return (text) => (none.includes(text) ? unlimited : read(text));
}

/** Whole per cents of one processor, in microseconds a second. */
function quotaOf(text: string): bigint | undefined {
  const [, percent] = /^([1-9]\d{0,6})%$/.exec(text) ?? [];
  return percent === undefined ? undefined : BigInt(percent) * 10_000n;
}

function listOf(text: string): string | undefined {
  if (text === 'all') return '';
  return /^[0-9,-]+$/.test(text) ? text : undefined;
}

/** Major and minor number of a device on this host: `vda`, `/dev/vda`, or `254:0` as it is. */
function deviceOf(text: string): string | undefined {
  if (/^\d+:\d+$/.test(text)) return text;
  const path = text.startsWith('/') ? text : `/dev/${text}`;
  const status = statSync(path, { throwIfNoEntry: false, bigint: true });
  if (status?.isBlockDevice() !== true) throw new RangeError(`${path} is no block device`);
  const { rdev } = status;
  // As gnu_dev_major(3) and gnu_dev_minor(3) take it apart.
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** `DEVICE:LIMIT`, of which the device may have a colon as well. */
function rateOf(read: (text: string) => bigint | undefined): Word['read'] {
  return (text) => {
    const [, name = '', limit = ''] = /^(.+):([^:]+)$/.exec(text) ?? [];
    const value = orNone(read)(limit);
    const device = value === undefined ? undefined : deviceOf(name);
    return device === undefined ? undefined : { [device]: value };
  };
}

const words = {
  cpu: {
    limit: 'cpu-quota',
    shown: 'PERCENT%|max',
    help: 'processor time, of which 100% are one processor',
    read: orNone(quotaOf),
  },
  'cpu-weight': {
    limit: 'cpu-weight',
    shown: 'WEIGHT',
    help: 'share of processor time where that is short, 1 to 10000; 100 is usual',
    read: numberOf,
  },
  cpus: { limit: 'cpus', shown: 'LIST|all', help: 'processors, such as 0-3,8', read: listOf },
  'memory-nodes': {
    limit: 'memory-nodes',
    shown: 'LIST|all',
    help: 'memory nodes, such as 0',
    read: listOf,
  },
  'io-weight': {
    limit: 'io-weight',
    shown: 'WEIGHT',
    help: 'share of busy disks, 1 to 10000; 100 is usual',
    read: numberOf,
  },
  'io-read': {
    limit: 'io-read-bytes',
    shown: 'DISK:SIZE|max',
    help: 'bytes that are read a second',
    read: rateOf(parseBytes),
  },
  'io-write': {
    limit: 'io-write-bytes',
    shown: 'DISK:SIZE|max',
    help: 'bytes that are written a second',
    read: rateOf(parseBytes),
  },
  'io-reads': {
    limit: 'io-read-operations',
    shown: 'DISK:NUMBER|max',
    help: 'reads a second',
    read: rateOf(numberOf),
  },
  'io-writes': {
    limit: 'io-write-operations',
    shown: 'DISK:NUMBER|max',
    help: 'writes a second',
    read: rateOf(numberOf),
  },
  tasks: {
    limit: 'tasks',
    shown: 'NUMBER|max',
    help: 'processes and threads',
    read: orNone(numberOf),
  },
} as const satisfies Readonly<Record<string, Word>>;

/** The words before `=`, in the order of the help. */
export const limitWords = Object.keys(words) as (keyof typeof words)[];

/** `cpu=PERCENT%|max`: processor time ... */
export function limitHelp(): string {
  return limitWords.map((word) => `${word}=${words[word].shown}: ${words[word].help}`).join('; ');
}

function isWord(text: string): text is keyof typeof words {
  return Object.hasOwn(words, text);
}

/**
 * Reads the operands as the argument of SetLimits.
 * @throws {RangeError} that says what would be right
 */
export function parseLimitWords(operands: readonly string[]): VariantMap {
  const limits: VariantMap = {};
  for (const operand of operands) {
    const at = operand.indexOf('=');
    const word = at < 0 ? operand : operand.slice(0, at);
    if (!isWord(word)) {
      const guess = didYouMean(word, limitWords);
      throw new RangeError(
        `there is no limit "${word}": ${guess ?? `write one of ${limitWords.join(', ')}`}`,
      );
    }
    const { limit, shown, read } = words[word];
    const value = at < 0 ? undefined : read(operand.slice(at + 1));
    if (value === undefined) throw new RangeError(`"${operand}": write ${word}=${shown}`);
    const { signature } = limitRules[limit];
    const before = limits[limit]?.value;
    if (before !== undefined && typeof before !== 'object') {
      throw new RangeError(`"${word}" is given twice`);
    }
    const all = typeof value === 'object' ? { ...before, ...value } : value;
    limits[limit] = new Variant(signature, all);
  }
  return limits;
}

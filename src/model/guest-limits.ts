/**
 * The limits of a container beside those of memory, as programs ask for them. Between the programs each
 * has one text, which stands in polkit's details as well; `max` means no limit.
 */
import { processorList } from './unit-controls.ts';

export const limitNames = [
  'cpu-quota',
  'cpu-weight',
  'cpus',
  'memory-nodes',
  'io-weight',
  'io-read-bytes',
  'io-write-bytes',
  'io-read-operations',
  'io-write-operations',
  'tasks',
] as const;
export type LimitName = (typeof limitNames)[number];

/** Limits by their names, each as its text. */
export type LimitTexts = Readonly<Partial<Record<LimitName, string>>>;

export function isLimitName(name: string): name is LimitName {
  return (limitNames as readonly string[]).includes(name);
}

/** What stands for no limit. */
export const noLimit = 'max';

/** systemd keeps whole per cents of a processor's time, in microseconds a second. */
export const quotaStepUsec = 10_000n;
/** Of a thousand processors. */
const quotaMostUsec = 1_000_000_000n;

/** LXC's monitor and the hooks need some of them; see tasksBesideGuest in unit-controls.ts. */
export const tasksLeast = 17n;
/** PID_MAX_LIMIT of the kernel. */
const tasksMost = 4_194_304n;

/** Devices in one request. */
export const devicesMost = 32;

/** A kind of limit: how it comes over the bus, and what is accepted. */
interface LimitRule {
  readonly signature: 't' | 's' | 'a{st}';
  /** What would be right. */
  readonly form: string;
  readonly accepts: (text: string) => boolean;
}

function isNumber(least: bigint, most: bigint, step = 1n): (text: string) => boolean {
  return (text) => {
    if (!/^(?:0|[1-9]\d{0,19})$/.test(text)) return false;
    const number = BigInt(text);
    return number >= least && number <= most && number % step === 0n;
  };
}

function orNone(accepts: (text: string) => boolean): (text: string) => boolean {
  return (text) => text === noLimit || accepts(text);
}

const isWeight = isNumber(1n, 10_000n);
const isRate = isNumber(1n, 2n ** 63n);

/** The limits of single devices in `8:0=1048576 259:0=max`; undefined for any other text. */
export function deviceLimits(text: string): ReadonlyMap<string, string> | undefined {
  const limits = new Map<string, string>();
  for (const part of text.split(' ')) {
    const [, device, limit] = /^((?:0|[1-9]\d{0,7}):(?:0|[1-9]\d{0,7}))=(\w+)$/.exec(part) ?? [];
    if (device === undefined || limit === undefined || limits.has(device)) return undefined;
    if (limit !== noLimit && !isRate(limit)) return undefined;
    limits.set(device, limit);
  }
  return limits.size > devicesMost ? undefined : limits;
}

/** The text of limits of devices. */
export function deviceText(limits: ReadonlyMap<string, string>): string {
  return [...limits]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([device, limit]) => `${device}=${limit}`)
    .join(' ');
}

/** The numbers of a list such as `0-3,8`, each once, in order. */
export function listedNumbers(list: string): readonly number[] {
  const numbers = new Set<number>();
  for (const part of list.split(',')) {
    const [first = 0, last = first] = part.split('-').map(Number);
    for (let number = first; number <= last; number++) numbers.add(number);
  }
  return [...numbers].sort((a, b) => a - b);
}

/** The shortest list of some numbers, which are in order: `0-3,8`. */
export function listText(numbers: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last?.[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(',');
}

/** The same processors always have the same text. */
function isList(text: string): boolean {
  return processorList(text) === text && listText(listedNumbers(text)) === text;
}

const rate: LimitRule = {
  signature: 'a{st}',
  form: `at most ${devicesMost} devices MAJOR:MINOR, each with a number from 1 to 2^63 or 2^64-1 for no limit`,
  accepts: (text) => deviceLimits(text) !== undefined,
};
const list: LimitRule = {
  signature: 's',
  form: 'numbers such as 0-3,8, or an empty text for all',
  accepts: orNone(isList),
};
const weight: LimitRule = {
  signature: 't',
  form: 'a number from 1 to 10000',
  accepts: isWeight,
};

export const limitRules: Readonly<Record<LimitName, LimitRule>> = {
  'cpu-quota': {
    signature: 't',
    form: `microseconds a second, in steps of ${quotaStepUsec}, at most ${quotaMostUsec}, or 2^64-1 for no limit`,
    accepts: orNone(isNumber(quotaStepUsec, quotaMostUsec, quotaStepUsec)),
  },
  'cpu-weight': weight,
  cpus: list,
  'memory-nodes': list,
  'io-weight': weight,
  'io-read-bytes': rate,
  'io-write-bytes': rate,
  'io-read-operations': rate,
  'io-write-operations': rate,
  tasks: {
    signature: 't',
    form: `a number from ${tasksLeast} to ${tasksMost}, or 2^64-1 for no limit`,
    accepts: orNone(isNumber(tasksLeast, tasksMost)),
  },
};

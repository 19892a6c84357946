/** What changes of units mean for a container, in words. */
import { formatLimit, unlimited } from '../model/memory-limit.ts';
import { deviceWords } from './limit-words.ts';
import type { UnitChange } from './unit-change.ts';

/** The values of one key, in their order. */
interface Values {
  readonly before: readonly string[];
  readonly after: readonly string[];
}

/** From when on a change counts for a container that runs. */
const fromNow = 'from the reload on';
const fromStart = 'from its next start on';
const fromBoot = 'at the next boot';

const instead = (what: (value: string) => string): Phrase['say'] => {
  return ({ before, after }) => {
    const [old, now] = [before.at(-1), after.at(-1)];
    const was = old === undefined ? 'the default' : what(old);
    return [`${now === undefined ? 'the default' : what(now)} instead of ${was}`];
  };
};

const size = (value: string): string =>
  formatLimit(value === 'infinity' ? unlimited : BigInt(/^\d+$/.test(value) ? value : 0));

const plain = (value: string): string => value;

/** What each value that came or went means. */
const each = (came: (value: string) => string, went: (value: string) => string): Phrase['say'] => {
  return ({ before, after }) => [
    ...after.filter((value) => !before.includes(value)).map(came),
    ...before.filter((value) => !after.includes(value)).map(went),
  ];
};

interface Phrase {
  readonly say: (values: Values) => readonly string[];
  readonly when: string;
  /** What the phrases are about; they follow it. */
  readonly about?: string;
}

/** The locker in `NAME rw strict`. */
const locker = (value: string): string => {
  const [name = '', mode] = value.split(' ');
  return `locker ${name}${mode === 'ro' ? ', read-only' : ''}`;
};

/** The limits that kill nobody, so that running containers have them at once. */
const controlPhrases: Readonly<Record<string, Phrase>> = {
  CPUWeight: { about: 'has a processor weight of', say: instead(plain), when: fromNow },
  CPUQuota: { about: 'has a limit of processor time of', say: instead(plain), when: fromNow },
  CPUQuotaPeriodSec: { about: 'has that limit in each', say: instead(plain), when: fromNow },
  AllowedCPUs: { about: 'runs on the processors', say: instead(plain), when: fromNow },
  AllowedMemoryNodes: { about: 'has memory of the nodes', say: instead(plain), when: fromNow },
  IOWeight: { about: 'has a disk weight of', say: instead(plain), when: fromNow },
  TasksMax: { about: 'has a task limit of', say: instead(plain), when: fromNow },
  ...Object.fromEntries(
    Object.entries(deviceWords).map(([key, { came, went }]) => [
      key,
      { say: each(came, went), when: fromNow },
    ]),
  ),
};

const phrases: Readonly<Record<string, Phrase>> = {
  KillSignal: { about: 'is told to shut down by', say: instead(plain), when: fromNow },
  TimeoutStopSec: { about: 'has for its shutdown', say: instead(plain), when: fromNow },
  TimeoutStartSec: { about: 'may take for a start', say: instead(plain), when: fromStart },
  MemoryMax: { about: 'has a memory limit of', say: instead(size), when: fromStart },
  MemorySwapMax: { about: 'has a swap limit of', say: instead(size), when: fromStart },
  MemoryHigh: { about: 'is slowed down above', say: instead(size), when: fromStart },
  MemoryLow: { about: 'has protected memory of', say: instead(size), when: fromStart },
  MemoryMin: { about: 'has guaranteed memory of', say: instead(size), when: fromStart },
  ...controlPhrases,
  Requires: {
    say: each(
      (unit) => `needs ${unit}`,
      (unit) => `does not need ${unit} any more`,
    ),
    when: fromStart,
  },
  BindsTo: {
    say: each(
      (unit) => `runs only while ${unit} does`,
      (unit) => `runs also without ${unit}`,
    ),
    when: fromNow,
  },
  RequiresMountsFor: {
    say: each(
      (path) => `needs what is mounted for ${path}`,
      (path) => `does not need what is mounted for ${path} any more`,
    ),
    when: fromStart,
  },
  Wants: {
    say: each(
      (unit) => `starts ${unit} as well`,
      (unit) => `does not start ${unit} any more`,
    ),
    when: fromStart,
  },
  After: {
    say: each(
      (unit) => `starts after ${unit}`,
      (unit) => `does not wait for ${unit} any more`,
    ),
    when: fromStart,
  },
  PartOf: {
    say: each(
      (unit) => `is stopped with ${unit}`,
      (unit) => `is not stopped with ${unit} any more`,
    ),
    when: fromNow,
  },
  Autostart: {
    say: ({ after }) => [after.at(-1) === 'yes' ? 'starts' : 'does not start any more'],
    when: fromBoot,
  },
  Locker: {
    say: each(
      (value) => `sees ${locker(value)}`,
      (value) => `does not see ${locker(value)} any more`,
    ),
    when: fromStart,
  },
  ExecStart: { say: () => ['is started with other options'], when: fromStart },
};

/** Keys that only follow from others, or that people need not know of. */
const silent = new Set(
  (
    'SourcePath SuccessExitStatus Environment ExecStartPre ExecStop ExecStopPost PropagatesStopTo ' +
    'Container ConfigFile AutostartReason RebootSignal Problem Wormhole LogRateLimitBurst'
  ).split(' '),
);

function valuesByKey(text: string): Map<string, string[]> {
  const values = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at < 1 || line.startsWith('#') || at === line.length - 1) continue;
    const key = line.slice(0, at);
    values.set(key, [...(values.get(key) ?? []), line.slice(at + 1)]);
  }
  return values;
}

function wordsOf(key: string, values: Values): string[] {
  if (silent.has(key) || values.before.join('\n') === values.after.join('\n')) return [];
  const { about, say, when } = phrases[key] ?? {
    about: `has ${key}=`,
    say: instead(plain),
    when: fromStart,
  };
  return say(values).map((text) => [about, text, when].filter(Boolean).join(' '));
}

/**
 * Says what changes mean for one container, a sentence each without its name.
 * @param changes those that concern the container
 * @param problems why it will not start after the reload; empty if it can
 */
export function changeWords(
  changes: readonly UnitChange[],
  problems: readonly string[],
  unit: string,
): readonly string[] {
  const own = changes.filter(({ path }) => path.startsWith(`${unit}.d/`));
  const main = own.find(({ path }) => path.endsWith('/60-container.conf'));
  const hasProblem = (text = ''): boolean => /^Problem=/m.test(text);
  if (main !== undefined && main.after === undefined) return ['has no units any more'];
  if (problems.length > 0) return problems.map((problem) => `will not start: ${problem}`);
  if (main !== undefined && main.before === undefined) return ['is new: it can be started'];
  if (main !== undefined && hasProblem(main.before)) return ['can be started again'];
  const before = valuesByKey(own.map((change) => change.before ?? '').join('\n'));
  const after = valuesByKey(own.map((change) => change.after ?? '').join('\n'));
  // Whatever is started for the container and waited for is told of once.
  for (const values of [before, after]) {
    const awaited = new Set(values.get('After'));
    values.set('Wants', values.get('Wants')?.filter((unit) => !awaited.has(unit)) ?? []);
  }
  const order = Object.keys(phrases);
  const others = [...before.keys(), ...after.keys()].filter((key) => !(key in phrases));
  return [...new Set([...order, ...others])].flatMap((key) =>
    wordsOf(key, { before: before.get(key) ?? [], after: after.get(key) ?? [] }),
  );
}

import type { Problem } from '../model/problem.ts';
import { isTimespan } from '../model/timespan.ts';

/** Settings of one container; what is undefined is left to the packaged unit. */
export interface ContainerSettings {
  /** How long a start may take, as systemd writes time spans. */
  readonly startTimeout?: string;
  /** How long the guest has for its shutdown before it is killed. */
  readonly stopTimeout?: string;
  /** What "active" means: LXC calls it running, or the guest's init says that it has booted. */
  readonly ready: 'running' | 'booted';
  /** When set, LXC's own log goes to the journal from this priority on. */
  readonly logLevel?: string;
}

/** Settings of the host as a whole. */
export interface HostSettings {
  /** How long a start waits for a bridge that does not exist. */
  readonly bridgeTimeout: string;
}

/** One settings file, already read: ini's own view of it and the text, for line numbers. */
export interface SettingsFile {
  readonly path: string;
  readonly text: string;
  readonly values: Readonly<Record<string, unknown>>;
}

export interface Settings {
  readonly host: HostSettings;
  /** What every container has unless its own file says otherwise. */
  readonly defaults: ContainerSettings;
  readonly problems: readonly Problem[];
}

const logLevels = ['TRACE', 'DEBUG', 'INFO', 'NOTICE', 'WARN', 'ERROR', 'CRIT', 'ALERT', 'FATAL'];

interface KeyRule {
  readonly scope: 'host' | 'container';
  readonly accepts: (value: string) => boolean;
  /** The accepted form, for the message. */
  readonly form: string;
}

const timespanForm = 'a time span such as "90s", "5min" or "infinity"';

/** Every key of our own settings; lockerd.conf(5) describes the same ones, a test compares. */
export const settingsKeys: Readonly<Record<string, KeyRule>> = {
  'start-timeout': { scope: 'container', accepts: isTimespan, form: timespanForm },
  'stop-timeout': { scope: 'container', accepts: isTimespan, form: timespanForm },
  ready: {
    scope: 'container',
    accepts: (value) => value === 'running' || value === 'booted',
    form: '"running" or "booted"',
  },
  'log-level': {
    scope: 'container',
    accepts: (value) => logLevels.includes(value.toUpperCase()),
    form: `one of ${logLevels.join(', ')}`,
  },
  'bridge-timeout': { scope: 'host', accepts: isTimespan, form: timespanForm },
};

/** The line that set a key, as the last one wins; 0 when it cannot be told. */
function lineOf(text: string, key: string): number {
  const lines = text.split(/\r?\n/);
  for (let index = lines.length - 1; index >= 0; index--) {
    const line = lines[index] ?? '';
    const found = line.split('=')[0]?.trim();
    if (found === key || found === `[${key}]` || found === `${key}[]`) return index + 1;
  }
  return 0;
}

/**
 * Takes the valid keys of a file. A key that is unknown, out of place or ill-formed is a problem
 * and has no effect.
 */
function readKeys(
  file: SettingsFile,
  allowed: (rule: KeyRule) => boolean,
): { values: Map<string, string>; problems: Problem[] } {
  const values = new Map<string, string>();
  const problems: Problem[] = [];
  for (const [key, raw] of Object.entries(file.values)) {
    const rule = Object.hasOwn(settingsKeys, key) ? settingsKeys[key] : undefined;
    const at = { file: file.path, line: lineOf(file.text, key) };
    // ini gives strings, true for a key without a value, and objects for sections and lists.
    const value = typeof raw === 'string' ? raw : JSON.stringify(raw);
    if (typeof raw === 'object') {
      problems.push({
        ...at,
        reason: Array.isArray(raw) ? `"${key}" cannot be a list` : `unknown section [${key}]`,
        remedy: 'see lockerd.conf(5)',
      });
    } else if (rule === undefined) {
      problems.push({ ...at, reason: `unknown key "${key}"`, remedy: 'see lockerd.conf(5)' });
    } else if (!allowed(rule)) {
      problems.push({
        ...at,
        reason: `"${key}" belongs to the whole host`,
        remedy: 'move it to /etc/lockerd/lockerd.conf',
      });
    } else if (!rule.accepts(value)) {
      problems.push({
        ...at,
        reason: `${key}="${value}" is not valid`,
        remedy: `write ${rule.form}`,
      });
    } else {
      values.set(key, value);
    }
  }
  return { values, problems };
}

function containerSettings(
  values: ReadonlyMap<string, string>,
  base: ContainerSettings,
): ContainerSettings {
  const startTimeout = values.get('start-timeout') ?? base.startTimeout;
  const stopTimeout = values.get('stop-timeout') ?? base.stopTimeout;
  const logLevel = values.get('log-level')?.toUpperCase() ?? base.logLevel;
  const ready = values.get('ready') ?? base.ready;
  return {
    ready: ready === 'booted' ? 'booted' : 'running',
    ...(startTimeout === undefined ? {} : { startTimeout }),
    ...(stopTimeout === undefined ? {} : { stopTimeout }),
    ...(logLevel === undefined ? {} : { logLevel }),
  };
}

/** Merges lockerd.conf and its drop-ins, in the order given; later files win. */
export function parseSettings(files: readonly SettingsFile[]): Settings {
  const values = new Map<string, string>();
  const problems: Problem[] = [];
  for (const file of files) {
    const read = readKeys(file, () => true);
    problems.push(...read.problems);
    for (const [key, value] of read.values) values.set(key, value);
  }
  return {
    host: { bridgeTimeout: values.get('bridge-timeout') ?? '30s' },
    defaults: containerSettings(values, { ready: 'running' }),
    problems,
  };
}

/** Settings of one container: its own file over the defaults of the host. */
export function parseContainerSettings(
  file: SettingsFile | undefined,
  defaults: ContainerSettings,
): { settings: ContainerSettings; problems: readonly Problem[] } {
  if (file === undefined) return { settings: defaults, problems: [] };
  const read = readKeys(file, (rule) => rule.scope === 'container');
  return { settings: containerSettings(read.values, defaults), problems: read.problems };
}

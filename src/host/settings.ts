import { minimumLimit } from '../model/memory-limit.ts';
import { decodeField } from '../model/fstab.ts';
import { parseMemorySize } from '../model/memory-size.ts';
import { cleanAbsolutePath } from '../model/path.ts';
import type { Located, Problem } from '../model/problem.ts';
import { isNewName, isStoreSection } from '../model/new-name.ts';
import { isTimespan } from '../model/timespan.ts';
import { fitsRestOfLine } from '../model/unit-syntax.ts';

/** A locker as settings name it. */
export interface LockerChoice {
  readonly name: string;
  readonly readOnly: boolean;
  /** It may come and go, and is attached whenever it is there; absent for any other. */
  readonly auto?: true;
}

/** Between what a container's memory is moved by itself; bytes. */
export interface AutoballoonRange {
  readonly floor: bigint;
  readonly ceiling: bigint;
}

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
  /** Lockers beside its own and the shared ones. */
  readonly lockers?: Located<readonly LockerChoice[]>;
  /** Unless false, the container has a wormhole. */
  readonly wormhole?: boolean;
  /** Unless false, a container does not start without its own and its configured lockers. */
  readonly strictLockers?: boolean;
  /** When true, what a hook may make is waited for too; undefined: it is not, with a warning. */
  readonly strictNeeds?: boolean;
  /** When true, a container with user ids of its own sees the ids that are on the locker. */
  readonly idmapLockers?: boolean;
  /** Whether it starts at boot; undefined: as lxc.start.auto says. */
  readonly autostart?: boolean;
  /** Set where a cluster decides on which host it runs: then nothing of lockerd starts it. */
  readonly managedBy?: 'pacemaker';
  /** Containers without which it does not run. */
  readonly needs?: Located<readonly string[]>;
  /** Containers that start first, without which it runs as well. */
  readonly wants?: Located<readonly string[]>;
  /** Whether systemd-machined is told of the guest; undefined: where it is installed. */
  readonly machined?: boolean;
  /** When true, the journal of a guest with systemd is kept below the host's. */
  readonly hostJournal?: boolean;
  /** The partition that is the root file system, where lxc.rootfs.path is a whole disk. */
  readonly rootfsPartition?: Located<number>;
  /** Undefined for a container whose memory stays as it is set. */
  readonly autoballoon?: AutoballoonRange;
}

/** Settings of the host as a whole. */
export interface HostSettings {
  /** How long a start waits for a bridge that does not exist. */
  readonly bridgeTimeout: string;
  readonly lockerDirectory: string;
  readonly wormholeDirectory: string;
  /** Where containers see their lockers. */
  readonly lockerPath: string;
  readonly sharedLockers: readonly LockerChoice[];
  /** What the end of a container's name is read as in the name of its own locker. */
  readonly ownLockerSuffixes: readonly (readonly [string, string])[];
  /** The store that new lockers come from where none is named. */
  readonly defaultStore?: string;
  /** Per cent of a locker that are used from which it counts as nearly full; undefined: never. */
  readonly lockerWarning?: number;
  /** Without polkit, the service lets root do everything instead of nobody anything. */
  readonly rootWithoutPolkit: boolean;
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
  /** `own` can stand only in the file of one container. */
  readonly scope: 'host' | 'container' | 'own';
  readonly accepts: (value: string) => boolean;
  /** The accepted form, for the message. */
  readonly form: string;
}

function words(value: string): string[] {
  return value.split(/[ \t]+/).filter((word) => word !== '');
}

/** A name that fstab(5) would have to escape is escaped here in the same way. */
function parseLockers(value: string): LockerChoice[] {
  return words(value).map((word) => {
    const [, name = '', mode, auto] = /^(.*?)(?::(ro|rw))?(:auto)?$/s.exec(word) ?? [];
    const choice = { name: decodeField(name), readOnly: mode === 'ro' };
    return auto === undefined ? choice : { ...choice, auto: true };
  });
}

function areLockers(value: string): boolean {
  return parseLockers(value).every(({ name }) => !/^(?:\.{0,2})$|\//.test(name));
}

/** Names of containers, written as those of lockers are. */
function parseNames(value: string): string[] {
  return words(value).map(decodeField);
}

function areContainers(value: string): boolean {
  return parseNames(value).every((name) => !/^\.|\//.test(name));
}

/** `FLOOR CEILING`; undefined for what is no such range. */
function parseRange(value: string): AutoballoonRange | undefined {
  const [floor, ceiling, ...more] = words(value).map((word) => parseMemorySize(word, 'max'));
  if (typeof floor !== 'bigint' || typeof ceiling !== 'bigint' || more.length > 0) return undefined;
  return floor >= minimumLimit && floor < ceiling ? { floor, ceiling } : undefined;
}

function parseSuffixes(value: string): [string, string][] {
  return words(value).map((word) => {
    const [from = '', to = ''] = word.split(':');
    return [from, to];
  });
}

function isDirectory(value: string): boolean {
  const path = cleanAbsolutePath(value);
  return path !== undefined && path !== '/' && fitsRestOfLine(path);
}

/** Per cent of `90%`; undefined for what is none. */
function parsePercent(value: string): number | undefined {
  const [, digits] = /^([0-9]{1,3})%$/.exec(value) ?? [];
  const percent = Number(digits);
  return percent >= 1 && percent <= 100 ? percent : undefined;
}

function isYesOrNo(value: string): boolean {
  return value === 'yes' || value === 'no';
}

const containersForm = 'names of containers';
const yesOrNoForm = '"yes" or "no"';
const directoryForm = 'an absolute path without ".."';
const lockersForm =
  'names of lockers, each with ":ro" where it is to be read-only and ":auto" where it may come later';
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
  lockers: { scope: 'container', accepts: areLockers, form: lockersForm },
  wormhole: { scope: 'container', accepts: isYesOrNo, form: yesOrNoForm },
  'strict-lockers': { scope: 'container', accepts: isYesOrNo, form: yesOrNoForm },
  'strict-needs': { scope: 'container', accepts: isYesOrNo, form: yesOrNoForm },
  'idmap-lockers': { scope: 'container', accepts: isYesOrNo, form: yesOrNoForm },
  machined: {
    scope: 'container',
    accepts: (value) => isYesOrNo(value) || value === 'auto',
    form: '"yes", "no" or "auto"',
  },
  journal: {
    scope: 'container',
    accepts: (value) => value === 'host' || value === 'guest',
    form: '"host" or "guest"',
  },
  autoballoon: {
    scope: 'container',
    accepts: (value) => value === 'no' || parseRange(value) !== undefined,
    form: '"no", or a floor of at least 16M and a ceiling above it, such as "512M 2G"',
  },
  autostart: { scope: 'container', accepts: isYesOrNo, form: yesOrNoForm },
  'managed-by': {
    scope: 'container',
    accepts: (value) => value === 'host' || value === 'pacemaker',
    form: '"host" or "pacemaker"',
  },
  needs: { scope: 'own', accepts: areContainers, form: containersForm },
  wants: { scope: 'own', accepts: areContainers, form: containersForm },
  'rootfs-partition': {
    scope: 'own',
    accepts: (value) => /^[1-9][0-9]{0,2}$/.test(value),
    form: 'the number of a partition, from 1 to 999',
  },
  'locker-directory': { scope: 'host', accepts: isDirectory, form: directoryForm },
  'wormhole-directory': { scope: 'host', accepts: isDirectory, form: directoryForm },
  'locker-path': { scope: 'host', accepts: isDirectory, form: directoryForm },
  'shared-lockers': { scope: 'host', accepts: areLockers, form: lockersForm },
  'own-locker-suffixes': {
    scope: 'host',
    accepts: (value) => words(value).every((word) => /^[^:/]+:[^:/]*$/.test(word)),
    form: 'pairs of endings such as "_vm:_vol"',
  },
  'root-without-polkit': { scope: 'host', accepts: isYesOrNo, form: yesOrNoForm },
  'default-store': { scope: 'host', accepts: isNewName, form: 'the name of a store' },
  'locker-warning': {
    scope: 'host',
    accepts: (value) => value === 'no' || parsePercent(value) !== undefined,
    form: '"no" or a percentage such as "90%"',
  },
  'bridge-timeout': { scope: 'host', accepts: isTimespan, form: timespanForm },
};

/** The line that set each key or opened each section, as the last one wins. */
function linesOfKeys(text: string): ReadonlyMap<string, number> {
  const lines = new Map<string, number>();
  for (const [index, line] of text.split('\n').entries()) {
    const found = line.split('=', 1)[0]?.trim() ?? '';
    const [, name = found] = /^\[(.*)\]$/s.exec(found) ?? [];
    lines.set(name.endsWith('[]') ? name.slice(0, -2) : name, index + 1);
  }
  return lines;
}

type Values = Map<string, Located<string>>;

/**
 * Takes the valid keys of a file. A key that is unknown, out of place or ill-formed is a problem
 * and has no effect.
 */
function readKeys(
  file: SettingsFile,
  forbidden: KeyRule['scope'],
): { values: Values; problems: Problem[] } {
  const values: Values = new Map();
  const problems: Problem[] = [];
  const lines = linesOfKeys(file.text);
  for (const [key, raw] of Object.entries(file.values)) {
    const rule = Object.hasOwn(settingsKeys, key) ? settingsKeys[key] : undefined;
    const at = { file: file.path, line: lines.get(key) ?? 0 };
    // ini gives strings, true for a key without a value, and objects for sections and lists.
    const value = typeof raw === 'string' ? raw : JSON.stringify(raw);
    // Those of stores are read where new lockers are made; see store-settings.ts.
    if (typeof raw === 'object' && forbidden === 'own' && isStoreSection(key)) continue;
    if (typeof raw === 'object') {
      problems.push({
        ...at,
        reason: Array.isArray(raw) ? `"${key}" cannot be a list` : `unknown section [${key}]`,
        remedy: 'see lockerd.conf(5)',
      });
    } else if (rule === undefined) {
      problems.push({ ...at, reason: `unknown key "${key}"`, remedy: 'see lockerd.conf(5)' });
    } else if (rule.scope === forbidden) {
      problems.push({ ...at, ...misplaced(key, rule) });
    } else if (!rule.accepts(value)) {
      problems.push({
        ...at,
        reason: `${key}="${value}" is not valid`,
        remedy: `write ${rule.form}`,
      });
    } else {
      values.set(key, { value, ...at });
    }
  }
  return { values, problems };
}

function misplaced(key: string, { scope }: KeyRule): { reason: string; remedy: string } {
  return scope === 'host'
    ? {
        reason: `"${key}" belongs to the whole host`,
        remedy: 'move it to /etc/lockerd/lockerd.conf',
      }
    : {
        reason: `"${key}" belongs to one container`,
        remedy: 'move it to /etc/lockerd/containers/NAME.conf',
      };
}

function yesOrNo(value: string | undefined, base: boolean | undefined): boolean | undefined {
  return value === undefined ? base : value === 'yes';
}

function containerSettings(
  values: ReadonlyMap<string, Located<string>>,
  base: ContainerSettings,
): ContainerSettings {
  const text = (key: string): string | undefined => values.get(key)?.value;
  const startTimeout = text('start-timeout') ?? base.startTimeout;
  const stopTimeout = text('stop-timeout') ?? base.stopTimeout;
  const logLevel = text('log-level')?.toUpperCase() ?? base.logLevel;
  const ready = text('ready') ?? base.ready;
  const named = values.get('lockers');
  const lockers =
    named === undefined ? base.lockers : { ...named, value: parseLockers(named.value) };
  const wormhole = yesOrNo(text('wormhole'), base.wormhole);
  const strictLockers = yesOrNo(text('strict-lockers'), base.strictLockers);
  const idmapLockers = yesOrNo(text('idmap-lockers'), base.idmapLockers);
  const strictNeeds = yesOrNo(text('strict-needs'), base.strictNeeds);
  const needs = namesOf(values.get('needs'));
  const wants = namesOf(values.get('wants'));
  const autostart = yesOrNo(text('autostart'), base.autostart);
  const machine = text('machined');
  const machined = machine === 'auto' ? undefined : yesOrNo(machine, base.machined);
  const journal = text('journal');
  const hostJournal = journal === undefined ? base.hostJournal : journal === 'host';
  const range = text('autoballoon');
  const autoballoon = range === undefined ? base.autoballoon : parseRange(range);
  return {
    ready: ready === 'booted' ? 'booted' : 'running',
    ...(startTimeout === undefined ? {} : { startTimeout }),
    ...(stopTimeout === undefined ? {} : { stopTimeout }),
    ...(logLevel === undefined ? {} : { logLevel }),
    ...(lockers === undefined ? {} : { lockers }),
    ...(wormhole === undefined ? {} : { wormhole }),
    ...(strictLockers === undefined ? {} : { strictLockers }),
    ...(strictNeeds === undefined ? {} : { strictNeeds }),
    ...(idmapLockers === undefined ? {} : { idmapLockers }),
    ...(machined === undefined ? {} : { machined }),
    ...(hostJournal === undefined ? {} : { hostJournal }),
    ...(autoballoon === undefined ? {} : { autoballoon }),
    ...(autostart === undefined ? {} : { autostart }),
    ...managerOf(text('managed-by'), base),
    ...(needs === undefined ? {} : { needs }),
    ...partitionOf(values.get('rootfs-partition')),
    ...(wants === undefined ? {} : { wants }),
  };
}

function managerOf(
  value: string | undefined,
  { managedBy }: ContainerSettings,
): Pick<ContainerSettings, 'managedBy'> {
  const manager = value ?? managedBy;
  return manager === 'pacemaker' ? { managedBy: manager } : {};
}

function partitionOf(
  named: Located<string> | undefined,
): Pick<ContainerSettings, 'rootfsPartition'> {
  return named === undefined ? {} : { rootfsPartition: { ...named, value: Number(named.value) } };
}

function namesOf(named: Located<string> | undefined): Located<readonly string[]> | undefined {
  return named === undefined ? undefined : { ...named, value: parseNames(named.value) };
}

function hostSettings(values: ReadonlyMap<string, Located<string>>): HostSettings {
  const text = (key: string, base: string): string => values.get(key)?.value ?? base;
  const directory = (key: string, base: string): string =>
    cleanAbsolutePath(text(key, base)) ?? base;
  const defaultStore = values.get('default-store')?.value;
  const lockerWarning = parsePercent(text('locker-warning', '90%'));
  return {
    bridgeTimeout: text('bridge-timeout', '30s'),
    lockerDirectory: directory('locker-directory', '/lockers'),
    wormholeDirectory: directory('wormhole-directory', '/var/locker-mappings'),
    lockerPath: directory('locker-path', '/lockers'),
    sharedLockers: parseLockers(text('shared-lockers', 'sandbox')),
    ownLockerSuffixes: parseSuffixes(text('own-locker-suffixes', '_vm:_vol')),
    rootWithoutPolkit: text('root-without-polkit', 'no') === 'yes',
    ...(defaultStore === undefined ? {} : { defaultStore }),
    ...(lockerWarning === undefined ? {} : { lockerWarning }),
  };
}

/** Merges lockerd.conf and its drop-ins, in the order given; later files win. */
export function parseSettings(files: readonly SettingsFile[]): Settings {
  const values: Values = new Map();
  const problems: Problem[] = [];
  for (const file of files) {
    const read = readKeys(file, 'own');
    problems.push(...read.problems);
    for (const [key, value] of read.values) values.set(key, value);
  }
  return {
    host: hostSettings(values),
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
  const read = readKeys(file, 'host');
  return { settings: containerSettings(read.values, defaults), problems: read.problems };
}

import type { Attachment as ModelAttachment } from '../model/attachment.ts';
import { readOnlyPath, slotsPath } from '../model/attachment.ts';
import type { FstabEntry } from '../model/fstab.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { cleanAbsolutePath } from '../model/path.ts';
import type { Located, Problem } from '../model/problem.ts';
import { escapePath, mountUnit, unescapePath, unitNameFits } from '../model/unit-name.ts';
import { fitsRestOfLine, printable } from '../model/unit-syntax.ts';
import type { Mount } from './mountinfo.ts';
import type { ContainerSettings, HostSettings, LockerChoice } from './settings.ts';

/** A data volume that the host mounts directly below the locker directory. */
interface Locker {
  readonly name: string;
  readonly path: string;
  /** The host may boot without it. */
  readonly mayFail: boolean;
  readonly readOnly: boolean;
  /** What mounts it, with the options it has there. */
  readonly file: string;
  readonly line: number;
  readonly options: readonly string[];
}

export type Lockers = ReadonlyMap<string, Locker>;

/** What a locker's mount is known from where neither fstab nor a unit file has it. */
const mountTable = '/proc/1/mountinfo';

/** A unit file of the host's, from the directory that goes before the others. */
export interface UnitFile {
  readonly name: string;
  readonly path: string;
  readonly isMasked: boolean;
  /** Those of Options=. */
  readonly options: readonly string[];
}

/** An attachment that comes with its container. */
export interface Attachment extends ModelAttachment {
  /** Without it the container does not start. */
  readonly strict: boolean;
  /** A running container gets it whenever it is mounted; absent for any other. */
  readonly auto?: true;
}

/** The mount whose sub-mounts the container sees. */
export interface Wormhole {
  /** Where the host writes in its file system; see slotsPath(). */
  readonly slots: string;
  readonly path: string;
  /** Where the container sees it. */
  readonly insidePath: string;
  /** Value of the mount option X-mount.idmap=; undefined where ids are not mapped. */
  readonly idmap?: string;
  /** Sorted by locker. */
  readonly attachments: readonly Attachment[];
}

/** Where lockers are mounted. */
export interface LockerDirectory {
  /** As the settings have it; symbolic links may lead from there to the real one. */
  readonly written: string;
  readonly real: string;
}

/** The name of what is directly below a directory; undefined for all else. */
function nameBelow(directory: string, path: string): string | undefined {
  if (!path.startsWith(`${directory}/`)) return undefined;
  const name = path.slice(directory.length + 1);
  return name === '' || name.includes('/') ? undefined : name;
}

/**
 * Lockers by name: lines of fstab, native mount units and whatever else is mounted there, less what
 * is masked. systemd has a mount unit for each mount that it sees, whoever made it.
 */
export function findLockers(
  fstab: readonly FstabEntry[],
  unitFiles: readonly UnitFile[],
  directory: LockerDirectory,
  mounts: readonly Mount[] = [],
): Lockers {
  const masked = new Set(unitFiles.filter((file) => file.isMasked).map(({ name }) => name));
  const lockers = new Map<string, Locker>();
  const add = (
    path: string,
    from: Pick<Locker, 'file' | 'line' | 'options'>,
    name = nameBelow(directory.real, path),
  ): void => {
    // As for systemd, the first of several lines for one mount point counts.
    if (name === undefined || lockers.has(name)) return;
    if (masked.has(mountUnit(path))) return;
    const mayFail = from.options.includes('nofail');
    lockers.set(name, { name, path, mayFail, readOnly: from.options.includes('ro'), ...from });
  };
  for (const { target, written, line, options } of fstab) {
    const path = cleanAbsolutePath(target) ?? '';
    // What a link in the locker directory leads to is the locker of the link's name.
    const link = written === undefined ? '' : (cleanAbsolutePath(written) ?? '');
    const name = nameBelow(directory.written, link) ?? nameBelow(directory.real, link);
    add(path, { file: '/etc/fstab', line, options }, name);
  }
  const prefix = `${escapePath(directory.real)}-`;
  for (const { name, path: file, options } of unitFiles) {
    if (!name.startsWith(prefix) || !name.endsWith('.mount')) continue;
    const path = unescapePath(name.slice(0, -'.mount'.length));
    if (path !== undefined) add(path, { file, line: 0, options });
  }
  for (const { mountPoint, type, options, readOnly } of mounts) {
    // An automount is none: systemd has no mount unit for it.
    if (type === 'autofs') continue;
    add(mountPoint, {
      file: mountTable,
      line: 0,
      options: readOnly ? ['ro', ...options] : options,
    });
  }
  return lockers;
}

/** What each option of mount(8) says about set-user-ID programs and device nodes, if anything. */
const protecting: Readonly<Record<string, readonly (readonly ['nosuid' | 'nodev', boolean])[]>> = {
  nosuid: [['nosuid', true]],
  nodev: [['nodev', true]],
  suid: [['nosuid', false]],
  dev: [['nodev', false]],
  defaults: [
    ['nosuid', false],
    ['nodev', false],
  ],
  ...Object.fromEntries(
    ['user', 'users', 'owner', 'group'].map((option) => [
      option,
      [
        ['nosuid', true],
        ['nodev', true],
      ],
    ]),
  ),
};

/**
 * One warning for each locker that a guest can leave a set-user-ID program or a device node on, for
 * all users of the host.
 */
export function warnOfUnprotected(
  wormholes: readonly Wormhole[],
  lockers: Lockers,
): readonly Problem[] {
  const writable = new Set(
    wormholes.flatMap(({ attachments }) =>
      attachments.filter((a) => !a.readOnly).map((a) => a.locker),
    ),
  );
  return [...lockers.values()]
    .filter(({ name }) => writable.has(name))
    .flatMap(({ name, file, line, options }) => {
      const state = new Map(options.flatMap((option) => protecting[option] ?? []));
      const missing = (['nosuid', 'nodev'] as const).filter((option) => state.get(option) !== true);
      if (missing.length === 0) return [];
      const replaced = ['defaults', 'suid', 'dev', ...missing];
      const kept = options.filter((option) => !replaced.includes(option));
      const reason =
        `set-user-ID programs and device nodes that a guest leaves on the locker ` +
        `"${printable(name)}" work on the host`;
      const key = file === '/etc/fstab' ? 'the options ' : 'Options=';
      const remedy =
        file === mountTable
          ? `have it mounted with the options ${missing.join(',')}`
          : `write ${key}${printable([...kept, ...missing].join(','))}`;
      return [{ file, line, reason, remedy }];
    });
}

/** Hooks that gave containers their lockers before: each made a wormhole of its own. */
const classicHooks = ['locker_pre-start.sh', 'locker_mount.sh', 'locker_post-stop.sh'];

/** Whether a hook's value runs one of the classic hooks, wherever that lies. */
export function isClassicHook(value: string): boolean {
  // All containers of a host may have hooks, and hardly one has these.
  if (!value.includes('locker_')) return false;
  const program = value.split(/[ \t]/)[0] ?? '';
  return classicHooks.includes(program.slice(program.lastIndexOf('/') + 1));
}

function classicHook(config: LxcConfig): Located<string> | undefined {
  return config.hooks.find(({ value }) => isClassicHook(value));
}

/** Names of lockers that belong to a container by its name; the first one that exists is its own. */
export function ownLockerNames(
  name: string,
  suffixes: HostSettings['ownLockerSuffixes'],
): readonly string[] {
  return [
    name,
    ...suffixes
      .filter(([from]) => name.endsWith(from) && name !== from)
      .map(([from, to]) => name.slice(0, -from.length) + to),
  ];
}

/** Settings that ask for lockers and for no place to show them. */
export function wormholeConflict({ wormhole, lockers }: ContainerSettings): Problem | undefined {
  if (wormhole !== false || lockers === undefined || lockers.value.length === 0) return undefined;
  const reason = 'lockers are set, and so is "wormhole = no"';
  return { file: lockers.file, line: lockers.line, reason, remedy: 'remove one of the two' };
}

export interface LockerFacts {
  readonly name: string;
  readonly config: LxcConfig;
  readonly settings: ContainerSettings;
}

export interface LockerDecision {
  /** Undefined where the container has none. */
  readonly wormhole?: Wormhole;
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
}

/** What unit files and unit names can hold: they cannot quote a path's last character. */
export function whyNoMountUnit(path: string): string | undefined {
  if (path.includes('\ufffd')) return 'is not valid UTF-8';
  if (!fitsRestOfLine(path)) return 'ends in a blank or backslash or has control characters';
  return unitNameFits(mountUnit(path)) ? undefined : 'is too long for a unit name';
}

/**
 * The container's id maps as mount(8) takes them: an id on the locker is the guest's, and the
 * host has in its place what lxc.idmap says. Undefined where a line is not as LXC takes it.
 */
function mountIdmap(lines: readonly Located<string>[]): string | undefined {
  const maps: string[] = [];
  for (const { value } of lines) {
    const fields = /^[ \t]*([ugb])[ \t]+(\d+)[ \t]+(\d+)[ \t]+(\d+)[ \t]*$/.exec(value);
    if (fields === null) return undefined;
    const [, type = '', ...numbers] = fields;
    for (const each of type === 'b' ? ['u', 'g'] : [type]) {
      maps.push([each, ...numbers].join(':'));
    }
  }
  return maps.join(' ');
}

/** How a container's lockers are to be mapped; a problem where its settings cannot be met. */
function decideIdmap(
  config: LxcConfig,
  mountMapsIds: boolean,
): { idmap?: string; problem?: Problem; warning?: Problem } {
  const [line] = config.idmaps;
  if (line === undefined) {
    const reason = 'idmap-lockers has no effect, for the configuration has no lxc.idmap';
    return { warning: { file: config.file, line: 0, reason } };
  }
  const at = { file: line.file, line: line.line };
  if (!mountMapsIds) {
    const reason = 'idmap-lockers is set, but mount(8) of this host cannot map ids';
    const remedy = 'install util-linux 2.39 or later, or write "idmap-lockers = no"';
    return { problem: { ...at, reason, remedy } };
  }
  const idmap = mountIdmap(config.idmaps);
  if (idmap !== undefined) return { idmap };
  const reason = 'lxc.idmap cannot be read, so lockers cannot be mapped';
  const remedy = 'write lines such as "lxc.idmap = u 0 100000 65536"';
  return { problem: { ...at, reason, remedy } };
}

/** Collects what a container gets into its wormhole, and what is wrong with it. */
class Attachments {
  readonly #byName = new Map<string, Attachment>();
  readonly #wormhole: string;
  readonly #isStrict: boolean;
  /** Where the container's lockers are chosen. */
  readonly #at: Pick<Problem, 'file' | 'line'>;
  readonly problems: Problem[] = [];
  readonly warnings: Problem[] = [];

  constructor(wormhole: string, isStrict: boolean, at: Pick<Problem, 'file' | 'line'>) {
    this.#wormhole = wormhole;
    this.#isStrict = isStrict;
    this.#at = at;
  }

  /** A later one of the same name replaces an earlier one. */
  add(
    locker: Locker,
    { readOnly, auto }: Pick<LockerChoice, 'readOnly' | 'auto'>,
    mayBeStrict: boolean,
  ): void {
    const target = `${this.#wormhole}/${locker.name}`;
    const strict = mayBeStrict && auto !== true && !locker.mayFail && this.#isStrict;
    const paths = [target, locker.path, readOnlyPath(locker.name)];
    const why = paths.map(whyNoMountUnit).find((reason) => reason !== undefined);
    if (why !== undefined) {
      const reason = `the locker "${printable(locker.name)}" cannot be attached, for its path ${why}`;
      const list = strict ? this.problems : this.warnings;
      list.push({ ...this.#at, reason, remedy: 'rename the locker' });
      return;
    }
    this.#byName.set(locker.name, {
      locker: locker.name,
      source: locker.path,
      target,
      readOnly: readOnly || locker.readOnly,
      readOnlyOnHost: locker.readOnly,
      strict,
      ...(auto === true ? { auto } : {}),
    });
  }

  /** What is written to a directory that nothing is mounted on is lost to sight later. */
  refuseMissing(name: string, lockerDirectory: string): void {
    const place = printable(`${lockerDirectory}/${name}`);
    const reason = `the locker "${printable(name)}" is never bound: nothing mounts ${place}`;
    const remedy =
      `have it mounted there, by a line in /etc/fstab, a mount unit or ZFS, ` +
      `and run "systemctl daemon-reload"`;
    this.problems.push({ ...this.#at, reason, remedy });
  }

  sorted(): Attachment[] {
    return [...this.#byName.values()].sort((a, b) => (a.target < b.target ? -1 : 1));
  }
}

/** One that nothing on the host is known to mount, yet. */
function lateLocker({ name }: LockerChoice, { lockerDirectory }: HostSettings): Locker {
  const path = `${lockerDirectory}/${name}`;
  return { name, path, mayFail: true, readOnly: false, file: mountTable, line: 0, options: [] };
}

/** Shared lockers, then the container's own one, then those that its settings name. */
function chooseLockers(
  { name, settings }: LockerFacts,
  lockers: Lockers,
  host: HostSettings,
  attachments: Attachments,
): void {
  for (const choice of host.sharedLockers) {
    const locker = lockers.get(choice.name);
    if (locker !== undefined) attachments.add(locker, choice, false);
  }
  const [own] = ownLockerNames(name, host.ownLockerSuffixes).flatMap((n) => lockers.get(n) ?? []);
  if (own !== undefined) attachments.add(own, { readOnly: false }, true);
  for (const choice of settings.lockers?.value ?? []) {
    const locker =
      lockers.get(choice.name) ?? (choice.auto === true ? lateLocker(choice, host) : undefined);
    if (locker === undefined) attachments.refuseMissing(choice.name, host.lockerDirectory);
    else attachments.add(locker, choice, true);
  }
}

/** Why a container gets no wormhole although its settings do not forbid one. */
function whyNoWormhole(
  { name, config, settings }: LockerFacts,
  { path, slots }: { path: string; slots: string },
): LockerDecision | undefined {
  const hook = classicHook(config);
  if (hook !== undefined) {
    const reason =
      `the hook ${printable(hook.value.slice(0, 80))} makes a wormhole of its own, ` +
      'so lockerd gives the container no wormhole and no lockers';
    const remedy = 'remove the locker hooks from the configuration';
    const warning = { file: hook.file, line: hook.line, reason, remedy };
    return { problems: [], warnings: [warning] };
  }
  const why = whyNoMountUnit(path) ?? whyNoMountUnit(slots);
  if (why === undefined) return undefined;
  const problem = {
    ...chosenAt({ name, config, settings }),
    reason: `no wormhole can be made, for "${printable(path)}" ${why}`,
    remedy: 'rename the container, or write "wormhole = no" in its settings',
  };
  return settings.lockers === undefined
    ? { problems: [], warnings: [problem] }
    : { problems: [problem], warnings: [] };
}

/** The line that chooses a container's lockers, or its configuration. */
function chosenAt({ config, settings }: LockerFacts): Pick<Problem, 'file' | 'line'> {
  const { file, line } = settings.lockers ?? { file: config.file, line: 0 };
  return { file, line };
}

/**
 * Which lockers a container gets, and how. A mount(8) that does not map ids would ignore the option
 * for it, so that has to be known.
 */
export function decideLockers(
  facts: LockerFacts,
  lockers: Lockers,
  host: HostSettings,
  mountMapsIds = false,
): LockerDecision {
  const { name, config, settings } = facts;
  if (settings.wormhole === false) {
    const conflict = wormholeConflict(settings);
    return { problems: conflict === undefined ? [] : [conflict], warnings: [] };
  }
  // The mount of the wormholes covers whatever is in this place, also a link.
  const path = `${host.wormholeDirectory}/${name}`;
  const slots = slotsPath(name);
  const without = whyNoWormhole(facts, { path, slots });
  if (without !== undefined) return without;
  const attachments = new Attachments(path, settings.strictLockers !== false, chosenAt(facts));
  chooseLockers(facts, lockers, host, attachments);
  const { idmap, problem, warning } =
    settings.idmapLockers === true ? decideIdmap(config, mountMapsIds) : {};
  return {
    wormhole: {
      path,
      slots,
      insidePath: host.lockerPath,
      ...(idmap === undefined ? {} : { idmap }),
      attachments: attachments.sorted(),
    },
    problems: [...attachments.problems, ...(problem === undefined ? [] : [problem])],
    warnings: [...attachments.warnings, ...(warning === undefined ? [] : [warning])],
  };
}

import type { Attachment as ModelAttachment } from '../model/attachment.ts';
import { readOnlyPath, slotsPath } from '../model/attachment.ts';
import type { FstabEntry } from '../model/fstab.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { cleanAbsolutePath } from '../model/path.ts';
import type { Located, Problem } from '../model/problem.ts';
import { escapePath, mountUnit, unescapePath, unitNameFits } from '../model/unit-name.ts';
import { fitsRestOfLine, printable } from '../model/unit-syntax.ts';
import type { ContainerSettings, HostSettings } from './settings.ts';

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

/** Lockers by name: lines of fstab and native mount units, less what is masked. */
export function findLockers(
  fstab: readonly FstabEntry[],
  unitFiles: readonly UnitFile[],
  directory: string,
): Lockers {
  const masked = new Set(unitFiles.filter((file) => file.isMasked).map(({ name }) => name));
  const lockers = new Map<string, Locker>();
  const add = (path: string, from: Pick<Locker, 'file' | 'line' | 'options'>): void => {
    const name = path.startsWith(`${directory}/`) ? path.slice(directory.length + 1) : '';
    // As for systemd, the first of several lines for one mount point counts.
    if (name === '' || name.includes('/') || lockers.has(name)) return;
    if (masked.has(mountUnit(path))) return;
    const mayFail = from.options.includes('nofail');
    lockers.set(name, { name, path, mayFail, readOnly: from.options.includes('ro'), ...from });
  };
  for (const { target, line, options } of fstab) {
    add(cleanAbsolutePath(target) ?? '', { file: '/etc/fstab', line, options });
  }
  const prefix = `${escapePath(directory)}-`;
  for (const { name, path: file, options } of unitFiles) {
    if (!name.startsWith(prefix) || !name.endsWith('.mount')) continue;
    const path = unescapePath(name.slice(0, -'.mount'.length));
    if (path !== undefined) add(path, { file, line: 0, options });
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
      const remedy = `write ${key}${printable([...kept, ...missing].join(','))}`;
      return [{ file, line, reason, remedy }];
    });
}

/** Hooks that gave containers their lockers before: each made a wormhole of its own. */
const classicHooks = ['locker_pre-start.sh', 'locker_mount.sh', 'locker_post-stop.sh'];

function classicHook(config: LxcConfig): Located<string> | undefined {
  return config.hooks.find(({ value }) => {
    const program = value.split(/[ \t]/)[0] ?? '';
    return classicHooks.includes(program.slice(program.lastIndexOf('/') + 1));
  });
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

/**
 * Which lockers a container gets, and how. A mount(8) that does not map ids would ignore the option
 * for it, so that has to be known.
 */
export function decideLockers(
  { name, config, settings }: LockerFacts,
  lockers: Lockers,
  host: HostSettings,
  mountMapsIds = false,
): LockerDecision {
  const problems: Problem[] = [];
  const warnings: Problem[] = [];
  const wanted = settings.lockers;
  const here = wanted ?? { file: config.file, line: 0 };
  const at = { file: here.file, line: here.line };
  if (settings.wormhole === false) {
    const conflict = wormholeConflict(settings);
    return { problems: conflict === undefined ? [] : [conflict], warnings };
  }
  const hook = classicHook(config);
  if (hook !== undefined) {
    const reason =
      `the hook ${printable(hook.value.slice(0, 80))} makes a wormhole of its own, ` +
      'so lockerd gives the container no wormhole and no lockers';
    const remedy = 'remove the locker hooks from the configuration';
    warnings.push({ file: hook.file, line: hook.line, reason, remedy });
    return { problems, warnings };
  }
  const path = `${host.wormholeDirectory}/${name}`;
  const slots = slotsPath(name);
  const noWormhole = whyNoMountUnit(path) ?? whyNoMountUnit(slots);
  if (noWormhole !== undefined) {
    const reason = `no wormhole can be made, for "${printable(path)}" ${noWormhole}`;
    const remedy = 'rename the container, or write "wormhole = no" in its settings';
    (wanted === undefined ? warnings : problems).push({ ...at, reason, remedy });
    return { problems, warnings };
  }

  const attachments = new Map<string, Attachment>();
  const attach = (locker: Locker, readOnly: boolean, mayBeStrict: boolean): void => {
    const target = `${path}/${locker.name}`;
    const strict = mayBeStrict && !locker.mayFail && settings.strictLockers !== false;
    const paths = [target, locker.path, readOnlyPath(locker.name)];
    const why = paths.map(whyNoMountUnit).find((reason) => reason !== undefined);
    if (why !== undefined) {
      const reason = `the locker "${printable(locker.name)}" cannot be attached, for its path ${why}`;
      (strict ? problems : warnings).push({ ...at, reason, remedy: 'rename the locker' });
      return;
    }
    attachments.set(locker.name, {
      locker: locker.name,
      source: locker.path,
      target,
      readOnly: readOnly || locker.readOnly,
      readOnlyOnHost: locker.readOnly,
      strict,
    });
  };
  // Later ones go over earlier ones: what the settings of the container say is meant.
  for (const shared of host.sharedLockers) {
    const locker = lockers.get(shared.name);
    if (locker !== undefined) attach(locker, shared.readOnly, false);
  }
  const [own] = ownLockerNames(name, host.ownLockerSuffixes).flatMap((n) => lockers.get(n) ?? []);
  if (own !== undefined) attach(own, false, true);
  for (const choice of wanted?.value ?? []) {
    const locker = lockers.get(choice.name);
    if (locker !== undefined) {
      attach(locker, choice.readOnly, true);
      continue;
    }
    // Whatever is written to a directory that nothing is mounted on is lost to sight later.
    const place = printable(`${host.lockerDirectory}/${choice.name}`);
    const reason = `the locker "${printable(choice.name)}" is never bound: nothing mounts ${place}`;
    problems.push({ ...at, reason, remedy: `add a line for ${place} to /etc/fstab` });
  }
  const { idmap, problem, warning } =
    settings.idmapLockers === true ? decideIdmap(config, mountMapsIds) : {};
  if (problem !== undefined) problems.push(problem);
  if (warning !== undefined) warnings.push(warning);
  return {
    wormhole: {
      path,
      slots,
      insidePath: host.lockerPath,
      ...(idmap === undefined ? {} : { idmap }),
      attachments: [...attachments.values()].sort((a, b) => (a.target < b.target ? -1 : 1)),
    },
    problems,
    warnings,
  };
}

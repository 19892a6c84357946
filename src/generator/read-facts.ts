/**
 * The first step: everything that the generator knows of the host. Only this step reads files, by the
 * limits of host/files.ts.
 */
import type { FstabEntry } from '../model/fstab.ts';
import { parseFstab, parseMountEntry } from '../model/fstab.ts';
import { indexOf } from '../model/fstab-index.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { cleanAbsolutePath, isAtOrBelow, isOfKernel } from '../model/path.ts';
import type { Problem } from '../model/problem.ts';
import type { Rootfs } from '../model/rootfs.ts';
import { parseRootfs } from '../model/rootfs.ts';
import type { WatchedPath } from '../model/sight.ts';
import { containerUnit } from '../model/unit-name.ts';
import { printable } from '../model/unit-syntax.ts';
import type { Writable } from '../model/writable.ts';
import type { UnitLinks } from '../host/boot-policy.ts';
import type { Files } from '../host/files.ts';
import { system } from '../host/system.ts';
import type { FoundInit } from '../host/guest-init.ts';
import { crypttabDevices, interfaceNames, isWithoutUnit } from '../host/host-names.ts';
import { locateLockers } from '../host/locate.ts';
import { isCgroup1, RunningLimits } from '../host/running-limits.ts';
import { SetLimits } from '../host/set-limits.ts';
import { lxcRelease } from '../host/lxc-release.ts';
import { parseLxcConfig } from '../host/parse-lxc.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import type { FoundContainer } from '../host/read.ts';
import { HostReader } from '../host/read.ts';
import { readBootPolicy, runlevelLinks } from '../host/read-boot-policy.ts';
import type { Settings } from '../host/settings.ts';
import { parseContainerSettings, parseSettings } from '../host/settings.ts';
import type { HostFacts } from './container.ts';
import { filtersLog } from '../host/systemd-release.ts';
import type { GatheredFacts } from './refused.ts';
import { defect, refusedFacts } from './refused.ts';

/** What was read. */
export interface Facts {
  readonly containers: readonly GatheredFacts[];
  readonly host: HostFacts;
  readonly settings: Settings;
  /** Where containers live; undefined where no unit could name it. */
  readonly lxcpath: string | undefined;
  /** Names NAME for which /etc/init.d/lxc.NAME exists. */
  readonly initScripts: readonly string[];
  /** Whether systemd keeps lines out of the journal. */
  readonly filtersLog: boolean;
  /** Problems of the host as a whole. */
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
  /** What a path that may change once local file systems are mounted is now. */
  readonly identify: (path: string) => WatchedPath;
  /** A path with its symbolic links followed as far as it exists. */
  readonly realPath: (path: string) => string;
  /** Directories that may hold containers that cannot be seen yet. */
  readonly watchedDirectories: readonly string[];
}

/** Reads everything below `root` (the empty string for the host itself). */
export function readFacts(root: string, files: Files): Facts {
  const containers: GatheredFacts[] = [];
  return { ...readEach(root, files, (container) => containers.push(container)), containers };
}

/**
 * The same without holding the facts of the containers, which are more than all that is decided
 * from them.
 * @param take gets those of one container after the other, and what concerns all of them
 */
export function readEach(
  root: string,
  files: Files,
  take: (container: GatheredFacts, host: HostFacts, settings: Settings) => void,
): Omit<Facts, 'containers'> {
  const host = new HostReader(root, files);
  const lxc = createLxcReader(root, files);
  const release = lxcRelease(host);
  const boot = readBootPolicy(host);
  const written = parseSettings(host.hostSettings());
  const { fstab, lockers, settings: located } = locateLockers(host, written.host);
  const settings = { ...written, host: located };
  const settingsNames = host.containersWithSettings();
  const linked = runlevelLinks(host);
  const unitLinks = host.unitLinks();
  const initScripts = host.initScripts();
  const lxcpath = host.lxcpath();
  const { containers: found, others } =
    lxcpath === undefined ? { containers: [], others: [] } : host.lookBelow(lxcpath);

  const running = new RunningLimits(host);
  const setLimits = new SetLimits(host);
  const real = lxcpath === undefined ? '' : host.realPath(lxcpath, true);
  const hostFacts: HostFacts = {
    ...askedLater(host, release),
    fstab,
    crypttab: crypttabDevices(host.text('/etc/crypttab') ?? ''),
    mountUnits: host.mountUnitPaths(),
    boot: boot.policy,
    lxcpath: { path: lxcpath ?? '', real },
    settings: settings.host,
    lockers,
  };
  const readers = { host, lxc, release, running, setLimits };
  const own = { settingsNames, linked, unitLinks };
  gatherAll(
    found,
    settings,
    (container) => gatherFacts(container, readers, settings, own),
    (container) => {
      take(container, hostFacts, settings);
    },
  );
  return {
    host: hostFacts,
    settings,
    lxcpath,
    initScripts,
    filtersLog: filtersLog(host),
    problems: [...host.problems, ...settings.problems],
    warnings: [...boot.problems, ...strayNames(found, settingsNames, initScripts)],
    identify: (path) => host.identify(path),
    realPath: (path) => host.realPath(path),
    watchedDirectories:
      lxcpath === undefined ? [] : watchedDirectories({ path: lxcpath, real }, fstab, others),
  };
}

function watchedDirectories(
  { path, real }: HostFacts['lxcpath'],
  fstab: readonly FstabEntry[],
  others: readonly string[],
): string[] {
  // A container whose own directory is a mount is not to be seen before that is made.
  return [path, ...mountPointsBelow([path, real], fstab), ...others];
}

/** What is read where a decision asks for it. */
function askedLater(
  host: HostReader,
  release: Readers['release'],
): Pick<
  HostFacts,
  'hasCgroup1' | 'isLxcNewer' | 'isWithoutUnit' | 'namesInterface' | 'mountMapsIds'
> {
  let mapsIds: boolean | undefined;
  let hasCgroup1: boolean | undefined;
  return {
    hasCgroup1: () => (hasCgroup1 ??= isCgroup1(host)),
    isLxcNewer: () => release()?.isNewer === true,
    isWithoutUnit: (path) => isWithoutUnit(host, path),
    namesInterface: interfaceNames(host),
    mountMapsIds: () => (mapsIds ??= host.mountMapsIds()),
  };
}

/** Says that the guest's init is not known though its root file system is there. */
function withInitWarning(config: LxcConfig, { why }: FoundInit): LxcConfig {
  // With a signal in the configuration, nobody needs to know.
  if (why === undefined || config.haltSignal !== undefined) return config;
  const { file, line } = config.rootfsPath ?? { file: config.file, line: 0 };
  const warning = {
    file,
    line,
    reason: `what the guest's init is cannot be told: ${why}`,
    remedy:
      'LXC chooses the signal when the container is stopped; to choose it, set lxc.signal.halt',
  };
  return { ...config, warnings: [...config.warnings, warning] };
}

function withWarnings(config: LxcConfig, warnings: readonly Problem[]): LxcConfig {
  return warnings.length === 0
    ? config
    : { ...config, warnings: [...config.warnings, ...warnings] };
}

/** What reads the files of all containers. */
interface Readers {
  readonly host: HostReader;
  readonly lxc: ReturnType<typeof createLxcReader>;
  readonly release: ReturnType<typeof lxcRelease>;
  readonly running: RunningLimits;
  readonly setLimits: SetLimits;
}

function gatherFacts(
  found: FoundContainer,
  readers: Readers,
  settings: Settings,
  own: {
    readonly settingsNames: ReadonlySet<string>;
    /** By the name of a container. */
    readonly linked: ReadonlyMap<string, unknown>;
    readonly unitLinks: (unit: string) => UnitLinks;
  },
): GatheredFacts {
  const { host } = readers;
  const source = readers.lxc.read(found.configFile);
  const config = parseLxcConfig(source, readers.release);
  const hasSettings = own.settingsNames.has(found.name);
  const file = hasSettings ? host.containerSettings(found.name) : {};
  const parsed = parseContainerSettings(file.file, settings.defaults);
  const problems = file.problem === undefined ? parsed.problems.slice() : [file.problem];

  const { rootfs, warnings } = rootfsOf(config);
  const trees = rootfs?.trees ?? [];
  const guest = host.guestInit(trees, config.initCmd?.value);
  // LXC runs in its unit's working directory, which is the root directory.
  const mountFstabPath = config.mountFstab?.value.replace(/^(?!\/)/, '/');
  const mountFstab = mountFstabPath === undefined ? {} : host.readText(mountFstabPath);
  if (mountFstab.problem !== undefined) problems.push(mountFstab.problem);
  // What hangs would hold up whoever takes the second look.
  const uncertainTrees = guest.init === 'unknown' && guest.isHung !== true ? trees : [];
  // What is missing now may be there once local file systems are mounted.
  const uncertainPaths: string[] = [];
  for (const { path, exists } of source.paths) if (!exists) uncertainPaths.push(path);
  for (const tree of uncertainTrees) uncertainPaths.push(tree);
  const paths = (rootfs?.paths ?? []).concat(bindSources(config, mountFstab.text));
  if (mountFstabPath !== undefined) {
    paths.push(mountFstabPath);
    if (mountFstab.text === undefined && mountFstab.problem?.isHung !== true) {
      uncertainPaths.push(mountFstabPath);
    }
  }
  const facts: Writable<GatheredFacts> = {
    name: found.name,
    directory: found.directory,
    config: withWarnings(withInitWarning(config, guest), warnings),
    init: guest.init,
    realPaths: realPaths(host, found.directory, paths),
    settings: parsed.settings,
    problems,
    hasRunlevelLink: own.linked.has(found.name),
    uncertainTrees,
    unitLinks: own.unitLinks(containerUnit(found.name)),
    uncertainPaths,
  };
  if (mountFstab.text !== undefined) facts.mountFstabText = mountFstab.text;
  addLimits(facts, readers);
  return facts;
}

/** The limits with which a container runs, and what other unit files than ours say of them. */
function addLimits(
  facts: Writable<GatheredFacts>,
  { running, setLimits }: Pick<Readers, 'running' | 'setLimits'>,
): void {
  const unit = containerUnit(facts.name);
  const setElsewhere = setLimits.of(unit);
  const { autoballoon } = facts.settings;
  if (facts.config.memory.length + setElsewhere.length === 0 && autoballoon === undefined) return;
  facts.runningLimits = running.of(unit);
  facts.setElsewhere = setElsewhere;
}

/** What the root file system needs; undefined where it is not set or LXC would refuse it. */
function rootfsOf({ rootfsPath }: LxcConfig): { rootfs?: Rootfs; warnings: readonly Problem[] } {
  const parsed = rootfsPath === undefined ? undefined : parseRootfs(rootfsPath.value);
  if (rootfsPath === undefined || parsed === undefined || 'reason' in parsed) {
    return { warnings: [] };
  }
  const { rootfs, warning } = parsed;
  if (warning === undefined) return { rootfs, warnings: [] };
  const { file, line } = rootfsPath;
  const reason = `lxc.rootfs.path: ${printable(warning.slice(0, 200))}`;
  const remedy = 'write it with its type, for example "zfs:" or "dir:", and a whole path';
  return { rootfs, warnings: [{ file, line, reason, remedy }] };
}

/** Clean paths of the host that are to be bound, without those of the kernel's file systems. */
function bindSources(config: LxcConfig, mountFstabText: string | undefined): string[] {
  const sources: string[] = [];
  const add = ({ options, source }: FstabEntry): void => {
    if (!options.includes('bind') && !options.includes('rbind')) return;
    const path = cleanAbsolutePath(source);
    if (path !== undefined && !isOfKernel(path)) sources.push(path);
  };
  for (const { value, line } of config.mountEntries) {
    const entry = parseMountEntry(value, line);
    if (entry !== undefined) add(entry);
  }
  if (mountFstabText !== undefined) for (const entry of parseFstab(mountFstabText)) add(entry);
  return sources;
}

/** Paths that symbolic links lead elsewhere, each with where that is. */
function realPaths(
  host: HostReader,
  directory: string,
  paths: readonly string[],
): ReadonlyMap<string, string> {
  let found: Map<string, string> | undefined;
  for (const path of paths) {
    const real = host.realPath(path);
    if (real !== path) (found ??= new Map()).set(path, real);
  }
  const real = host.realPath(directory, true);
  if (real !== directory) (found ??= new Map()).set(directory, real);
  else found?.delete(directory);
  return found ?? noPaths;
}

const noPaths: ReadonlyMap<string, string> = new Map();

/** Mount points of fstab below some directories. */
function mountPointsBelow(directories: readonly string[], fstab: readonly FstabEntry[]): string[] {
  return indexOf(fstab).targets.filter((target) =>
    directories.some((directory) => isAtOrBelow(target, directory)),
  );
}

/** Settings and init scripts that name no container are most likely typing errors. */
function strayNames(
  containers: readonly FoundContainer[],
  settingsNames: ReadonlySet<string>,
  initScripts: readonly string[],
): Problem[] {
  const names = new Set(containers.map(({ name }) => name));
  const stray = (file: string, name: string): Problem => ({
    file,
    line: 0,
    reason: `there is no container "${name}"`,
    remedy: 'rename or remove the file',
  });
  return [
    ...[...settingsNames]
      .filter((name) => !names.has(name))
      .map((name) => stray(`/etc/lockerd/containers/${name}.conf`, name)),
    ...initScripts
      .filter((name) => !names.has(name))
      .map((name) => stray(`/etc/init.d/lxc.${name}`, name)),
  ];
}

/** Less than a watched run may take. */
const readingMaxMs = 5_000;

/** Reads the containers one after the other; what is wrong with one concerns no other. */
function gatherAll(
  found: readonly FoundContainer[],
  settings: Settings,
  gather: (container: FoundContainer) => GatheredFacts,
  take: (container: GatheredFacts) => void,
): void {
  const end = system.now() + readingMaxMs;
  const gatherOne = (container: FoundContainer): GatheredFacts => {
    if (system.now() > end) {
      return refusedFacts(container, settings.defaults, {
        file: container.configFile,
        line: 0,
        reason: `reading the other containers took more than ${readingMaxMs / 1000} s`,
        remedy: 'run "systemctl daemon-reload" again',
      });
    }
    try {
      return gather(container);
    } catch (error) {
      return refusedFacts(container, settings.defaults, defect(container.configFile, error));
    }
  };
  for (const container of found) take(gatherOne(container));
}

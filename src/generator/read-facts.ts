/**
 * The first step: everything that the generator knows of the host. Only this step reads files, all
 * of them by the limits of host/files.ts.
 */
import type { FstabEntry } from '../model/fstab.ts';
import { parseFstab } from '../model/fstab.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { cleanAbsolutePath, isAtOrBelow } from '../model/path.ts';
import type { Problem } from '../model/problem.ts';
import { parseRootfs } from '../model/rootfs.ts';
import type { WatchedPath } from '../model/sight.ts';
import { escapePath } from '../model/unit-name.ts';
import type { BootPolicy } from '../host/boot-policy.ts';
import { parseBootPolicy } from '../host/boot-policy.ts';
import type { Files } from '../host/files.ts';
import type { FoundInit } from '../host/guest-init.ts';
import { crypttabDevices, interfaceNames } from '../host/host-names.ts';
import { findLockers } from '../host/lockers.ts';
import { lxcRelease } from '../host/lxc-release.ts';
import { parseLxcConfig } from '../host/parse-lxc.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import type { FoundContainer } from '../host/read.ts';
import { HostReader } from '../host/read.ts';
import type { Settings } from '../host/settings.ts';
import { parseContainerSettings, parseSettings } from '../host/settings.ts';
import type { HostFacts } from './container.ts';
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
  /** Problems of the host as a whole. */
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
  /** What a path that may change once local file systems are mounted is now. */
  readonly identify: (path: string) => WatchedPath;
  /** Directories that may hold containers that cannot be seen yet. */
  readonly watchedDirectories: readonly string[];
}

/** Reads everything below `root` (the empty string for the host itself). */
export function readFacts(root: string, files: Files): Facts {
  const host = new HostReader(root, files);
  const lxc = createLxcReader(root, files);
  const release = lxcRelease(host);
  const fstab = parseFstab(host.text('/etc/fstab') ?? '');
  const boot = readBootPolicy(host);
  const settings = parseSettings(host.hostSettings());
  const settingsNames = host.containersWithSettings();
  const runlevelNames = host.runlevelLinks();
  const initScripts = host.initScripts();
  const lxcpath = host.lxcpath();
  const found = lxcpath === undefined ? [] : host.containers(lxcpath);

  const containers = gatherAll(found, settings, (container) =>
    gatherFacts(container, { host, lxc, release }, settings, { settingsNames, runlevelNames }),
  );
  const { lockerDirectory } = settings.host;
  const unitFiles = host.mountUnitFiles(`${escapePath(lockerDirectory)}-`);
  const real = lxcpath === undefined ? '' : host.realPath(lxcpath);
  const withoutConfig = lxcpath === undefined ? [] : host.directoriesWithoutConfig(lxcpath);
  return {
    containers,
    host: {
      fstab,
      crypttab: crypttabDevices(host.text('/etc/crypttab') ?? ''),
      namesInterface: interfaceNames(host),
      boot: boot.policy,
      lxcpath: { path: lxcpath ?? '', real },
      settings: settings.host,
      lockers: findLockers(fstab, unitFiles, lockerDirectory),
      mountMapsIds: containers.some((c) => c.settings.idmapLockers === true) && host.mountMapsIds(),
    },
    settings,
    lxcpath,
    initScripts,
    problems: [...host.problems, ...settings.problems],
    warnings: [...boot.problems, ...strayNames(found, settingsNames, initScripts)],
    identify: (path) => host.identify(path),
    watchedDirectories:
      lxcpath === undefined
        ? []
        : [
            lxcpath,
            // A container whose own directory is a mount is not to be seen before that is made.
            ...mountPointsBelow([lxcpath, real], fstab),
            ...withoutConfig,
          ],
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

function gatherFacts(
  found: FoundContainer,
  readers: {
    readonly host: HostReader;
    readonly lxc: ReturnType<typeof createLxcReader>;
    readonly release: ReturnType<typeof lxcRelease>;
  },
  settings: Settings,
  own: { readonly settingsNames: ReadonlySet<string>; readonly runlevelNames: ReadonlySet<string> },
): GatheredFacts {
  const { host } = readers;
  const source = readers.lxc.read(found.configFile);
  const config = parseLxcConfig(source, readers.release);
  const problems: Problem[] = [];
  if (found.linkTarget !== undefined) {
    problems.push({
      file: found.directory,
      line: 0,
      reason: `the container's directory is a symbolic link to ${found.linkTarget}`,
      remedy: 'move the directory here, or bind-mount it here with a line in /etc/fstab',
    });
  }
  const file = own.settingsNames.has(found.name) ? host.containerSettings(found.name) : {};
  if (file.problem !== undefined) problems.push(file.problem);
  const parsed = parseContainerSettings(file.file, settings.defaults);
  problems.push(...parsed.problems);

  const rootfs = config.rootfsPath === undefined ? undefined : parseRootfs(config.rootfsPath.value);
  const trees = rootfs !== undefined && 'rootfs' in rootfs ? rootfs.rootfs.trees : [];
  const guest = host.guestInit(trees, config.initCmd?.value);
  // LXC runs in its unit's working directory, which is the root directory.
  const mountFstabPath = config.mountFstab?.value.replace(/^(?!\/)/, '/');
  const mountFstab = mountFstabPath === undefined ? {} : host.readText(mountFstabPath);
  if (mountFstab.problem !== undefined) problems.push(mountFstab.problem);
  return {
    name: found.name,
    directory: found.directory,
    config: withInitWarning(config, guest),
    init: guest.init,
    ...(mountFstab.text === undefined ? {} : { mountFstabText: mountFstab.text }),
    settings: parsed.settings,
    problems,
    hasRunlevelLink: own.runlevelNames.has(found.name),
    // What is missing now may be there once local file systems are mounted.
    uncertainPaths: [
      ...source.paths.filter(({ exists }) => !exists).map(({ path }) => path),
      // What hangs would hold up whoever takes the second look.
      ...(guest.init === 'unknown' && guest.isHung !== true ? trees : []),
      ...(mountFstabPath !== undefined &&
      mountFstab.text === undefined &&
      mountFstab.problem?.isHung !== true
        ? [mountFstabPath]
        : []),
    ],
  };
}

/** /etc/default/lxc, and whether lxc.service would have read it at boot at all. */
function readBootPolicy(host: HostReader): { policy: BootPolicy; problems: readonly Problem[] } {
  const file = '/etc/default/lxc';
  const { policy, problems } = parseBootPolicy(host.text(file) ?? '', file);
  const runs = host.lxcServiceStartsAtBoot();
  return { policy: runs ? policy : { ...policy, enabled: false }, problems };
}

/** Mount points of fstab below some directories. */
function mountPointsBelow(directories: readonly string[], fstab: readonly FstabEntry[]): string[] {
  return fstab
    .map(({ target }) => cleanAbsolutePath(target))
    .filter((target) => target !== undefined)
    .filter((target) => directories.some((directory) => isAtOrBelow(target, directory)));
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
const readingMaxMs = 8_000;

/** Reads the containers one after the other; what is wrong with one concerns no other. */
function gatherAll(
  found: readonly FoundContainer[],
  settings: Settings,
  gather: (container: FoundContainer) => GatheredFacts,
): GatheredFacts[] {
  const end = performance.now() + readingMaxMs;
  return found.map((container) => {
    if (performance.now() > end) {
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
  });
}

import type { FstabEntry } from '../model/fstab.ts';
import { parseFstab } from '../model/fstab.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { cleanAbsolutePath, defaultLxcpath, isAtOrBelow } from '../model/path.ts';
import type { Problem } from '../model/problem.ts';
import { formatProblem } from '../model/problem.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { escapePath, mountUnit } from '../model/unit-name.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';
import type { BootPolicy } from '../host/boot-policy.ts';
import { parseBootPolicy } from '../host/boot-policy.ts';
import { Files } from '../host/files.ts';
import type { FoundInit } from '../host/guest-init.ts';
import { findLockers, warnOfUnprotected } from '../host/lockers.ts';
import type { ContainerFacts } from './model.ts';
import { modelContainers } from './model.ts';
import { parseLxcConfig } from '../host/parse-lxc.ts';
import type { Planned } from './plan.ts';
import { planUnits } from './plan.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import type { FoundContainer } from '../host/read.ts';
import { HostReader } from '../host/read.ts';
import { renderFile } from './render.ts';
import type { Settings } from '../host/settings.ts';
import { parseContainerSettings, parseSettings } from '../host/settings.ts';
import type { Output } from './write.ts';

/** What a run decided: the files to write and what the admin should hear. */
export interface Generated {
  readonly outputs: readonly Output[];
  /** Something an admin must mend; the generator exits 1. */
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
}

/** The problems of one container on one line, as /dev/kmsg has lines only. */
function containerMessage(name: string, problems: readonly Problem[]): string {
  const [first, ...others] = problems.map(formatProblem);
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  return `container "${name}" will not start: ${first ?? ''}${more}`;
}

/** Facts of a container, with the paths that could not be seen yet. */
interface GatheredFacts extends ContainerFacts {
  readonly uncertainPaths: readonly string[];
}

/** Facts of a container of which nothing can be told but why. */
function refusedFacts(found: FoundContainer, settings: Settings, problem: Problem): GatheredFacts {
  const text = { lines: [], markHidesKey: false };
  const file = { path: found.configFile, text, badLines: new Set<number>(), includes: [] };
  return {
    name: found.name,
    directory: found.directory,
    config: parseLxcConfig({ file, paths: [] }),
    init: 'unknown',
    settings: settings.defaults,
    problems: [problem],
    hasRunlevelLink: false,
    uncertainPaths: [],
  };
}

/** A defect of ours, as the container sees it that brought it to light. */
function defect(found: FoundContainer, error: unknown): Problem {
  const what = error instanceof Error ? error.message : String(error);
  return {
    file: found.configFile,
    line: 0,
    reason: `the generator failed on it: ${what.slice(0, 200)}`,
    remedy: 'report this as a bug of lockerd, with the file',
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
  readers: { readonly host: HostReader; readonly lxc: ReturnType<typeof createLxcReader> },
  settings: Settings,
  own: { readonly settingsNames: ReadonlySet<string>; readonly runlevelNames: ReadonlySet<string> },
): GatheredFacts {
  const { host } = readers;
  const source = readers.lxc.read(found.configFile);
  const config = parseLxcConfig(source);
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

/** The mounts on the way to a path that the boot will make. */
function mountsOnTheWay(paths: readonly string[], fstab: readonly FstabEntry[]): string[] {
  const targets = new Set<string>();
  for (const entry of fstab) {
    const target = cleanAbsolutePath(entry.target);
    if (target === undefined || target === '/' || entry.options.includes('noauto')) continue;
    if (paths.some((path) => isAtOrBelow(path, target))) targets.add(target);
  }
  return [...targets].map(mountUnit).sort();
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
      return refusedFacts(container, settings, {
        file: container.configFile,
        line: 0,
        reason: `reading the other containers took more than ${readingMaxMs / 1000} s`,
        remedy: 'run "systemctl daemon-reload" again',
      });
    }
    try {
      return gather(container);
    } catch (error) {
      return refusedFacts(container, settings, defect(container, error));
    }
  });
}

/**
 * Makes something of all containers. Where that fails, it is made without those that fail alone,
 * which are refused.
 */
function withoutDefects<T>(
  found: readonly FoundContainer[],
  facts: readonly GatheredFacts[],
  settings: Settings,
  make: (facts: readonly GatheredFacts[]) => T,
): T {
  try {
    return make(facts);
  } catch (first) {
    const sound = facts.map((one, index) => {
      try {
        make([one]);
        return one;
      } catch (error) {
        const container = found[index];
        if (container === undefined) throw first;
        return refusedFacts(container, settings, defect(container, error));
      }
    });
    return make(sound);
  }
}

/** More than these need no watching: one changed directory is enough for a second look. */
const watchedPathsMax = 64;

/**
 * Reads everything below `root` (the empty string for the host itself) and decides what the
 * generator writes. Nothing is written here.
 */
export function generate(root: string, files = new Files()): Generated {
  const host = new HostReader(root, files);
  const lxc = createLxcReader(root, files);
  const fstab = parseFstab(host.text('/etc/fstab') ?? '');
  const boot = readBootPolicy(host);
  const settings = parseSettings(host.hostSettings());
  const settingsNames = host.containersWithSettings();
  const runlevelNames = host.runlevelLinks();
  const initScripts = host.initScripts();
  const lxcpath = host.lxcpath();
  const found = lxcpath === undefined ? [] : host.containers(lxcpath);

  const gathered = gatherAll(found, settings, (container) =>
    gatherFacts(container, { host, lxc }, settings, { settingsNames, runlevelNames }),
  );
  const { lockerDirectory } = settings.host;
  const unitFiles = host.mountUnitFiles(`${escapePath(lockerDirectory)}-`);
  const realLxcpath = lxcpath === undefined ? '' : host.realPath(lxcpath);
  const withoutConfig = lxcpath === undefined ? [] : host.directoriesWithoutConfig(lxcpath);
  const lockers = findLockers(fstab, unitFiles, lockerDirectory);
  const mountMapsIds =
    gathered.some((f) => f.settings.idmapLockers === true) && host.mountMapsIds();
  const { containers, nameless, outputs } = withoutDefects(found, gathered, settings, (facts) => {
    const modelled = modelContainers(facts, {
      fstab,
      boot: boot.policy,
      lxcpath: { path: lxcpath ?? '', real: realLxcpath },
      settings: settings.host,
      lockers,
      mountMapsIds,
    });
    const watched = [
      ...new Set(
        lxcpath === undefined
          ? []
          : [
              lxcpath,
              // A container whose own directory is a mount is not to be seen before that is made.
              ...mountPointsBelow([lxcpath, realLxcpath], fstab),
              ...withoutConfig,
              ...facts.flatMap((f) => f.uncertainPaths),
            ].filter(fitsUnitFile),
      ),
    ].slice(0, watchedPathsMax);
    const planned = planUnits(modelled.containers, {
      bridgeTimeout: settings.host.bridgeTimeout,
      initScripts,
      lockers,
      lxcpath: lxcpath ?? defaultLxcpath,
      watched: watched.map((path) => host.identify(path)),
      watchedMounts: mountsOnTheWay([...watched, realLxcpath], fstab),
      host: {
        lockerDirectory,
        wormholeDirectory: settings.host.wormholeDirectory,
        rootWithoutPolkit: settings.host.rootWithoutPolkit,
      },
    });
    return { ...modelled, outputs: planned.map(outputOf) };
  });

  const strayWarnings = strayNames(found, settingsNames, initScripts);
  return {
    outputs,
    errors: [
      // A directory that cannot be listed is found so by each who tries.
      ...new Set([...host.problems, ...settings.problems].map(formatProblem)),
      ...containers
        .filter((c) => c.problems.length > 0)
        .map((c) => containerMessage(c.name, c.problems)),
      ...nameless.map((problem) => `no unit can be made: ${formatProblem(problem)}`),
    ],
    warnings: [
      ...boot.problems,
      ...strayWarnings,
      ...warnOfUnprotected(
        containers.flatMap((c) => c.wormhole ?? []),
        lockers,
      ),
      ...containers.flatMap((c) => c.warnings),
    ].map(formatProblem),
  };
}

function outputOf(planned: Planned): Output {
  return planned.kind === 'link'
    ? { path: planned.path, target: planned.target }
    : { path: planned.path, text: renderFile(planned) };
}

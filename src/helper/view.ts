/**
 * Reads what root's files say about one container: the host's and the container's settings, fstab, mount
 * units and the LXC configuration. It uses the generator's own code, so that the helper and the generated
 * units always agree.
 */

import type { BootPolicy, UnitLinks } from '../host/boot-policy.ts';
import { Files } from '../host/files.ts';
import { locateLockers } from '../host/locate.ts';
import { decideLockers } from '../host/lockers.ts';
import type { Lockers, Wormhole } from '../host/lockers.ts';
import { parseLxcConfig } from '../host/parse-lxc.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import { HostReader } from '../host/read.ts';
import { readBootPolicy, runlevelLinks } from '../host/read-boot-policy.ts';
import { parseContainerSettings, parseSettings } from '../host/settings.ts';
import type { ContainerSettings, LockerChoice, Settings } from '../host/settings.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { formatProblem } from '../model/problem.ts';
import { containerUnit, escapeInstance } from '../model/unit-name.ts';
import { LockerdError } from '../model/errors.ts';

/** A container as root-owned files describe it. */
export interface ContainerView {
  readonly name: string;
  readonly lxcpath: string;
  readonly unit: string;
  readonly instance: string;
  readonly lockers: Lockers;
  readonly settings: Settings;
  readonly own: OwnSettings;
  /** Values of lxc.idmap; none for a guest with the host's ids. */
  readonly idmaps: readonly string[];
  /** The wormhole that the container would have with these lockers in its settings. */
  readonly wormholeWith: (lockers: readonly LockerChoice[]) => Wormhole | undefined;
  /** The reason if there is no wormhole. */
  readonly whyNoWormhole: string;
  /** What the next boot decides by, read when it is asked for. */
  readonly boot: () => BootView;
}

/** All that decides whether a container starts at the next boot, beside its settings. */
export interface BootView {
  readonly policy: BootPolicy;
  readonly config: Pick<LxcConfig, 'startAuto' | 'groups'>;
  readonly links: UnitLinks;
  /** Links to its init script in runlevels, as paths. */
  readonly runlevelLinks: readonly string[];
  /** The mask is that of all containers' units, `lxc@.service`. */
  readonly isTemplateMasked: boolean;
}

/** The container's own settings file. */
export interface OwnSettings {
  readonly path: string;
  /** Undefined if there is no file. */
  readonly text: string | undefined;
  readonly problems: readonly string[];
  readonly merged: ContainerSettings;
}

/** Directory of the containers, from the host's configuration; throws Failed if it is unknown. */
export function lxcpathOf(host: HostReader): string {
  const lxcpath = host.lxcpath();
  if (lxcpath !== undefined) return lxcpath;
  throw new LockerdError('Failed', host.problems.map(formatProblem).join('; '));
}

function readOwnSettings(host: HostReader, name: string, settings: Settings): OwnSettings {
  // Read the file only if it is listed, because a container's name may be no valid file name here.
  const read = host.containersWithSettings().has(name) ? host.containerSettings(name) : {};
  const parsed = parseContainerSettings(read.file, settings.defaults);
  return {
    path: `/etc/lockerd/containers/${name}.conf`,
    text: read.file?.text,
    problems: [...(read.problem === undefined ? [] : [read.problem]), ...parsed.problems].map(
      formatProblem,
    ),
    merged: parsed.settings,
  };
}

function viewBoot(host: HostReader, name: string, config: LxcConfig): BootView {
  const linksOf = host.unitLinks();
  return {
    policy: readBootPolicy(host).policy,
    config,
    links: linksOf(containerUnit(name)),
    runlevelLinks: runlevelLinks(host).get(name) ?? [],
    isTemplateMasked: linksOf('lxc@.service').isMasked,
  };
}

/** Reads what the host's files say about one container; throws NoSuchContainer. */
export function viewContainer(name: string): ContainerView {
  // Shared by all readers, so that each file system is probed only once.
  const files = new Files();
  const host = new HostReader('', files);
  const lxcpath = lxcpathOf(host);
  const containers = host.containers(lxcpath);
  const found = containers.find((container) => container.name === name);
  if (found === undefined) {
    throw new LockerdError('NoSuchContainer', `there is no container "${name}"`);
  }
  const written = parseSettings(host.hostSettings());
  const { lockers, settings: located } = locateLockers(host, written.host);
  const settings = { ...written, host: located };
  const own = readOwnSettings(host, name, settings);
  const config = parseLxcConfig(createLxcReader('', files).read(found.configFile));
  const decide = (choices: readonly LockerChoice[]) =>
    decideLockers(
      {
        name,
        config,
        settings: { ...own.merged, lockers: { value: choices, file: own.path, line: 0 } },
      },
      lockers,
      settings.host,
      own.merged.idmapLockers === true && host.mountMapsIds(),
    );
  const bare = decide([]);
  const why = [...bare.problems, ...bare.warnings].map(formatProblem)[0];
  return {
    name,
    lxcpath,
    unit: containerUnit(name),
    instance: escapeInstance(name),
    lockers,
    settings,
    own,
    idmaps: config.idmaps.map(({ value }) => value),
    wormholeWith: (choices) => decide(choices).wormhole,
    whyNoWormhole:
      own.merged.wormhole === false ? 'its settings have "wormhole = no"' : (why ?? 'it has none'),
    boot: () => viewBoot(host, name, config),
  };
}

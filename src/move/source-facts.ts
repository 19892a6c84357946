/** What the source's files say about a container that is to be moved, and why it cannot be. */
import { lstatSync, statSync } from 'node:fs';
import type { Container } from '../generator/container.ts';
import { modelContainers } from '../generator/decide.ts';
import { readFacts } from '../generator/read-facts.ts';
import { Files } from '../host/files.ts';
import type { LxcFile } from '../host/lxc-source.ts';
import { createLxcReader } from '../host/read-lxc.ts';
import { viewContainer, type ContainerView } from '../helper/view.ts';
import { LockerdError } from '../model/errors.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { isAtOrBelow } from '../model/path.ts';
import { formatProblem } from '../model/problem.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { readBelongings, type Belongings } from './belongings.ts';

/** A container with all that a target must have, or get. */
export interface Movable {
  readonly name: string;
  readonly view: ContainerView;
  /** Has its configuration and its root file system. */
  readonly directory: string;
  readonly lxcpath: string;
  /** The root file system, as a path in the directory; empty for the directory itself, and for a volume. */
  readonly rootfs: string;
  /** The device that has the root file system, which LXC mounts; undefined for a directory. */
  readonly volume: string | undefined;
  /** The configuration; includes of files that move along stand in their places. */
  readonly config: string;
  /** Paths, devices and programs of the host that a start cannot do without. */
  readonly needs: readonly string[];
  /** Values of lxc.idmap. */
  readonly idmaps: readonly string[];
  readonly lockers: readonly string[];
  readonly autostart: boolean;
  /** Pacemaker decides where it runs. */
  readonly isOfCluster: boolean;
  readonly belongings: Belongings;
  /** What of it cannot go along, or means something else elsewhere. */
  readonly warnings: readonly string[];
  /** Containers here that need it or start after it. */
  readonly wantedBy: readonly string[];
}

function refuse(why: string): LockerdError {
  return new LockerdError('Failed', `its files cannot be copied: ${why}`);
}

/** The lines of a file, with those of included files that move along in the place of their include. */
function portableLines(file: LxcFile, movesAlong: (path: string) => boolean): string[] {
  let includes = 0;
  return file.text.lines.flatMap((line): string[] => {
    if (!('key' in line)) return [];
    const written = [`${line.key} = "${line.value}"`];
    if (line.key !== 'lxc.include' || line.value === '') return written;
    const include = file.includes[includes++];
    if (include === undefined || !movesAlong(include.path)) return written;
    return include.files.flatMap((child) => portableLines(child, movesAlong));
  });
}

/** The device that LXC mounts as the root file system; undefined where there is none. */
function volumeOf({ rootfsPath }: LxcConfig, configFile: string): string | undefined {
  const parsed = parseRootfs(rootfsPath?.value ?? '');
  const rootfs = 'rootfs' in parsed ? parsed.rootfs : undefined;
  const [device] = rootfs?.devices ?? [];
  if (device === undefined || !(rootfs?.type === 'lvm' || rootfs?.type === 'device')) {
    return undefined;
  }
  if (!statSync(device, { throwIfNoEntry: false })?.isBlockDevice()) {
    throw refuse(`its root file system, ${device}, is no block device that is there`);
  }
  if (rootfsPath?.file !== configFile) {
    throw refuse(`lxc.rootfs.path is in ${rootfsPath?.file ?? ''}; write it into ${configFile}`);
  }
  return device;
}

/** The root file system in the directory. Throws Failed unless it is one that moves along with that. */
function rootfsIn({ rootfsPath }: LxcConfig, directory: string): string {
  if (rootfsPath === undefined) throw refuse('it has no lxc.rootfs.path');
  const parsed = parseRootfs(rootfsPath.value);
  const rootfs = 'rootfs' in parsed ? parsed.rootfs : undefined;
  const [path] = rootfs?.paths ?? [];
  if (rootfs?.type !== 'dir' || path === undefined) {
    const what = `its root file system, ${rootfsPath.value}, is neither a directory nor a device`;
    throw refuse(`${what}; images and overlays cannot be copied yet`);
  }
  if (!isAtOrBelow(path, directory)) {
    throw refuse(`its root file system, ${path}, is not in ${directory}`);
  }
  for (let at = path; at !== directory; at = at.slice(0, at.lastIndexOf('/'))) {
    if (!lstatSync(at).isDirectory()) throw refuse(`${at} is a symbolic link or a file`);
  }
  if (lstatSync(path).dev !== lstatSync(directory).dev) {
    throw refuse(`${path} is a file system of its own; these cannot be copied yet`);
  }
  return path.slice(directory.length + 1);
}

/** The first words of hooks: programs that LXC runs. */
function hookPrograms({ hooks }: LxcConfig): string[] {
  return hooks.flatMap(({ value }) => /^\/[^ \t]*/.exec(value)?.[0] ?? []);
}

/** What LXC or the unit would miss, without what moves along or comes from lockerd itself. */
function needsOf(unit: Container, config: LxcConfig, own: readonly string[]): string[] {
  const all = [...unit.requiredPaths, ...unit.startPaths, ...unit.devices, ...hookPrograms(config)];
  return [...new Set(all)].filter((path) => !own.some((directory) => isAtOrBelow(path, directory)));
}

/**
 * Reads all about a container of this host.
 * @throws {LockerdError} NoSuchContainer, or Failed with why it cannot be moved
 */
export function readMovable(name: string): Movable {
  const files = new Files();
  const view = viewContainer(name);
  const facts = readFacts('', files);
  const { containers } = modelContainers(facts.containers, facts.host);
  const unit = containers.find((container) => container.name === name);
  const own = facts.containers.find((container) => container.name === name);
  if (unit === undefined || own === undefined) throw refuse('it can have no unit');
  const [problem] = unit.problems;
  if (problem !== undefined) throw refuse(`it would not start here: ${formatProblem(problem)}`);
  const { directory, config } = own;
  if (!lstatSync(directory).isDirectory()) throw refuse(`${directory} is a symbolic link`);
  const volume = volumeOf(config, unit.configFile);
  const rootfs = volume === undefined ? rootfsIn(config, directory) : '';
  const { file } = createLxcReader('', files).read(unit.configFile);
  const { path: lxcpath, real } = facts.host.lxcpath;
  const { belongings, warnings } = readBelongings(name, view.own.text);
  const movesAlong = (path: string): boolean => isAtOrBelow(path, directory);
  return {
    name,
    view,
    directory,
    lxcpath,
    rootfs,
    volume,
    config: portableLines(file, movesAlong)
      .map((line) => `${line}\n`)
      .join(''),
    needs: needsOf(unit, config, [
      ...[directory, `${real}/${name}`, unit.wormhole?.path ?? directory],
      ...(volume === undefined ? [] : [volume]),
    ]),
    idmaps: config.idmaps.map(({ value }) => value),
    lockers: unit.wormhole?.attachments.map(({ locker }) => locker) ?? [],
    autostart: unit.boot.starts,
    isOfCluster: own.settings.managedBy === 'pacemaker',
    belongings,
    warnings,
    wantedBy: facts.containers
      .filter(({ settings: { needs, wants } }) =>
        [...(needs?.value ?? []), ...(wants?.value ?? [])].includes(name),
      )
      .map((other) => other.name),
  };
}

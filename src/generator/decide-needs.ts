/** What a container waits for: paths, mounts, devices and network interfaces of the host. */
import type { FstabEntry } from '../model/fstab.ts';
import { parseFstab, parseMountEntry } from '../model/fstab.ts';
import { indexOf } from '../model/fstab-index.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { cleanAbsolutePath, isAtOrBelow, isOfKernel, pathMax, systemPaths } from '../model/path.ts';
import type { Located, Problem } from '../model/problem.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { deviceUnit, mountUnit, netDeviceUnit } from '../model/unit-name.ts';
import { fitsUnitFile, printable } from '../model/unit-syntax.ts';
import { isBlockFileSystem } from '../host/block-types.ts';
import type { ContainerFacts, HostFacts } from './container.ts';

/** Gathers what the container waits for from its root file system, mounts and network. */
export function findNeeds(facts: ContainerFacts, host: HostFacts): Needs {
  const { directory, config, mountFstabText } = facts;
  const needs = new Needs(facts, host);
  needs.requirePath(directory, { value: directory, file: config.file, line: 0 });
  if (config.rootfsPath !== undefined) needRootfs(needs, config.rootfsPath);
  needMounts(needs, config, mountFstabText);
  needNetwork(needs, config);
  return needs;
}

/** Hooks that run before LXC opens the root file system and looks for the host's interfaces. */
const beforeAll = ['lxc.hook.pre-start'];
/** Hooks that run before LXC makes the mounts of the configuration. */
const beforeMounts = [...beforeAll, 'lxc.hook.start-host', 'lxc.hook.pre-mount'];

/** Hooks of packages, which make nothing that a container has on the host. */
const harmlessHook =
  /^\/usr\/(?:lib\/lockerd\/hooks\/|share\/lxc\/hooks\/squid-deb-proxy-client(?: |$))/;

/** What the container waits for, gathered from its root file system, mounts and network. */
class Needs {
  readonly paths = new Set<string>();
  /** Paths that only the start needs: what is unmounted later does not concern the container. */
  readonly startPaths = new Set<string>();
  /** Block devices that LXC cannot do without. */
  readonly devices = new Set<string>();
  readonly wants = new Set<string>();
  /** Units that are waited for where something else starts them. */
  readonly after = new Set<string>();
  readonly bridges = new Set<string>();
  readonly problems: Problem[] = [];
  readonly warnings: Problem[] = [];
  private readonly host: HostFacts;
  private readonly hooks: LxcConfig['makers'];
  private readonly strict: boolean | undefined;

  constructor({ config, settings }: ContainerFacts, host: HostFacts) {
    this.host = host;
    this.strict = settings.strictNeeds;
    this.hooks = config.makers?.filter(({ hook }) => !harmlessHook.test(hook.value));
  }

  requirePath(path: string, from: Located<string>): void {
    this.addPath(this.paths, path, from);
  }

  requireAtStart(path: string, from: Located<string>): void {
    this.addPath(this.startPaths, path, from);
    // Also while nothing requires it any more: it is unmounted after the container has stopped.
    for (const { target } of this.mountsOf(path)) this.after.add(mountUnit(target));
  }

  private addPath(paths: Set<string>, path: string, from: Located<string>): void {
    if (!fitsUnitFile(path)) {
      this.refuse(from, `"${printable(path.slice(0, 80))}" has control characters`, 'rename it');
    } else if (path.length > pathMax) {
      // Beyond a mebibyte systemd would not even load the unit.
      const shown = printable(path.slice(0, 80));
      this.refuse(from, `"${shown}..." is longer than ${pathMax} characters`, 'shorten it');
    } else {
      paths.add(path);
      // systemd compares paths by their text and would miss the mount behind a link.
      const { path: lxcpath, real } = this.host.lxcpath;
      if (isAtOrBelow(path, lxcpath)) paths.add(real + path.slice(lxcpath.length));
    }
  }

  private refuse({ file, line }: Located<string>, path: string, remedy: string): void {
    this.problems.push({ file, line, reason: `the path ${path}`, remedy });
  }

  /** The mounts that the host makes at boot on the way to what LXC does without if need be. */
  followMountsFor(path: string): void {
    for (const { target, options } of this.mountsOf(path)) {
      if (options.includes('noauto')) continue;
      (this.strict === true ? this.wants : this.after).add(mountUnit(target));
    }
  }

  get isLxcNewer(): boolean {
    return this.host.isLxcNewer?.() === true;
  }

  /** Whether one of the paths may be missing for now: the host mounts something on the way there. */
  mayComeLate(paths: Iterable<string>): boolean {
    const units = this.host.mountUnits ?? [];
    for (const path of paths) {
      if (this.mountsOf(path).length > 0) return true;
      if (units.some((mounted) => isAtOrBelow(path, mounted))) return true;
    }
    return false;
  }

  private mountsOf(path: string): readonly FstabEntry[] {
    return indexOf(this.host.fstab).onTheWay(path);
  }

  /** What LXC starts without. */
  followDevice(path: string): void {
    (this.strict === true ? this.wants : this.after).add(deviceUnit(path));
  }

  requireDevice(path: string, from: Located<string>, hooks: readonly string[]): void {
    // What is there and never gets a unit is nothing to wait for.
    if (this.host.isWithoutUnit?.(path) === true) return;
    const maker = this.isKnown(path) ? undefined : this.makerOf(hooks);
    if (maker === undefined) {
      if (fitsUnitFile(path)) this.devices.add(path);
      this.wants.add(deviceUnit(path));
    } else {
      this.after.add(deviceUnit(path));
      this.warnOfMaker(path, from, maker, `name it in /etc/crypttab or /etc/fstab, or set`);
    }
  }

  requireInterface(name: string, from: Located<string>): void {
    // What the network's configuration says is read only where a hook may make the interface.
    const maker = this.makerOf(beforeAll);
    const isMade = (): boolean => this.host.namesInterface?.(name) === true;
    if (maker === undefined || name === lxcNetBridge || isMade()) {
      this.bridges.add(name);
      this.wants.add(netDeviceUnit(name));
    } else {
      this.after.add(netDeviceUnit(name));
      this.warnOfMaker(name, from, maker, 'set');
    }
  }

  /**
   * Leaves a mount to the hooks where fstab has it for them: with `noauto`, on a volume that
   * nobody but a hook opens.
   */
  isMadeByHook(path: string, from: Located<string>, hooks: readonly string[]): boolean {
    const maker = this.makerOf(hooks);
    if (maker === undefined) return false;
    const made = this.mountsOf(path).find(
      ({ source, options }) =>
        options.includes('noauto') &&
        source.startsWith('/dev/mapper/') &&
        !this.host.crypttab?.has(source),
    );
    if (made === undefined) return false;
    this.after.add(mountUnit(made.target));
    this.warnOfMaker(
      made.target,
      from,
      maker,
      `name ${printable(made.source)} in /etc/crypttab, or set`,
    );
    return true;
  }

  /** Whether the host itself can make the device: crypttab opens it, or fstab says it is there. */
  private isKnown(device: string): boolean {
    if (this.host.crypttab?.has(device) === true) return true;
    return indexOf(this.host.fstab).hasSource(device);
  }

  /** The first hook that may make what the host does not have; none where settings say so. */
  private makerOf(keys: readonly string[]): Located<string> | undefined {
    if (this.strict === true) return undefined;
    return this.hooks?.find(({ key }) => keys.includes(key))?.hook;
  }

  private warnOfMaker(what: string, from: Located<string>, by: Located<string>, how: string): void {
    // Who has decided needs no advice.
    if (this.strict === false) return;
    this.warnings.push({
      file: from.file,
      line: from.line,
      reason:
        `the start does not wait for ${printable(what.slice(0, 80))}, ` +
        `which the hook of ${printable(by.file)}:${by.line} may make`,
      remedy: `${how} strict-needs in lockerd.conf(5): yes waits for it, no ends this warning`,
    });
  }
}

function needRootfs(needs: Needs, rootfsPath: Located<string>): void {
  const result = parseRootfs(rootfsPath.value);
  if ('reason' in result) {
    // A later LXC may take it.
    const notes = needs.isLxcNewer ? needs.warnings : needs.problems;
    notes.push({
      file: rootfsPath.file,
      line: rootfsPath.line,
      reason: `lxc.rootfs.path: ${result.reason}`,
      remedy: 'see lxc.container.conf(5), "ROOT FILE SYSTEM"',
    });
    return;
  }
  for (const path of result.rootfs.paths) {
    if (!needs.isMadeByHook(path, rootfsPath, beforeAll)) needs.requirePath(path, rootfsPath);
  }
  for (const device of result.rootfs.devices) needs.requireDevice(device, rootfsPath, beforeAll);
  const { type, dataset } = result.rootfs;
  if (type === 'zfs' || (type === 'other' && dataset !== undefined)) {
    // LXC may find a dataset also where no prefix says so. zfs-mount.service may fail for a dataset of
    // somebody else, and a host may have ZFS without these units.
    needs.wants.add('zfs-import.target');
    needs.wants.add('zfs-mount.service');
  }
}

function needMount(needs: Needs, entry: FstabEntry, from: Located<string>): void {
  const source = cleanAbsolutePath(entry.source);
  // LXC looks for a "relative" source in the guest.
  if (source === undefined || entry.options.includes('relative')) return;
  const optional = entry.options.includes('optional');
  if (entry.options.includes('bind') || entry.options.includes('rbind')) {
    if (isOfKernel(source)) return;
    if (systemPaths.includes(source)) return;
    if (optional) needs.followMountsFor(source);
    else if (!needs.isMadeByHook(source, from, beforeMounts)) needs.requireAtStart(source, from);
  } else if (source.startsWith('/dev/') && isBlockFileSystem(entry.type)) {
    // The source of any other file system, such as a tmpfs, is a mere name.
    if (optional) needs.followDevice(source);
    else needs.requireDevice(source, from, beforeMounts);
  }
}

function needMounts(needs: Needs, config: LxcConfig, mountFstabText: string | undefined): void {
  for (const item of config.mountEntries) {
    const entry = parseMountEntry(item.value, item.line);
    if (entry !== undefined) needMount(needs, entry, item);
  }
  if (config.mountFstab === undefined) return;
  const file = config.mountFstab.value;
  const clean = cleanAbsolutePath(file);
  if (clean !== undefined) needs.requireAtStart(clean, config.mountFstab);
  for (const entry of parseFstab(mountFstabText ?? '')) {
    needMount(needs, entry, { value: entry.source, file, line: entry.line });
  }
}

/** The bridge that lxc-net.service of the lxc package sets up. */
const lxcNetBridge = 'lxcbr0';
/** IFNAMSIZ of the kernel, without the NUL. */
const interfaceNameMax = 15;
/** What dev_valid_name() of the kernel refuses, and control characters, which no unit file holds. */
const notInterfaceName = /^\.\.?$|[/:\s\u0000-\u001f\u007f]/;

/** The last one: most containers have the same bridge. */
let lastInterface = lxcNetBridge;

function isInterfaceName(name: string): boolean {
  if (name === lastInterface) return true;
  if (name.length > interfaceNameMax || notInterfaceName.test(name)) return false;
  lastInterface = name;
  return true;
}

function needNetwork(needs: Needs, config: LxcConfig): void {
  for (const { link, type } of config.nets) {
    // These two types use no interface of the host, whatever their link says.
    const isUsed = !['empty', 'none'].includes(type?.value ?? '');
    if (link === undefined || link.value === '' || !isUsed) continue;
    if (!isInterfaceName(link.value)) {
      needs.problems.push({
        file: link.file,
        line: link.line,
        reason: `"${printable(link.value)}" is no name of a network interface`,
        remedy: 'name a bridge or interface of the host, at most 15 characters',
      });
      continue;
    }
    needs.requireInterface(link.value, link);
    if (link.value === lxcNetBridge) needs.wants.add('lxc-net.service');
  }
}

/** What a container waits for: paths, mounts, devices and network interfaces of the host. */
import type { FstabEntry } from '../model/fstab.ts';
import { parseFstab, parseFstabLine } from '../model/fstab.ts';
import type { LxcConfig } from '../model/lxc-config.ts';
import { cleanAbsolutePath, isAtOrBelow } from '../model/path.ts';
import type { Located, Problem } from '../model/problem.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { deviceUnit, mountUnit, netDeviceUnit } from '../model/unit-name.ts';
import { fitsUnitFile, printable } from '../model/unit-syntax.ts';
import type { ContainerFacts, HostFacts } from './container.ts';

/** Gathers what the container waits for from its root file system, mounts and network. */
export function findNeeds(
  { directory, config, mountFstabText }: ContainerFacts,
  host: HostFacts,
): Needs {
  const needs = new Needs(host);
  needs.requirePath(directory, { value: directory, file: config.file, line: 0 });
  if (config.rootfsPath !== undefined) needRootfs(needs, config.rootfsPath);
  needMounts(needs, config, mountFstabText);
  needNetwork(needs, config);
  return needs;
}

/** PATH_MAX of the kernel, without the NUL. */
const pathMax = 4095;

/** What the container waits for, gathered from its root file system, mounts and network. */
class Needs {
  readonly paths = new Set<string>();
  readonly requires = new Set<string>();
  readonly wants = new Set<string>();
  readonly bridges = new Set<string>();
  readonly problems: Problem[] = [];
  private readonly fstab: readonly FstabEntry[];
  private readonly lxcpath: HostFacts['lxcpath'];

  constructor(host: HostFacts) {
    this.fstab = host.fstab;
    this.lxcpath = host.lxcpath;
  }

  requirePath(path: string, from: Located<string>): void {
    const shown = printable(path.slice(0, 80));
    const at = { file: from.file, line: from.line };
    if (!fitsUnitFile(path)) {
      const reason = `the path "${shown}" has control characters`;
      this.problems.push({ ...at, reason, remedy: 'rename it' });
    } else if (path.length > pathMax) {
      // Beyond a mebibyte systemd would not even load the unit.
      const reason = `the path "${shown}..." is longer than ${pathMax} characters`;
      this.problems.push({ ...at, reason, remedy: 'shorten it' });
    } else {
      this.paths.add(path);
      // systemd compares paths by their text and would miss the mount behind a link.
      const { path: lxcpath, real } = this.lxcpath;
      if (isAtOrBelow(path, lxcpath)) this.paths.add(real + path.slice(lxcpath.length));
    }
  }

  /** RequiresMountsFor= would stop the container where the mount is allowed to fail. */
  wantMountsFor(path: string): void {
    for (const entry of this.fstab) {
      const target = cleanAbsolutePath(entry.target);
      if (target === undefined || target === '/' || entry.options.includes('noauto')) continue;
      if (isAtOrBelow(path, target)) this.wants.add(mountUnit(target));
    }
  }

  device(path: string, optional: boolean): void {
    (optional ? this.wants : this.requires).add(deviceUnit(path));
  }
}

function needRootfs(needs: Needs, rootfsPath: Located<string>): void {
  const result = parseRootfs(rootfsPath.value);
  if ('reason' in result) {
    needs.problems.push({
      file: rootfsPath.file,
      line: rootfsPath.line,
      reason: `lxc.rootfs.path: ${result.reason}`,
      remedy: 'see lxc.container.conf(5), "ROOT FILE SYSTEM"',
    });
    return;
  }
  for (const path of result.rootfs.paths) needs.requirePath(path, rootfsPath);
  for (const device of result.rootfs.devices) needs.device(device, false);
  if (result.rootfs.type === 'zfs') {
    // zfs-mount.service may fail for a dataset of somebody else, so it is not required.
    needs.requires.add('zfs-import.target');
    needs.wants.add('zfs-mount.service');
  }
}

/** File systems of the kernel: their paths are there before any unit starts. */
const kernelPaths = ['/proc', '/sys', '/dev'];

function needMount(needs: Needs, entry: FstabEntry, from: Located<string>): void {
  const source = cleanAbsolutePath(entry.source);
  if (source === undefined) return;
  const optional = entry.options.includes('optional');
  const isBind = entry.options.some((option) => option === 'bind' || option === 'rbind');
  if (isBind) {
    if (kernelPaths.some((path) => isAtOrBelow(source, path))) return;
    if (optional) needs.wantMountsFor(source);
    else needs.requirePath(source, from);
  } else if (source.startsWith('/dev/')) {
    needs.device(source, optional);
  }
}

function needMounts(needs: Needs, config: LxcConfig, mountFstabText: string | undefined): void {
  for (const item of config.mountEntries) {
    const entry = parseFstabLine(item.value, item.line);
    if (entry !== undefined) needMount(needs, entry, item);
  }
  if (config.mountFstab === undefined) return;
  const file = config.mountFstab.value;
  const clean = cleanAbsolutePath(file);
  if (clean !== undefined) needs.requirePath(clean, config.mountFstab);
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

function needNetwork(needs: Needs, config: LxcConfig): void {
  for (const { link, type } of config.nets) {
    // These two types use no interface of the host, whatever their link says.
    const isUsed = !['empty', 'none'].includes(type?.value ?? '');
    if (link === undefined || link.value === '' || !isUsed) continue;
    if (link.value.length > interfaceNameMax || notInterfaceName.test(link.value)) {
      needs.problems.push({
        file: link.file,
        line: link.line,
        reason: `"${printable(link.value)}" is no name of a network interface`,
        remedy: 'name a bridge or interface of the host, at most 15 characters',
      });
      continue;
    }
    needs.bridges.add(link.value);
    needs.wants.add(netDeviceUnit(link.value));
    if (link.value === lxcNetBridge) needs.wants.add('lxc-net.service');
  }
}

/**
 * Parses lxc.rootfs.path into what the host must have before the container can start: mounted paths, block
 * devices or a zfs dataset, and the trees that hold the guest's init. Paths are handled as text only.
 */

import { cleanAbsolutePath } from './path.ts';

/** What the host must have before a root file system can be mounted. */
export interface Rootfs {
  /**
   * LXC's storage type (src/lxc/storage/storage.c); `device` for a bare path below /dev, `other` for
   * what is left to LXC.
   */
  readonly type:
    'none' | 'dir' | 'btrfs' | 'overlay' | 'loop' | 'nbd' | 'device' | 'lvm' | 'zfs' | 'other';
  /** Clean absolute paths that must be mounted: directories, layers, image files. */
  readonly paths: readonly string[];
  /** Block devices, as paths below /dev. */
  readonly devices: readonly string[];
  /** The dataset of a zfs root file system; with `other`, what may be one. */
  readonly dataset?: string;
  /** Directory trees in which to look for the guest's init; an earlier tree overrides later ones. */
  readonly trees: readonly string[];
}

/** A root file system; with a warning, LXC alone can tell what it is and nothing waits for it. */
export type RootfsResult =
  { readonly rootfs: Rootfs; readonly warning?: string } | { readonly reason: string };

const nothing = { paths: [], devices: [], trees: [] } as const;

function leftToLxc(reason: string, dataset?: string): RootfsResult {
  const rootfs = { ...nothing, type: 'other' as const };
  return {
    rootfs: dataset === undefined ? rootfs : { ...rootfs, dataset },
    warning: `${reason}, so nothing can be waited for`,
  };
}

/** What no prefix tells: LXC asks its storage types in turn whether it is theirs. */
function ofBarePath(path: string): RootfsResult {
  if (path.startsWith('/dev/')) return ofDevice('device', path);
  return /^[0-9A-Za-z][\w. -]*(?:\/[\w. -]+)*$/.test(path)
    ? leftToLxc(notAbsolute(path), path)
    : ofDirectory('dir', path);
}

function ofDirectory(type: 'dir' | 'btrfs', path: string): RootfsResult {
  const clean = cleanAbsolutePath(path);
  if (clean !== undefined) {
    return { rootfs: { type, paths: [clean], devices: [], trees: [clean] } };
  }
  // LXC accepts "..", but its target depends on symbolic links, so there is no path to wait for.
  if (path.startsWith('/')) return { rootfs: { type, paths: [], devices: [], trees: [path] } };
  return leftToLxc(notAbsolute(path));
}

function ofImage(type: 'loop' | 'nbd', path: string): RootfsResult {
  const clean = cleanAbsolutePath(path);
  return clean === undefined
    ? leftToLxc(notAbsolute(path))
    : { rootfs: { ...nothing, type, paths: [clean] } };
}

function ofDevice(type: 'device' | 'lvm', path: string): RootfsResult {
  const clean = cleanAbsolutePath(path);
  return clean === undefined
    ? leftToLxc(notAbsolute(path))
    : { rootfs: { ...nothing, type, devices: [clean] } };
}

/** `LOWER[:LOWER...]:UPPER`; LXC splits at each colon that a slash follows. */
function ofOverlay(layers: string): RootfsResult {
  const paths: string[] = [];
  for (const layer of layers.split(/:(?=\/)/)) {
    const clean = cleanAbsolutePath(layer);
    if (clean === undefined) return leftToLxc(notAbsolute(layer));
    paths.push(clean);
  }
  if (paths.length < 2) {
    return { reason: `overlay needs a lower and an upper directory, found "${layers}"` };
  }
  return { rootfs: { type: 'overlay', paths, devices: [], trees: [...paths].reverse() } };
}

function ofZfs(source: string): RootfsResult {
  // Containers that LXC creates name a dataset; old configurations have a path.
  if (source.startsWith('/')) {
    const clean = cleanAbsolutePath(source);
    if (clean === undefined) return leftToLxc(notAbsolute(source));
    return { rootfs: { type: 'zfs', paths: [clean], devices: [], trees: [clean] } };
  }
  return { rootfs: { ...nothing, type: 'zfs', dataset: source } };
}

function notAbsolute(path: string): string {
  return `"${path}" is not an absolute path without ".."`;
}

/**
 * Reads a value of lxc.rootfs.path: `[TYPE:]SOURCE` (lxc.container.conf(5)). What only LXC can
 * resolve is no error: relative paths, datasets without a prefix, storage types of other versions.
 */
export function parseRootfs(value: string): RootfsResult {
  // Who reads and who decides ask for the same one.
  if (last?.value !== value) last = { value, result: parseAnew(value) };
  return last.result;
}

let last: { readonly value: string; readonly result: RootfsResult } | undefined;

function parseAnew(value: string): RootfsResult {
  if (value === 'none') return { rootfs: { ...nothing, type: 'none' } };
  const colon = value.indexOf(':');
  if (colon <= 0) return ofBarePath(value);
  const type = value.slice(0, colon);
  const source = value.slice(colon + 1);
  switch (type) {
    case 'dir':
      return source.startsWith('/dev/') ? ofDevice('device', source) : ofDirectory('dir', source);
    case 'btrfs':
      return ofDirectory('btrfs', source);
    case 'overlay':
    case 'overlayfs':
      return ofOverlay(source);
    case 'loop':
      return ofImage('loop', source);
    case 'nbd':
      // A partition may follow: nbd:FILE:1.
      return ofImage('nbd', source.replace(/:\d+$/, ''));
    case 'lvm':
      return ofDevice('lvm', source);
    case 'rbd':
      // LXC mounts the mapped device; rbdmap.service makes it appear.
      return ofDevice('device', source);
    case 'zfs':
      return ofZfs(source);
    default:
      return leftToLxc(`"${type}" is no storage type that lockerd knows`);
  }
}

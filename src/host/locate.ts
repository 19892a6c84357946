/** Where things of the host really are: systemd names mount units after paths without links. */
import type { FstabEntry } from '../model/fstab.ts';
import { parseFstab } from '../model/fstab.ts';
import { isAtOrBelow } from '../model/path.ts';
import { escapePath } from '../model/unit-name.ts';
import type { Lockers } from './lockers.ts';
import { findLockers } from './lockers.ts';
import type { HostReader } from './read.ts';
import type { HostSettings } from './settings.ts';

/** Lines of fstab, each with what it is mounted on for systemd-fstab-generator(8). */
function readFstab(host: HostReader): FstabEntry[] {
  return parseFstab(host.text('/etc/fstab') ?? '').map((entry) => {
    if (!entry.target.startsWith('/')) return entry;
    const target = host.realPath(entry.target);
    return target === entry.target ? entry : { ...entry, target, written: entry.target };
  });
}

/** What a symbolic link in the place of a container's wormhole leads to, or why none can be there. */
export type WormholeLink = { readonly target: string } | { readonly why: string };

/**
 * Looks for symbolic links in the place of wormholes, container by container in their order: what one
 * has got there, no other gets. What is mounted would hide whatever is behind a link, so that has to
 * be nothing, an empty directory or the wormhole itself.
 */
export function wormholeLinks(
  host: HostReader,
  directory: string,
): (name: string) => WormholeLink | undefined {
  const taken = new Set<string>();
  let mounted: ReadonlySet<string> | undefined;
  const isMounted = (path: string): boolean => {
    mounted ??= new Set(
      host.hostMounts().flatMap(({ type, mountPoint }) => (type === 'tmpfs' ? mountPoint : [])),
    );
    return mounted.has(path);
  };
  return (name) => {
    const path = `${directory}/${name}`;
    const target = host.realPath(path);
    if (target === path) return undefined;
    const isEmpty = host.isThere(`${target}/.`) && host.list(target).length === 0;
    if (!isEmpty && host.isThere(target) && !isMounted(target)) {
      return { why: `is a link to ${target}, which is no empty directory` };
    }
    if (taken.has(target) || isAtOrBelow(target, directory)) {
      return { why: `is a link to ${target}, which is the place of another container` };
    }
    taken.add(target);
    return { target };
  };
}

export interface Located {
  readonly fstab: readonly FstabEntry[];
  readonly lockers: Lockers;
  /** With real paths of directories of the host. */
  readonly settings: HostSettings;
}

/** Finds what is mounted and where, for systemd refuses mount units whose path has a link in it. */
export function locateLockers(host: HostReader, settings: HostSettings): Located {
  const fstab = readFstab(host);
  const real = host.realPath(settings.lockerDirectory);
  const unitFiles = host.mountUnitFiles(`${escapePath(real)}-`);
  const directory = { written: settings.lockerDirectory, real };
  return {
    fstab,
    lockers: findLockers(fstab, unitFiles, directory, host.hostMounts()),
    settings: {
      ...settings,
      lockerDirectory: real,
      wormholeDirectory: host.realPath(settings.wormholeDirectory),
    },
  };
}

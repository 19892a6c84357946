/** What a container waits for that its configuration does not name. */
import type { FstabEntry } from '../model/fstab.ts';
import { cleanAbsolutePath, isAtOrBelow } from '../model/path.ts';
import { parseRootfs } from '../model/rootfs.ts';
import { mountUnit } from '../model/unit-name.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';

/** PATH_MAX of the kernel, without the NUL. */
const pathMax = 4095;

/**
 * systemd compares paths by their text and would miss the mount behind a link.
 * @param realPaths paths of the container, each with what it is without links
 * @param required those that the container cannot do without; it only wants the others
 */
export function behindLinks(
  realPaths: ReadonlyMap<string, string>,
  required: ReadonlySet<string>,
  fstab: readonly FstabEntry[],
): { readonly paths: readonly string[]; readonly wants: readonly string[] } {
  const paths: string[] = [];
  const wants: string[] = [];
  for (const [path, found] of realPaths) {
    const real = found === path ? undefined : cleanAbsolutePath(found);
    // What no unit can hold is left to LXC.
    if (real === undefined || !fitsUnitFile(real) || real.length > pathMax) continue;
    if (required.has(path)) paths.push(real);
    else wants.push(...mountsOnTheWay(real, fstab));
  }
  return { paths, wants };
}

/** What is waited for where LXC may find a dataset of ZFS; without ZFS there are no such units. */
export function wantsOfDataset(rootfsPath: string | undefined): readonly string[] {
  const parsed = rootfsPath === undefined ? undefined : parseRootfs(rootfsPath);
  const rootfs = parsed !== undefined && 'rootfs' in parsed ? parsed.rootfs : undefined;
  return rootfs?.type === 'other' && rootfs.dataset !== undefined
    ? ['zfs-import.target', 'zfs-mount.service']
    : [];
}

/** Mounts that each boot makes, and that LXC's own start at boot comes after. */
function mountsOnTheWay(path: string, fstab: readonly FstabEntry[]): string[] {
  return fstab
    .filter(({ options }) => !options.includes('noauto') && !options.includes('nofail'))
    .map(({ target }) => cleanAbsolutePath(target))
    .filter((target) => target !== undefined && target !== '/' && isAtOrBelow(path, target))
    .map((target) => mountUnit(target ?? ''));
}

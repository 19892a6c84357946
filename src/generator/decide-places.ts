/** What a container waits for that its configuration does not name. */
import type { FstabEntry } from '../model/fstab.ts';
import { indexOf } from '../model/fstab-index.ts';
import { cleanAbsolutePath, pathMax } from '../model/path.ts';
import { mountUnit } from '../model/unit-name.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';

/** What the container needs by the paths of its configuration. */
interface NeededPaths {
  readonly paths: ReadonlySet<string>;
  readonly startPaths: ReadonlySet<string>;
}

interface Behind {
  readonly paths: readonly string[];
  readonly startPaths: readonly string[];
  readonly mounts: readonly string[];
}

const nothingBehind: Behind = { paths: [], startPaths: [], mounts: [] };

/**
 * systemd compares paths by their text and would miss the mount behind a link. The mounts are those
 * behind the paths that the container starts without, or that its hooks make.
 * @param realPaths paths of the container, each with what it is without links
 */
export function behindLinks(
  realPaths: ReadonlyMap<string, string>,
  needed: NeededPaths,
  fstab: readonly FstabEntry[],
): Behind {
  if (realPaths.size === 0) return nothingBehind;
  const paths: string[] = [];
  const startPaths: string[] = [];
  const mounts = new Set<string>();
  for (const [path, found] of realPaths) {
    const real = found === path ? undefined : cleanAbsolutePath(found);
    // What no unit can hold is left to LXC.
    if (real === undefined || !fitsUnitFile(real) || real.length > pathMax) continue;
    if (needed.paths.has(path)) paths.push(real);
    else if (needed.startPaths.has(path)) startPaths.push(real);
    else for (const unit of mountsOnTheWay(real, fstab)) mounts.add(unit);
  }
  return { paths, startPaths, mounts: [...mounts] };
}

/** Mounts that the boot makes. */
function mountsOnTheWay(path: string, fstab: readonly FstabEntry[]): string[] {
  return indexOf(fstab)
    .onTheWay(path)
    .filter(({ options }) => !options.includes('noauto'))
    .map(({ target }) => mountUnit(target));
}

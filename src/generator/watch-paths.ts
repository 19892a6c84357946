import type { FstabEntry } from '../model/fstab.ts';
import { indexOf } from '../model/fstab-index.ts';
import { isAtOrBelow } from '../model/path.ts';
import { mountUnit } from '../model/unit-name.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';
import type { PlanContext } from './plan-views.ts';
import type { Facts } from './read-facts.ts';
import type { GatheredFacts } from './refused.ts';

/** More than these need no watching: one changed directory is enough for a second look. */
const watchedPathsMax = 64;

/** Where a second look is needed once local file systems are mounted, and what that waits for. */
export function watchPaths(
  { host, identify, lxcpath, realPath, watchedDirectories }: Omit<Facts, 'containers'>,
  containers: readonly Pick<GatheredFacts, 'uncertainPaths' | 'uncertainTrees'>[],
): Pick<PlanContext, 'watched' | 'watchedMounts' | 'lateMounts'> {
  const uncertain = lxcpath === undefined ? [] : containers.flatMap((c) => c.uncertainPaths);
  // On what is mounted above them, a link may lead elsewhere.
  const { lockerDirectory, wormholeDirectory } = host.settings;
  const above = [lockerDirectory, wormholeDirectory].map(
    (path) => path.slice(0, path.lastIndexOf('/')) || '/',
  );
  const mounts = targetsOnTheWay(above, host.fstab);
  // The containers' directory comes first: hooks/rescan looks there for new ones.
  const all = new Set([...watchedDirectories, ...mounts, ...uncertain].filter(fitsUnitFile));
  const watched = [...all].slice(0, watchedPathsMax);
  // Where a guest's init stays unknown, LXC looks at it. No disk that may be away is waited for.
  const trees = new Set(containers.flatMap((c) => c.uncertainTrees));
  const withReal = (paths: readonly string[]): string[] => [...paths, ...paths.map(realPath)];
  const needed = watched.filter((path) => !trees.has(path));
  const targets = [
    ...targetsOnTheWay([...withReal(needed), host.lxcpath.real], host.fstab),
    ...targetsOnTheWay(withReal(watched), host.fstab, 'nofail'),
  ];
  return {
    lateMounts:
      lxcpath === undefined ? [] : mountsWithContainers([lxcpath, host.lxcpath.real], host),
    watched: watched.map(identify),
    watchedMounts: [...new Set(targets)].map(mountUnit).sort(),
  };
}

/** Mount points of fstab on the way to the containers' directory and directly below it. */
function mountsWithContainers(
  paths: readonly string[],
  { fstab }: Facts['host'],
): readonly string[] {
  const hasContainers = (target: string): boolean =>
    paths.some(
      (path) => isAtOrBelow(path, target) || target.slice(0, target.lastIndexOf('/')) === path,
    );
  return [...new Set(indexOf(fstab).targets)]
    .filter((target) => target !== '/' && fitsUnitFile(target) && hasContainers(target))
    .slice(0, watchedPathsMax);
}

/** Where the boot mounts something on the way to a path, but for lines with an option. */
function targetsOnTheWay(
  paths: readonly string[],
  fstab: readonly FstabEntry[],
  without?: string,
): string[] {
  const targets = indexOf(fstab)
    .onTheWay(...paths)
    .filter(({ options }) => !options.includes('noauto') && !options.includes(without ?? 'noauto'))
    .map(({ target }) => target);
  return [...new Set(targets)];
}

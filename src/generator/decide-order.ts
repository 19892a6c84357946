import { containerUnit, delayUnit } from '../model/unit-name.ts';
import type { Container } from './container.ts';
import { compareText, hasDelay } from './container.ts';

/** A container before the others are known: all but the order between containers. */
export interface RankedContainer {
  readonly container: Omit<Container, 'startsAfter'>;
  /** Pass of lxc-autostart, then lxc.start.order. */
  readonly rank: readonly [number, number];
}

/** Whether the first rank comes before (negative) or after the second. */
export function compareRanks(a: readonly [number, number], b: readonly [number, number]): number {
  return a[0] - b[0] || a[1] - b[1];
}

/**
 * Puts the containers in lxc-autostart's order: boot group, then lxc.start.order; equals run in
 * parallel. A container is ordered after every earlier one, not only the nearest, because systemd
 * orders jobs and an earlier container may have none.
 */
export function orderContainers(ranked: readonly RankedContainer[]): Container[] {
  const sorted = [...ranked].sort(
    (a, b) => compareRanks(a.rank, b.rank) || compareText(a.container.name, b.container.name),
  );
  let earlier: readonly string[] = [];
  let sameRank: string[] = [];
  let previous: readonly [number, number] | undefined;
  return sorted.map(({ container, rank }) => {
    if (previous !== undefined && compareRanks(previous, rank) !== 0) {
      // A new list, as those of the rank before share theirs.
      earlier = [...earlier, ...sameRank];
      sameRank = [];
    }
    previous = rank;
    sameRank.push(containerUnit(container.name));
    if (hasDelay(container)) sameRank.push(delayUnit(container.name));
    return Object.assign(container, { startsAfter: earlier });
  });
}

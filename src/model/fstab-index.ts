/** A table like fstab(5) by mount points, for one that is as long as the list of containers. */
import type { FstabEntry } from './fstab.ts';
import { cleanAbsolutePath } from './path.ts';

interface Indexed {
  readonly entry: FstabEntry;
  /** Where it stands in the table. */
  readonly at: number;
}

const known = new WeakMap<readonly FstabEntry[], FstabIndex>();

/** The index of a table, made once for each. */
export function indexOf(table: readonly FstabEntry[]): FstabIndex {
  if (last?.table === table) return last;
  let index = known.get(table);
  if (index === undefined) {
    index = new FstabIndex(table);
    known.set(table, index);
  }
  last = index;
  return index;
}

let last: FstabIndex | undefined;

const nothing: readonly FstabEntry[] = [];

class FstabIndex {
  private readonly byTarget = new Map<string, Indexed[]>();
  private readonly sources = new Set<string>();
  readonly table: readonly FstabEntry[];
  /** Clean paths that something is mounted on, in the order of the table. */
  readonly targets: readonly string[];

  constructor(table: readonly FstabEntry[]) {
    this.table = table;
    const targets: string[] = [];
    let at = 0;
    for (const entry of table) {
      const source = cleanAbsolutePath(entry.source);
      if (source !== undefined) this.sources.add(source);
      const target = cleanAbsolutePath(entry.target);
      if (target !== undefined) targets.push(target);
      if (target === undefined || target === '/') continue;
      const indexed = { entry: target === entry.target ? entry : { ...entry, target }, at: at++ };
      const others = this.byTarget.get(target);
      if (others === undefined) this.byTarget.set(target, [indexed]);
      else others.push(indexed);
    }
    this.targets = targets;
  }

  hasSource(path: string): boolean {
    return this.sources.has(path);
  }

  /**
   * What is mounted at paths or above them, the root directory left out, in the order of the table
   * and with clean targets.
   */
  onTheWay(...paths: readonly string[]): readonly FstabEntry[] {
    let found: Set<Indexed> | undefined;
    for (const path of paths) {
      for (let at = path; at !== ''; at = at.slice(0, Math.max(at.lastIndexOf('/'), 0))) {
        const here = this.byTarget.get(at);
        if (here === undefined) continue;
        found ??= new Set();
        for (const indexed of here) found.add(indexed);
      }
    }
    if (found === undefined) return nothing;
    if (found.size === 1) for (const { entry } of found) return [entry];
    return [...found].sort((a, b) => a.at - b.at).map(({ entry }) => entry);
  }
}

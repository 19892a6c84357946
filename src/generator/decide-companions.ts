/** What the settings "needs" and "wants" of containers mean for each of them. */
import type { Located, Problem } from '../model/problem.ts';
import { containerUnit } from '../model/unit-name.ts';
import { printable } from '../model/unit-syntax.ts';
import type { RankedContainer } from './decide-order.ts';
import { compareRanks } from './decide-order.ts';

type Key = 'needs' | 'wants';

/** A container's name and the settings that name others. */
interface Node {
  readonly ranked: RankedContainer;
  /** The names that exist, each once. */
  readonly needs: readonly string[];
  readonly wants: readonly string[];
  readonly problems: Problem[];
  readonly warnings: Problem[];
}

function absent(named: Located<unknown>, key: Key, name: string): Problem {
  return {
    file: named.file,
    line: named.line,
    reason: `"${key}" names the container "${printable(name)}", which does not exist`,
    remedy: 'create it, or take its name out',
  };
}

/** Splits the names of a setting into those of containers and problems about the others. */
function namesOf(
  ranked: RankedContainer,
  key: Key,
  isThere: (name: string) => boolean,
): { names: string[]; absent: Problem[] } {
  const named = ranked.container.settings[key];
  if (named === undefined) return { names: [], absent: [] };
  const all = [...new Set(named.value)];
  return {
    names: all.filter(isThere),
    absent: all.filter((name) => !isThere(name)).map((name) => absent(named, key, name)),
  };
}

function findNodes(all: readonly RankedContainer[]): ReadonlyMap<string, Node> {
  const existing = new Set(all.map(({ container }) => container.name));
  const isThere = (name: string): boolean => existing.has(name);
  return new Map(
    all.map((ranked) => {
      const needs = namesOf(ranked, 'needs', isThere);
      const wants = namesOf(ranked, 'wants', isThere);
      const node = {
        ranked,
        needs: needs.names,
        wants: wants.names.filter((name) => !needs.names.includes(name)),
        problems: needs.absent,
        warnings: wants.absent,
      };
      return [ranked.container.name, node];
    }),
  );
}

/** The shortest way from a container back to itself, both ends included. */
function cycleOf(start: string, nodes: ReadonlyMap<string, Node>): readonly string[] | undefined {
  const cameFrom = new Map<string, string>();
  const waiting = [start];
  for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
    const { needs = [], wants = [] } = nodes.get(name) ?? {};
    for (const next of [...needs, ...wants]) {
      if (next === start) {
        const way = [start];
        for (let at: string | undefined = name; at !== undefined && at !== start;) {
          way.unshift(at);
          at = cameFrom.get(at);
        }
        return [start, ...way];
      }
      if (cameFrom.has(next)) continue;
      cameFrom.set(next, name);
      waiting.push(next);
    }
  }
  return undefined;
}

function cycleProblem({ ranked }: Node, cycle: readonly string[]): Problem {
  const { needs, wants } = ranked.container.settings;
  const [, next = ''] = cycle;
  const isNeed = needs?.value.includes(next) === true;
  const at = isNeed ? needs : wants;
  const way = cycle.map((name) => printable(name)).join(', ');
  return {
    file: at?.file ?? ranked.container.configFile,
    line: at?.line ?? 0,
    reason: `"${isNeed ? 'needs' : 'wants'}" leads back to the container itself: ${way}`,
    remedy: 'take one of them out',
  };
}

/**
 * The names in an order in which each comes after those that it needs or wants, without those that lead
 * to a cycle.
 */
function inOrder(nodes: ReadonlyMap<string, Node>): ReadonlySet<string> {
  const wantedBy = new Map<string, string[]>();
  const left = new Map<string, number>();
  const found = new Set<string>();
  for (const [name, { needs, wants }] of nodes) {
    const others = [...needs, ...wants];
    left.set(name, others.length);
    if (others.length === 0) found.add(name);
    for (const other of others) {
      const names = wantedBy.get(other);
      if (names === undefined) wantedBy.set(other, [name]);
      else names.push(name);
    }
  }
  // A set that grows meanwhile is gone through to its end.
  for (const other of found) {
    for (const name of wantedBy.get(other) ?? []) {
      const rest = (left.get(name) ?? 0) - 1;
      left.set(name, rest);
      if (rest === 0) found.add(name);
    }
  }
  return found;
}

/**
 * Ranks in which a container comes with or after those that it needs or wants: lxc.start.order must not
 * put it before them.
 */
function ranksOf(nodes: ReadonlyMap<string, Node>): ReadonlyMap<string, RankedContainer['rank']> {
  const ranks = new Map([...nodes].map(([name, { ranked }]) => [name, ranked.rank]));
  for (const name of inOrder(nodes)) {
    const { needs = [], wants = [] } = nodes.get(name) ?? {};
    for (const other of [...needs, ...wants]) {
      const [own, earliest] = [ranks.get(name), ranks.get(other)];
      if (own === undefined || earliest === undefined) continue;
      if (compareRanks(own, earliest) < 0) ranks.set(name, earliest);
    }
  }
  return ranks;
}

/** Containers that start at boot because others that do need or want them, each with one of those. */
function pulledIn(nodes: ReadonlyMap<string, Node>): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const waiting = [...nodes.values()].filter(
    ({ ranked: { container }, problems }) =>
      container.boot.starts && container.problems.length + problems.length === 0,
  );
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    for (const name of [...node.needs, ...node.wants]) {
      const next = nodes.get(name);
      if (next === undefined || found.has(name) || isManaged(next.ranked)) continue;
      found.set(name, node.ranked.container.name);
      if (next.ranked.container.problems.length + next.problems.length === 0) waiting.push(next);
    }
  }
  return found;
}

/** Its unit refuses the start that another one asks for. */
function isManaged({ container: { settings } }: RankedContainer): boolean {
  return settings.managedBy !== undefined;
}

function bootOf(
  { container: { boot } }: RankedContainer,
  neededBy: string | undefined,
): RankedContainer['container']['boot'] {
  if (neededBy === undefined || boot.starts || boot.reasons.includes('masked')) return boot;
  return { starts: true, reasons: ['needed'], neededBy };
}

/**
 * Gives each container the units of those that it needs or wants. A container that is not there, or a
 * cycle, is a problem of whoever needs it.
 */
export function decideCompanions(all: readonly RankedContainer[]): readonly RankedContainer[] {
  if (all.every(({ container: { settings } }) => !(settings.needs ?? settings.wants))) return all;
  const nodes = findNodes(all);
  const outside = inOrder(nodes);
  const cycles = [...nodes].flatMap(([name, node]) => {
    if (outside.has(name)) return [];
    const cycle = cycleOf(name, nodes);
    return cycle === undefined ? [] : [{ node, problem: cycleProblem(node, cycle) }];
  });
  const inCycle = new Set(cycles.map(({ node }) => node));
  for (const { node, problem } of cycles) node.problems.push(problem);
  const sound = new Map(
    [...nodes].map(([name, node]) => [
      name,
      inCycle.has(node) ? { ...node, needs: [], wants: [] } : node,
    ]),
  );
  const ranks = ranksOf(sound);
  const boots = pulledIn(sound);
  return [...sound.values()].map(({ ranked, needs, wants, problems, warnings }) => {
    const { container } = ranked;
    return {
      container: {
        ...container,
        boot: bootOf(ranked, boots.get(container.name)),
        problems: [...container.problems, ...problems],
        warnings: [...container.warnings, ...warnings],
        ...(needs.length + wants.length === 0
          ? {}
          : { companions: { needs: needs.map(containerUnit), wants: wants.map(containerUnit) } }),
      },
      rank: ranks.get(container.name) ?? ranked.rank,
    };
  });
}

/** What the admin hears of a run. */
import type { Problem } from '../model/problem.ts';
import { formatProblem } from '../model/problem.ts';
import { warnOfUnprotected } from '../host/lockers.ts';
import type { Model } from './decide.ts';
import type { Facts } from './read-facts.ts';

/** What an admin must mend; the generator exits 1. */
export function errorMessages(
  facts: Pick<Facts, 'problems'>,
  { containers, nameless }: Model,
): string[] {
  return [
    // A directory that cannot be listed is found so by each who tries.
    ...new Set(facts.problems.map(formatProblem)),
    ...containers
      .filter((c) => c.problems.length > 0)
      .map((c) => containerMessage(c.name, c.problems)),
    ...nameless.map((problem) => `no unit can be made: ${formatProblem(problem)}`),
  ];
}

export function warningMessages(
  { host, warnings }: Pick<Facts, 'host' | 'warnings'>,
  { containers }: Model,
): string[] {
  const wormholes = containers.map((c) => c.wormhole).filter((wormhole) => wormhole !== undefined);
  // Containers that include the same file have the same to say of it.
  const all = new Set(
    [...warnings, ...warnOfUnprotected(wormholes, host.lockers)].map(formatProblem),
  );
  for (const c of containers) for (const warning of c.warnings) all.add(formatProblem(warning));
  return [...all];
}

/** The problems of one container on one line, as /dev/kmsg has lines only. */
function containerMessage(name: string, problems: readonly Problem[]): string {
  const [first, ...others] = problems.map(formatProblem);
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  return `container "${name}" will not start: ${first ?? ''}${more}`;
}

/** What the admin hears of a run. */
import type { Problem } from '../model/problem.ts';
import { formatProblem } from '../model/problem.ts';
import { warnOfUnprotected } from '../host/lockers.ts';
import type { Model } from './decide.ts';
import type { Facts } from './read-facts.ts';

/** What an admin must mend; the generator exits 1. */
export function errorMessages(facts: Facts, { containers, nameless }: Model): string[] {
  return [
    // A directory that cannot be listed is found so by each who tries.
    ...new Set(facts.problems.map(formatProblem)),
    ...containers
      .filter((c) => c.problems.length > 0)
      .map((c) => containerMessage(c.name, c.problems)),
    ...nameless.map((problem) => `no unit can be made: ${formatProblem(problem)}`),
  ];
}

export function warningMessages({ host, warnings }: Facts, { containers }: Model): string[] {
  const all = [
    ...warnings,
    ...warnOfUnprotected(
      containers.flatMap((c) => c.wormhole ?? []),
      host.lockers,
    ),
    ...containers.flatMap((c) => c.warnings),
  ];
  // Containers that include the same file have the same to say of it.
  return [...new Set(all.map(formatProblem))];
}

/** The problems of one container on one line, as /dev/kmsg has lines only. */
function containerMessage(name: string, problems: readonly Problem[]): string {
  const [first, ...others] = problems.map(formatProblem);
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  return `container "${name}" will not start: ${first ?? ''}${more}`;
}

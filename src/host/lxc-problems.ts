import { nearestKey } from '../model/lxc-keys.ts';
import type { Problem } from '../model/problem.ts';
import type { LxcRelease } from './lxc-release.ts';
import { printable } from '../model/unit-syntax.ts';

/** A suggestion costs much more than reading the line. */
export const MAX_SUGGESTIONS = 10;

export const INLINE_COMMENT = /[ \t]#/;

/** Where a value stands that LXC would refuse. */
interface Assigned {
  readonly file: string;
  readonly line: number;
  readonly key: string;
  readonly value: string;
}

export function badValue({ file, line, key, value }: Assigned, remedy: string): Problem {
  const shown = value.length > 80 ? `${value.slice(0, 80)}...` : value;
  return {
    file,
    line,
    reason: `${printable(key.slice(0, 80))} does not take "${printable(shown)}"`,
    remedy: INLINE_COMMENT.test(value) ? 'put the comment on a line of its own' : remedy,
  };
}

export function unknownKey(
  { file, line, key }: Omit<Assigned, 'value'>,
  suggest: boolean,
): Problem {
  const nearest = suggest ? nearestKey(key) : undefined;
  return {
    file,
    line,
    reason: `unknown key "${printable(key.slice(0, 80))}"`,
    remedy:
      nearest === undefined
        ? 'remove the line or see lxc.container.conf(5)'
        : `write ${nearest} or remove the line`,
  };
}

/** More would only bury the first ones, which are what the admin mends first. */
const MAX_PROBLEMS = 100;

/** What is found wrong with a container's configuration, in the order of its lines. */
export class Notes {
  readonly problems: Problem[] = [];
  readonly warnings: Problem[] = [];
  private readonly release: () => LxcRelease | undefined;
  private leftToLxc = 0;

  constructor(release: () => LxcRelease | undefined) {
    this.release = release;
  }

  report(problem: Problem): void {
    if (this.problems.length < MAX_PROBLEMS) this.problems.push(problem);
    else if (this.problems.length === MAX_PROBLEMS) {
      const { file, line } = problem;
      const reason = 'from here on the problems are not listed any more';
      this.problems.push({ file, line, reason, remedy: 'mend the ones above first' });
    }
  }

  reportUnknown(key: Omit<Assigned, 'value'>): void {
    this.reportRefusal(unknownKey(key, this.problems.length < MAX_SUGGESTIONS));
  }

  /** What every LXC refuses that we know; a later one decides for itself. */
  reportRefusal(problem: Problem): void {
    const release = this.release();
    if (release?.isNewer !== true) {
      this.report(problem);
    } else if (this.leftToLxc++ < MAX_PROBLEMS) {
      const reason = `${problem.reason}, but LXC ${release.name} is newer than this lockerd`;
      const remedy = `if LXC refuses it, ${problem.remedy ?? 'remove it'}`;
      this.warnings.push({ ...problem, reason, remedy });
    }
  }
}

/** What a check found, and where findings are gathered. */
import type { Problem } from '../model/problem.ts';
import type { CheckId, Severity } from './catalog.ts';
import { checks } from './catalog.ts';

/** One finding; texts may hold what a guest or a file says, and are escaped where they are shown. */
export interface Finding {
  readonly id: CheckId;
  readonly severity: Severity;
  /** Undefined for what concerns the host. */
  readonly container: string | undefined;
  readonly file: string;
  /** Counted from 1; 0 for the whole file. */
  readonly line: number;
  readonly what: string;
  readonly why: string;
  /** The command or line that mends it. */
  readonly remedy: string;
}

/** Where something was found. */
export type Place = Pick<Problem, 'file' | 'line'>;

/** The findings of one run, each once. */
export class Findings {
  readonly #found = new Map<string, Finding>();

  add(
    id: CheckId,
    container: string | undefined,
    { file, line }: Place,
    what: string,
    remedy: string,
  ): void {
    const finding = { id, ...checks[id], container, file, line, what, remedy };
    this.#found.set(JSON.stringify([id, container ?? null, file, line, what]), finding);
  }

  addProblem(id: CheckId, container: string | undefined, problem: Problem): void {
    this.add(id, container, problem, problem.reason, problem.remedy ?? 'mend or remove the file');
  }

  /** Those of the host first, then each container's; the worst first. */
  sorted(): Finding[] {
    const ranks: readonly Severity[] = ['error', 'warning', 'info'];
    const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
    return [...this.#found.values()].sort(
      (a, b) =>
        compare(a.container ?? '', b.container ?? '') ||
        ranks.indexOf(a.severity) - ranks.indexOf(b.severity) ||
        compare(a.file, b.file) ||
        a.line - b.line,
    );
  }
}

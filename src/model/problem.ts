/** A problem in a file that an admin wrote: where it is, what is wrong, and how to fix it. */
export interface Problem {
  /** Absolute path of the file, as the host sees it. */
  readonly file: string;
  /** Line in the file, counted from 1; 0 for the whole file. */
  readonly line: number;
  /** What is wrong, in one sentence without a full stop. */
  readonly reason: string;
  /** What the admin can do about it, in one sentence without a full stop. */
  readonly remedy?: string;
  /** The file is on a file system that does not answer. */
  readonly isHung?: true;
}

/** A value together with the line that set it. */
export interface Located<T> {
  readonly value: T;
  readonly file: string;
  readonly line: number;
}

/** Formats a problem on one line: `FILE:LINE: REASON; REMEDY`. */
export function formatProblem(p: Problem): string {
  const where = p.line > 0 ? `${p.file}:${p.line}` : p.file;
  return p.remedy === undefined ? `${where}: ${p.reason}` : `${where}: ${p.reason}; ${p.remedy}`;
}

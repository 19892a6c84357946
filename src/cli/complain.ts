/** What went wrong, on standard error. */

import type { Terminal } from './terminal.ts';

/** Prints what went wrong, and the hint where there is one. */
export function complain(
  terminal: Terminal,
  what: string,
  problem: { readonly message: string; readonly hint?: string | undefined },
): void {
  terminal.complain(`lockerctl: ${what === '' ? '' : `${what}: `}${problem.message}`);
  if (problem.hint !== undefined) terminal.complain(problem.hint);
}

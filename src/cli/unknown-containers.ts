import { containerList } from '../explain/made-by.ts';
import { complain } from './complain.ts';
import { didYouMean } from './suggest.ts';
import type { Terminal } from './terminal.ts';

/** Says which containers this host does not have, by its files. */
export function complainOfUnknown(
  terminal: Terminal,
  root: string,
  unknown: readonly string[],
): void {
  const known = unknown.length === 0 ? [] : containerList(root).names;
  for (const name of unknown) {
    const message = `there is no container "${name}"`;
    complain(terminal, '', { message, hint: didYouMean(name, known) });
  }
}

/** What is said of limits of cgroup v1, which LXC 7 refuses. */
import { cgroup2Line } from '../model/cgroup1-keys.ts';
import type { Problem } from '../model/problem.ts';
import { printable } from '../model/unit-syntax.ts';
import type { LxcAssignment } from './grammar.ts';
import type { Notes } from './lxc-problems.ts';
import type { LxcRelease } from './lxc-release.ts';

/** Nobody reads more of them. */
const mostSaid = 200;

/** The files of the lxc package change with it. */
const packaged = '/usr/share/lxc/';

/** Says of each such line of a file that LXC refuses it or, once, that a later LXC will. */
export function noteCgroup1(
  { notes, release }: { readonly notes: Notes; readonly release: () => LxcRelease | undefined },
  file: string,
  lines: readonly LxcAssignment[],
): void {
  const [first] = lines;
  if (first === undefined) return;
  const installed = release();
  if (installed === undefined) return;
  if (!installed.takesCgroup1) {
    for (const line of lines.slice(0, mostSaid))
      notes.report(noteOf(file, line, lines, installed.name));
  } else if (!file.startsWith(packaged)) {
    const note = noteOf(file, first, lines, '7');
    const more = lines.length === 1 ? '' : ` (and so on: ${lines.length} such lines)`;
    notes.warnings.push({ ...note, remedy: `for the upgrade, ${note.remedy ?? ''}${more}` });
  }
}

function noteOf(
  file: string,
  { key, value, line }: LxcAssignment,
  lines: readonly LxcAssignment[],
  lxc: string,
): Problem {
  const lookup = (other: string): string | undefined =>
    lines.filter((assigned) => assigned.key === other).at(-1)?.value;
  const instead = cgroup2Line(key, value, lookup);
  const shown = printable(key.slice(0, 80));
  return {
    file,
    line,
    reason: `LXC ${lxc} refuses ${shown}, and with it the whole configuration`,
    remedy:
      instead === undefined
        ? 'remove the line; cgroup v2 has no limit that says the same'
        : `write: ${printable(instead.slice(0, 160))}`,
  };
}

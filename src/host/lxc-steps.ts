/**
 * What one configuration file asks for: its lines without those that neither set a value nor are
 * wrong. That depends on the file alone, so it is found once for a file that many containers
 * include.
 */
import { isCgroup1Key } from '../model/cgroup1-keys.ts';
import { matchKey } from '../model/lxc-keys.ts';
import type { Problem } from '../model/problem.ts';
import { shellWord } from '../model/shell-quote.ts';
import { printable } from '../model/unit-syntax.ts';
import type { LxcAssignment } from './grammar.ts';
import { includeTarget } from './grammar.ts';
import { isLimitKey } from './lxc-limits.ts';
import { INLINE_COMMENT, MAX_SUGGESTIONS, unknownKey } from './lxc-problems.ts';
import type { LxcFile, LxcInclude } from './lxc-source.ts';
import { tableKeyKind } from './lxc-values.ts';

/** A line that sets or clears something, or a note on it. */
export type Step =
  | { readonly kind: 'set'; readonly key: string; readonly line: LxcAssignment }
  | { readonly kind: 'net'; readonly line: LxcAssignment }
  | { readonly kind: 'cgroup'; readonly line: LxcAssignment }
  /** A limit of cgroup v1. */
  | { readonly kind: 'cgroup1'; readonly line: LxcAssignment }
  | { readonly kind: 'old-net'; readonly line: LxcAssignment }
  | { readonly kind: 'include'; readonly line: number; readonly include: LxcInclude }
  /** A refusal is what LXC says to a key that it does not know. */
  | { readonly kind: 'problem' | 'refusal' | 'warning'; readonly note: Problem };

/**
 * A thousand containers include the same distribution files: those are worked through once. The
 * compiled program collects no garbage, so what it does not read again must not be in here.
 */
const known = new WeakMap<LxcFile, Steps>();

/** What a file asks for. */
export interface Steps {
  /** How many there are. */
  readonly count: number;
  /** Those that change something or say something. */
  readonly acting: readonly Step[];
  /** Lines with limits of cgroup v1. */
  readonly cgroup1: readonly LxcAssignment[];
}

/** The same for a file that others may include as well. */
export function stepsOfIncluded(file: LxcFile): Steps {
  let steps = known.get(file);
  if (steps === undefined) {
    steps = stepsOf(file);
    known.set(file, steps);
  }
  return steps;
}

export function stepsOf(file: LxcFile): Steps {
  const found = findSteps(file);
  const cgroup1: LxcAssignment[] = [];
  for (const step of found) if (step.kind === 'cgroup1') cgroup1.push(step.line);
  const isActing = (step: Step): boolean => step.kind !== 'cgroup1' || isLimitKey(step.line.key);
  return {
    count: found.length,
    acting: cgroup1.length === 0 ? found : found.filter(isActing),
    cgroup1,
  };
}

function findSteps(file: LxcFile): Step[] {
  const { path, text } = file;
  const found: Step[] = fileNotes(file);
  let includes = 0;
  const budget = { suggestions: MAX_SUGGESTIONS };
  for (const line of text.lines) {
    if ('error' in line) {
      found.push(
        problem(path, line.line, line.error, 'write KEY = VALUE, or put a # in front of the line'),
      );
      continue;
    }
    if (includeTarget(line) !== undefined) {
      const included = file.includes[includes++];
      if (file.badLines.has(line.line)) found.push(notUtf8(path, line));
      else if (included !== undefined) {
        found.push({ kind: 'include', line: line.line, include: included });
      }
    } else findSetSteps(file, line, found, budget);
  }
  // The problems of a program's bytes read as text would bury the one that matters.
  if (text.control === undefined) return found;
  const control = text.control.code.toString(16).padStart(2, '0');
  return [
    problem(
      path,
      text.control.line,
      `is not a text file: it has the control byte 0x${control}`,
      'write the configuration as text',
    ),
    ...found.filter((step) => !('note' in step)),
  ];
}

function fileNotes({ path, text }: LxcFile): Step[] {
  const notes: Step[] = [];
  if (text.nulLine !== undefined) {
    notes.push(
      warning(path, text.nulLine, 'LXC ignores the file from the NUL byte here on', 'remove it'),
    );
  }
  if (text.markHidesKey) {
    notes.push(
      warning(path, 1, 'LXC ignores this line, for it starts with a byte order mark', 'remove it'),
    );
  }
  return notes;
}

function findSetSteps(
  file: LxcFile,
  line: LxcAssignment,
  found: Step[],
  budget: { suggestions: number },
): void {
  const { path } = file;
  const step = stepOf(path, line, found, budget);
  if (step === undefined) return;
  if (file.badLines.has(line.line)) {
    found.push(notUtf8(path, line));
    return;
  }
  found.push(step);
  if (line.value.includes('#') && INLINE_COMMENT.test(line.value)) {
    found.push(
      warning(
        path,
        line.line,
        `the "#" is part of the value of ${printable(line.key)}`,
        'put the comment on a line of its own',
      ),
    );
  }
}

/** What a line sets, if we read its key; adds to `found` what is wrong with the key. */
function stepOf(
  path: string,
  line: LxcAssignment,
  found: Step[],
  budget: { suggestions: number },
): Step | undefined {
  const { key } = line;
  if (key.startsWith('lxc.net.') || key === 'lxc.net') return { kind: 'net', line };
  const kind = tableKeyKind(key);
  if (kind === 'plain') return { kind: 'set', key, line };
  const match = matchKey(key);
  if (match.kind === 'mute' && line.value !== '') {
    found.push(problem(path, line.line, `${key} takes no value of its own`, 'remove the line'));
  } else if (kind === 'family') {
    return { kind: 'set', key, line };
  } else if (isCgroup1Key(key)) {
    return { kind: 'cgroup1', line };
  } else if (isLimitKey(key)) {
    return { kind: 'cgroup', line };
  } else if (match.kind === 'unknown') {
    found.push({
      kind: 'refusal',
      note: unknownKey({ file: path, line: line.line, key }, budget.suggestions-- > 0),
    });
  } else if (match.kind === 'legacy') {
    const reason =
      `${printable(key.slice(0, 80))} is a key of LXC 1.x and 2.x, ` +
      'which LXC 3 and later refuse';
    const remedy = `run: lxc-update-config -c ${shellWord(printable(path))}`;
    found.push(problem(path, line.line, reason, remedy));
    if (kind === 'legacy') return { kind: 'set', key, line };
    if (key === 'lxc.network' || key.startsWith('lxc.network.')) return { kind: 'old-net', line };
    if (match.now !== undefined && tableKeyKind(match.now) === 'plain') {
      return { kind: 'set', key: match.now, line };
    }
  }
  return undefined;
}

function notUtf8(file: string, { line, key }: LxcAssignment): Step {
  return problem(
    file,
    line,
    `the value of ${printable(key.slice(0, 80))} is not UTF-8`,
    'save the file in UTF-8',
  );
}

function problem(file: string, line: number, reason: string, remedy: string) {
  return { kind: 'problem', note: { file, line, reason, remedy } } as const;
}

function warning(file: string, line: number, reason: string, remedy: string): Step {
  return { kind: 'warning', note: { file, line, reason, remedy } };
}

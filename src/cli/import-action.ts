/** "import": shows what src/import would change, and changes it with --apply. */

import { applyImport, ImportError } from '../import/apply-import.ts';
import type { Change } from '../import/changes.ts';
import { planImport } from '../import/plan-import.ts';
import { unifiedDiff } from '../import/unified-diff.ts';
import { withoutTrailingSlashes } from '../model/path.ts';
import type { Invocation } from './arguments.ts';
import { enter } from './enter.ts';
import { CommandError, exitStatus } from './exit.ts';
import type { JsonValue } from './json.ts';
import { complainOfUnknown } from './unknown-containers.ts';
import type { Terminal } from './terminal.ts';
import { escapeText } from './text.ts';

/** As patch(1) takes it: what stands before the names of the files is a comment. */
function toLines(terminal: Terminal, change: Change): string[] {
  const path = escapeText(change.path);
  const colour = (line: string): string => {
    if (line.startsWith('-')) return terminal.paint(line, 'red');
    return line.startsWith('+') ? terminal.paint(line, 'green') : escapeText(line);
  };
  switch (change.kind) {
    case 'edit':
      return [
        ...change.edits.map(({ line, reason }) => `# ${path}:${line}: ${escapeText(reason)}`),
        `--- ${path}`,
        `+++ ${path}`,
        ...unifiedDiff(change.before, change.edits).map(colour),
      ];
    case 'create':
      return [
        ...change.reasons.map((reason) => `# ${path}: ${escapeText(reason)}`),
        '--- /dev/null',
        `+++ ${path}`,
        ...unifiedDiff('', [
          { line: 1, after: change.text.split('\n').slice(0, -1), reason: '' },
        ]).map(colour),
      ];
    case 'link':
      return [
        `# ${path}: ${escapeText(change.reason)}`,
        colour(`+ link ${change.path} -> ${change.target}`),
      ];
    case 'unlink':
      return [
        `# ${path}: ${escapeText(change.reason)}`,
        colour(`- link ${change.path} -> ${change.target}`),
      ];
  }
}

function toJsonValue(change: Change): JsonValue {
  if (change.kind !== 'edit') return { ...change };
  const { kind, path, edits } = change;
  return { kind, path, edits: edits.map((edit) => ({ ...edit })) };
}

/** What remains to be done by hand. */
function printEnd(terminal: Terminal, changes: number, undo: string | undefined): void {
  const count = `${changes} ${changes === 1 ? 'change' : 'changes'}`;
  if (changes === 0) terminal.print('Nothing is left to import.');
  else if (undo === undefined) {
    terminal.print(`${count}, none of them made. To make them: lockerctl import --apply`);
  } else {
    terminal.print(
      `${count} made. Old files are beside the new ones, *.before-import. To undo: sh ${undo}`,
      'Now run: systemctl daemon-reload && lockerctl check',
    );
  }
}

/** Imports on this host, or has another one do it. */
export async function importContainers(
  invocation: Invocation,
  terminal: Terminal,
): Promise<number> {
  if (invocation.host !== undefined) return enter(invocation);
  const root = withoutTrailingSlashes(process.env['LOCKERD_ROOT'] ?? '');
  const { changes, notes, unknown } = planImport(root, invocation.operands);
  complainOfUnknown(terminal, root, unknown);
  if (unknown.length > 0) return exitStatus.noSuchObject;
  let undo: string | undefined;
  if (invocation.apply && changes.length > 0) {
    try {
      undo = applyImport(root, changes, new Date());
    } catch (error) {
      if (!(error instanceof ImportError)) throw error;
      throw new CommandError(error.message, exitStatus.failure, undefined, { cause: error });
    }
  }
  if (invocation.json) {
    terminal.printJson(
      { changes: changes.map(toJsonValue), notes, undo: undo ?? null },
      invocation.json,
    );
    return exitStatus.ok;
  }
  if (!invocation.quiet) {
    for (const change of changes) terminal.print(...toLines(terminal, change), '');
    for (const note of notes) terminal.print(`note: ${escapeText(note)}`);
    if (invocation.legend) printEnd(terminal, changes.length, undo);
  }
  return exitStatus.ok;
}

/** "explain" and "diff": what src/explain knows, for people and as JSON. Neither needs the service. */

import { changeWords } from '../explain/change-words.ts';
import { containerList, explain, type MadeFile, type Maker } from '../explain/made-by.ts';
import { concerns, plannedChanges, unifiedDiff } from '../explain/unit-change.ts';
import { containerUnit } from '../model/unit-name.ts';
import { withoutTrailingSlashes } from '../model/path.ts';
import type { Invocation } from './arguments.ts';
import { enter } from './enter.ts';
import { CommandError, exitStatus } from './exit.ts';
import type { JsonValue } from './json.ts';
import { didYouMean } from './suggest.ts';
import type { Colour, Terminal } from './terminal.ts';
import { escapeText } from './text.ts';

const hostRoot = (): string => withoutTrailingSlashes(process.env['LOCKERD_ROOT'] ?? '');

function unknownContainer(name: string, known: readonly string[]): CommandError {
  const message = `there is no container "${name}"`;
  return new CommandError(message, exitStatus.noSuchObject, didYouMean(name, known));
}

const makerLine = (terminal: Terminal, { file, line, text }: Maker): string =>
  `      ${terminal.arrow} ${escapeText(`${file}:${line}: ${text}`)}`;

const sameMakers = (a: readonly Maker[], b: readonly Maker[]): boolean =>
  a.length === b.length &&
  a.every(({ file, line }, i) => file === b[i]?.file && line === b[i].line);

/** A file or link with what made it; what all its lines have in common is said once. */
function fileLines(terminal: Terminal, file: MadeFile): string[] {
  const { path, target, makers, lines } = file;
  const link = target === undefined ? '' : ` ${terminal.arrow} ${target}`;
  let section = '';
  return [
    '',
    terminal.paint(escapeText(path + link), 'bold'),
    ...makers.map((maker) => makerLine(terminal, maker)),
    ...lines.flatMap((line) => {
      const heading = line.section === section ? [] : [`  ${line.section}`];
      section = line.section;
      const own = sameMakers(line.makers, makers) ? [] : line.makers;
      return [
        ...heading,
        `  ${escapeText(line.text)}`,
        ...own.map((maker) => makerLine(terminal, maker)),
      ];
    }),
  ];
}

const makersJson = (makers: readonly Maker[]): JsonValue => makers.map((maker) => ({ ...maker }));

function fileJson({ path, target, makers, lines }: MadeFile): JsonValue {
  return {
    path,
    target: target ?? null,
    makers: makersJson(makers),
    lines: lines.map((line) => ({ ...line, makers: makersJson(line.makers) })),
  };
}

/** Explains one container of this host, or has another host do it. */
export async function explainUnits(invocation: Invocation, terminal: Terminal): Promise<number> {
  if (invocation.host !== undefined) return enter(invocation);
  const root = hostRoot();
  const containers = containerList(root);
  const [name = ''] = invocation.operands;
  if (!containers.names.includes(name)) {
    throw unknownContainer(name, containers.names);
  }
  const { files, problems } = explain(root, containers, name);
  if (invocation.json) {
    terminal.printJson({ container: name, problems, files: files.map(fileJson) }, invocation.json);
    return exitStatus.ok;
  }
  for (const problem of problems) terminal.print(escapeText(`${name} will not start: ${problem}`));
  terminal.print(
    ...files.flatMap((file) => fileLines(terminal, file)).slice(problems.length ? 0 : 1),
  );
  return exitStatus.ok;
}

const diffColours: Readonly<Record<string, Colour>> = { '+': 'green', '-': 'red', '@': 'blue' };

function diffLine(terminal: Terminal, line: string): string {
  const colour = diffColours[line.slice(0, 1)];
  const text = escapeText(line);
  return colour === undefined ? text : terminal.paint(text, colour);
}

/** Tells what the next daemon-reload of this host would change, or has another host tell it. */
export async function diffUnits(invocation: Invocation, terminal: Terminal): Promise<number> {
  if (invocation.host !== undefined) return enter(invocation);
  const root = hostRoot();
  const { operands } = invocation;
  const all = plannedChanges(root);
  const known = new Set([...containerList(root).names, ...all.namesBefore]);
  const unknown = operands.find((name) => !known.has(name));
  if (unknown !== undefined) {
    throw unknownContainer(unknown, [...known]);
  }
  const names = operands.length > 0 ? [...new Set(operands)] : [...known].sort();
  const sentences = names.flatMap((name) => {
    const own = all.changes.filter((change) => concerns(change, name));
    if (own.length === 0) return [];
    const words = changeWords(own, all.refused.get(name) ?? [], containerUnit(name));
    return words.map((words) => ({ container: name, words }));
  });
  const changes =
    operands.length === 0
      ? all.changes
      : all.changes.filter((change) => names.some((name) => concerns(change, name)));
  if (invocation.json) {
    const shown = changes.map(({ path, before, after }) => ({
      path,
      before: before ?? null,
      after: after ?? null,
    }));
    terminal.printJson({ sentences, changes: shown }, invocation.json);
    return exitStatus.ok;
  }
  for (const { container, words } of sentences) {
    terminal.print(escapeText(`${container}: ${words}`));
  }
  if (invocation.quiet) return exitStatus.ok;
  if (changes.length === 0) terminal.print('A daemon-reload would change nothing.');
  for (const change of changes) {
    terminal.print(
      ...unifiedDiff(change)
        .split('\n')
        .map((line) => diffLine(terminal, line)),
    );
  }
  return exitStatus.ok;
}

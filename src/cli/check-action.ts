/** "check": what src/check has found, for people and as JSON. */

import { checkHost } from '../check/check.ts';
import type { Severity } from '../check/catalog.ts';
import type { Finding } from '../check/findings.ts';
import { withoutTrailingSlashes } from '../model/path.ts';
import type { Invocation } from './arguments.ts';
import { enter } from './enter.ts';
import { exitStatus } from './exit.ts';
import type { JsonValue } from './json.ts';
import { complainOfUnknown } from './unknown-containers.ts';
import type { Colour, Terminal } from './terminal.ts';
import { escapeText, wrapText } from './text.ts';

const colours: Readonly<Record<Severity, Colour>> = {
  error: 'red',
  warning: 'yellow',
  info: 'blue',
};

/** Columns where the output is no terminal. */
const plainColumns = 100;

/** Findings that are mended in the same way follow each other: why and how are said once. */
function grouped(findings: readonly Finding[]): Finding[][] {
  const groups: Finding[][] = [];
  for (const finding of findings) {
    const last = groups.at(-1)?.[0];
    const isSame = (['container', 'id', 'file', 'remedy'] as const).every(
      (key) => last?.[key] === finding[key],
    );
    if (isSame) groups.at(-1)?.push(finding);
    else groups.push([finding]);
  }
  return groups;
}

function toLines(terminal: Terminal, [first, ...others]: readonly Finding[]): string[] {
  if (first === undefined) return [];
  const { id, severity, container, file, line, what, why, remedy } = first;
  const columns = Math.max(terminal.traits.columns ?? plainColumns, 40);
  const subject = container === undefined ? 'host' : escapeText(container);
  const where = `${escapeText(file)}${line > 0 ? `:${line}` : ''}`;
  const body = (text: string): string[] =>
    wrapText(escapeText(text), columns - 4).map((part) => `    ${part}`);
  return [
    `${terminal.paint(severity, colours[severity])} ${subject}: ${where} [${id}]`,
    ...body(what),
    ...others.flatMap((other) => body(`line ${other.line}: ${other.what}`)),
    ...body(why),
    // Not wrapped: people paste it.
    `    ${terminal.arrow} ${escapeText(remedy)}`,
  ];
}

function toJsonValue({ container, ...finding }: Finding): JsonValue {
  return { ...finding, container: container ?? null };
}

/** `2 errors, 1 warning` */
function summary(findings: readonly Finding[]): string {
  const counts = (['error', 'warning', 'info'] as const).flatMap((severity) => {
    const count = findings.filter((finding) => finding.severity === severity).length;
    const word = severity === 'info' ? 'note' : severity;
    return count === 0 ? [] : [`${count} ${word}${count === 1 ? '' : 's'}`];
  });
  return counts.length === 0 ? 'nothing found' : counts.join(', ');
}

/** The exit status that belongs to the worst finding. */
function statusOf(findings: readonly Finding[]): number {
  const has = (severity: Severity): boolean =>
    findings.some((finding) => finding.severity === severity);
  if (has('error')) return exitStatus.failure;
  return has('warning') ? exitStatus.warnings : exitStatus.ok;
}

/** Checks this host, or has another one check itself. */
export async function check(invocation: Invocation, terminal: Terminal): Promise<number> {
  if (invocation.host !== undefined) return enter(invocation);
  const root = withoutTrailingSlashes(process.env['LOCKERD_ROOT'] ?? '');
  const { findings, containers, unknown } = checkHost(root, invocation.operands);
  complainOfUnknown(terminal, root, unknown);
  if (invocation.json) terminal.printJson(findings.map(toJsonValue), invocation.json);
  else {
    const shown = findings.filter(({ severity }) => !invocation.quiet || severity === 'error');
    for (const group of grouped(shown)) terminal.print(...toLines(terminal, group));
    const what = `${containers.length} ${containers.length === 1 ? 'container' : 'containers'}`;
    if (invocation.legend) terminal.print(`${what} checked: ${summary(findings)}.`);
  }
  const status = statusOf(findings);
  return unknown.length > 0 && status !== exitStatus.failure ? exitStatus.noSuchObject : status;
}

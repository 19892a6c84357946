/** What "list", "status", "lockers", "jobs" and "permissions" print, from what the bus says. */

import type { ContainerInfo, JobInfo, LockerInfo } from './object-info.ts';
import { isUp } from './object-info.ts';
import { formatProgress } from './run-job.ts';
import type { JsonValue } from './json.ts';
import { formatBytes, unlimited } from '../model/memory-limit.ts';
import { formatLimit } from './size.ts';
import { renderTable, type Column } from './text-table.ts';
import type { Colour, Terminal } from './terminal.ts';
import { escapeText, pad, textWidth, wrapText } from './text.ts';
import { formatAgo, formatTimestamp } from './time.ts';
import { usageFields, usageJson } from './usage-views.ts';

const stateColours: Readonly<Record<string, Colour>> = {
  running: 'green',
  failed: 'red',
  broken: 'red',
  unknown: 'red',
  frozen: 'blue',
  starting: 'yellow',
  waiting: 'yellow',
  unmet: 'red',
  stopping: 'yellow',
  freezing: 'yellow',
};

function colourOf(
  word: string,
  colours: Readonly<Record<string, Colour>> | undefined,
): Colour | undefined {
  return colours !== undefined && Object.hasOwn(colours, word) ? colours[word] : undefined;
}

const permissionColours: Readonly<Record<string, Colour>> = {
  yes: 'green',
  no: 'red',
  challenge: 'yellow',
};

/** Stands for what is not there. */
const none = '-';

/** `yes (config)`: what will happen at boot and who decided it first; "status" has all of them. */
function autostartWord({ autostart, autostartReasons: [reason] }: ContainerInfo): string {
  const word = autostart ? 'yes' : 'no';
  return reason === undefined ? word : `${word} (${escapeText(reason)})`;
}

/** What the words of the property AutostartReasons mean. */
const reasonTexts: Readonly<Record<string, string>> = {
  setting: '"autostart" in its settings',
  needed: 'a container that starts needs or wants it',
  config: 'lxc.start.auto',
  options: 'OPTIONS in /etc/default/lxc',
  runlevel: 'a link to its init script in a runlevel',
  enabled: 'enabled with systemctl',
  masked: 'its unit is masked',
  'other-unit': 'only units that the boot does not start want it',
  'lxc-auto': 'lxc.start.auto is 1, but LXC_AUTO in /etc/default/lxc is not "true"',
  'lxc-service': 'lxc.start.auto is 1, but lxc.service is not enabled',
  'boot-groups': 'lxc.start.auto is 1, but BOOTGROUPS in /etc/default/lxc has none of its groups',
};

function bootText({ autostart, autostartReasons }: ContainerInfo): string {
  const texts = autostartReasons.map((word) =>
    Object.hasOwn(reasonTexts, word) ? (reasonTexts[word] ?? word) : word,
  );
  const what = autostart ? 'starts at boot' : 'does not start at boot';
  return texts.length === 0 ? what : `${what}: ${texts.join('; ')}`;
}

/** `data`, or `data:ro` as lockerd.conf(5) has it. */
function lockerWord(name: string, readOnly: boolean): string {
  return escapeText(name) + (readOnly ? ':ro' : '');
}

function listOf(words: readonly string[]): string {
  return words.length === 0 ? none : words.join(',');
}

/** Bytes in use; unknown while a container is stopped. */
function usage(container: ContainerInfo): bigint | undefined {
  return isUp(container.state) || container.state === 'stopping'
    ? container.memoryCurrent
    : undefined;
}

interface TableView {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[])[];
  /** Which column is coloured, by its words. */
  readonly coloured?: {
    readonly column: number;
    readonly colours: Readonly<Record<string, Colour>>;
  };
  /** `container`, for "3 containers listed." */
  readonly noun: string;
}

function printTable(terminal: Terminal, view: TableView, legend: boolean): void {
  const { columns, rows, coloured, noun } = view;
  const lines = renderTable(columns, rows, {
    width: terminal.traits.columns,
    legend: legend && rows.length > 0,
    mark: terminal.mark,
    paintHeader: (line) => terminal.paint(line, 'underline'),
    paint: (text, column, cell) => {
      const colour = colourOf(cell, column === coloured?.column ? coloured.colours : undefined);
      return colour === undefined ? text : terminal.paint(text, colour);
    },
  });
  if (lines.length > 0) terminal.print(...lines);
  if (!legend) return;
  const count = rows.length === 0 ? 'No' : String(rows.length);
  terminal.print(
    ...(rows.length > 0 ? [''] : []),
    `${count} ${noun}${rows.length === 1 ? '' : 's'} listed.`,
  );
}

/** "list" */
export function printContainers(
  terminal: Terminal,
  containers: readonly ContainerInfo[],
  legend: boolean,
): void {
  const rows = containers.map((container) => {
    const used = usage(container);
    return [
      escapeText(container.name),
      escapeText(container.state),
      autostartWord(container),
      container.leader === 0 ? none : String(container.leader),
      used === undefined ? none : formatBytes(used),
      container.memoryLimit === unlimited ? none : formatBytes(container.memoryLimit),
      listOf(container.lockers.map(({ name, readOnly }) => lockerWord(name, readOnly))),
    ];
  });
  const columns: Column[] = [
    { header: 'CONTAINER', shrinks: true },
    { header: 'STATE' },
    { header: 'AUTOSTART' },
    { header: 'LEADER', align: 'right' },
    { header: 'MEMORY', align: 'right' },
    { header: 'LIMIT', align: 'right' },
    { header: 'LOCKERS', shrinks: true },
  ];
  const coloured = { column: 1, colours: stateColours };
  printTable(terminal, { columns, rows, coloured, noun: 'container' }, legend);
}

/** "lockers" */
export function printLockers(
  terminal: Terminal,
  lockers: readonly LockerInfo[],
  legend: boolean,
): void {
  const rows = lockers.map((locker) => [
    escapeText(locker.name),
    locker.mounted ? 'mounted' : 'unmounted',
    escapeText(locker.source) || none,
    listOf(locker.attachedTo.map(({ container, readOnly }) => lockerWord(container, readOnly))),
    escapeText(locker.description),
  ]);
  const columns: Column[] = [
    { header: 'LOCKER', shrinks: true },
    { header: 'STATE' },
    { header: 'SOURCE', shrinks: true },
    { header: 'CONTAINERS', shrinks: true },
    { header: 'DESCRIPTION', shrinks: true },
  ];
  const coloured = { column: 1, colours: { mounted: 'green' } as const };
  printTable(terminal, { columns, rows, coloured, noun: 'locker' }, legend);
}

function jobState(job: JobInfo): string {
  return escapeText(job.state === 'done' ? job.result : job.state);
}

/** "jobs" */
export function printJobs(terminal: Terminal, jobs: readonly JobInfo[], legend: boolean): void {
  const rows = jobs.map((job) => [
    String(job.id),
    escapeText(job.container),
    escapeText(job.verb),
    escapeText(job.locker) || none,
    jobState(job),
    escapeText(job.phase) || none,
    formatProgress(job.progress) || none,
    String(job.uid),
  ]);
  const columns: Column[] = [
    { header: 'JOB', align: 'right' },
    { header: 'CONTAINER', shrinks: true },
    { header: 'VERB' },
    { header: 'LOCKER', shrinks: true },
    { header: 'STATE' },
    { header: 'PHASE' },
    { header: 'DONE', align: 'right' },
    { header: 'UID', align: 'right' },
  ];
  printTable(terminal, { columns, rows, noun: 'job' }, legend);
}

/** "permissions" */
export function printPermissions(
  terminal: Terminal,
  permissions: Readonly<Record<string, string>>,
  legend: boolean,
): void {
  const rows = Object.entries(permissions)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([action, answer]) => [escapeText(action), escapeText(answer)]);
  const columns: Column[] = [{ header: 'ACTION', shrinks: true }, { header: 'PERMISSION' }];
  const coloured = { column: 1, colours: permissionColours };
  printTable(terminal, { columns, rows, coloured, noun: 'action' }, legend);
}

function memoryLines(container: ContainerInfo): string[] {
  const used = usage(container);
  const facts = [
    container.memoryLimit === unlimited
      ? 'no limit'
      : `limit: ${formatBytes(container.memoryLimit)}`,
  ];
  if (used === undefined) return [facts.join(', ')];
  if (container.memoryPeak !== undefined) facts.push(`peak: ${formatBytes(container.memoryPeak)}`);
  facts.push(`pressure: ${container.memoryPressure.toFixed(2)}%`);
  if (container.oomKills > 0n) facts.push(`OOM kills: ${container.oomKills}`);
  return [`${formatBytes(used)} (${facts.join(', ')})`];
}

function swapLines(container: ContainerInfo): string[] {
  const { swapCurrent = 0n, swapLimit } = container;
  if (usage(container) === undefined || (swapCurrent === 0n && swapLimit === unlimited)) return [];
  return [`${formatBytes(swapCurrent)} (limit: ${formatLimit(swapLimit)})`];
}

function jobLine(job: JobInfo): string {
  const words = [`${job.id}`, job.verb, job.locker, jobState(job), job.phase];
  return escapeText(
    [...words, formatProgress(job.progress)].filter((word) => word !== '').join(' '),
  );
}

/** "status": one container. Nothing is cut; long lines are broken on a terminal. */
export function printStatus(
  terminal: Terminal,
  container: ContainerInfo,
  jobs: readonly JobInfo[],
  nowUsec: bigint,
): void {
  const { since, leader } = container;
  const state = escapeText(container.state);
  const when = since === 0n ? '' : ` since ${formatTimestamp(since)}; ${formatAgo(since, nowUsec)}`;
  const fields: [string, readonly string[]][] = [
    ['State', [state + when]],
    ['Needs', container.waitsFor],
    ['Unit', [`${container.unit} (${bootText(container)})`]],
    ['Config', [container.configFile]],
    ['Leader', leader === 0 ? [] : [String(leader)]],
    ['Memory', memoryLines(container)],
    ['Swap', swapLines(container)],
    ...usageFields(container),
    ['Lockers', container.lockers.map(({ name, readOnly }) => lockerWord(name, readOnly))],
    ['Jobs', jobs.map(jobLine)],
    ['Problem', container.problem.split('\n').filter((line) => line !== '')],
  ];
  const colour = colourOf(state, stateColours);
  const paint = (text: string): string =>
    colour === undefined ? text : terminal.paint(text, colour);
  const indent = Math.max(...fields.map(([label]) => textWidth(label))) + 4;
  const columns = terminal.traits.columns;
  const wrap = (line: string): string[] =>
    columns === undefined ? [line] : wrapText(line, Math.max(20, columns - indent - 2));
  const name = escapeText(container.name);
  const title = columns === undefined ? [name] : wrapText(name, columns - 2);
  terminal.print(
    ...title.map((line, index) =>
      index === 0 ? `${paint(terminal.bullet)} ${line}` : `  ${line}`,
    ),
  );
  for (const [label, texts] of fields) {
    const lines = texts.flatMap((text) => wrap(escapeText(text)));
    const printed = lines.map((line, index) => {
      const head = index === 0 ? `${pad(label, indent, 'right')}: ` : ' '.repeat(indent + 2);
      const isState = label === 'State' && index === 0;
      const rest = isState ? paint(state) + line.slice(state.length) : line;
      return (head + rest).trimEnd();
    });
    if (printed.length > 0) terminal.print(...printed);
  }
}

function limitJson(bytes: bigint): bigint | null {
  return bytes === unlimited ? null : bytes;
}

/** A container as --json has it: sizes in bytes, null for no limit or unknown. */
export function containerJson(container: ContainerInfo, jobs?: readonly JobInfo[]): JsonValue {
  const running = usage(container) !== undefined;
  return {
    container: container.name,
    state: container.state,
    waits_for: container.waitsFor,
    autostart: container.autostart,
    autostart_reasons: container.autostartReasons,
    leader: container.leader === 0 ? null : container.leader,
    since_usec: container.since === 0n ? null : container.since,
    unit: container.unit,
    config_file: container.configFile,
    problem: container.problem,
    memory: usage(container) ?? null,
    memory_limit: limitJson(container.memoryLimit),
    memory_peak: running ? (container.memoryPeak ?? null) : null,
    memory_pressure: container.memoryPressure,
    swap: running ? (container.swapCurrent ?? null) : null,
    swap_limit: limitJson(container.swapLimit),
    oom_kills: container.oomKills,
    ...usageJson(container),
    lockers: container.lockers.map(({ name, readOnly }) => ({ locker: name, read_only: readOnly })),
    jobs: jobs?.map(jobJson),
  };
}

/** A locker as --json has it. */
export function lockerJson(locker: LockerInfo): JsonValue {
  return {
    locker: locker.name,
    mounted: locker.mounted,
    source: locker.source,
    description: locker.description,
    attached_to: locker.attachedTo.map(({ container, readOnly }) => ({
      container,
      read_only: readOnly,
    })),
  };
}

/** A job as --json has it. */
export function jobJson(job: JobInfo): JsonValue {
  return {
    job: job.id,
    verb: job.verb,
    container: job.container,
    locker: job.locker === '' ? null : job.locker,
    state: job.state,
    phase: job.phase,
    progress: job.progress ?? null,
    cancelable: job.cancelable,
    uid: job.uid,
    started_usec: job.started,
    result: job.result === '' ? null : job.result,
    error: job.error === '' ? null : job.error,
  };
}

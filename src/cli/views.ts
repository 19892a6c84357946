/** What "list", "status", "jobs" and "permissions" print, from what the bus says. */

import type { ColumnName, Row } from './container-columns.ts';
import { containerColumn, guestJson, lockerWord, none, usage } from './container-columns.ts';
import type { ContainerInfo, GuestInfo, JobInfo } from './object-info.ts';
import { formatProgress } from './run-job.ts';
import type { JsonObject } from './json.ts';
import { formatBytes, unlimited } from '../model/memory-limit.ts';
import { formatLimit } from './size.ts';
import { renderTable, type Column } from './text-table.ts';
import type { Colour, Terminal } from './terminal.ts';
import { escapeText, pad, textWidth, wrapText } from './text.ts';
import { formatAgo, formatSpan, formatTimestamp } from './time.ts';
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

/** What the words of the property AutostartReasons mean. */
const reasonTexts: Readonly<Record<string, string>> = {
  setting: '"autostart" in its settings',
  cluster: 'Pacemaker starts it, on one node of the cluster',
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

/** What the next boot does with a container, and who decided that. */
export function bootText({ autostart, autostartReasons }: ContainerInfo): string {
  const texts = autostartReasons.map((word) =>
    Object.hasOwn(reasonTexts, word) ? (reasonTexts[word] ?? word) : word,
  );
  const what = autostart ? 'starts at boot' : 'does not start at boot';
  return texts.length === 0 ? what : `${what}: ${texts.join('; ')}`;
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

export function printTable(terminal: Terminal, view: TableView, legend: boolean): void {
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

/** What a table of one or several hosts shows beside its rows. */
export interface TableOptions {
  readonly legend: boolean;
  /** The host of each row, which is then its first column; absent where all are of one host. */
  readonly hosts?: readonly string[];
}

/** The table with the hosts of its rows in a column before the others. */
export function withHosts(view: TableView, { hosts }: TableOptions): TableView {
  if (hosts === undefined) return view;
  const { columns, rows, coloured } = view;
  return {
    ...view,
    columns: [{ header: 'HOST', shrinks: true }, ...columns],
    rows: rows.map((row, index) => [escapeText(hosts[index] ?? ''), ...row]),
    ...(coloured && { coloured: { ...coloured, column: coloured.column + 1 } }),
  };
}

/** "list": a line a container, with the columns that are wanted. */
export function printContainers(
  terminal: Terminal,
  rows: readonly Row[],
  options: TableOptions,
  names: readonly ColumnName[],
): void {
  const columns = names.map((name) => ({
    header: name.toUpperCase(),
    ...containerColumn(name).look,
  }));
  const cells = rows.map((row) => names.map((name) => containerColumn(name).text(row)));
  // Without its column nothing is coloured, also behind that of the hosts.
  const state = names.indexOf('state');
  const coloured = { column: state < 0 ? NaN : state, colours: stateColours };
  const view = { columns, rows: cells, coloured, noun: 'container' };
  printTable(terminal, withHosts(view, options), options.legend);
}

function jobState(job: JobInfo): string {
  return escapeText(job.state === 'done' ? job.result : job.state);
}

/** "jobs" */
export function printJobs(
  terminal: Terminal,
  jobs: readonly JobInfo[],
  options: TableOptions,
): void {
  const rows = jobs.map((job) => [
    String(job.id),
    escapeText(job.container) || none,
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
  printTable(terminal, withHosts({ columns, rows, noun: 'job' }, options), options.legend);
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

/** `192.0.2.5 (eth0)` */
function addressLines({ addresses = [], hasMoreAddresses, sharesNetwork }: GuestInfo): string[] {
  if (sharesNetwork === true) return ['those of the host, whose network it shares'];
  const lines = addresses.map(({ interface: name, address }) =>
    name === '' ? address : `${address} (${name})`,
  );
  return hasMoreAddresses === true ? [...lines, 'and more'] : lines;
}

function guestFields(guest: GuestInfo | undefined, nowUsec: bigint): [string, readonly string[]][] {
  if (guest === undefined) return [];
  const { hostName, os, osId, osVersion, isUnprivileged, startUsec } = guest;
  const system = os ?? [osId, osVersion].filter(Boolean).join(' ');
  const isText = (text: string | undefined): text is string => text !== undefined && text !== '';
  return [
    ['Host name', [hostName].filter(isText)],
    ['OS', [system].filter(isText)],
    ['Uptime', startUsec === undefined ? [] : [formatSpan(nowUsec - startUsec)]],
    ['Root', isUnprivileged === undefined ? [] : [isUnprivileged ? 'unprivileged' : 'privileged']],
    ['Addresses', addressLines(guest)],
  ];
}

/** "status": one container. Nothing is cut; long lines are broken on a terminal. */
export function printStatus(
  terminal: Terminal,
  container: ContainerInfo,
  jobs: readonly JobInfo[],
  { guest, nowUsec }: Omit<Row, 'container'>,
): void {
  const { since, leader } = container;
  const state = escapeText(container.state);
  const when = since === 0n ? '' : ` since ${formatTimestamp(since)}; ${formatAgo(since, nowUsec)}`;
  const fields: [string, readonly string[]][] = [
    ['State', [state + when]],
    ['Needs', container.waitsFor],
    ['Unit', [`${container.unit} (${bootText(container)})`]],
    ['Config', [container.configFile]],
    ['Groups', container.groups],
    ['Leader', leader === 0 ? [] : [String(leader)]],
    ...guestFields(guest, nowUsec),
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

/**
 * A container as --json has it: sizes in bytes, null for no limit or unknown.
 * @param look what was seen of the guest, where somebody has looked
 */
export function containerJson(
  container: ContainerInfo,
  jobs?: readonly JobInfo[],
  look?: { readonly guest: GuestInfo | undefined },
): JsonObject {
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
    groups: container.groups,
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
    ...(look === undefined ? {} : guestJson(look.guest)),
    jobs: jobs?.map(jobJson),
  };
}

/** A job as --json has it. */
export function jobJson(job: JobInfo): JsonObject {
  return {
    job: job.id,
    verb: job.verb,
    container: job.container === '' ? null : job.container,
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

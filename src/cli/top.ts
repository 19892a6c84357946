/**
 * "top": what running containers use, again and again. The service is asked at intervals while somebody
 * looks, and at once when a container starts, stops or changes.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { formatBytes } from '../model/memory-limit.ts';
import type { Invocation } from './arguments.ts';
import type { Service } from './lockerd-client.ts';
import { isUp, type ContainerInfo } from './object-info.ts';
import { renderTable, type Column } from './text-table.ts';
import type { Terminal } from './terminal.ts';
import { escapeText } from './text.ts';
import type { JsonValue } from './json.ts';

/** Events in a row are one look. */
const eventPauseMs = 250;

/** What one container did between two looks. */
interface Row {
  readonly container: ContainerInfo;
  /** Per cent of one processor; undefined before there is something to compare with. */
  readonly cpuPercent: number | undefined;
  /** Bytes a second that were read and written; the same. */
  readonly read: bigint | undefined;
  readonly written: bigint | undefined;
}

interface Sample {
  readonly atMs: number;
  readonly containers: ReadonlyMap<string, ContainerInfo>;
}

/** The growth of a count a second; undefined if it is not known, or began anew with another start. */
function rate(now: bigint | undefined, before: bigint | undefined, ms: number): number | undefined {
  if (now === undefined || before === undefined || now < before || ms <= 0) return undefined;
  return (Number(now - before) * 1000) / ms;
}

function whole(value: number | undefined): bigint | undefined {
  return value === undefined ? undefined : BigInt(Math.round(value));
}

/** The containers that run, those that use most first. */
function rowsOf(now: Sample, before: Sample | undefined): Row[] {
  const ms = before === undefined ? 0 : now.atMs - before.atMs;
  const rows = [...now.containers.values()].map((container) => {
    const old = before?.containers.get(container.name);
    const isSame = old?.leader === container.leader;
    const growth = (get: (info: ContainerInfo) => bigint | undefined): number | undefined =>
      old !== undefined && isSame ? rate(get(container), get(old), ms) : undefined;
    const cpu = growth(({ cpuTime }) => cpuTime);
    return {
      container,
      cpuPercent: cpu === undefined ? undefined : cpu / 10_000,
      read: whole(growth(({ readBytes }) => readBytes)),
      written: whole(growth(({ writtenBytes }) => writtenBytes)),
    };
  });
  const use = ({ cpuPercent = -1 }: Row): number => cpuPercent;
  return rows.sort(
    (a, b) =>
      use(b) - use(a) ||
      Number((b.container.memoryCurrent ?? 0n) - (a.container.memoryCurrent ?? 0n)) ||
      (a.container.name < b.container.name ? -1 : 1),
  );
}

const none = '-';

function bytes(value: bigint | undefined, unit = ''): string {
  return value === undefined ? none : `${formatBytes(value)}${unit}`;
}

const columns: readonly Column[] = [
  { header: 'CONTAINER', shrinks: true },
  { header: 'STATE' },
  { header: 'CPU', align: 'right' },
  { header: 'MEMORY', align: 'right' },
  { header: 'TASKS', align: 'right' },
  { header: 'READ', align: 'right' },
  { header: 'WRITTEN', align: 'right' },
];

function tableLines(terminal: Terminal, rows: readonly Row[], legend: boolean): string[] {
  const cells = rows.map(({ container, cpuPercent, read, written }) => [
    escapeText(container.name),
    escapeText(container.state),
    cpuPercent === undefined ? none : `${cpuPercent.toFixed(1)}%`,
    bytes(container.memoryCurrent),
    container.tasks === undefined ? none : String(container.tasks),
    bytes(read, '/s'),
    bytes(written, '/s'),
  ]);
  if (cells.length === 0) return legend ? ['No container runs.'] : [];
  return renderTable(columns, cells, {
    width: terminal.traits.columns,
    legend,
    mark: terminal.mark,
    paintHeader: (line) => terminal.paint(line, 'underline'),
  });
}

function rowJson({ container, cpuPercent, read, written }: Row): JsonValue {
  return {
    container: container.name,
    state: container.state,
    cpu_percent: cpuPercent === undefined ? null : Math.round(cpuPercent * 10) / 10,
    memory: container.memoryCurrent ?? null,
    tasks: container.tasks ?? null,
    read_bytes_per_second: read ?? null,
    written_bytes_per_second: written ?? null,
  };
}

/** Ends early when the signal fires. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}

/** Which properties are worth a look. */
const telling = new Set(['State', 'Leader', 'MemoryLimit']);

async function listen(service: Service, happened: () => void): Promise<void> {
  await service.onOwnerChanged(happened);
  await service.onSignal({ pathNamespace: '/org/lockerd1/container' }, ({ member, body }) => {
    const [, changed] = body;
    const names = typeof changed === 'object' && changed !== null ? Object.keys(changed) : [];
    if (member === 'PropertiesChanged' && names.some((name) => telling.has(name))) happened();
  });
}

async function look(service: Service): Promise<Sample> {
  const { containers } = await service.snapshot();
  const running = containers.filter(({ state }) => isUp(state));
  return {
    atMs: performance.now(),
    containers: new Map(running.map((container) => [container.name, container])),
  };
}

/** Shows the table until the end, or so many times. */
export async function top(
  service: Service,
  terminal: Terminal,
  { iterations = Infinity, delayMs, json, legend }: TopOptions,
  ended: AbortSignal,
): Promise<void> {
  let wake = new AbortController();
  // Without a screen the first look only says what to compare with.
  const isLive = json === undefined && terminal.canRedraw;
  if (isLive) {
    await listen(service, () => {
      wake.abort();
    });
  }
  let before: Sample | undefined;
  let shown = 0;
  while (!ended.aborted) {
    // What happens during the look may not be in it.
    wake = new AbortController();
    const now = await look(service);
    if (isLive || before !== undefined) {
      const rows = rowsOf(now, before);
      if (json) terminal.printJson({ containers: rows.map(rowJson) }, json);
      else if (isLive) terminal.redraw(tableLines(terminal, rows, legend));
      else
        terminal.print(...(shown > 0 && legend ? [''] : []), ...tableLines(terminal, rows, legend));
      if (++shown >= iterations) return;
    }
    // What is compared with is a whole interval old, also when an event comes between.
    if (before === undefined || now.atMs - before.atMs >= delayMs / 2) before = now;
    const begun = performance.now();
    await pause(delayMs, AbortSignal.any([wake.signal, ended]));
    const left = eventPauseMs - (performance.now() - begun);
    if (left > 0) await pause(Math.min(left, delayMs), ended);
  }
}

type TopOptions = Pick<Invocation, 'iterations' | 'json' | 'legend'> & {
  readonly delayMs: number;
};

/** What "lockers", "snapshots" and "stores" print, from what the bus says. */

import { formatBytes } from '../model/memory-limit.ts';
import { listOf, lockerWord, none } from './container-columns.ts';
import type { JsonValue } from './json.ts';
import type { LockerInfo, SnapshotInfo, StoreInfo } from './object-info.ts';
import type { Terminal } from './terminal.ts';
import type { Column } from './text-table.ts';
import { escapeText } from './text.ts';
import { formatTimestamp } from './time.ts';
import { printTable } from './views.ts';

const healthColours = {
  good: 'green',
  'nearly-full': 'yellow',
  'read-only': 'red',
  'device-missing': 'red',
  hung: 'red',
} as const;

function sizeWord(bytes: bigint | undefined): string {
  return bytes === undefined ? none : formatBytes(bytes);
}

function word(text: string): string {
  return escapeText(text) || none;
}

type LockerColumn = readonly [column: Column, text: (locker: LockerInfo) => string];

const usualColumns: readonly LockerColumn[] = [
  [{ header: 'LOCKER', shrinks: true }, ({ name }) => escapeText(name)],
  [{ header: 'STATE' }, ({ mounted }) => (mounted ? 'mounted' : 'unmounted')],
  [{ header: 'SIZE', align: 'right' }, ({ size }) => sizeWord(size)],
  [{ header: 'USED', align: 'right' }, ({ used }) => sizeWord(used)],
  [{ header: 'AVAIL', align: 'right' }, ({ available }) => sizeWord(available)],
  [{ header: 'STORE', shrinks: true }, ({ store }) => word(store)],
  [{ header: 'HEALTH' }, ({ health }) => escapeText(health)],
  [
    { header: 'CONTAINERS', shrinks: true },
    ({ attachedTo }) =>
      listOf(attachedTo.map(({ container, readOnly }) => lockerWord(container, readOnly))),
  ],
];

const moreColumns: readonly LockerColumn[] = [
  [{ header: 'SOURCE', shrinks: true }, ({ source }) => word(source)],
  [{ header: 'FILESYSTEM' }, ({ fileSystem }) => word(fileSystem)],
  [{ header: 'UID', align: 'right' }, ({ creator }) => String(creator ?? none)],
  [{ header: 'SNAPSHOTS', shrinks: true }, ({ snapshots }) => listOf(snapshots.map(escapeText))],
  [{ header: 'DESCRIPTION', shrinks: true }, ({ description }) => escapeText(description)],
];

/** "lockers" */
export function printLockers(
  terminal: Terminal,
  lockers: readonly LockerInfo[],
  legend: boolean,
  isWide: boolean,
): void {
  const shown = isWide ? [...usualColumns, ...moreColumns] : usualColumns;
  const columns = shown.map(([column]) => column);
  const rows = lockers.map((locker) => shown.map(([, text]) => text(locker)));
  const health = columns.findIndex(({ header }) => header === 'HEALTH');
  const coloured = { column: health, colours: healthColours };
  printTable(terminal, { columns, rows, coloured, noun: 'locker' }, legend);
}

/** A locker as --json has it. */
export function lockerJson(locker: LockerInfo): JsonValue {
  return {
    locker: locker.name,
    mounted: locker.mounted,
    source: locker.source,
    description: locker.description,
    size: locker.size ?? null,
    used: locker.used ?? null,
    available: locker.available ?? null,
    file_system: locker.fileSystem || null,
    device: locker.device || null,
    store: locker.store || null,
    health: locker.health,
    creator: locker.creator ?? null,
    snapshots: locker.snapshots,
    attached_to: locker.attachedTo.map(({ container, readOnly }) => ({
      container,
      read_only: readOnly,
    })),
  };
}

/** "snapshots" */
export function printSnapshots(
  terminal: Terminal,
  snapshots: readonly SnapshotInfo[],
  legend: boolean,
): void {
  const rows = snapshots.map(({ name, created, size, used }) => [
    escapeText(name),
    created === undefined ? none : formatTimestamp(created),
    sizeWord(size),
    sizeWord(used),
  ]);
  const columns: Column[] = [
    { header: 'SNAPSHOT', shrinks: true },
    { header: 'CREATED' },
    { header: 'SIZE', align: 'right' },
    { header: 'USED', align: 'right' },
  ];
  printTable(terminal, { columns, rows, noun: 'snapshot' }, legend);
}

/** A snapshot as --json has it. */
export function snapshotJson({ name, created, size, used }: SnapshotInfo): JsonValue {
  return {
    snapshot: name,
    created_usec: created ?? null,
    size: size ?? null,
    used: used ?? null,
  };
}

/** "stores" */
export function printStores(
  terminal: Terminal,
  stores: readonly StoreInfo[],
  legend: boolean,
): void {
  const rows = stores.map((store) => [
    escapeText(store.name) + (store.isDefault ? ' (default)' : ''),
    word(store.type),
    word(store.fileSystem),
    sizeWord(store.size),
    sizeWord(store.free),
    sizeWord(store.maxSize),
    listOf(store.forgotten.map(({ name }) => escapeText(name))),
    word(store.problem),
  ]);
  const columns: Column[] = [
    { header: 'STORE', shrinks: true },
    { header: 'TYPE' },
    { header: 'FILESYSTEM' },
    { header: 'SIZE', align: 'right' },
    { header: 'FREE', align: 'right' },
    { header: 'MAX', align: 'right' },
    { header: 'FORGOTTEN', shrinks: true },
    { header: 'PROBLEM', shrinks: true },
  ];
  printTable(terminal, { columns, rows, noun: 'store' }, legend);
}

/** A store as --json has it. */
export function storeJson(store: StoreInfo): JsonValue {
  return {
    store: store.name,
    type: store.type,
    file_system: store.fileSystem,
    size: store.size ?? null,
    free: store.free ?? null,
    max_size: store.maxSize ?? null,
    default: store.isDefault,
    problem: store.problem || null,
    forgotten: store.forgotten.map(({ name, size }) => ({ locker: name, size: size ?? null })),
  };
}

/** The columns of "list": what each shows of a container, and which cost a look into the guests. */

import { isLinkLocal } from '../model/link-local.ts';
import { formatBytes, unlimited } from '../model/memory-limit.ts';
import type { ContainerInfo, GuestInfo } from './object-info.ts';
import { isUp } from './object-info.ts';
import type { JsonValue } from './json.ts';
import { escapeText } from './text.ts';
import type { Column } from './text-table.ts';
import { formatSpan } from './time.ts';

/** Stands for what is not there. */
export const none = '-';

/** What a column is made of. */
export interface Row {
  readonly container: ContainerInfo;
  /** Undefined where nobody has looked, or where there was nothing to see. */
  readonly guest: GuestInfo | undefined;
  /** CLOCK_REALTIME, microseconds. */
  readonly nowUsec: bigint;
}

interface ContainerColumn {
  readonly look: Omit<Column, 'header'>;
  readonly needsLook?: true;
  readonly text: (row: Row) => string;
}

/** Bytes in use; unknown while a container is stopped. */
export function usage(container: ContainerInfo): bigint | undefined {
  return isUp(container.state) || container.state === 'stopping'
    ? container.memoryCurrent
    : undefined;
}

/** `data`, or `data:ro` as lockerd.conf(5) has it. */
export function lockerWord(name: string, readOnly: boolean): string {
  return escapeText(name) + (readOnly ? ':ro' : '');
}

/** Words of a cell, with commas between them. */
export function listOf(words: readonly string[]): string {
  return words.length === 0 ? none : words.join(',');
}

/** `yes (config)`: what will happen at boot and who decided it first; "status" has all of them. */
function autostartWord({ autostart, autostartReasons: [reason] }: ContainerInfo): string {
  const word = autostart ? 'yes' : 'no';
  return reason === undefined ? word : `${word} (${escapeText(reason)})`;
}

/** Those that others can reach, if there are any; `host` where the network is the host's. */
function addressWords(guest: GuestInfo | undefined): string {
  if (guest?.sharesNetwork === true) return 'host';
  const all = (guest?.addresses ?? []).map(({ address }) => address);
  const wide = all.filter((address) => !isLinkLocal(address));
  const shown = (wide.length > 0 ? wide : all).map(escapeText);
  return listOf(guest?.hasMoreAddresses === true ? [...shown, '...'] : shown);
}

/** `yes` or `no`; unknown for what nobody has seen. */
function yesOrNo(flag: boolean | undefined): string {
  if (flag === undefined) return none;
  return flag ? 'yes' : 'no';
}

const plain = {};
const shrinking = { shrinks: true } as const;
const right = { align: 'right' } as const;

/** By name, which is the header in small letters. */
export const containerColumns = {
  container: { look: shrinking, text: ({ container }) => escapeText(container.name) },
  state: { look: plain, text: ({ container }) => escapeText(container.state) },
  autostart: { look: plain, text: ({ container }) => autostartWord(container) },
  leader: {
    look: right,
    text: ({ container: { leader } }) => (leader === 0 ? none : String(leader)),
  },
  memory: {
    look: right,
    text: ({ container }) => {
      const used = usage(container);
      return used === undefined ? none : formatBytes(used);
    },
  },
  limit: {
    look: right,
    text: ({ container: { memoryLimit } }) =>
      memoryLimit === unlimited ? none : formatBytes(memoryLimit),
  },
  lockers: {
    look: shrinking,
    text: ({ container }) =>
      listOf(container.lockers.map(({ name, readOnly }) => lockerWord(name, readOnly))),
  },
  groups: { look: shrinking, text: ({ container }) => listOf(container.groups.map(escapeText)) },
  addresses: { look: shrinking, needsLook: true, text: ({ guest }) => addressWords(guest) },
  hostname: {
    look: shrinking,
    needsLook: true,
    text: ({ guest }) => escapeText(guest?.hostName ?? '') || none,
  },
  os: {
    look: shrinking,
    needsLook: true,
    text: ({ guest }) => escapeText(guest?.os ?? '') || none,
  },
  uptime: {
    look: right,
    needsLook: true,
    text: ({ guest, nowUsec }) =>
      guest?.startUsec === undefined ? none : formatSpan(nowUsec - guest.startUsec),
  },
  unprivileged: {
    look: plain,
    needsLook: true,
    text: ({ guest }) => yesOrNo(guest?.isUnprivileged),
  },
} as const satisfies Readonly<Record<string, ContainerColumn>>;

export type ColumnName = keyof typeof containerColumns;

export const columnNames = Object.keys(containerColumns) as ColumnName[];

export const usualColumns: readonly ColumnName[] = [
  ...(['container', 'state', 'autostart', 'leader', 'memory', 'limit', 'lockers'] as const),
];

/** Of --wide: all of them. */
export const wideColumns: readonly ColumnName[] = [
  ...(['container', 'state', 'autostart', 'addresses', 'hostname', 'os', 'uptime'] as const),
  ...(['unprivileged', 'leader', 'memory', 'limit', 'groups', 'lockers'] as const),
];

export function isColumn(name: string): name is ColumnName {
  return Object.hasOwn(containerColumns, name);
}

/** A column by its name; its type is the general one. */
export function containerColumn(name: ColumnName): ContainerColumn {
  return containerColumns[name];
}

/** Whether somebody has to look into the guests for some of the columns. */
export function needLook(columns: readonly ColumnName[]): boolean {
  return columns.some((name) => containerColumn(name).needsLook === true);
}

/** What was seen of a guest as --json has it; null for what is not known. */
export function guestJson(guest: GuestInfo | undefined): Readonly<Record<string, JsonValue>> {
  return {
    addresses:
      guest?.addresses?.map(({ interface: name, address }) => ({
        interface: name === '' ? null : name,
        address,
      })) ?? null,
    more_addresses: guest?.hasMoreAddresses ?? null,
    shares_network: guest?.sharesNetwork ?? null,
    host_name: guest?.hostName ?? null,
    os: guest?.os ?? null,
    os_id: guest?.osId ?? null,
    os_version: guest?.osVersion ?? null,
    unprivileged: guest?.isUnprivileged ?? null,
    started_usec: guest?.startUsec ?? null,
    lowest_memory_limit: guest?.lowestLimit ?? null,
  };
}

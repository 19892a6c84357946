/** Lists: "list", "lockers" and "jobs", also of several hosts at once, "snapshots" and "stores". */

import pMap from 'p-map';
import { DBusError } from '../bus/values.ts';
import type { Invocation } from './arguments.ts';
import { complain } from './complain.ts';
import { needLook, type Row } from './container-columns.ts';
import { asCommandError, exitStatus, type CommandError } from './exit.ts';
import type { JsonObject } from './json.ts';
import { Service } from './lockerd-client.ts';
import {
  lockerJson,
  printLockers,
  printSnapshots,
  printStores,
  snapshotJson,
  storeJson,
} from './locker-views.ts';
import type {
  ContainerInfo,
  GuestInfo,
  JobInfo,
  LockerInfo,
  SnapshotInfo,
  StoreInfo,
} from './object-info.ts';
import { connectRemote } from './remote.ts';
import type { Terminal } from './terminal.ts';
import { escapeText } from './text.ts';
import { containerJson, jobJson, printContainers, printJobs, type TableOptions } from './views.ts';

/** Where a list comes from, and what it is to show. */
export interface Session {
  readonly service: Service;
  readonly terminal: Terminal;
  readonly invocation: Invocation;
}

/** Hosts that are asked at a time: each is a process of ssh(1), and a login there. */
const parallelHosts = 16;

/** How a kind of list is got and shown. */
interface ListKind<T> {
  readonly get: (session: Session) => Promise<readonly T[]>;
  readonly table: (terminal: Terminal, items: readonly T[], options: TableOptions) => void;
  readonly name: (item: T) => string;
  readonly json: (item: T) => JsonObject;
}

/** What one host has. */
interface Part<T> {
  /** Undefined where only one host was asked. */
  readonly host: string | undefined;
  readonly items: readonly T[];
}

/** CLOCK_REALTIME, microseconds. */
export function now(): bigint {
  return BigInt(Date.now()) * 1000n;
}

/** What is seen of those that run; without an answer, a warning says why. */
export async function lookAt(
  { service, terminal }: Pick<Session, 'service' | 'terminal'>,
  containers: readonly ContainerInfo[],
): Promise<ReadonlyMap<string, GuestInfo>> {
  const names = containers.filter(({ leader }) => leader !== 0).map(({ name }) => name);
  try {
    return await service.guests(names);
  } catch (error) {
    if (!(error instanceof DBusError)) throw error;
    const { message } = asCommandError(error);
    terminal.complain(`lockerctl: warning: guests cannot be looked at: ${escapeText(message)}`);
    return new Map();
  }
}

function containerKind({ columns, quiet, json, states }: Invocation): ListKind<Row> {
  const isLook = needLook(columns) && (!quiet || json !== undefined);
  return {
    get: async (session) => {
      const { containers } = await session.service.snapshot();
      const chosen = containers.filter(
        ({ state }) => states.length === 0 || states.includes(state),
      );
      const guests = isLook ? await lookAt(session, chosen) : undefined;
      const nowUsec = now();
      return chosen.map((container) => ({
        container,
        guest: guests?.get(container.name),
        nowUsec,
      }));
    },
    table: (terminal, shown, options) => {
      printContainers(terminal, shown, options, columns);
    },
    name: ({ container }) => container.name,
    json: ({ container, guest }) =>
      containerJson(container, undefined, isLook ? { guest } : undefined),
  };
}

/** Has the service look, unless only names are wanted; without an answer, a warning says why. */
async function lookAtLockers({ service, terminal, invocation }: Session): Promise<void> {
  if (invocation.quiet && !invocation.json) return;
  try {
    await service.lookAtLockers();
  } catch (error) {
    if (!(error instanceof DBusError)) throw error;
    const { message } = asCommandError(error);
    terminal.complain(`lockerctl: warning: lockers cannot be looked at: ${escapeText(message)}`);
  }
}

function lockerKind({ wide }: Invocation): ListKind<LockerInfo> {
  return {
    get: async (session) => {
      await lookAtLockers(session);
      return (await session.service.snapshot()).lockers;
    },
    table: (terminal, shown, options) => {
      printLockers(terminal, shown, options, wide);
    },
    name: ({ name }) => name,
    json: lockerJson,
  };
}

const jobKind: ListKind<JobInfo> = {
  get: async ({ service }) =>
    (await service.snapshot()).jobs.filter(({ state }) => state !== 'done'),
  table: printJobs,
  name: ({ id }) => String(id),
  json: jobJson,
};

/** Prints a table, names alone (--quiet) or JSON; of several hosts, each line names its host. */
function printParts<T>(
  terminal: Terminal,
  { json, quiet, legend }: Invocation,
  kind: ListKind<T>,
  parts: readonly Part<T>[],
): void {
  const all = parts.flatMap(({ host, items }) => items.map((item) => ({ host, item })));
  if (json) {
    const values = all.map(({ host, item }) =>
      host === undefined ? kind.json(item) : { host, ...kind.json(item) },
    );
    terminal.printJson(values, json);
  } else if (quiet) {
    const words = all.map(({ host, item }) => [
      ...(host === undefined ? [] : [host]),
      kind.name(item),
    ]);
    terminal.print(...words.map((line) => escapeText(line.join(' '))));
  } else {
    const hosts = all.flatMap(({ host }) => host ?? []);
    const isSeveral = parts.some(({ host }) => host !== undefined);
    const items = all.map(({ item }) => item);
    kind.table(terminal, items, { legend, ...(isSeveral ? { hosts } : {}) });
  }
}

async function askOne<T>(
  host: string,
  { terminal, invocation }: Omit<Session, 'service'>,
  kind: ListKind<T>,
): Promise<readonly T[]> {
  const bus = await connectRemote(host, { askNobody: true });
  try {
    const { timeoutUsec } = invocation;
    const service = new Service(bus, { askPassword: false, timeoutUsec });
    const lost = bus.lost.then((error) => {
      throw error;
    });
    return await Promise.race([kind.get({ service, terminal, invocation }), lost]);
  } finally {
    bus.close();
  }
}

/** Hosts that do not answer are complained of, and the others are shown. */
async function listFleet<T>(
  terminal: Terminal,
  invocation: Invocation,
  kind: ListKind<T>,
): Promise<number> {
  const ask = async (host: string): Promise<Part<T> | { host: string; problem: CommandError }> => {
    try {
      return { host, items: await askOne(host, { terminal, invocation }, kind) };
    } catch (error) {
      return { host, problem: asCommandError(error) };
    }
  };
  const answers = await pMap(invocation.hosts, ask, { concurrency: parallelHosts });
  printParts(
    terminal,
    invocation,
    kind,
    answers.flatMap((answer) => ('items' in answer ? [answer] : [])),
  );
  const problems = answers.flatMap((answer) => ('problem' in answer ? [answer] : []));
  for (const { host, problem } of problems) complain(terminal, escapeText(host), problem);
  return problems[0]?.problem.status ?? exitStatus.ok;
}

async function listOne<T>(session: Session, kind: ListKind<T>): Promise<number> {
  const items = await kind.get(session);
  printParts(session.terminal, session.invocation, kind, [{ host: undefined, items }]);
  return exitStatus.ok;
}

/** The snapshots of one locker. */
export function listSnapshots(session: Session, found: readonly SnapshotInfo[]): Promise<number> {
  return listOne(session, {
    get: () => Promise.resolve(found),
    table: (terminal, shown, { legend }) => {
      printSnapshots(terminal, shown, legend);
    },
    name: ({ name }) => name,
    json: snapshotJson,
  });
}

/** Where lockers come from. */
export function listStores(session: Session): Promise<number> {
  const kind: ListKind<StoreInfo> = {
    get: ({ service }) => service.stores(),
    table: (terminal, shown, { legend }) => {
      printStores(terminal, shown, legend);
    },
    name: ({ name }) => name,
    json: storeJson,
  };
  return listOne(session, kind);
}

/** The list that a command asks for, by a connection that there is. */
export function list(session: Session, command: 'list' | 'lockers' | 'jobs'): Promise<number> {
  if (command === 'list') return listOne(session, containerKind(session.invocation));
  return command === 'lockers'
    ? listOne(session, lockerKind(session.invocation))
    : listOne(session, jobKind);
}

/** The same of several hosts, in the order in which they were named. */
export function listOfHosts(
  terminal: Terminal,
  invocation: Invocation,
  command: 'list' | 'lockers' | 'jobs',
): Promise<number> {
  if (command === 'list') return listFleet(terminal, invocation, containerKind(invocation));
  return command === 'lockers'
    ? listFleet(terminal, invocation, lockerKind(invocation))
    : listFleet(terminal, invocation, jobKind);
}

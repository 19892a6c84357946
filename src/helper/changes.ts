/**
 * The record of changes to lockers: one file for each change, written before its first step and removed after
 * its last one. What is found here while nobody has the locks of its lockers was left by one that was killed.
 */

import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { namesIn } from '../host/names-in.ts';
import { syncDirectory, writeNewFile } from '../host/write-file.ts';
import type { StoreSettings } from '../host/store-settings.ts';
import type { Definition } from '../stores/definition.ts';
import type { Alone } from '../stores/tools.ts';
import type { KnownLocker } from './locker-view.ts';
import { errnoText } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';
import { removeFile } from '../host/replace-file.ts';

/** Root's alone: whoever could write here could have things removed. */
const changesDirectory = '/var/lib/lockerd/changes';

interface Common {
  readonly id: string;
  readonly locker: string;
}

interface OfStore extends Common {
  /** As it was when the change began, for the settings may be others when it is undone. */
  readonly store: StoreSettings;
}

/** What mounts a locker that is to have no definition any more. */
export type Defined = Pick<KnownLocker, 'name' | 'mountPoint' | 'unit' | 'file'>;

/** A new locker, which its definition makes one. */
export interface MakeChange extends OfStore {
  readonly verb: 'create' | 'restore';
  readonly definition: Definition;
  /** Whose copy it is. */
  readonly from?: string;
  /** What its header will have, and its key is named after, if it is encrypted. */
  readonly uuid?: string;
}

/** A locker that the store has already, which is defined again. */
export interface AdoptChange extends OfStore {
  readonly verb: 'adopt';
  readonly definition: Definition;
}

export interface RenameChange extends OfStore {
  readonly verb: 'rename';
  readonly before: Defined & { readonly encrypt: string };
  readonly definition: Definition;
  readonly wasMounted: boolean;
}

export interface GrowChange extends OfStore {
  readonly verb: 'grow';
  /** Bytes in decimal. */
  readonly size: string;
  readonly mountPoint: string;
  readonly encrypt: string;
}

export interface SnapshotChange extends OfStore {
  readonly verb: 'snapshot';
  readonly snapshot: string;
  /** Containers that are frozen meanwhile. */
  readonly frozen: readonly string[];
}

export interface ForgetChange extends Common {
  readonly verb: 'forget';
  readonly defined: Defined;
  readonly encrypt: string;
}

export interface DestroyChange extends OfStore {
  readonly verb: 'destroy';
  readonly snapshot?: string;
  /** Undefined for a locker that was forgotten before, and for a snapshot. */
  readonly defined?: Defined;
  readonly encrypt: string;
}

/** A change, with all that is needed to go on with it or to undo it. */
export type Change =
  | MakeChange
  | AdoptChange
  | RenameChange
  | GrowChange
  | SnapshotChange
  | ForgetChange
  | DestroyChange;

/** A new id, which no other change has or had. */
export function newChangeId(): string {
  return randomBytes(8).toString('hex');
}

/** Its record. */
export function pathOfChange(id: string): string {
  return `${changesDirectory}/${id}.json`;
}

/** The lockers that nobody else may change meanwhile, by their old and new names. */
export function lockersOf(change: Change): string[] {
  switch (change.verb) {
    case 'restore':
    case 'create':
      return [change.locker, ...(change.from === undefined ? [] : [change.from])];
    case 'rename':
      return [change.before.name, change.definition.locker];
    case 'adopt':
    case 'grow':
    case 'snapshot':
    case 'forget':
    case 'destroy':
      return [change.locker];
  }
}

/** JSON has no 64-bit numbers. The most that a locker may have does not matter to what is under way. */
function writable(change: Change): unknown {
  return 'store' in change ? { ...change, store: { ...change.store, maxSize: undefined } } : change;
}

/**
 * Writes a change, or what is new about it, so that it outlives a power cut. Throws Failed.
 * @param alone keeps out whoever removes what killed helpers have left of records
 */
export async function recordChange(change: Change, alone: Alone): Promise<void> {
  await alone(() => {
    writeRecord(change);
  });
}

/**
 * Where a record is written before it has its name. It is not hidden, so that systemd sees that the directory has
 * something in it, and has it removed.
 */
const unwritten = /^[0-9a-f]{16}\.unwritten$/;

function writeRecord(change: Change): void {
  const made = mkdirSync(changesDirectory, { recursive: true, mode: 0o700 });
  if (made !== undefined) for (const path of ['/var/lib', '/var/lib/lockerd']) syncDirectory(path);
  const temporary = `${changesDirectory}/${change.id}.unwritten`;
  try {
    writeNewFile(temporary, `${JSON.stringify(writable(change), undefined, 2)}\n`, undefined);
    renameSync(temporary, pathOfChange(change.id));
    syncDirectory(changesDirectory);
  } catch (error) {
    const why = errnoText(error);
    throw new LockerdError('Failed', `${temporary} cannot be written: ${why}`, { cause: error });
  }
}

/** Removes what killed helpers have left of records; they have changed nothing by it. */
export async function removeUnwritten(alone: Alone): Promise<void> {
  const left = () => namesIn(changesDirectory).filter((name) => unwritten.test(name));
  if (left().length === 0) return;
  // What is there while nobody writes one, nobody will finish.
  await alone(() => {
    for (const name of left()) rmSync(`${changesDirectory}/${name}`);
  });
}

/** The change is whole, or nothing of it is left. */
export function endChange({ id }: Pick<Change, 'id'>): void {
  removeFile(pathOfChange(id));
  syncDirectory(changesDirectory);
}

/** A change that is recorded still; undefined for one that has come to its end, or whose file is none. */
export function readChange(id: string): Change | undefined {
  const change = changeOf(pathOfChange(id));
  return change?.id === id ? change : undefined;
}

/** Changes that are under way or were killed, with the files whose text is none. */
export function readChanges(directory = changesDirectory): {
  changes: Change[];
  broken: string[];
} {
  const changes: Change[] = [];
  const broken: string[] = [];
  for (const name of namesIn(directory)) {
    const id = /^([0-9a-f]{16})\.json$/.exec(name)?.[1];
    // What was never finished has changed nothing yet.
    if (id === undefined) continue;
    const change = changeOf(`${directory}/${name}`);
    if (change?.id === id) changes.push(change);
    else broken.push(`${directory}/${name}`);
  }
  return { changes, broken };
}

function changeOf(path: string): Change | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Change;
  } catch {
    return undefined;
  }
}

/** What a host remembers of a move, so that it can be undone or taken up again whoever was killed. */
import { readFileSync } from 'node:fs';
import { namesIn } from '../host/names-in.ts';
import { removeFile, replaceFile } from '../host/replace-file.ts';
import { codeOf } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';
import { movesDirectory } from '../model/path.ts';
import { escapeInstance } from '../model/unit-name.ts';
import { Fields } from './fields.ts';

/** Guards, locks and sockets, until the next boot. */
export const runDirectory = '/run/lockerd/moves';

/** How far a move has come, at the source. */
export const phases = [
  /** Nothing but files at the target. */
  'copying',
  /** The source does not run; the target may have all files, and cannot start. */
  'stopping',
  /** The target was told to start. */
  'starting',
  /** The target runs, and is being given the container for good. */
  'keeping',
  /** The container is the target's. */
  'moved',
  /** Undone; what was copied stays at the target. */
  'paused',
] as const;

export type Phase = (typeof phases)[number];

/** A move as its source remembers it. */
export interface MoveRecord {
  /** 16 hexadecimal digits; names what is at the target. */
  readonly id: string;
  readonly container: string;
  /** `[USER@]HOST[:PORT]` */
  readonly target: string;
  readonly phase: Phase;
  /** Whether its unit was active before. */
  readonly wasRunning: boolean;
  /** Milliseconds of CLOCK_REALTIME after which a target that hears nothing has given up. */
  readonly leaseEndMs: number;
}

function recordPath(container: string): string {
  return `${movesDirectory}/${escapeInstance(container)}.json`;
}

export function writeRecord(record: MoveRecord): void {
  replaceFile(recordPath(record.container), `${JSON.stringify({ version: 1, ...record })}\n`);
}

export function removeRecord(container: string): void {
  removeFile(recordPath(container));
}

function parseRecord(text: string): MoveRecord {
  const fields = Fields.parse(text);
  if (fields.number('version') !== 1) throw new LockerdError('Failed', 'it is of another version');
  return {
    id: fields.id('id'),
    container: fields.text('container'),
    target: fields.text('target'),
    phase: fields.oneOf('phase', phases),
    wasRunning: fields.flag('wasRunning'),
    leaseEndMs: fields.number('leaseEndMs'),
  };
}

/** The record of a container's last move; undefined for none. Throws Failed for one that makes no sense. */
export function readRecord(container: string): MoveRecord | undefined {
  const path = recordPath(container);
  try {
    return parseRecord(readFileSync(path, 'utf8'));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    const why = error instanceof Error ? error.message : String(error);
    throw new LockerdError('Failed', `${path} cannot be read: ${why}`, { cause: error });
  }
}

/** Containers that have a record. */
export function recordedContainers(): string[] {
  const names = namesIn(movesDirectory).filter((name) => name.endsWith('.json'));
  return names.map((name) => {
    return parseRecord(readFileSync(`${movesDirectory}/${name}`, 'utf8')).container;
  });
}

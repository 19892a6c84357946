/**
 * The journal, for a service that strangers call: entries wait in bounded queues, by user, until the
 * journal takes them.
 */

import { logLevels, type LogLevel, type LogTarget } from '../api/log-control.ts';
import type { JournalEntry, JournalPort, Logging } from '../core/ports.ts';
import { encodeJournalEntry, oneLine } from './journal-entry.ts';
import { JournalProgram } from './journal-program.ts';

/** How many entries about one user may wait: a flood is cut, and the journal says that it was. */
const waitingOfOne = 64;
/** The same of entries about no user. */
const waitingOfNobody = 256;
const defaultBounds = {
  /** How many entries of all users may wait: somebody may have thousands of uids. */
  all: 4096,
  /** How many that are to be kept may wait; the pace of what is allowed is far below. */
  kept: 8192,
  /** How long the end of the program waits for a journal that takes nothing, in milliseconds. */
  endMs: 10_000,
};
/** Of so many users it is counted by user what was dropped. */
const droppedUsersMax = 256;

/** An entry on its way; the message is for people, where the journal does not take the entry. */
interface Waiting {
  readonly bytes: Uint8Array;
  readonly message: string;
}

export class Journal implements JournalPort, Logging {
  level: LogLevel = 'info';
  target: LogTarget = 'journal';
  readonly #program: JournalProgram;
  readonly #bounds: typeof defaultBounds;
  /** What must not be lost: while the journal takes anything, it does not come near its bound. */
  readonly #kept: Waiting[] = [];
  #keptDropped = 0;
  /** The rest by user, in the order in which they are next. */
  readonly #waiting = new Map<number | undefined, Waiting[]>();
  #waitingCount = 0;
  readonly #dropped = new Map<number | undefined, number>();
  #writing: Promise<void> | undefined;
  /** When to give up, by performance.now(). */
  #end = Infinity;

  /** @param program hooks/write-journal */
  constructor(program = new JournalProgram(), bounds: Partial<typeof defaultBounds> = {}) {
    this.#program = program;
    this.#bounds = { ...defaultBounds, ...bounds };
  }

  write(entry: JournalEntry): void {
    if (this.target === 'null' || entry.priority > logLevels.indexOf(this.level)) return;
    const waiting = encoded(entry);
    const { uid, isKept = false } = entry;
    if (!(isKept ? this.#keep(waiting) : this.#enqueue(uid, waiting))) return;
    this.#writing ??= this.#writeAll();
  }

  #keep(entry: Waiting): boolean {
    if (this.#kept.length >= this.#bounds.kept) {
      this.#keptDropped++;
      return false;
    }
    this.#kept.push(entry);
    return true;
  }

  #enqueue(uid: number | undefined, entry: Waiting): boolean {
    const own = this.#waiting.get(uid);
    const ownMax = uid === undefined ? waitingOfNobody : waitingOfOne;
    if (this.#waitingCount >= this.#bounds.all || (own !== undefined && own.length >= ownMax)) {
      const isCounted = this.#dropped.has(uid) || this.#dropped.size < droppedUsersMax;
      const about = isCounted ? uid : undefined;
      this.#dropped.set(about, (this.#dropped.get(about) ?? 0) + 1);
      return false;
    }
    if (own === undefined) this.#waiting.set(uid, [entry]);
    else own.push(entry);
    this.#waitingCount++;
    return true;
  }

  /** Settles when all is written, or the journal has taken nothing for too long; for the end of the program. */
  async flush(): Promise<void> {
    this.#end = performance.now() + this.#bounds.endMs;
    await this.#writing;
    await this.#program.end();
  }

  async #writeAll(): Promise<void> {
    for (let entry = this.#next(); entry !== undefined; entry = this.#next()) {
      try {
        await this.#program.send(entry.bytes);
        if (this.#end !== Infinity) this.#end = performance.now() + this.#bounds.endMs;
      } catch (error) {
        // Standard error reaches the journal as well, though not its fields.
        process.stderr.write(
          `<4>cannot write to the journal: ${error instanceof Error ? error.message : String(error)}\n<5>${entry.message}\n`,
        );
        if (performance.now() >= this.#end) this.#giveUp();
      }
    }
    // At once: an entry from now on begins another round.
    this.#writing = undefined;
  }

  #giveUp(): void {
    const dropped = [...this.#dropped.values()].reduce((sum, count) => sum + count, 0);
    const lost = this.#kept.length + this.#waitingCount + this.#keptDropped + dropped;
    this.#kept.length = 0;
    this.#waiting.clear();
    this.#waitingCount = 0;
    this.#keptDropped = 0;
    this.#dropped.clear();
    if (lost > 0) process.stderr.write(`<3>${lost} more journal entries are lost\n`);
  }

  #next(): Waiting | undefined {
    const kept = this.#kept.shift();
    if (kept !== undefined) return kept;
    if (this.#keptDropped > 0) {
      const dropped = this.#keptDropped;
      this.#keptDropped = 0;
      return droppedEntry(dropped, 'of what was allowed and done', 3);
    }
    const [next] = this.#waiting;
    if (next === undefined) return this.#nextDropped();
    const [uid, [entry, ...others]] = next;
    this.#waiting.delete(uid);
    this.#waitingCount--;
    // A user who had a turn goes to the end of the queue. Dropped entries are counted at the end.
    if (others.length > 0) this.#waiting.set(uid, others);
    else if (this.#dropped.has(uid)) {
      this.#waiting.set(uid, [this.#droppedOf(uid)]);
      this.#waitingCount++;
    }
    return entry;
  }

  #nextDropped(): Waiting | undefined {
    const [uid] = [...this.#dropped.keys()];
    return this.#dropped.size === 0 ? undefined : this.#droppedOf(uid);
  }

  #droppedOf(uid: number | undefined): Waiting {
    const dropped = this.#dropped.get(uid) ?? 0;
    this.#dropped.delete(uid);
    if (uid === undefined) return droppedEntry(dropped, '', 4);
    return droppedEntry(dropped, `about uid ${uid}`, 4, { UID: String(uid) });
  }
}

function droppedEntry(
  dropped: number,
  which: string,
  priority: number,
  fields: Readonly<Record<string, string>> = {},
): Waiting {
  const what = which === '' ? 'journal entries' : `journal entries ${which}`;
  return encoded({
    messageId: entriesDroppedId,
    priority,
    message: `${dropped} ${what} were dropped, because there were too many at once`,
    fields: { DROPPED: String(dropped), ...fields },
  });
}

function encoded(entry: JournalEntry): Waiting {
  const [firstLine = ''] = entry.message.split('\n', 1);
  return { bytes: encodeJournalEntry(entry), message: oneLine(firstLine) };
}

/** MESSAGE_ID= of the entry that counts what was dropped. */
export const entriesDroppedId = 'e4b1c1a0f0c14f6b8a2b6f5d3c0f9a77';

/**
 * The journal, by logger(1): its native protocol needs datagram sockets, which Node.js has not.
 *
 * There is one process for each entry, one after another. It may have ended before the journal looks up
 * its unit, and the journal trusts a unit only from root: people look for the identifier.
 */

import type { JournalEntry, JournalPort } from '../core/ports.ts';

const program = '/usr/bin/logger';
/** Longest value that is passed on, in characters. */
const valueMax = 4096;
/** How many entries about one user may wait: a flood is cut, and the journal says that it was. */
const waitingOfOne = 64;
/** The same of entries about no user. */
const waitingOfNobody = 256;
const defaultBounds = {
  /** How many entries of all users may wait: somebody may have thousands of uids. */
  all: 4096,
  /** How many that are to be kept may wait; the pace of what is allowed is far below. */
  kept: 8192,
};
/** Of so many users it is counted by user what was dropped. */
const droppedUsersMax = 256;
const timeoutMs = 10_000;

export class LoggerJournal implements JournalPort {
  readonly #program: string;
  readonly #bounds: typeof defaultBounds;
  /** What must not be lost: while the journal takes anything, it does not come near its bound. */
  readonly #kept: string[] = [];
  #keptDropped = 0;
  /** The rest by user, in the order in which they are next. */
  readonly #waiting = new Map<number | undefined, string[]>();
  #waitingCount = 0;
  readonly #dropped = new Map<number | undefined, number>();
  #writing: Promise<void> | undefined;

  constructor(loggerProgram = program, bounds = defaultBounds) {
    this.#program = loggerProgram;
    this.#bounds = bounds;
  }

  write(entry: JournalEntry): void {
    const text = encodeJournalEntry(entry);
    const { uid, isKept = false } = entry;
    if (!(isKept ? this.#keep(text) : this.#enqueue(uid, text))) return;
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  #keep(text: string): boolean {
    if (this.#kept.length >= this.#bounds.kept) {
      this.#keptDropped++;
      return false;
    }
    this.#kept.push(text);
    return true;
  }

  #enqueue(uid: number | undefined, text: string): boolean {
    const own = this.#waiting.get(uid);
    const ownMax = uid === undefined ? waitingOfNobody : waitingOfOne;
    if (this.#waitingCount >= this.#bounds.all || (own !== undefined && own.length >= ownMax)) {
      const isCounted = this.#dropped.has(uid) || this.#dropped.size < droppedUsersMax;
      const about = isCounted ? uid : undefined;
      this.#dropped.set(about, (this.#dropped.get(about) ?? 0) + 1);
      return false;
    }
    if (own === undefined) this.#waiting.set(uid, [text]);
    else own.push(text);
    this.#waitingCount++;
    return true;
  }

  /** Settles when all is written; for the end of the program. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    // Loading it takes a third of the time in which lockerd starts.
    const { execa } = await import('execa');
    for (let text = this.#next(); text !== undefined; text = this.#next()) {
      const { failed, shortMessage = '' } = await execa(this.#program, ['--journald'], {
        input: text,
        // The logger needs nothing of ours.
        env: {},
        extendEnv: false,
        stdout: 'ignore',
        stderr: 'ignore',
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
        reject: false,
      });
      // Standard error reaches the journal as well, though not its fields.
      if (failed)
        process.stderr.write(
          `<4>cannot write to the journal: ${shortMessage}\n<5>${firstMessage(text)}\n`,
        );
    }
  }

  #next(): string | undefined {
    const kept = this.#kept.shift();
    if (kept !== undefined) return kept;
    if (this.#keptDropped > 0) {
      const dropped = this.#keptDropped;
      this.#keptDropped = 0;
      return droppedEntry(dropped, 'of what was allowed and done', 3);
    }
    const [next] = this.#waiting;
    if (next === undefined) return this.#nextDropped();
    const [uid, [text, ...others]] = next;
    this.#waiting.delete(uid);
    this.#waitingCount--;
    // A user who had a turn goes to the end of the queue. Dropped entries are counted at the end.
    if (others.length > 0) this.#waiting.set(uid, others);
    else if (this.#dropped.has(uid)) {
      this.#waiting.set(uid, [this.#droppedOf(uid)]);
      this.#waitingCount++;
    }
    return text;
  }

  #nextDropped(): string | undefined {
    const [uid] = [...this.#dropped.keys()];
    return this.#dropped.size === 0 ? undefined : this.#droppedOf(uid);
  }

  #droppedOf(uid: number | undefined): string {
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
): string {
  const what = which === '' ? 'journal entries' : `journal entries ${which}`;
  return encodeJournalEntry({
    messageId: entriesDroppedId,
    priority,
    message: `${dropped} ${what} were dropped, because there were too many at once`,
    fields: { DROPPED: String(dropped), ...fields },
  });
}

/** MESSAGE_ID= of the entry that counts what was dropped. */
export const entriesDroppedId = 'e4b1c1a0f0c14f6b8a2b6f5d3c0f9a77';

/**
 * The input of `logger --journald`: a field a line, and an empty line would be its end. Throws for
 * what cannot be a field; control characters in values become `?`.
 */
export function encodeJournalEntry({ messageId, priority, message, fields }: JournalEntry): string {
  if (!/^[0-9a-f]{32}$/.test(messageId)) throw new Error(`no message id: ${messageId}`);
  if (!Number.isInteger(priority) || priority < 0 || priority > 7) {
    throw new Error(`no priority: ${priority}`);
  }
  const lines = [
    `MESSAGE_ID=${messageId}`,
    `PRIORITY=${priority}`,
    'SYSLOG_IDENTIFIER=lockerd',
    `SYSLOG_PID=${process.pid}`,
  ];
  for (const [key, value] of Object.entries(fields)) {
    // systemd.journal-fields(7): capitals, digits and underscores, at most 64.
    if (!/^[A-Z][A-Z0-9_]{0,55}$/.test(key)) throw new Error(`no name of a journal field: ${key}`);
    lines.push(`LOCKERD_${key}=${oneLine(value)}`);
  }
  // logger joins repeated MESSAGE= to one value of several lines.
  const messageLines = message.split('\n').map(oneLine);
  lines.push(...messageLines.map((line) => `MESSAGE=${line}`));
  return `${lines.join('\n')}\n`;
}

function oneLine(text: string): string {
  return text.slice(0, valueMax).replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '?');
}

function firstMessage(text: string): string {
  return /^MESSAGE=(.*)$/m.exec(text)?.[1] ?? '';
}

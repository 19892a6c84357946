import type { JournalEntry, JournalPort } from '../core/ports.ts';

const program = '/usr/bin/logger';
/** Longest value that is passed on, in characters. */
const valueMax = 4096;
/** How many entries about one user may wait: a flood is cut, and the journal says that it was. */
const waitingOfOne = 64;
/** The same of entries about nobody. */
const waitingOfNobody = 256;
const timeoutMs = 10_000;

/**
 * The journal's native protocol needs datagram sockets, which Node has not; logger(1) speaks it.
 * One process for each entry, one after another. It may have ended before the journal looks up its
 * unit, and a unit that others than root name counts for nothing: people look for the identifier.
 */
export class LoggerJournal implements JournalPort {
  readonly #program: string;
  /** What must not be lost: it is bounded by what is allowed to be done. */
  readonly #kept: string[] = [];
  /** The rest by user, in the order in which they are next. */
  readonly #waiting = new Map<number | undefined, string[]>();
  readonly #dropped = new Map<number | undefined, number>();
  #writing: Promise<void> | undefined;

  constructor(loggerProgram = program) {
    this.#program = loggerProgram;
  }

  write(entry: JournalEntry): void {
    const text = encodeJournalEntry(entry);
    const { uid, isKept = false } = entry;
    if (isKept) this.#kept.push(text);
    else if (!this.#enqueue(uid, text)) return;
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  #enqueue(uid: number | undefined, text: string): boolean {
    const own = this.#waiting.get(uid);
    if (own === undefined) this.#waiting.set(uid, [text]);
    else if (own.length < (uid === undefined ? waitingOfNobody : waitingOfOne)) own.push(text);
    else {
      this.#dropped.set(uid, (this.#dropped.get(uid) ?? 0) + 1);
      return false;
    }
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
    const [next] = this.#waiting;
    if (next === undefined) return undefined;
    const [uid, [text, ...others]] = next;
    this.#waiting.delete(uid);
    const dropped = this.#dropped.get(uid);
    // Whoever had a turn is last in the line; what was dropped is told after what was not.
    if (others.length > 0) this.#waiting.set(uid, others);
    else if (dropped !== undefined) {
      this.#dropped.delete(uid);
      this.#waiting.set(uid, [droppedEntry(uid, dropped)]);
    }
    return text;
  }
}

function droppedEntry(uid: number | undefined, dropped: number): string {
  const about = uid === undefined ? '' : ` about uid ${uid}`;
  return encodeJournalEntry({
    messageId: entriesDroppedId,
    priority: 4,
    message: `${dropped} journal entries${about} were dropped, because there were too many at once`,
    fields: { DROPPED: String(dropped), ...(uid !== undefined && { UID: String(uid) }) },
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

import type { JournalEntry, JournalPort } from '../core/ports.ts';

const program = '/usr/bin/logger';
/** Longest value that is passed on, in characters. */
const valueMax = 4096;
/** How many entries may wait: a flood is cut, and the journal says that it was. */
const queueMax = 1000;
const timeoutMs = 10_000;

/**
 * The journal's native protocol needs datagram sockets, which Node has not; logger(1) speaks it.
 * One process for each entry, one after another. It may have ended before the journal looks up its
 * unit, and a unit that others than root name counts for nothing: people look for the identifier.
 */
export class LoggerJournal implements JournalPort {
  readonly #program: string;
  readonly #queue: string[] = [];
  #dropped = 0;
  #writing: Promise<void> | undefined;

  constructor(loggerProgram = program) {
    this.#program = loggerProgram;
  }

  write(entry: JournalEntry): void {
    const text = encodeJournalEntry(entry);
    if (this.#queue.length >= queueMax) {
      this.#dropped++;
      return;
    }
    this.#queue.push(text);
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
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
    const text = this.#queue.shift();
    if (text !== undefined || this.#dropped === 0) return text;
    const dropped = this.#dropped;
    this.#dropped = 0;
    return encodeJournalEntry({
      messageId: entriesDroppedId,
      priority: 4,
      message: `${dropped} journal entries were dropped, because there were too many at once`,
      fields: { DROPPED: String(dropped) },
    });
  }
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

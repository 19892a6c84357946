/** Entries in the journal's native protocol, as systemd's page of that name describes it. */

import type { JournalEntry } from '../core/ports.ts';

/** Longest value that is passed on, in characters: an entry must fit into one datagram. */
const valueMax = 4096;

/**
 * The bytes of an entry. Control characters in values become `?`, but the message may have several
 * lines.
 * @throws Error for what cannot be a field
 */
export function encodeJournalEntry({ messageId, priority, message, fields }: JournalEntry): Buffer {
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
  return Buffer.concat([
    Buffer.from(lines.map((line) => `${line}\n`).join('')),
    messageField(message.split('\n').map(oneLine).join('\n')),
  ]);
}

/** Only a value of several lines needs the form with a length. */
function messageField(text: string): Buffer {
  if (!text.includes('\n')) return Buffer.from(`MESSAGE=${text}\n`);
  const value = Buffer.from(text.slice(0, 4 * valueMax));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(value.length));
  return Buffer.concat([Buffer.from('MESSAGE\n'), length, value, Buffer.from('\n')]);
}

/** The text without what could be taken for more than a line, and cut. */
export function oneLine(text: string): string {
  return text.slice(0, valueMax).replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '?');
}

import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeJournalEntry, entriesDroppedId, LoggerJournal } from '../../src/adapters/journal.ts';

const entry = { messageId: entriesDroppedId, priority: 6, message: 'm', fields: {} };

describe('an entry', () => {
  test('has its fields, one a line', () => {
    const text = encodeJournalEntry({
      ...entry,
      message: 'first\nsecond',
      fields: { CONTAINER: 'web', UID: '1000' },
    });
    expect(text.split('\n')).toEqual([
      `MESSAGE_ID=${entriesDroppedId}`,
      'PRIORITY=6',
      'SYSLOG_IDENTIFIER=lockerd',
      `SYSLOG_PID=${process.pid}`,
      'LOCKERD_CONTAINER=web',
      'LOCKERD_UID=1000',
      'MESSAGE=first',
      'MESSAGE=second',
      '',
    ]);
  });

  test('cannot be given lines or fields by a value', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.string({ unit: 'binary' }),
        (value, message) => {
          const lines = encodeJournalEntry({ ...entry, message, fields: { X: value } }).split('\n');
          expect(lines.pop()).toBe('');
          for (const line of lines) {
            // logger(1) takes an empty line for the end, and a line is all until the next newline.
            expect(line).toMatch(/^(MESSAGE_ID|PRIORITY|SYSLOG_\w+|LOCKERD_X|MESSAGE)=/);
            expect(line).not.toMatch(/[\0-\x1f\x7f]/);
          }
          expect(lines.filter((line) => !line.startsWith('MESSAGE='))).toHaveLength(5);
        },
      ),
    );
  });

  test.each(['', 'lower', '_X', 'A=B', 'A\nB', 'É', 'A'.repeat(57), '1A'])(
    'has no field %j',
    (key) => {
      expect(() => encodeJournalEntry({ ...entry, fields: { [key]: 'x' } })).toThrow();
    },
  );

  test('has a message id and a priority', () => {
    expect(() => encodeJournalEntry({ ...entry, messageId: 'x' })).toThrow();
    expect(() => encodeJournalEntry({ ...entry, priority: 8 })).toThrow();
  });
});

test('a flood costs its own user entries, and never what was allowed', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'lockerd-journal-'));
  try {
    const logger = join(directory, 'logger');
    writeFileSync(logger, `#!/bin/sh\ngrep -h ^MESSAGE= >>${directory}/log\n`);
    chmodSync(logger, 0o755);
    const journal = new LoggerJournal(logger);
    for (let count = 0; count < 90; count++) {
      journal.write({ ...entry, uid: 1000, message: 'flood' });
      journal.write({ ...entry, uid: 1000, isKept: true, message: 'allowed' });
    }
    journal.write({ ...entry, uid: 1001, message: 'other' });
    await journal.flush();
    const lines = readFileSync(`${directory}/log`, 'utf8').trimEnd().split('\n');
    const count = (text: string) => lines.filter((line) => line === `MESSAGE=${text}`).length;
    expect([count('allowed'), count('other'), count('flood')]).toEqual([90, 1, 64]);
    expect(lines).toContain(
      'MESSAGE=26 journal entries about uid 1000 were dropped, because there were too many at once',
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}, 60_000);

test('entries do not pile up while the journal takes none, and it is told', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'lockerd-journal-'));
  try {
    const logger = join(directory, 'logger');
    writeFileSync(logger, `#!/bin/sh\ngrep -hE '^(MESSAGE|PRIORITY)=' >>${directory}/log\n`);
    chmodSync(logger, 0o755);
    const journal = new LoggerJournal(logger, { all: 8, kept: 4 });
    for (let count = 0; count < 20; count++) {
      journal.write({ ...entry, uid: 100_000 + count, message: 'refused' });
      journal.write({ ...entry, uid: 1000, isKept: true, message: 'allowed' });
    }
    await journal.flush();
    const log = readFileSync(`${directory}/log`, 'utf8');
    const count = (text: string) => log.split('\n').filter((line) => line === text).length;
    expect([count('MESSAGE=allowed'), count('MESSAGE=refused')]).toEqual([4, 8]);
    expect(log).toContain(
      'PRIORITY=3\nMESSAGE=16 journal entries of what was allowed and done were dropped,',
    );
    expect(log.match(/about uid \d+ were dropped/g)).toHaveLength(12);
  } finally {
    rmSync(directory, { recursive: true });
  }
}, 60_000);

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { encodeJournalEntry } from '../../src/adapters/journal-entry.ts';
import { JournalProgram } from '../../src/adapters/journal-program.ts';
import { entriesDroppedId, Journal } from '../../src/adapters/journal.ts';

const entry = { messageId: entriesDroppedId, priority: 6, message: 'm', fields: {} };

/** The fields of an entry in the journal's native protocol. */
function decoded(bytes: Buffer): [string, string][] {
  const fields: [string, string][] = [];
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf('\n', at);
    const line = bytes.toString('utf8', at, end);
    const equals = line.indexOf('=');
    if (equals >= 0) {
      fields.push([line.slice(0, equals), line.slice(equals + 1)]);
      at = end + 1;
    } else {
      const start = end + 9;
      const length = Number(bytes.readBigUInt64LE(end + 1));
      fields.push([line, bytes.toString('utf8', start, start + length)]);
      at = start + length + 1;
    }
  }
  return fields;
}

describe('an entry', () => {
  test('has its fields', () => {
    const bytes = encodeJournalEntry({
      ...entry,
      message: 'first\nsecond',
      fields: { CONTAINER: 'web', UID: '1000' },
    });
    expect(decoded(Buffer.from(bytes))).toEqual([
      ['MESSAGE_ID', entriesDroppedId],
      ['PRIORITY', '6'],
      ['SYSLOG_IDENTIFIER', 'lockerd'],
      ['SYSLOG_PID', String(process.pid)],
      ['LOCKERD_CONTAINER', 'web'],
      ['LOCKERD_UID', '1000'],
      ['MESSAGE', 'first\nsecond'],
    ]);
  });

  test('cannot be given lines or fields by a value', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.string({ unit: 'binary' }),
        (value, message) => {
          const bytes = encodeJournalEntry({ ...entry, message, fields: { X: value } });
          const fields = decoded(Buffer.from(bytes));
          expect(fields.map(([name]) => name)).toEqual([
            'MESSAGE_ID',
            'PRIORITY',
            'SYSLOG_IDENTIFIER',
            'SYSLOG_PID',
            'LOCKERD_X',
            'MESSAGE',
          ]);
          for (const [, text] of fields) expect(text).not.toMatch(/[\0-\x09\x0b-\x1f\x7f]/);
        },
      ),
    );
  });

  test('fits into a datagram, however long its values are', () => {
    const long = '\u{1f600}'.repeat(10_000);
    const fields = Object.fromEntries(Array.from({ length: 8 }, (_, index) => [`F${index}`, long]));
    const bytes = encodeJournalEntry({ ...entry, message: `${long}\n`.repeat(9), fields });
    expect(bytes.length).toBeLessThan(150_000);
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

/** Prints each datagram that a socket gets, in hex, and an empty line first. */
const receiver = `
  socket my $socket, 1, 2, 0 or die $!;
  bind $socket, pack 'S a*', 1, $ARGV[0] or die $!;
  $| = 1;
  print "\\n";
  while (defined recv $socket, my $entry, 1 << 20, 0) { print unpack('H*', $entry), "\\n" }`;

describe('the journal', () => {
  const received: Record<string, string>[] = [];
  let directory: string;
  let socket: string;
  let server: ChildProcess | undefined;

  const listen = async () => {
    const child = spawn('perl', ['-e', receiver, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    server = child;
    await new Promise<void>((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        if (line === '') resolve();
        else received.push(Object.fromEntries(decoded(Buffer.from(line, 'hex'))));
      });
    });
  };
  const hangUp = async () => {
    if (server === undefined) return;
    server.kill();
    await once(server, 'close');
    server = undefined;
    rmSync(socket);
  };
  const program = (text: string, timeoutMs?: number) => {
    const file = join(directory, 'program');
    writeFileSync(file, `#!/bin/sh\n${text}\n`);
    chmodSync(file, 0o755);
    return new JournalProgram(file, timeoutMs);
  };
  const hook = () =>
    program(`exec '${join(import.meta.dirname, '../../hooks/write-journal')}' '${socket}'`);
  const count = (message: string) => received.filter(({ MESSAGE }) => MESSAGE === message).length;

  beforeEach(async () => {
    received.length = 0;
    directory = mkdtempSync(join(tmpdir(), 'lockerd-journal-'));
    socket = join(directory, 'socket');
    await listen();
  });

  afterEach(async () => {
    await hangUp();
    rmSync(directory, { recursive: true });
  });

  test('gets what it is given, from one process', async () => {
    const journal = new Journal(hook());
    journal.write({ ...entry, message: 'one\ntwo', fields: { CONTAINER: 'ü' } });
    journal.write({ ...entry, message: 'three' });
    await journal.flush();
    await vi.waitFor(() => {
      expect(received).toMatchObject([
        { MESSAGE: 'one\ntwo', LOCKERD_CONTAINER: 'ü', SYSLOG_IDENTIFIER: 'lockerd' },
        { MESSAGE: 'three' },
      ]);
    });
  });

  test('is found again when it has been started again', async () => {
    const errors = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const child = hook();
    await child.send(encodeJournalEntry(entry));
    await hangUp();
    await expect(child.send(encodeJournalEntry(entry))).rejects.toThrow(/No such file|refused/);
    await listen();
    await child.send(encodeJournalEntry({ ...entry, message: 'back' }));
    await child.end();
    await vi.waitFor(() => {
      expect(count('back')).toBe(1);
    });
    errors.mockRestore();
  });

  test('has a new writer after one that died, and its entry is told of elsewhere', async () => {
    const errors: string[] = [];
    const stderr = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      errors.push(String(text));
      return true;
    });
    const mark = join(directory, 'mark');
    const journal = new Journal(
      program(
        `if [ ! -e '${mark}' ]; then : >'${mark}'; kill -9 $$; fi\n` +
          `exec '${join(import.meta.dirname, '../../hooks/write-journal')}' '${socket}'`,
      ),
    );
    journal.write({ ...entry, message: 'lost\u001b[2J\nmore' });
    journal.write({ ...entry, message: 'kept' });
    await journal.flush();
    stderr.mockRestore();
    expect(errors.join('')).toBe(
      '<4>cannot write to the journal: write-journal ended (SIGKILL)\n<5>lost?[2J\n',
    );
    await vi.waitFor(() => {
      expect(count('kept')).toBe(1);
    });
  });

  test('keeps its writer when systemd stops all processes of the unit', async () => {
    const pidFile = join(directory, 'pid');
    const child = program(
      `echo $$ >'${pidFile}'\n` +
        `exec '${join(import.meta.dirname, '../../hooks/write-journal')}' '${socket}'`,
    );
    await child.send(encodeJournalEntry({ ...entry, message: 'before' }));
    process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGTERM');
    await child.send(encodeJournalEntry({ ...entry, message: 'after' }));
    await child.end();
    await vi.waitFor(() => {
      expect([count('before'), count('after')]).toEqual([1, 1]);
    });
  });

  test('does not keep the program from its end when it takes nothing', async () => {
    const errors: string[] = [];
    const stderr = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      errors.push(String(text));
      return true;
    });
    const hung = program('exec sleep 60', 200);
    const journal = new Journal(hung, { kept: 50, endMs: 100 });
    for (let index = 0; index < 100; index++) {
      journal.write({ ...entry, isKept: true, message: 'allowed' });
    }
    const began = performance.now();
    await journal.flush();
    stderr.mockRestore();
    expect(performance.now() - began).toBeLessThan(2_000);
    expect(errors.at(-1)).toBe('<3>99 more journal entries are lost\n');
  });

  test('gets an entry that comes when the last one has just been written', async () => {
    const journal = new Journal(hook());
    const send = vi.spyOn(JournalProgram.prototype, 'send');
    journal.write({ ...entry, message: 'first' });
    // Some moments of the program later than its writer learns of it.
    for (let moments = 0; moments < 6; moments++) {
      const first = send.mock.results.at(-1)?.value as Promise<void>;
      await first;
      for (let moment = 0; moment < moments; moment++) await Promise.resolve();
      journal.write({ ...entry, message: `late ${moments}` });
      await journal.flush();
      await vi.waitFor(() => {
        expect(count(`late ${moments}`)).toBe(1);
      });
      journal.write({ ...entry, message: 'first' });
    }
    send.mockRestore();
    await journal.flush();
  });

  // One entry is on its way at once; the others wait.
  test('costs a user who floods it his own entries, and never what was allowed', async () => {
    const journal = new Journal(hook());
    for (let index = 0; index < 90; index++) {
      journal.write({ ...entry, uid: 1000, message: 'flood' });
      journal.write({ ...entry, uid: 1000, isKept: true, message: 'allowed' });
    }
    journal.write({ ...entry, uid: 1001, message: 'other' });
    await journal.flush();
    await vi.waitFor(() => {
      expect([count('allowed'), count('other'), count('flood')]).toEqual([90, 1, 1 + 64]);
    });
    expect(
      count('25 journal entries about uid 1000 were dropped, because there were too many at once'),
    ).toBe(1);
  });

  test('is told what was dropped while it took nothing', async () => {
    const journal = new Journal(hook(), { all: 8, kept: 4 });
    for (let index = 0; index < 20; index++) {
      journal.write({ ...entry, uid: 100_000 + index, message: 'refused' });
      journal.write({ ...entry, uid: 1000, isKept: true, message: 'allowed' });
    }
    await journal.flush();
    await vi.waitFor(() => {
      expect([count('allowed'), count('refused')]).toEqual([4, 1 + 8]);
    });
    const dropped = received.filter(({ MESSAGE = '' }) => MESSAGE.includes('were dropped'));
    expect(dropped.filter(({ PRIORITY }) => PRIORITY === '3')).toMatchObject([
      {
        MESSAGE: expect.stringMatching(
          /^16 journal entries of what was allowed and done/,
        ) as string,
      },
    ]);
    expect(dropped.filter(({ LOCKERD_UID }) => LOCKERD_UID !== undefined)).toHaveLength(11);
  });

  test('gets entries of its level and above, and none without a target', async () => {
    const journal = new Journal(hook());
    const write = (priority: number) => {
      journal.write({ ...entry, priority, message: `${journal.level} ${priority}` });
    };
    write(7);
    write(6);
    journal.level = 'debug';
    write(7);
    journal.level = 'err';
    write(4);
    write(3);
    journal.target = 'null';
    write(0);
    await journal.flush();
    await vi.waitFor(() => {
      expect(received.map(({ MESSAGE }) => MESSAGE)).toEqual(['info 6', 'debug 7', 'err 3']);
    });
  });
});

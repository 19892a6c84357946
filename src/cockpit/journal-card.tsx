/** The end of the journal of a container's unit, as it grows. */

import { useEffect, useState, type ReactNode } from 'react';
import { messageOf } from './host.ts';
import type { Container } from './objects.ts';
import * as pf from './patternfly.ts';
import { useRights } from './rights.ts';
import { isObject, text } from './values.ts';

interface Entry {
  readonly cursor: string;
  readonly time: string;
  readonly message: string;
  /** As syslog(3) numbers them. */
  readonly priority: number;
}

const mostEntries = 200;
const longest = 2000;

/** A field is text, or the bytes of what is none. */
function fieldText(value: unknown): string {
  if (!Array.isArray(value)) return text(value);
  return new TextDecoder().decode(Uint8Array.from(value as number[]));
}

function entryOf(line: string): Entry | undefined {
  const fields: unknown = JSON.parse(line);
  if (!isObject(fields)) return undefined;
  const ms = Number(fields['__REALTIME_TIMESTAMP']) / 1000;
  return {
    cursor: text(fields['__CURSOR']),
    time: new Date(ms).toLocaleString(),
    message: fieldText(fields['MESSAGE']).slice(0, longest),
    priority: Number(fields['PRIORITY'] ?? 6),
  };
}

/** Follows the journal of a unit; the newest entry comes last. */
function useJournal(unit: string): {
  readonly entries: readonly Entry[];
  readonly problem: string;
} {
  const [entries, setEntries] = useState<readonly Entry[]>([]);
  const [problem, setProblem] = useState('');
  useEffect(() => {
    setEntries([]);
    const options = ['--output=json', '--follow', '--lines=50', '--quiet'];
    const program = cockpit.spawn(['journalctl', `--unit=${unit}`, ...options], {
      superuser: 'try',
      err: 'message',
    });
    let rest = '';
    let isOver = false;
    program
      .stream((chunk) => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        const found = lines.flatMap((line) => entryOf(line) ?? []);
        setEntries((before) => [...before, ...found].slice(-mostEntries));
      })
      .catch((error: unknown) => {
        if (!isOver) setProblem(messageOf(error));
      });
    return () => {
      isOver = true;
      program.close('cancelled');
    };
  }, [unit]);
  return { entries, problem };
}

export function JournalCard({ container }: { readonly container: Container }): ReactNode {
  const { entries, problem } = useJournal(container.unit);
  const none = useRights() ? 'No entries.' : 'No entries that you may read.';
  const logs = `/system/logs/#/?prio=debug&service=${encodeURIComponent(container.unit)}`;
  return (
    <pf.Card className="lockerd-wide">
      <pf.CardHeader
        actions={{
          actions: (
            <pf.Button
              variant="link"
              onClick={() => {
                cockpit.jump(logs);
              }}
            >
              View all logs
            </pf.Button>
          ),
        }}
      >
        <pf.CardTitle component="h2">Journal</pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody>
        {problem !== '' && <pf.Alert isInline component="h2" variant="warning" title={problem} />}
        {entries.length === 0 && <p className="lockerd-faint">{none}</p>}
        {entries.length > 0 && (
          <ol className="lockerd-journal" aria-label="Journal" tabIndex={0}>
            {[...entries].reverse().map(({ cursor, time, message, priority }) => (
              <li key={cursor} className={priority <= 3 ? 'lockerd-problem' : ''}>
                <time>{time}</time> <span className="lockerd-words">{message}</span>
              </li>
            ))}
          </ol>
        )}
      </pf.CardBody>
    </pf.Card>
  );
}

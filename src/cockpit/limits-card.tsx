/** Limits of processors, disks and tasks. */

import { useState, type ReactNode } from 'react';
import { refusal } from './actions.ts';
import { Choice, TextField } from './fields.tsx';
import { useServices } from './hooks.ts';
import type { Container, Figures } from './objects.ts';
import { PermittedButton } from './parts.tsx';
import * as pf from './patternfly.ts';

interface Field {
  readonly label: string;
  readonly hint: string;
  readonly shown: (figures: Figures) => string;
  /** As lockerctl takes what is written; undefined for what cannot be a limit. */
  readonly read: (written: string) => string | undefined;
}

const wholeNumber =
  (least: number, most: number): Field['read'] =>
  (written) =>
    /^\d{1,7}$/.test(written) && Number(written) >= least && Number(written) <= most
      ? written
      : undefined;

const orNone =
  (read: Field['read']): Field['read'] =>
  (written) =>
    /^(max|none|no limit|)$/i.test(written) ? 'max' : read(written);

const perCent: Field['read'] = (written) => {
  const number = wholeNumber(1, 100_000)(written.replace(/\s*%$/, ''));
  return number === undefined ? undefined : `${number}%`;
};

const list: Field['read'] = (written) => {
  if (/^(all|)$/i.test(written)) return 'all';
  return /^[0-9,-]+$/.test(written) ? written : undefined;
};

/** By the words that "lockerctl set" has for them. */
const fields: Readonly<Record<string, Field>> = {
  cpu: {
    label: 'Processor time (%)',
    hint: '100 is one processor; none for no limit',
    shown: ({ cpuQuota }) => (cpuQuota === undefined ? 'none' : String(cpuQuota / 10_000)),
    read: orNone(perCent),
  },
  'cpu-weight': {
    label: 'Share of processors',
    hint: '1 to 10000; 100 is usual',
    shown: ({ cpuWeight }) => String(cpuWeight ?? ''),
    read: wholeNumber(1, 10_000),
  },
  cpus: {
    label: 'Processors',
    hint: 'such as 0-3,8, or all',
    shown: ({ cpus }) => cpus || 'all',
    read: list,
  },
  'io-weight': {
    label: 'Share of busy disks',
    hint: '1 to 10000; 100 is usual',
    shown: ({ ioWeight }) => String(ioWeight ?? ''),
    read: wholeNumber(1, 10_000),
  },
  tasks: {
    label: 'Processes and threads',
    hint: '17 or more; none for no limit',
    shown: ({ tasksLimit }) => (tasksLimit === undefined ? 'none' : String(tasksLimit)),
    read: orNone(wholeNumber(17, 4_194_304)),
  },
};

interface CardProps {
  readonly container: Container;
  readonly figures: Figures;
  readonly permissions: ReadonlyMap<string, string> | undefined;
}

function LimitsForm({ container, figures, permissions }: CardProps): ReactNode {
  const { notices } = useServices();
  const [written, setWritten] = useState<Readonly<Record<string, string>>>({});
  const [isLasting, setIsLasting] = useState(false);
  const read = Object.entries(written).map(
    ([name, text]) => [name, fields[name]?.read(text.trim())] as const,
  );
  const isBad = (name: string): boolean =>
    read.some(([one, limit]) => one === name && limit === undefined);
  const problem = read.some(([name]) => isBad(name))
    ? 'A limit cannot be understood.'
    : read.length === 0
      ? 'Nothing has been changed yet.'
      : undefined;
  const why = problem ?? refusal(permissions, 'org.lockerd1.set-limits');
  const set = async (): Promise<void> => {
    const words = read.map(([name, limit]) => `${name}=${limit}`);
    const options = isLasting ? ['--persist'] : [];
    const args = ['set', ...options, '--', container.name, ...words];
    const isDone = await notices.runProgram(`Limits of ${container.name}`, args);
    if (isDone) setWritten({});
  };
  return (
    <pf.Form
      aria-label="Limits"
      isHorizontal
      onSubmit={(event) => {
        event.preventDefault();
        if (why === undefined) void set();
      }}
    >
      {Object.entries(fields).map(([name, field]) => (
        <TextField
          key={name}
          label={field.label}
          value={written[name] ?? field.shown(figures)}
          hint={field.hint}
          placeholder="not known"
          isBad={isBad(name)}
          onChange={(text) => {
            setWritten({ ...written, [name]: text });
          }}
        />
      ))}
      <Choice label="Also for later starts" isChosen={isLasting} onChange={setIsLasting} />
      <div>
        <PermittedButton variant="secondary" why={why} onClick={() => void set()}>
          Set limits
        </PermittedButton>
      </div>
    </pf.Form>
  );
}

export function LimitsCard(props: CardProps): ReactNode {
  return (
    <pf.Card>
      <pf.CardHeader>
        <pf.CardTitle component="h2">Limits</pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody>
        <LimitsForm {...props} />
      </pf.CardBody>
    </pf.Card>
  );
}

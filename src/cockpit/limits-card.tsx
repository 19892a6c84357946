/** Limits of processors, disks and tasks. */

import { useId, useState, type ReactNode } from 'react';
import { refusal } from './actions.ts';
import { useServices } from './hooks.ts';
import type { Container, Figures } from './objects.ts';
import { PermittedButton } from './parts.tsx';
import * as pf from './patternfly.ts';
import { noLimit, variant, type Options } from './values.ts';

interface Field {
  readonly label: string;
  readonly hint: string;
  readonly shown: (figures: Figures) => string;
  /** The limit of what is written; undefined if it is none. */
  readonly read: (written: string) => cockpit.Variant | undefined;
}

const isNone = (written: string): boolean => /^(max|none|no limit|)$/i.test(written);

const wholeNumber =
  (least: number, most: number, factor = 1) =>
  (written: string): cockpit.Variant | undefined => {
    const [, digits] = /^(\d{1,7})\s*%?$/.exec(written) ?? [];
    const number = Number(digits);
    return digits === undefined || number < least || number > most
      ? undefined
      : variant('t', number * factor);
  };

const orNone =
  (read: Field['read']): Field['read'] =>
  (written) =>
    isNone(written) ? variant('t', noLimit) : read(written);

const list: Field['read'] = (written) => {
  if (/^(all|)$/i.test(written)) return variant('s', '');
  return /^[0-9,-]+$/.test(written) ? variant('s', written) : undefined;
};

/** By the names that SetLimits has for them. */
const fields: Readonly<Record<string, Field>> = {
  'cpu-quota': {
    label: 'Processor time (%)',
    hint: '100 is one processor; none for no limit',
    shown: ({ cpuQuota }) => (cpuQuota === undefined ? 'none' : String(cpuQuota / 10_000)),
    read: orNone(wholeNumber(1, 100_000, 10_000)),
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

export function LimitsCard({
  container,
  figures,
  permissions,
}: {
  readonly container: Container;
  readonly figures: Figures;
  readonly permissions: ReadonlyMap<string, string> | undefined;
}): ReactNode {
  const { host, notices } = useServices();
  const id = useId();
  const [written, setWritten] = useState<Readonly<Record<string, string>>>({});
  const [isLasting, setIsLasting] = useState(false);
  const entries = Object.entries(fields);
  const read = Object.entries(written).map(
    ([name, text]) => [name, fields[name]?.read(text.trim())] as const,
  );
  const problem = read.some(([, limit]) => limit === undefined)
    ? 'A limit cannot be understood.'
    : read.length === 0
      ? 'Nothing has been changed yet.'
      : undefined;
  const set = async (): Promise<void> => {
    const limits = Object.fromEntries(read) as Options;
    const options = { persist: variant('b', isLasting) };
    const isAccepted = await notices.run(`Limits of ${container.name}`, () =>
      host.startJob(container.path, 'SetLimits', [limits], 'a{sv}', options),
    );
    if (isAccepted) setWritten({});
  };
  return (
    <pf.Card>
      <pf.CardHeader>
        <pf.CardTitle component="h2">Limits</pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody>
        <pf.Form
          isHorizontal
          onSubmit={(event) => {
            event.preventDefault();
            if (problem === undefined && refusal(permissions, 'org.lockerd1.set-limits') === undefined)
              void set();
          }}
        >
          {entries.map(([name, field]) => {
            const text = written[name];
            const isBad = text !== undefined && field.read(text.trim()) === undefined;
            return (
              <pf.FormGroup key={name} label={field.label} fieldId={`${id}-${name}`}>
                <pf.TextInput
                  id={`${id}-${name}`}
                  value={text ?? field.shown(figures)}
                  validated={isBad ? 'error' : 'default'}
                  aria-describedby={`${id}-${name}-hint`}
                  onChange={(_event, value) => {
                    setWritten({ ...written, [name]: value });
                  }}
                />
                <pf.HelperText id={`${id}-${name}-hint`}>
                  <pf.HelperTextItem variant={isBad ? 'error' : 'default'}>
                    {field.hint}
                  </pf.HelperTextItem>
                </pf.HelperText>
              </pf.FormGroup>
            );
          })}
          <pf.Checkbox
            id={`${id}-persist`}
            label="Also for later starts"
            isChecked={isLasting}
            onChange={(_event, isChecked) => {
              setIsLasting(isChecked);
            }}
          />
          <div>
            <PermittedButton
              variant="secondary"
              why={problem ?? refusal(permissions, 'org.lockerd1.set-limits')}
              onClick={() => void set()}
            >
              Set limits
            </PermittedButton>
          </div>
        </pf.Form>
      </pf.CardBody>
    </pf.Card>
  );
}

/** The table of all containers. */

import {
  memo,
  useDeferredValue,
  useEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
  type ReactNode,
} from 'react';
import '@patternfly/react-styles/css/components/Table/table.css';
import '@patternfly/react-styles/css/components/Table/table-grid.css';
import { addressText } from './addresses.ts';
import { ContainerMenu } from './container-menu.tsx';
import { useAllMemory, useSights, useSnapshot } from './hooks.ts';
import type { Container, Job } from './objects.ts';
import { containerLink, JobProgress, StateLabel, TableHead, UseBar } from './parts.tsx';
import * as pf from './patternfly.ts';
import { isUp, stateNames, stateWord } from './words.ts';

function Troubles({ container, job }: { readonly container: Container; readonly job?: Job }) {
  const { problem, waitsFor, oomKills } = container;
  return (
    <>
      {problem !== '' && <div className="lockerd-problem lockerd-words">{problem}</div>}
      {waitsFor.length > 0 && (
        <div className="lockerd-faint lockerd-words">waits for {waitsFor.join(', ')}</div>
      )}
      {oomKills > 0 && (
        <div className="lockerd-problem">
          {oomKills} {oomKills === 1 ? 'process' : 'processes'} killed for want of memory
        </div>
      )}
      {job !== undefined && <JobProgress job={job} />}
    </>
  );
}

/** So many rows are added at a time. */
const rowsAtOnce = 25;

interface Rows {
  readonly shown: ReadonlySet<Container['path']>;
  /** Those too that have been shown and do not match now: to make them again would take longer than to show them. */
  readonly made: ReadonlySet<Container['path']>;
}

/**
 * Which rows are there. Many new ones come in portions, each when the browser has time: to lay out two hundred at
 * once takes longer than people type.
 */
function useRows(matching: readonly Container[]): Rows {
  const before = useRef<Rows>({ shown: new Set(), made: new Set() });
  const [, goOn] = useReducer((count: number) => count + 1, 0);
  let left = rowsAtOnce;
  const paths = matching.map(({ path }) => path);
  const shown = new Set(paths.filter((path) => before.current.shown.has(path) || left-- > 0));
  const rows = { shown, made: new Set([...before.current.made, ...shown]) };
  useEffect(() => {
    before.current = rows;
    if (shown.size === paths.length) return;
    const request = window.requestIdleCallback(goOn, { timeout: 200 });
    return () => {
      window.cancelIdleCallback(request);
    };
  });
  return rows;
}

interface RowProps {
  readonly container: Container;
  readonly memory: number | undefined;
  readonly addresses: string;
  readonly job: Job | undefined;
  readonly isHidden: boolean;
}

/** Drawn anew only when something of its own has changed. */
const ContainerRow = memo(
  ({ container, memory, addresses, job, isHidden }: RowProps): ReactNode => {
    const { name, state, attachments, memoryLimit, groups } = container;
    return (
      <tr className="pf-v6-c-table__tr lockerd-row" data-container={name} hidden={isHidden}>
        <th className="pf-v6-c-table__td" scope="row" data-label="Name">
          <a className="lockerd-words" href={containerLink(name)}>
            {name}
          </a>
          <Troubles container={container} {...(job === undefined ? {} : { job })} />
        </th>
        <td className="pf-v6-c-table__td" data-label="State">
          <StateLabel state={state} />
        </td>
        <td className="pf-v6-c-table__td" data-label="At boot">
          {container.autostart ? 'Starts' : <span className="lockerd-faint">–</span>}
        </td>
        <td className="pf-v6-c-table__td" data-label="Memory">
          <UseBar
            used={isUp(state) ? memory : undefined}
            whole={memoryLimit}
            label={`Memory of ${name}`}
          />
        </td>
        <td className="pf-v6-c-table__td lockerd-words" data-label="Addresses">
          {addresses || <span className="lockerd-faint">–</span>}
        </td>
        <td className="pf-v6-c-table__td lockerd-words" data-label="Lockers">
          {attachments.map(({ locker, readOnly }) => (
            <pf.Label key={locker} isCompact {...(readOnly ? { icon: <pf.LockIcon /> } : {})}>
              {locker}
              {readOnly ? ' (read-only)' : ''}
            </pf.Label>
          ))}
          {attachments.length === 0 && <span className="lockerd-faint">–</span>}
        </td>
        <td className="pf-v6-c-table__td lockerd-words" data-label="Groups">
          {groups.join(', ') || <span className="lockerd-faint">–</span>}
        </td>
        <td className="pf-v6-c-table__td pf-v6-c-table__action">
          <ContainerMenu container={container} />
        </td>
      </tr>
    );
  },
);

interface Filter {
  readonly words: string;
  readonly state: string;
  readonly group: string;
}

const all: Filter = { words: '', state: '', group: '' };

function isShown(container: Container, { words, state, group }: Filter, addresses: string) {
  const wanted = words.trim().toLowerCase();
  return (
    (state === '' || container.state === state) &&
    (group === '' || container.groups.includes(group)) &&
    (wanted === '' ||
      container.name.toLowerCase().includes(wanted) ||
      addresses.includes(wanted) ||
      container.attachments.some(({ locker }) => locker.toLowerCase().includes(wanted)))
  );
}

const columns = ['Name', 'State', 'At boot', 'Memory', 'Addresses', 'Lockers', 'Groups'];

function FilterSelect({
  label,
  all,
  value,
  options,
  onChange,
}: {
  readonly label: string;
  readonly all: string;
  readonly value: string;
  /** Value and word of each. */
  readonly options: readonly (readonly [string, string])[];
  readonly onChange: (value: string) => void;
}): ReactNode {
  return (
    <pf.ToolbarItem>
      <pf.FormSelect
        aria-label={label}
        value={value}
        onChange={(_event, chosen) => {
          onChange(chosen);
        }}
      >
        <pf.FormSelectOption value="" label={all} />
        {options.map(([one, word]) => (
          <pf.FormSelectOption key={one} value={one} label={word} />
        ))}
      </pf.FormSelect>
    </pf.ToolbarItem>
  );
}

function Filters({
  filter,
  onChange,
  groups,
  shown,
  total,
}: {
  readonly filter: Filter;
  readonly onChange: (filter: Filter) => void;
  readonly groups: readonly string[];
  readonly shown: number;
  readonly total: number;
}): ReactNode {
  return (
    <pf.Toolbar className="lockerd-toolbar">
      <pf.ToolbarContent>
        <pf.ToolbarItem>
          <pf.SearchInput
            aria-label="Search containers"
            placeholder="Name, address or locker"
            value={filter.words}
            onChange={(_event, words) => {
              onChange({ ...filter, words });
            }}
            onClear={() => {
              onChange({ ...filter, words: '' });
            }}
          />
        </pf.ToolbarItem>
        <FilterSelect
          label="State"
          all="All states"
          value={filter.state}
          options={stateNames.map((state) => [state, stateWord(state)])}
          onChange={(state) => {
            onChange({ ...filter, state });
          }}
        />
        {groups.length > 0 && (
          <FilterSelect
            label="Group"
            all="All groups"
            value={filter.group}
            options={groups.map((group) => [group, group])}
            onChange={(group) => {
              onChange({ ...filter, group });
            }}
          />
        )}
        <pf.ToolbarItem alignSelf="center">
          <span role="status">
            {shown === total ? '' : `${shown} of `}
            {total === 1 ? '1 container' : `${total} containers`}
          </span>
        </pf.ToolbarItem>
      </pf.ToolbarContent>
    </pf.Toolbar>
  );
}

function ContainersTable({
  containers,
  rows,
  memory,
  jobs,
  addresses,
  isBusy,
}: {
  readonly containers: readonly Container[];
  readonly rows: Rows;
  /** By path. */
  readonly memory: ReadonlyMap<string, number>;
  readonly jobs: ReadonlyMap<string, Job>;
  /** Of a container, by its name. */
  readonly addresses: (name: string) => string;
  readonly isBusy: boolean;
}): ReactNode {
  return (
    <table
      className="pf-v6-c-table pf-m-grid-lg pf-m-compact lockerd-containers"
      aria-label="Containers"
      aria-busy={isBusy}
    >
      <colgroup>
        {[...columns, 'menu'].map((column) => (
          <col key={column} />
        ))}
      </colgroup>
      <TableHead columns={columns} hasMenu />
      <tbody className="pf-v6-c-table__tbody">
        {containers
          .filter(({ path }) => rows.made.has(path))
          .map((container) => (
            <ContainerRow
              key={container.path}
              container={container}
              memory={memory.get(container.path)}
              addresses={addresses(container.name)}
              job={jobs.get(container.jobs[0] ?? '')}
              isHidden={!rows.shown.has(container.path)}
            />
          ))}
      </tbody>
    </table>
  );
}

function NoContainers(): ReactNode {
  return (
    <pf.EmptyState headingLevel="h2" titleText="No containers" icon={pf.CubesIcon}>
      <pf.EmptyStateBody>
        This host has no LXC container. lxc-create makes one; after a systemctl daemon-reload it is
        here.
      </pf.EmptyStateBody>
    </pf.EmptyState>
  );
}

function NoMatch({ onReset }: { readonly onReset: () => void }): ReactNode {
  return (
    <pf.EmptyState headingLevel="h2" titleText="No container matches">
      <pf.EmptyStateFooter>
        <pf.EmptyStateActions>
          <pf.Button variant="link" onClick={onReset}>
            Show all
          </pf.Button>
        </pf.EmptyStateActions>
      </pf.EmptyStateFooter>
    </pf.EmptyState>
  );
}

export function ContainersPage(): ReactNode {
  const { containers, jobs } = useSnapshot();
  const [filter, setFilter] = useState(all);
  // Typing goes before drawing hundreds of rows.
  const applied = useDeferredValue(filter);
  const sorted = useMemo(
    () => [...containers.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    [containers],
  );
  const up = sorted.filter(({ state }) => isUp(state)).map(({ name }) => name);
  const memory = useAllMemory(up.length > 0);
  const sights = useSights(up, up.join('\n'));
  const addresses = (name: string): string => addressText(sights.get(name));
  const groups = [...new Set(sorted.flatMap((container) => container.groups))].sort();
  const matching = sorted.filter((one) => isShown(one, applied, addresses(one.name)));
  const rows = useRows(matching);
  return (
    <pf.PageSection aria-label="Containers" isFilled>
      <h1 className="pf-v6-screen-reader">LXC containers</h1>
      {sorted.length === 0 ? (
        <NoContainers />
      ) : (
        <>
          <Filters
            filter={filter}
            onChange={setFilter}
            groups={groups}
            shown={matching.length}
            total={sorted.length}
          />
          <ContainersTable
            containers={sorted}
            rows={rows}
            memory={memory}
            jobs={jobs}
            addresses={addresses}
            isBusy={applied !== filter || rows.shown.size < matching.length}
          />
          {matching.length === 0 && (
            <NoMatch
              onReset={() => {
                setFilter(all);
              }}
            />
          )}
        </>
      )}
    </pf.PageSection>
  );
}

/** All lockers of the host, and the stores that new ones come from. */

import { useState, type ReactNode } from 'react';
import { interfaces } from '../api/names.ts';
import { managerPath } from '../api/paths.ts';
import { ActionMenu } from './action-menu.tsx';
import { refusal } from './actions.ts';
import { usePermissions, usePolled, useServices, useSnapshot } from './hooks.ts';
import {
  CreateDialog,
  ForgetQuestion,
  GrowDialog,
  RenameDialog,
  RestoreDialog,
  SnapshotDialog,
} from './locker-dialogs.tsx';
import { storeOf, type Container, type Locker, type Store } from './objects.ts';
import { containerLink, JobProgress, PermittedButton, TableHead, UseBar } from './parts.tsx';
import * as pf from './patternfly.ts';
import { rows, text, unwrap } from './values.ts';
import { sizeText } from './words.ts';

const healthWords: Readonly<Record<string, string>> = {
  good: 'Good',
  'nearly-full': 'Nearly full',
  'read-only': 'Read-only',
  'device-missing': 'Device is missing',
  hung: 'Does not answer',
  unknown: 'Not known',
};

function Health({ locker }: { readonly locker: Locker }): ReactNode {
  const { health, mounted } = locker;
  if (health === '') {
    return (
      <pf.Label isCompact color={mounted ? 'green' : 'grey'}>
        {mounted ? 'Mounted' : 'Not mounted'}
      </pf.Label>
    );
  }
  const isBad = health === 'device-missing' || health === 'hung';
  const colour = health === 'good' ? 'green' : isBad ? 'red' : 'orange';
  return (
    <pf.Label isCompact color={health === 'unknown' ? 'grey' : colour}>
      {healthWords[health] ?? health}
    </pf.Label>
  );
}

function Uses({
  locker,
  containers,
}: {
  readonly locker: Locker;
  readonly containers: ReadonlyMap<string, Container>;
}): ReactNode {
  if (locker.uses.length === 0) return <span className="lockerd-faint">–</span>;
  return (
    <ul>
      {locker.uses.map(({ container, readOnly }) => {
        const name = containers.get(container)?.name;
        return (
          <li key={container}>
            {name === undefined ? container : <a href={containerLink(name)}>{name}</a>}
            {readOnly && ' (read-only)'}
          </li>
        );
      })}
    </ul>
  );
}

const changes = [
  ['grow', 'Grow'],
  ['snapshot', 'Take snapshot'],
  ['restore', 'Restore a snapshot'],
  ['rename', 'Rename'],
  ['forget', 'Forget'],
] as const;

const dialogs = {
  grow: GrowDialog,
  snapshot: SnapshotDialog,
  restore: RestoreDialog,
  rename: RenameDialog,
  forget: ForgetQuestion,
} as const;

interface Asked {
  readonly what: 'create' | (typeof changes)[number][0];
  readonly locker?: Locker;
}

interface RowProps {
  readonly locker: Locker;
  readonly containers: ReadonlyMap<string, Container>;
  readonly canChange: boolean;
  readonly onAsk: (asked: Asked) => void;
}

function LockerRow({ locker, containers, canChange, onAsk }: RowProps): ReactNode {
  const { jobs } = useSnapshot();
  const own = [...jobs.values()].filter(
    (job) => job.locker === locker.name && job.state !== 'done',
  );
  const { name, description, size, used, store, source, fileSystem, snapshots } = locker;
  const offered = changes.filter(([what]) => what !== 'restore' || snapshots.length > 0);
  return (
    <tr className="pf-v6-c-table__tr" data-locker={name}>
      <th className="pf-v6-c-table__td" scope="row" data-label="Name">
        <span className="lockerd-words">{name}</span>
        <div className="lockerd-faint lockerd-words lockerd-plain">{description}</div>
        {own.map((job) => (
          <JobProgress key={job.path} job={job} />
        ))}
      </th>
      <td className="pf-v6-c-table__td" data-label="Health">
        <Health locker={locker} />
      </td>
      <td className="pf-v6-c-table__td" data-label="Use">
        <UseBar used={used} whole={size} label={`Use of ${name}`} none="" />
      </td>
      <td className="pf-v6-c-table__td" data-label="Attached to">
        <Uses locker={locker} containers={containers} />
      </td>
      <td className="pf-v6-c-table__td lockerd-words" data-label="From">
        {[store, fileSystem, source].filter((word) => word !== '').join(', ') || '–'}
      </td>
      {canChange && (
        <>
          <td className="pf-v6-c-table__td lockerd-words" data-label="Snapshots">
            {snapshots.join('\n') || <span className="lockerd-faint">–</span>}
          </td>
          <td className="pf-v6-c-table__td pf-v6-c-table__action">
            <ActionMenu
              path={locker.path}
              name={name}
              items={offered.map(([what, label]) => ({
                id: what,
                label,
                action: `org.lockerd1.${what}-locker`,
                isDangerous: what === 'forget',
                onSelect: () => {
                  onAsk({ what, locker });
                },
              }))}
            />
          </td>
        </>
      )}
    </tr>
  );
}

const storesEveryMs = 15_000;

/** The stores, read again after each change of the lockers; undefined until they are known. */
function useStores(isKnown: boolean, key: string): readonly Store[] | undefined {
  const { host } = useServices();
  const ask = async (): Promise<readonly Store[]> => {
    if (!isKnown) return [];
    const [answer] = await host.call(managerPath, interfaces.manager, 'ListStores', [], '');
    return rows(answer).map(([name, properties]) => storeOf(text(name), unwrap(properties)));
  };
  return usePolled(ask, storesEveryMs, `${isKnown} ${key}`);
}

function Stores({ stores }: { readonly stores: readonly Store[] }): ReactNode {
  return (
    <section aria-labelledby="stores">
      <pf.Title id="stores" headingLevel="h2">
        Stores
      </pf.Title>
      {stores.length === 0 ? (
        <p className="lockerd-faint">
          There is no store, so new lockers cannot be made here. A section [store NAME] in
          /etc/lockerd/lockerd.conf makes one.
        </p>
      ) : (
        <table className="pf-v6-c-table pf-m-grid-md pf-m-compact" aria-labelledby="stores">
          <TableHead columns={['Name', 'Kind', 'In use', 'Free', 'Largest locker']} />
          <tbody className="pf-v6-c-table__tbody">
            {stores.map(({ name, type, fileSystem, size, free, maxSize, problem }) => (
              <tr className="pf-v6-c-table__tr" key={name} data-store={name}>
                <th className="pf-v6-c-table__td" scope="row" data-label="Name">
                  <span className="lockerd-words">{name}</span>
                  {problem !== '' && <div className="lockerd-problem lockerd-words">{problem}</div>}
                </th>
                <td className="pf-v6-c-table__td" data-label="Kind">
                  {[...new Set([type, fileSystem])].filter((word) => word !== '').join(', ')}
                </td>
                <td className="pf-v6-c-table__td" data-label="In use">
                  <UseBar
                    used={size && free !== undefined ? size - free : undefined}
                    whole={size}
                    label={`Use of the store ${name}`}
                  />
                </td>
                <td className="pf-v6-c-table__td" data-label="Free">
                  {sizeText(size ? free : undefined)}
                </td>
                <td className="pf-v6-c-table__td" data-label="Largest locker">
                  {sizeText(maxSize, 'no bound')}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function LockersTable(props: Omit<RowProps, 'locker'> & { readonly lockers: readonly Locker[] }) {
  const { lockers, ...rest } = props;
  const columns = ['Name', 'Health', 'Use', 'Attached to', 'From'];
  if (props.canChange) columns.push('Snapshots');
  return (
    <table className="pf-v6-c-table pf-m-grid-lg pf-m-compact" aria-label="Lockers">
      <TableHead columns={columns} hasMenu={props.canChange} />
      <tbody className="pf-v6-c-table__tbody">
        {lockers.map((locker) => (
          <LockerRow key={locker.path} locker={locker} {...rest} />
        ))}
      </tbody>
    </table>
  );
}

function Dialog({
  asked,
  stores,
  onClose,
}: {
  readonly asked: Asked;
  readonly stores: readonly Store[];
  readonly onClose: () => void;
}): ReactNode {
  const { what, locker } = asked;
  if (what === 'create') return <CreateDialog stores={stores} onClose={onClose} />;
  if (locker === undefined) return null;
  const Form = dialogs[what];
  return <Form locker={locker} onClose={onClose} />;
}

/** What is done with lockers that are not there yet. */
function NewLockers(): ReactNode {
  const { lockers, jobs } = useSnapshot();
  const known = new Set([...lockers.values()].map(({ name }) => name));
  return [...jobs.values()]
    .filter(
      ({ verb, state, locker }) =>
        verb === 'create-locker' && state !== 'done' && !known.has(locker),
    )
    .map((job) => <JobProgress key={job.path} job={job} />);
}

export function LockersPage(): ReactNode {
  const { lockers, containers, features } = useSnapshot();
  const canChange = features.has('stores');
  const permissions = usePermissions(canChange ? managerPath : undefined);
  const sorted = [...lockers.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const stores = useStores(canChange, sorted.map(({ name, size }) => `${name} ${size}`).join());
  const [asked, setAsked] = useState<Asked>();
  return (
    <pf.PageSection aria-label="Lockers" isFilled hasBodyWrapper={false} className="lockerd-stack">
      <h1 className="pf-v6-screen-reader">Lockers</h1>
      {canChange && stores !== undefined && stores.length > 0 && (
        <div>
          <PermittedButton
            variant="primary"
            why={refusal(permissions, 'org.lockerd1.create-locker')}
            onClick={() => {
              setAsked({ what: 'create' });
            }}
          >
            Create locker
          </PermittedButton>
        </div>
      )}
      <NewLockers />
      {sorted.length === 0 ? (
        <pf.EmptyState headingLevel="h2" titleText="No lockers" icon={pf.CubesIcon}>
          <pf.EmptyStateBody>
            A locker is a file system below /lockers that containers can have. A line in /etc/fstab
            makes one; after a systemctl daemon-reload it is here.
          </pf.EmptyStateBody>
        </pf.EmptyState>
      ) : (
        <LockersTable
          lockers={sorted}
          containers={containers}
          canChange={canChange}
          onAsk={setAsked}
        />
      )}
      {canChange && stores !== undefined && <Stores stores={stores} />}
      {asked !== undefined && (
        <Dialog
          asked={asked}
          stores={stores ?? []}
          onClose={() => {
            setAsked(undefined);
          }}
        />
      )}
    </pf.PageSection>
  );
}

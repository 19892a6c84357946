/** The lockers of a container: attach one, detach one, and who keeps one busy. */

import { useId, useState, type ReactNode } from 'react';
import { refusal } from './actions.ts';
import { Choice, SelectField } from './fields.tsx';
import { useServices, useSnapshot } from './hooks.ts';
import type { Container, Job } from './objects.ts';
import { DialogFooter, PermittedButton } from './parts.tsx';
import * as pf from './patternfly.ts';
import { variant } from './values.ts';

type Permissions = ReadonlyMap<string, string> | undefined;

interface PartProps {
  readonly container: Container;
  readonly permissions: Permissions;
}

function AttachForm({ container, permissions }: PartProps): ReactNode {
  const { host, notices } = useServices();
  const { lockers } = useSnapshot();
  const attached = new Set(container.attachments.map(({ locker }) => locker));
  const free = [...lockers.values()].map(({ name }) => name).filter((name) => !attached.has(name));
  const [chosen, setChosen] = useState('');
  const [isReadOnly, setIsReadOnly] = useState(false);
  const [isLasting, setIsLasting] = useState(false);
  if (free.length === 0) {
    return (
      <p className="lockerd-faint">
        {lockers.size === 0
          ? 'This host has no lockers.'
          : 'All lockers of this host are attached.'}
      </p>
    );
  }
  const locker = free.includes(chosen) ? chosen : (free[0] ?? '');
  const attach = (): void => {
    void notices.run(`Attaching ${locker} to ${container.name}`, () =>
      host.startJob(container.path, 'MountLocker', [locker], 's', {
        'read-only': variant('b', isReadOnly),
        persist: variant('b', isLasting),
      }),
    );
  };
  return (
    <pf.Form
      aria-label="Attach a locker"
      onSubmit={(event) => {
        event.preventDefault();
      }}
    >
      <SelectField
        label="Attach another locker"
        value={locker}
        values={free.sort()}
        onChange={setChosen}
      />
      <Choice label="Read-only" isChosen={isReadOnly} onChange={setIsReadOnly} />
      <Choice label="Also for later starts" isChosen={isLasting} onChange={setIsLasting} />
      <div>
        <PermittedButton
          variant="secondary"
          why={refusal(permissions, 'org.lockerd1.mount-locker')}
          onClick={attach}
        >
          Attach
        </PermittedButton>
      </div>
    </pf.Form>
  );
}

/** Asks whether later starts are meant as well, and offers force where the locker is busy. */
function DetachDialog({
  container,
  locker,
  busy,
  permissions,
  onDetach,
  onClose,
}: PartProps & {
  readonly locker: string;
  /** Who uses it, after a try that failed. */
  readonly busy: string | undefined;
  readonly onDetach: (isLasting: boolean, isForced: boolean) => void;
  readonly onClose: () => void;
}): ReactNode {
  const id = useId();
  const [isLasting, setIsLasting] = useState(false);
  const isForced = busy !== undefined;
  const action = `org.lockerd1.unmount-locker${isForced ? '-force' : ''}`;
  return (
    <pf.Modal
      variant="small"
      isOpen
      onClose={onClose}
      aria-labelledby={`${id}-title`}
      aria-describedby={`${id}-body`}
    >
      <pf.ModalHeader labelId={`${id}-title`} title={`Detach ${locker} from ${container.name}?`} />
      <pf.ModalBody id={`${id}-body`}>
        {busy !== undefined && (
          <pf.Alert isInline component="h2" variant="warning" title="It is in use">
            <p className="lockerd-words">{busy}</p>
            <p>If it is detached all the same, what uses it now continues to use it.</p>
          </pf.Alert>
        )}
        <Choice label="Also for later starts" isChosen={isLasting} onChange={setIsLasting} />
      </pf.ModalBody>
      <DialogFooter onClose={onClose}>
        <PermittedButton
          variant={isForced ? 'danger' : 'primary'}
          why={refusal(permissions, action)}
          onClick={() => {
            onDetach(isLasting, isForced);
          }}
        >
          {isForced ? 'Detach all the same' : 'Detach'}
        </PermittedButton>
      </DialogFooter>
    </pf.Modal>
  );
}

function AttachedList({
  container,
  permissions,
  onDetach,
}: PartProps & { readonly onDetach: (locker: string) => void }): ReactNode {
  if (container.attachments.length === 0) {
    return <p className="lockerd-faint">No locker is attached.</p>;
  }
  return (
    <ul className="lockerd-list" aria-label="Attached lockers">
      {container.attachments.map(({ locker, readOnly }) => (
        <li key={locker}>
          <span className="lockerd-words">
            {locker} {readOnly && <pf.Label isCompact>read-only</pf.Label>}
          </span>
          <PermittedButton
            variant="link"
            isInline
            why={refusal(permissions, 'org.lockerd1.unmount-locker')}
            aria-label={`Detach ${locker}`}
            onClick={() => {
              onDetach(locker);
            }}
          >
            Detach
          </PermittedButton>
        </li>
      ))}
    </ul>
  );
}

/** What is asked before a locker is detached. */
interface Asked {
  readonly locker: string;
  /** Who uses it, after a try that failed. */
  readonly busy?: string;
}

export function AttachmentsCard({ container, permissions }: PartProps): ReactNode {
  const { host, notices } = useServices();
  const [asked, setAsked] = useState<Asked>();
  const detach = (locker: string, isLasting: boolean, isForced: boolean): void => {
    setAsked(undefined);
    const onEnd = ({ errorName, errorMessage }: Job): void => {
      if (errorName.endsWith('.LockerBusy')) setAsked({ locker, busy: errorMessage });
    };
    const options = { force: variant('b', isForced), persist: variant('b', isLasting) };
    void notices.run(
      `Detaching ${locker} from ${container.name}`,
      () => host.startJob(container.path, 'UnmountLocker', [locker], 's', options),
      onEnd,
    );
  };
  return (
    <pf.Card>
      <pf.CardHeader>
        <pf.CardTitle component="h2">Lockers</pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody className="lockerd-stack">
        <AttachedList
          container={container}
          permissions={permissions}
          onDetach={(locker) => {
            setAsked({ locker });
          }}
        />
        <AttachForm container={container} permissions={permissions} />
        {asked !== undefined && (
          <DetachDialog
            container={container}
            permissions={permissions}
            locker={asked.locker}
            busy={asked.busy}
            onDetach={(isLasting, isForced) => {
              detach(asked.locker, isLasting, isForced);
            }}
            onClose={() => {
              setAsked(undefined);
            }}
          />
        )}
      </pf.CardBody>
    </pf.Card>
  );
}

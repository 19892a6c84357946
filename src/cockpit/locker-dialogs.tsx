/** What is asked before a locker is made or changed. */

import { useId, useState, type ReactNode } from 'react';
import { managerPath } from '../api/paths.ts';
import { isNewName, newNameForm } from '../model/new-name.ts';
import { Choice, SelectField, TextField } from './fields.tsx';
import { useServices, type Services } from './hooks.ts';
import type { Locker, Store } from './objects.ts';
import { DialogFooter, PermittedButton, Question } from './parts.tsx';
import * as pf from './patternfly.ts';
import { variant, type Options } from './values.ts';
import { parseSize, sizeText } from './words.ts';

/** What new lockers and snapshots may be called. */
const nameRule = `Take ${newNameForm}.`;

function Dialog({
  title,
  confirm,
  problem,
  onConfirm,
  onClose,
  children,
}: {
  readonly title: string;
  readonly confirm: string;
  /** Why it cannot be confirmed yet. */
  readonly problem: string | undefined;
  readonly onConfirm: () => void;
  readonly onClose: () => void;
  readonly children: ReactNode;
}): ReactNode {
  const id = useId();
  const submit = (): void => {
    if (problem !== undefined) return;
    onConfirm();
    onClose();
  };
  return (
    <pf.Modal variant="small" isOpen onClose={onClose} aria-labelledby={id}>
      <pf.ModalHeader labelId={id} title={title} />
      <pf.ModalBody>
        <pf.Form
          onSubmit={(event) => {
            event.preventDefault();
            submit();
          }}
        >
          {children}
        </pf.Form>
      </pf.ModalBody>
      <DialogFooter onClose={onClose}>
        <PermittedButton variant="primary" why={problem} onClick={submit}>
          {confirm}
        </PermittedButton>
      </DialogFooter>
    </pf.Modal>
  );
}

interface LockerDialogProps {
  readonly locker: Locker;
  readonly onClose: () => void;
}

const ownerForm = /^\d{1,10}:\d{1,10}$/;

interface NewLocker {
  readonly name: string;
  readonly size: string;
  readonly owner: string;
  readonly store: string;
}

function createProblem({ name, size, owner }: NewLocker): string | undefined {
  if (!isNewName(name)) return 'Give it a name.';
  if (parseSize(size) === undefined) return 'Write a size such as 10 GiB.';
  return owner === '' || ownerForm.test(owner)
    ? undefined
    : 'Write the owner as two numbers, such as 1000:1000.';
}

function create({ host, notices }: Services, { name, size, owner, store }: NewLocker): void {
  const options: Options = {
    store: variant('s', store),
    ...(owner === '' ? {} : { owner: variant('s', owner) }),
  };
  void notices.run(`Creation of ${name}`, () =>
    host.startJob(managerPath, 'CreateLocker', [name, parseSize(size)], 'st', options),
  );
}

export function CreateDialog({
  stores,
  onClose,
}: {
  readonly stores: readonly Store[];
  readonly onClose: () => void;
}): ReactNode {
  const services = useServices();
  const [first] = [...stores].sort((a, b) => a.problem.length - b.problem.length);
  const unnamed = { name: '', size: '1 GiB', owner: '', store: first?.name ?? '' };
  const [locker, setLocker] = useState<NewLocker>(unnamed);
  const { name, size, owner } = locker;
  const store = stores.find((one) => one.name === locker.store);
  const isBadStore = store !== undefined && store.problem !== '';
  const field = (key: keyof NewLocker) => ({
    value: locker[key],
    onChange: (text: string) => {
      setLocker({ ...locker, [key]: text });
    },
  });
  return (
    <Dialog
      title="Create locker"
      confirm="Create"
      problem={createProblem(locker)}
      onConfirm={() => {
        create(services, locker);
      }}
      onClose={onClose}
    >
      <TextField
        label="Name"
        {...field('name')}
        hint={nameRule}
        isBad={name !== '' && !isNewName(name)}
      />
      <TextField
        label="Size"
        {...field('size')}
        hint="Such as 512 MiB or 10 GiB"
        isBad={parseSize(size) === undefined}
      />
      <SelectField
        label="Store"
        {...field('store')}
        values={stores.map((one) => one.name)}
        hint={isBadStore ? store.problem : `${sizeText(store?.free, 'Unknown')} free`}
        isBad={isBadStore}
      />
      <TextField
        label="Owner"
        {...field('owner')}
        hint="User and group on the host as numbers, such as 1000:1000; empty for root"
        isBad={owner !== '' && !ownerForm.test(owner)}
      />
    </Dialog>
  );
}

export function GrowDialog({ locker, onClose }: LockerDialogProps): ReactNode {
  const { host, notices } = useServices();
  const [size, setSize] = useState(sizeText((locker.size ?? 0) * 2, ''));
  const bytes = parseSize(size);
  const isSmaller = bytes !== undefined && locker.size !== undefined && bytes <= locker.size;
  const problem =
    bytes === undefined
      ? 'Write a size such as 10 GiB.'
      : isSmaller
        ? `It has ${sizeText(locker.size)} now, and can only grow.`
        : undefined;
  const grow = (): void => {
    void notices.run(`Growth of ${locker.name}`, () =>
      host.startJob(managerPath, 'GrowLocker', [locker.name, bytes], 'st'),
    );
  };
  return (
    <Dialog
      title={`Grow ${locker.name}`}
      confirm="Grow"
      problem={problem}
      onConfirm={grow}
      onClose={onClose}
    >
      <TextField
        label="New size"
        value={size}
        hint={
          problem ?? `It has ${sizeText(locker.size, 'an unknown size')} now. Guests keep using it.`
        }
        isBad={problem !== undefined}
        onChange={setSize}
      />
    </Dialog>
  );
}

export function SnapshotDialog({ locker, onClose }: LockerDialogProps): ReactNode {
  const { host, notices } = useServices();
  const [name, setName] = useState('');
  const [isFrozen, setIsFrozen] = useState(false);
  const isBad = name !== '' && !isNewName(name);
  const take = (): void => {
    const options = { freeze: variant('b', isFrozen) };
    void notices.run(`Snapshot of ${locker.name}`, () =>
      host.startJob(managerPath, 'SnapshotLocker', [locker.name, name], 'ss', options),
    );
  };
  return (
    <Dialog
      title={`Snapshot of ${locker.name}`}
      confirm="Take snapshot"
      problem={isBad ? nameRule : undefined}
      onConfirm={take}
      onClose={onClose}
    >
      <TextField
        label="Name"
        value={name}
        hint={isBad ? nameRule : 'Empty for a name from the time'}
        isBad={isBad}
        onChange={setName}
      />
      <Choice
        label="Freeze the containers that can write to it meanwhile"
        isChosen={isFrozen}
        onChange={setIsFrozen}
      />
    </Dialog>
  );
}

/** A name that is still to be given. */
function NameField({
  label,
  name,
  onChange,
}: {
  readonly label: string;
  readonly name: string;
  readonly onChange: (name: string) => void;
}): ReactNode {
  const isBad = name !== '' && !isNewName(name);
  return <TextField label={label} value={name} hint={nameRule} isBad={isBad} onChange={onChange} />;
}

export function RenameDialog({ locker, onClose }: LockerDialogProps): ReactNode {
  const { host, notices } = useServices();
  const [name, setName] = useState('');
  const rename = (): void => {
    void notices.run(`New name of ${locker.name}`, () =>
      host.startJob(managerPath, 'RenameLocker', [locker.name, name], 'ss'),
    );
  };
  return (
    <Dialog
      title={`Rename ${locker.name}`}
      confirm="Rename"
      problem={isNewName(name) ? undefined : 'Give it another name.'}
      onConfirm={rename}
      onClose={onClose}
    >
      <NameField label="New name" name={name} onChange={setName} />
    </Dialog>
  );
}

export function RestoreDialog({ locker, onClose }: LockerDialogProps): ReactNode {
  const { host, notices } = useServices();
  const [snapshot, setSnapshot] = useState(locker.snapshots.at(-1) ?? '');
  const [name, setName] = useState('');
  const restore = (): void => {
    const args = [locker.name, snapshot, name];
    void notices.run(`Making ${name} of the snapshot ${snapshot}`, () =>
      host.startJob(managerPath, 'RestoreLocker', args, 'sss'),
    );
  };
  return (
    <Dialog
      title={`Restore a snapshot of ${locker.name}`}
      confirm="Restore"
      problem={isNewName(name) ? undefined : 'Give the new locker a name.'}
      onConfirm={restore}
      onClose={onClose}
    >
      <SelectField
        label="Snapshot"
        value={snapshot}
        values={locker.snapshots}
        hint={`It becomes a locker of its own, and ${locker.name} stays as it is.`}
        onChange={setSnapshot}
      />
      <NameField label="Name of the new locker" name={name} onChange={setName} />
    </Dialog>
  );
}

export function ForgetQuestion({ locker, onClose }: LockerDialogProps): ReactNode {
  const { host, notices } = useServices();
  return (
    <Question
      title={`Forget ${locker.name}?`}
      text={
        'It is unmounted, and the host no longer knows it. Its data stays in the store: only root can destroy ' +
        `it, with lockerctl destroy-locker --yes ${locker.name} ${locker.name}.`
      }
      confirm="Forget"
      onConfirm={() => {
        void notices.run(`Forgetting ${locker.name}`, () =>
          host.startJob(managerPath, 'ForgetLocker', [locker.name], 's'),
        );
      }}
      onClose={onClose}
    />
  );
}

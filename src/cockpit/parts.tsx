/** Small things that several views show. */

import { useId, useRef, type ReactNode } from 'react';
import type { Job } from './objects.ts';
import * as pf from './patternfly.ts';
import { useServices } from './hooks.ts';
import { messageOf } from './host.ts';
import { interfaces } from '../api/names.ts';
import { phaseText, sizeText, stateColour, stateWord, verbText } from './words.ts';

export function StateLabel({ state }: { readonly state: string }): ReactNode {
  return (
    <pf.Label isCompact color={stateColour(state)}>
      {stateWord(state)}
    </pf.Label>
  );
}

/** A bar of how much of something is used. Without a whole there is only the amount. */
export function UseBar({
  used,
  whole,
  label,
  none = 'no limit',
}: {
  readonly used: number | undefined;
  readonly whole: number | undefined;
  readonly label: string;
  readonly none?: string;
}): ReactNode {
  if (used === undefined) return <span className="lockerd-faint">–</span>;
  const words = `${sizeText(used)} of ${sizeText(whole, none)}`;
  if (whole === undefined || whole === 0) {
    return (
      <span className="lockerd-nowrap">
        {sizeText(used)} <span className="lockerd-faint">{none}</span>
      </span>
    );
  }
  const percent = Math.min(100, Math.round((used / whole) * 100));
  const level = percent >= 95 ? ' lockerd-danger' : percent >= 85 ? ' lockerd-warning' : '';
  return (
    <div className="lockerd-use">
      <div className="lockerd-nowrap">{words}</div>
      <div
        className={`lockerd-bar${level}`}
        role="meter"
        aria-label={label}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={percent}
        aria-valuetext={words}
      >
        <div style={{ inlineSize: `${percent}%` }} />
      </div>
    </div>
  );
}

/** A button that says why it is grey, also to those who neither point at it nor go to it with Tab. */
export function PermittedButton({
  why,
  children,
  ...button
}: {
  /** Undefined where the user may. */
  readonly why: string | undefined;
  readonly children: ReactNode;
  readonly variant?: 'primary' | 'secondary' | 'danger' | 'link';
  readonly isInline?: boolean;
  readonly onClick: () => void;
  readonly 'aria-label'?: string;
  readonly id?: string;
}): ReactNode {
  const element = useRef<HTMLButtonElement>(null);
  // It stays the same element, and so keeps the focus, when it becomes grey. PatternFly does not call onClick of
  // a button that is grey in this way.
  return (
    <>
      <pf.Button
        {...button}
        ref={element}
        isAriaDisabled={why !== undefined}
        aria-description={why}
      >
        {children}
      </pf.Button>
      {why !== undefined && <pf.Tooltip content={why} triggerRef={element} />}
    </>
  );
}

/** What a job does at the moment, and how far it is. */
export function JobProgress({ job }: { readonly job: Job }): ReactNode {
  const { host, notices } = useServices();
  const phase = phaseText(job.phase);
  const title = `${verbText(job.verb)}${job.locker === '' ? '' : ` ${job.locker}`}`;
  const detail = phase === undefined ? '' : `: ${phase}`;
  const percent = Math.round((job.progress ?? 0) * 100);
  const cancel = (): void => {
    host.call(job.path, interfaces.job, 'Cancel', [{}], 'a{sv}').catch((error: unknown) => {
      notices.add('danger', 'The job was not cancelled', messageOf(error));
    });
  };
  return (
    <pf.Flex className="lockerd-job" alignItems={{ default: 'alignItemsCenter' }}>
      <pf.FlexItem grow={{ default: 'grow' }}>
        {job.progress === undefined ? (
          <span role="status">
            <pf.Spinner size="md" aria-label={title} aria-valuetext={phase ?? 'at work'} /> {title}
            {detail}
          </span>
        ) : (
          <pf.Progress
            size="sm"
            title={title + detail}
            value={percent}
            valueText={`${percent} %${detail}`}
          />
        )}
      </pf.FlexItem>
      {job.cancelable && (
        <pf.FlexItem>
          <pf.Button variant="link" isInline aria-label={`Cancel: ${title}`} onClick={cancel}>
            Cancel
          </pf.Button>
        </pf.FlexItem>
      )}
    </pf.Flex>
  );
}

/** Something to confirm before it is done. */
export function Question({
  title,
  text,
  confirm,
  onConfirm,
  onClose,
}: {
  readonly title: string;
  readonly text: string;
  readonly confirm: string;
  readonly onConfirm: () => void;
  readonly onClose: () => void;
}): ReactNode {
  const id = useId();
  return (
    <pf.Modal variant="small" isOpen onClose={onClose} aria-label={title} aria-describedby={id}>
      <pf.ModalHeader title={title} titleIconVariant="warning" />
      <pf.ModalBody id={id}>{text}</pf.ModalBody>
      <pf.ModalFooter>
        <pf.Button
          variant="danger"
          onClick={() => {
            onConfirm();
            onClose();
          }}
        >
          {confirm}
        </pf.Button>
        <pf.Button variant="link" onClick={onClose}>
          Cancel
        </pf.Button>
      </pf.ModalFooter>
    </pf.Modal>
  );
}

export function containerLink(name: string): string {
  return `#/container/${encodeURIComponent(name)}`;
}

/** The headings of a table. */
export function TableHead({
  columns,
  hasMenu = false,
}: {
  readonly columns: readonly string[];
  /** Whether rows end with a menu, whose heading is only told. */
  readonly hasMenu?: boolean;
}): ReactNode {
  return (
    <thead className="pf-v6-c-table__thead">
      <tr className="pf-v6-c-table__tr">
        {columns.map((column) => (
          <th key={column} scope="col" className="pf-v6-c-table__th pf-m-nowrap">
            {column}
          </th>
        ))}
        {hasMenu && (
          <th scope="col" className="pf-v6-c-table__th">
            <span className="pf-v6-screen-reader">Actions</span>
          </th>
        )}
      </tr>
    </thead>
  );
}

/** The buttons of a dialog: those in it, and one that does nothing. */
export function DialogFooter({
  onClose,
  children,
}: {
  readonly onClose: () => void;
  readonly children: ReactNode;
}): ReactNode {
  return (
    <pf.ModalFooter>
      {children}
      <pf.Button variant="link" onClick={onClose}>
        Cancel
      </pf.Button>
    </pf.ModalFooter>
  );
}

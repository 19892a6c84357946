/**
 * Makes an attachment or its absence last: changes the container's own settings file, if it has to change,
 * and reloads systemd. record() returns how to take the change back, for when the mount fails afterwards.
 */

import type { ContainerView } from './view.ts';
import type { LockerChange } from './settings-edit.ts';
import { changeChoices, editSettings } from './settings-edit.ts';
import { changeSettings } from './settings-change.ts';
import { readSettingsFile } from '../host/replace-file.ts';
import { LockerdError } from '../model/errors.ts';
import type { SystemdManager } from '../systemd/manager.ts';

function choicesOf(view: ContainerView) {
  return view.own.merged.lockers?.value ?? [];
}

/** Whether a locker would be read-only at the container's next start; undefined if not attached. */
function modeAfter(view: ContainerView, change?: LockerChange): boolean | undefined {
  const choices = choicesOf(view);
  const after = change === undefined ? choices : changeChoices(choices, change);
  const locker = change?.locker;
  return view.wormholeWith(after)?.attachments.find((a) => a.locker === locker)?.readOnly;
}

/** Explains why a container has a locker that its own settings do not name. */
function whyStays(view: ContainerView, locker: string): string {
  const isShared = view.settings.host.sharedLockers.some(({ name }) => name === locker);
  return isShared
    ? `"shared-lockers" in /etc/lockerd/lockerd.conf gives it to every container`
    : `it is the container's own by its name; see "own-locker-suffixes" in lockerd.conf(5)`;
}

/** Whether anything was recorded, and how to take it back. */
export interface Record {
  readonly changed: boolean;
  readonly restore: () => Promise<void>;
}

const nothing: Record = { changed: false, restore: () => Promise.resolve() };

/**
 * Whether the settings must change to make an attachment or its absence last. Throws InvalidArgs if
 * no setting of the container could do that.
 */
function isNeeded(view: ContainerView, change: LockerChange): boolean {
  const { locker, readOnly } = change;
  if (readOnly === undefined && modeAfter(view, change) !== undefined) {
    throw new LockerdError(
      'InvalidArgs',
      `locker "${locker}" would come back to container "${view.name}" at its next start: ` +
        `${whyStays(view, locker)}; detach it for now only`,
    );
  }
  if (readOnly === undefined) return choicesOf(view).some(({ name }) => name === locker);
  const now = view
    .wormholeWith(choicesOf(view))
    ?.attachments.find((a) => a.locker === locker)?.readOnly;
  return now !== readOnly;
}

/**
 * Records an attachment in the container's own settings, or takes it out of them, and reloads
 * systemd. Throws InvalidArgs if no setting of the container can have that effect, and Failed.
 */
export async function record(
  systemd: SystemdManager,
  view: ContainerView,
  change: LockerChange,
): Promise<Record> {
  if (!isNeeded(view, change)) return nothing;
  const [problem] = view.own.problems;
  if (problem !== undefined) throw new LockerdError('Failed', `nothing was recorded: ${problem}`);
  const { path } = view.own;
  const restore = await changeSettings(systemd, path, (text) =>
    editSettings(text, change, path, view.settings.defaults),
  );
  return { changed: true, restore };
}

/** Throws the errors that record() would, before anything is unmounted. */
export function checkRecord(view: ContainerView, change: LockerChange): void {
  if (isNeeded(view, change)) {
    const { path } = view.own;
    editSettings(readSettingsFile(path), change, path, view.settings.defaults);
  }
}

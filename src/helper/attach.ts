/**
 * Attaches a locker to a running container: checks the request, records it in the settings if it is to
 * last, and starts the mount unit of the attachment. If anything fails, the attachment is undone, because
 * a caller must find it either complete or absent.
 */

import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { bindSource, readOnlyPath } from '../model/attachment.ts';
import type { Attachment } from '../model/attachment.ts';
import { parentOf } from '../model/path.ts';
import { shellWord } from '../model/shell-quote.ts';
import { mountUnit } from '../model/unit-name.ts';
import { DBusError } from '../bus/values.ts';
import {
  makeTarget,
  modeText,
  mountedLocker,
  planAttachment,
  removeTarget,
  requireRunning,
  transientProperties,
  unmountLazily,
  wormholePath,
} from './attachment-mounts.ts';
import { hostMounts } from './context.ts';
import { LockerdError } from '../model/errors.ts';
import { hasLeft } from './input.ts';
import type { Mount } from '../host/mountinfo.ts';
import { isSameTree, mountAt, mountKey } from '../host/mountinfo.ts';
import { record } from './persist.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import type { ContainerView } from './view.ts';

/** What systemd answers where a queued job is in the way. */
const destructive = 'org.freedesktop.systemd1.TransactionIsDestructive';

/** Covers a slow device and a file system check; systemd's own bound is 90 s for each. */
const mountTimeoutMs = 120_000;
export const unmountTimeoutMs = 100_000;

function requireWormhole(view: ContainerView): void {
  const path = wormholePath(view);
  if (mountAt(hostMounts(), parentOf(path)) !== undefined && existsSync(path)) return;
  throw new LockerdError(
    'Failed',
    `container "${view.name}" runs without its wormhole; systemctl restart ${shellWord(view.unit)}`,
  );
}

/** Refuses to start a unit file whose locker or mode differs from the request. */
async function requireAgreement(
  systemd: SystemdManager,
  view: ContainerView,
  a: Attachment,
): Promise<void> {
  // An unmounted unit shows its settings here; a mounted one would show the kernel's options.
  const mount = await systemd.get(mountUnit(a.target), 'Mount', ['What', 'Options']);
  const options = mount.string('Options').split(',');
  if (mount.string('What') !== bindSource(a) || options.includes('ro') !== a.readOnly) {
    throw new LockerdError(
      'AlreadyMounted',
      `the settings of container "${view.name}" have locker "${a.locker}" ` +
        `${modeText(options.includes('ro'))}; attach it so, or make the change lasting`,
    );
  }
}

/** Removes everything that a failed attachment has left behind. */
async function undo(systemd: SystemdManager, view: ContainerView, a: Attachment): Promise<void> {
  const unit = mountUnit(a.target);
  await systemd.stop(unit, { timeoutMs: unmountTimeoutMs }).catch((error: unknown) => {
    // The unit is no longer loaded, which is the goal.
    if (!(error instanceof DBusError)) throw error;
  });
  await systemd.resetFailed(unit);
  removeTarget(view, a.locker);
}

/**
 * Finds mounts of a locker that have appeared since `before` in a place where no unit of ours puts
 * them. A container can redirect a mount only if it can write to its wormhole: it was started by an
 * older version, or the kernel does not lock the wormhole.
 */
export function straysOf(
  before: ReadonlySet<string>,
  now: readonly Mount[],
  a: Attachment,
  wormholeDirectory: string,
): Mount[] {
  const source = mountAt(now, a.source);
  if (source === undefined) return [];
  const wormhole = a.target.slice(0, a.target.lastIndexOf('/') + 1);
  const places = [a.source, a.target, readOnlyPath(a.locker)];
  return now.filter(
    (mount) =>
      !before.has(mountKey(mount)) &&
      isSameTree(mount, source) &&
      !places.includes(mount.mountPoint) &&
      // Other containers' attachments come and go meanwhile.
      (mount.mountPoint.startsWith(wormhole) ||
        !mount.mountPoint.startsWith(`${wormholeDirectory}/`)),
  );
}

/** Unmounts what was mounted in the wrong place; returns the words for the error, or ''. */
async function removeStrays(
  before: ReadonlySet<string>,
  view: ContainerView,
  a: Attachment,
): Promise<string> {
  const { wormholeDirectory } = view.settings.host;
  const find = (): Mount[] => straysOf(before, hostMounts(), a, wormholeDirectory);
  const strays = find();
  if (strays.length === 0) return '';
  const places = strays.map(({ mountPoint }) => mountPoint);
  // The kernel's paths have no symbolic links, but the container could now make one in its wormhole.
  const outside = places.filter((place) => !place.startsWith(`${wormholePath(view)}/`));
  for (const place of outside) await unmountLazily(place).catch(() => undefined);
  const end = find().length === 0 ? 'and has been unmounted there' : 'and stays there';
  return (
    `; it was mounted at ${places.join(', ')} instead ${end}, for the container has changed its ` +
    `wormhole; systemctl restart ${shellWord(view.unit)}`
  );
}

function wasCancelled(view: ContainerView, a: Attachment): LockerdError {
  return new LockerdError(
    'Cancelled',
    `locker "${a.locker}" was not attached to container "${view.name}": the caller has left`,
  );
}

function whyNotStarted(result: string, view: ContainerView, a: Attachment): LockerdError {
  const what = `locker "${a.locker}" was not attached to container "${view.name}"`;
  const seeLocker = `see "systemctl status ${shellWord(mountUnit(a.source))}"`;
  switch (result) {
    case 'dependency':
      return new LockerdError('Failed', `${what}: the locker cannot be mounted; ${seeLocker}`);
    case 'timeout':
      return new LockerdError('TimedOut', `${what} in time; ${seeLocker}`);
    case 'canceled':
      return new LockerdError('Failed', `${what}: something stopped it meanwhile; try again`);
    default:
      return new LockerdError(
        'Failed',
        `${what} (${result}); see "journalctl -u ${shellWord(mountUnit(a.target))}"`,
      );
  }
}

/** How long a job may be in the way, and how often it is looked whether it still is; milliseconds. */
const conflictMs = 30_000;
const conflictPauseMs = 50;

/**
 * Another container may have let go of the same locker just now. What both share, such as its read-only
 * mount, then has a job that stops it, with which systemd does not take ours.
 */
async function whenNothingStops(
  start: () => Promise<string>,
  signal: AbortSignal | undefined,
): Promise<string> {
  for (const end = Date.now() + conflictMs; ;) {
    try {
      return await start();
    } catch (error) {
      const isConflict = error instanceof DBusError && error.errorName === destructive;
      if (!isConflict || Date.now() > end || hasLeft(signal)) throw error;
    }
    await sleep(conflictPauseMs);
  }
}

async function startJob(
  systemd: SystemdManager,
  view: ContainerView,
  a: Attachment,
  signal: AbortSignal | undefined,
): Promise<string> {
  const unit = mountUnit(a.target);
  makeTarget(view, a.locker);
  const hasFile = (await systemd.get(unit, 'Unit', ['FragmentPath'])).string('FragmentPath') !== '';
  // Mode `fail`: a queued job that conflicts with this one, such as a stop, takes precedence.
  const options = { mode: 'fail', timeoutMs: mountTimeoutMs, signal } as const;
  const start = async (): Promise<string> => {
    if (!hasFile) return systemd.startTransient(unit, transientProperties(view, a), options);
    // Before each attempt: its file may be another one by then.
    await requireAgreement(systemd, view, a);
    return systemd.start(unit, options);
  };
  try {
    return await whenNothingStops(start, signal);
  } catch (error) {
    if (!(error instanceof DBusError)) throw error;
    throw new LockerdError(
      'Failed',
      `locker "${a.locker}" was not attached to container "${view.name}": ${error.message}`,
      { cause: error },
    );
  }
}

/** Mounts an attachment that is not mounted; undoes everything and throws if any part fails. */
export async function mountAttachment(
  systemd: SystemdManager,
  view: ContainerView,
  a: Attachment,
  signal?: AbortSignal,
): Promise<void> {
  const before = new Set(hostMounts().map(mountKey));
  try {
    const result = await startJob(systemd, view, a, signal);
    if (!['done', 'skipped'].includes(result)) throw whyNotStarted(result, view, a);
    const mount = mountedLocker(a);
    if (mount?.readOnly !== a.readOnly) {
      throw new LockerdError(
        'Failed',
        `locker "${a.locker}" was not attached to container "${view.name}" ` +
          `${modeText(a.readOnly)}; see "systemctl status ${shellWord(mountUnit(a.target))}"`,
      );
    }
    // If the container has stopped meanwhile, the attachment must not keep its wormhole mounted.
    await requireRunning(systemd, view);
    // A caller that was told of a failure must not find the locker attached.
    if (hasLeft(signal)) throw wasCancelled(view, a);
  } catch (error) {
    if (error instanceof LockerdError && error.code === 'AlreadyMounted') throw error;
    await undo(systemd, view, a);
    const strays = await removeStrays(before, view, a);
    if (strays === '' || !(error instanceof LockerdError)) throw error;
    throw new LockerdError('Failed', `${error.message}${strays}`, { cause: error });
  }
}

interface AttachRequest {
  readonly locker: string;
  readonly readOnly: boolean;
  readonly persist: boolean;
}

/** Attaches a locker to a running container. */
export async function attach(
  systemd: SystemdManager,
  view: ContainerView,
  request: AttachRequest,
  signal?: AbortSignal,
): Promise<Record<string, unknown>> {
  const { locker, readOnly, persist } = request;
  const a = planAttachment(view, locker, readOnly);
  if (hasLeft(signal)) throw wasCancelled(view, a);
  await requireRunning(systemd, view);
  requireWormhole(view);
  const mounted = mountedLocker(a);
  if (mounted !== undefined && mounted.readOnly !== readOnly) {
    throw new LockerdError(
      'AlreadyMounted',
      `locker "${locker}" is attached to container "${view.name}" ` +
        `${modeText(mounted.readOnly)}; detach it first`,
    );
  }
  // Record first, so that the unit generated from the settings is started, and lasts.
  const recorded = persist ? await record(systemd, view, { locker, readOnly }) : undefined;
  try {
    if (mounted === undefined) await mountAttachment(systemd, view, a, signal);
    else if (hasLeft(signal)) throw wasCancelled(view, a);
  } catch (error) {
    await recorded?.restore();
    throw error;
  }
  return { changed: mounted === undefined || recorded?.changed === true };
}

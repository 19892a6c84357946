/**
 * Detaches a locker from a container: stops the mount unit and, if the change is to last, takes the locker
 * out of the settings. A busy locker stays, and the answer names the processes that hold it; with `force`
 * it is detached lazily.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { DBusError } from '../bus/values.ts';
import { parentOf } from '../model/path.ts';
import { shellWord } from '../model/shell-quote.ts';
import { mountUnit } from '../model/unit-name.ts';
import type { Attachment } from '../model/attachment.ts';
import { mountAttachment, unmountTimeoutMs } from './attach.ts';
import { removeTarget, requireRunning, unmountLazily, wormholePath } from './attachment-mounts.ts';
import { hostMounts } from './context.ts';
import { LockerdError } from '../model/errors.ts';
import { hasLeft } from './input.ts';
import type { Holder, Holders } from './holders.ts';
import { findHolders } from './holders.ts';
import { mountAt } from '../host/mountinfo.ts';
import { checkRecord, record } from './persist.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import type { ContainerView } from './view.ts';

interface DetachRequest {
  readonly locker: string;
  readonly force: boolean;
  readonly persist: boolean;
}

/** How long systemd may take to notice that a mount has gone; a busy systemd looks once a second. */
const noticeMs = 5000;

/**
 * Names what was in the way in words that any user may read, because any user of the host can read a
 * job's error. Arguments and paths go to the answer and the journal only.
 */
function describeHolders({ holders, isComplete }: Holders): string {
  const [first, ...others] = holders;
  if (first === undefined) {
    return isComplete
      ? 'something that cannot be seen uses it'
      : 'what uses it was not found in time, as there are too many processes or open files';
  }
  const rest = isComplete ? '' : ', and maybe others that were not looked at';
  const name = `process ${first.pid} (${first.program})`;
  if (others.length === 0) return `${name} uses it${rest}`;
  return `${name} and ${others.length} more use it${rest}`;
}

function isMounted(target: string): boolean {
  return mountAt(hostMounts(), target) !== undefined;
}

async function waitUntil(condition: () => Promise<boolean>, timeoutMs: number): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!(await condition()) && Date.now() < end) await sleep(50);
}

/** Bound for mounts stacked in one place, which somebody has made by hand. */
const stackedMax = 8;

/** Unmounts an attachment; after a lazy unmount, `holders` are the processes that still use it. */
async function unmount(
  systemd: SystemdManager,
  what: { readonly view: ContainerView; readonly locker: string; readonly target: string },
  force: boolean,
): Promise<{ lazy: boolean; holders: readonly Holder[] }> {
  const { view, locker, target } = what;
  const unit = mountUnit(target);
  let found: Holders | undefined;
  let lazy = false;
  for (let tries = 0; isMounted(target) && tries < stackedMax; tries++) {
    const before = mountAt(hostMounts(), target)?.id;
    await systemd.stop(unit, { timeoutMs: unmountTimeoutMs }).catch((error: unknown) => {
      // systemd may not know the unit yet; only what is mounted counts.
      if (!(error instanceof DBusError)) throw error;
    });
    if (mountAt(hostMounts(), target)?.id !== before) continue;
    const wormholes = mountAt(hostMounts(), parentOf(wormholePath(view)));
    // One search is enough: stacked mounts have the same users.
    if (wormholes !== undefined) {
      found ??= await findHolders({ device: wormholes.device, container: view.name, locker });
    }
    const holders = found ?? { holders: [], isComplete: false };
    if (!force) {
      await waitUntil(async () => (await systemd.activeState(unit)) === 'active', noticeMs);
      throw new LockerdError(
        'LockerBusy',
        `locker "${locker}" in container "${view.name}" is busy: ${describeHolders(holders)}; ` +
          'end that, or use force',
        { details: { ...holders } },
      );
    }
    await unmountLazily(target);
    lazy = true;
  }
  if (isMounted(target)) {
    throw new LockerdError(
      'Failed',
      `${target} is still mounted; see "findmnt ${shellWord(target)}"`,
    );
  }
  await waitUntil(
    async () => ['inactive', 'failed'].includes(await systemd.activeState(unit)),
    noticeMs,
  );
  // An earlier unmount that failed leaves a unit that has a file in the failed state.
  await systemd.resetFailed(unit);
  removeTarget(view, locker);
  return { lazy, holders: found?.holders ?? [] };
}

/** Describes how an attachment is mounted, so that it can be mounted again. */
function attachmentAt(view: ContainerView, locker: string, target: string): Attachment | undefined {
  const mount = mountAt(hostMounts(), target);
  const found = view.lockers.get(locker);
  if (mount === undefined || found === undefined) return undefined;
  return {
    locker,
    source: found.path,
    target,
    readOnly: mount.readOnly,
    readOnlyOnHost: found.readOnly,
  };
}

/**
 * Detaches a locker from a container. With `persist`, a locker can be taken out of the settings even
 * if it is not attached or the container does not run.
 */
export async function detach(
  systemd: SystemdManager,
  view: ContainerView,
  request: DetachRequest,
  signal?: AbortSignal,
): Promise<Record<string, unknown>> {
  const { locker, force, persist } = request;
  if (hasLeft(signal)) {
    throw new LockerdError(
      'Cancelled',
      `locker "${locker}" was not detached from container "${view.name}": the caller has left`,
    );
  }
  const target = `${wormholePath(view)}/${locker}`;
  const change = { locker, readOnly: undefined };
  if (persist) checkRecord(view, change);
  if (!isMounted(target)) {
    removeTarget(view, locker);
    if (persist && (await record(systemd, view, change)).changed) {
      return { changed: true, lazy: false };
    }
    await requireRunning(systemd, view);
    throw new LockerdError(
      'NotMounted',
      `locker "${locker}" is not attached to container "${view.name}"`,
    );
  }
  const before = attachmentAt(view, locker, target);
  const { lazy, holders } = await unmount(systemd, { view, locker, target }, force);
  if (persist) {
    try {
      await record(systemd, view, change);
    } catch (error) {
      if (before !== undefined) await mountAttachment(systemd, view, before);
      throw error;
    }
  }
  return { changed: true, lazy, ...(lazy ? { holders } : {}) };
}

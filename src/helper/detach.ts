import { setTimeout as sleep } from 'node:timers/promises';
import { DBusError } from '../bus/values.ts';
import { shellWord } from '../model/shell-quote.ts';
import { mountUnit } from '../model/unit-name.ts';
import type { Attachment } from '../model/attachment.ts';
import { mountAttachment, unmountTimeoutMs } from './attach.ts';
import { removeTarget, requireRunning, unmountLazily, wormholePath } from './attachment.ts';
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

/** How long systemd may take to notice a mount that is gone; it looks once a second when busy. */
const noticeMs = 5000;

/**
 * What was in the way, in words that everybody may read: any user of the host can look at a job's
 * error. Arguments and paths are in the answer and in the journal only.
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

/** Mounts that lie on each other in one place, which somebody made by hand. */
const stackedMax = 8;

/** Unmounts what is attached at a place; answers who held it when that was not to be waited for. */
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
      // A unit that systemd does not know yet; what is mounted counts.
      if (!(error instanceof DBusError)) throw error;
    });
    if (mountAt(hostMounts(), target)?.id !== before) continue;
    const wormhole = mountAt(hostMounts(), wormholePath(view));
    // Once: what lies on each other is used by the same.
    if (wormhole !== undefined) found ??= await findHolders(wormhole.device, locker);
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
  // An unmount that failed before leaves its mark on a unit that has a file.
  await systemd.resetFailed(unit);
  removeTarget(view, locker);
  return { lazy, holders: found?.holders ?? [] };
}

/** How an attachment is mounted, so that it can be mounted again. */
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
 * Detaches a locker from a container. One that is not attached, or whose container does not run,
 * can still be taken out of the settings.
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

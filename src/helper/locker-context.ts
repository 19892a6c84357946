/** What the steps of changes of lockers share: systemd, the tools, and mounting. */

import { mountAt } from '../host/mountinfo.ts';
import { LockerdError } from '../model/errors.ts';
import { shellWord } from '../model/shell-quote.ts';
import { mountUnit } from '../model/unit-name.ts';
import type { Driver, Making } from '../stores/driver.ts';
import type { Tools } from '../stores/tools.ts';
import { ToolError } from '../stores/tools.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import { hostMounts } from './context.ts';
import type { Needed } from './locker-locks.ts';

export interface LockerContext {
  readonly systemd: SystemdManager;
  readonly tools: Tools;
  /** Aborts when the caller has left. */
  readonly signal: AbortSignal | undefined;
  readonly progress: Making['progress'];
}

/** Makes a change of lockers while no other one has any of them. */
export type ChangeLockers = <T>(
  needed: Needed,
  use: (context: LockerContext) => Promise<T>,
) => Promise<T>;

/** Loads modules of the kernel by systemd, as the helper itself may not. One that is built in is fine, too. */
export async function loadModules(
  { systemd }: LockerContext,
  { modules }: Pick<Driver, 'modules'>,
): Promise<void> {
  for (const module of modules) await systemd.start(`modprobe@${module}.service`);
}

/** A unit has 90 s for its device, and a check may come first. */
const mountMs = 600_000;

/** Mounts a locker by its unit, which systemd knows, where it is not mounted already. Throws Failed. */
export async function mountLocker({ systemd }: LockerContext, mountPoint: string): Promise<void> {
  if (isMounted(mountPoint)) return;
  const unit = mountUnit(mountPoint);
  const result = await systemd.start(unit, { timeoutMs: mountMs });
  if (result === 'done' || result === 'skipped') return;
  const see = `see "journalctl -u ${shellWord(unit)}"`;
  throw new LockerdError('Failed', `${unit} did not start (${result}); ${see}`);
}

/** Whether something is mounted at a path. */
export function isMounted(mountPoint: string): boolean {
  return mountAt(hostMounts(), mountPoint) !== undefined;
}

/** Unmounts a locker that nobody uses. Throws LockerBusy. */
export async function unmountLocker(
  tools: Tools,
  { name, mountPoint }: { readonly name: string; readonly mountPoint: string },
): Promise<void> {
  if (!isMounted(mountPoint)) return;
  try {
    // Not by systemd, which would stop whatever has come to need the mount meanwhile.
    await tools.run('umount', ['--', mountPoint]);
  } catch (error) {
    if (!(error instanceof ToolError) || !isMounted(mountPoint)) throw error;
    throw new LockerdError(
      'LockerBusy',
      `locker "${name}" cannot be unmounted: ${error.message}; see "fuser -vm ${shellWord(mountPoint)}"`,
      { cause: error },
    );
  }
}

import { shellWord } from '../model/shell-quote.ts';
import { bindSource } from '../model/attachment.ts';
import type { Attachment } from '../model/attachment.ts';
import { mountUnit } from '../model/unit-name.ts';
import { DBusError } from '../bus/values.ts';
import {
  modeText,
  mountedLocker,
  planAttachment,
  removeTarget,
  requireRunning,
  transientProperties,
  wormholePath,
} from './attachment.ts';
import { hostMounts } from './context.ts';
import { HelperError } from './errors.ts';
import { mountAt } from '../host/mountinfo.ts';
import { record } from './persist.ts';
import type { Systemd } from './systemd.ts';
import type { ContainerView } from './view.ts';

/** Devices that are slow to come and checks of file systems; systemd's own bound is 90 s each. */
const mountTimeoutMs = 120_000;
export const unmountTimeoutMs = 100_000;

function requireWormhole(view: ContainerView): void {
  const path = wormholePath(view);
  if (mountAt(hostMounts(), path) !== undefined) return;
  throw new HelperError(
    'Failed',
    `container "${view.name}" runs without its wormhole; systemctl restart ${shellWord(view.unit)}`,
  );
}

/** A unit file that has another locker or mode than what is asked for is never started. */
async function requireAgreement(
  systemd: Systemd,
  view: ContainerView,
  a: Attachment,
): Promise<void> {
  const { what, options } = await systemd.mountSettings(mountUnit(a.target));
  if (what !== bindSource(a) || options.includes('ro') !== a.readOnly) {
    throw new HelperError(
      'AlreadyMounted',
      `the settings of container "${view.name}" have locker "${a.locker}" ` +
        `${modeText(options.includes('ro'))}; attach it so, or make the change lasting`,
    );
  }
}

/** Stops what a failed attachment has left; nothing of it may stay. */
async function undo(systemd: Systemd, a: Attachment): Promise<void> {
  const unit = mountUnit(a.target);
  await systemd.stop(unit, unmountTimeoutMs).catch((error: unknown) => {
    // Not loaded any more: that is what was wanted.
    if (!(error instanceof DBusError)) throw error;
  });
  await systemd.resetFailed(unit);
  removeTarget(a.target);
}

function whyNotStarted(result: string, view: ContainerView, a: Attachment): HelperError {
  const what = `locker "${a.locker}" was not attached to container "${view.name}"`;
  const locker = mountUnit(a.source);
  switch (result) {
    case 'dependency':
      return new HelperError(
        'Failed',
        `${what}: the locker cannot be mounted; see "systemctl status '${locker}'"`,
      );
    case 'timeout':
      return new HelperError('TimedOut', `${what} in time; see "systemctl status '${locker}'"`);
    case 'canceled':
      return new HelperError('Failed', `${what}: something stopped it meanwhile; try again`);
    default:
      return new HelperError(
        'Failed',
        `${what} (${result}); see "journalctl -u '${mountUnit(a.target)}'"`,
      );
  }
}

async function startJob(systemd: Systemd, view: ContainerView, a: Attachment): Promise<string> {
  const unit = mountUnit(a.target);
  const { fragmentPath } = await systemd.unit(unit);
  try {
    if (fragmentPath === '') {
      const properties = transientProperties(view, a);
      return await systemd.startTransient(unit, properties, mountTimeoutMs);
    }
    await requireAgreement(systemd, view, a);
    return await systemd.start(unit, mountTimeoutMs);
  } catch (error) {
    if (!(error instanceof DBusError)) throw error;
    throw new HelperError(
      'Failed',
      `locker "${a.locker}" was not attached to container "${view.name}": ${error.message}`,
      { cause: error },
    );
  }
}

/** Mounts an attachment that is not mounted, completely or not at all. */
export async function mountAttachment(
  systemd: Systemd,
  view: ContainerView,
  a: Attachment,
): Promise<void> {
  try {
    const result = await startJob(systemd, view, a);
    if (!['done', 'skipped'].includes(result)) throw whyNotStarted(result, view, a);
    const mount = mountedLocker(a);
    if (mount?.readOnly !== a.readOnly) {
      throw new HelperError(
        'Failed',
        `locker "${a.locker}" was not attached to container "${view.name}" ` +
          `${modeText(a.readOnly)}; see "systemctl status '${mountUnit(a.target)}'"`,
      );
    }
    // It may have stopped since it was asked: then the wormhole must not stay.
    await requireRunning(systemd, view);
  } catch (error) {
    if (!(error instanceof HelperError && error.code === 'AlreadyMounted')) await undo(systemd, a);
    throw error;
  }
}

interface AttachRequest {
  readonly locker: string;
  readonly readOnly: boolean;
  readonly persist: boolean;
}

/** Attaches a locker to a running container. */
export async function attach(
  systemd: Systemd,
  view: ContainerView,
  request: AttachRequest,
): Promise<Record<string, unknown>> {
  const { locker, readOnly, persist } = request;
  const a = planAttachment(view, locker, readOnly);
  await requireRunning(systemd, view);
  requireWormhole(view);
  const mounted = mountedLocker(a);
  if (mounted !== undefined && mounted.readOnly !== readOnly) {
    throw new HelperError(
      'AlreadyMounted',
      `locker "${locker}" is attached to container "${view.name}" ` +
        `${modeText(mounted.readOnly)}; detach it first`,
    );
  }
  // Recorded first: then it is the unit of the settings that starts, and stays.
  const recorded = persist ? await record(systemd, view, { locker, readOnly }) : undefined;
  if (mounted === undefined) {
    try {
      await mountAttachment(systemd, view, a);
    } catch (error) {
      await recorded?.restore();
      throw error;
    }
  }
  return { changed: mounted === undefined || recorded?.changed === true };
}

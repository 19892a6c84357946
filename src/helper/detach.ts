import { mountUnit } from '../model/unit-name.ts';
import { unmountTimeoutMs } from './attach.ts';
import { removeTarget, requireRunning, wormholePath } from './attachment.ts';
import { hostMounts } from './context.ts';
import { HelperError } from './errors.ts';
import { mountAt } from './mountinfo.ts';
import type { Systemd } from './systemd.ts';
import type { ContainerView } from './view.ts';

interface DetachRequest {
  readonly locker: string;
  readonly force: boolean;
  readonly persist: boolean;
}

/** Detaches a locker from a running container. */
export async function detach(
  systemd: Systemd,
  view: ContainerView,
  request: DetachRequest,
): Promise<Record<string, unknown>> {
  const target = `${wormholePath(view)}/${request.locker}`;
  await requireRunning(systemd, view);
  if (mountAt(hostMounts(), target) === undefined) {
    throw new HelperError('NotMounted', `locker "${request.locker}" is not attached`);
  }
  await systemd.stop(mountUnit(target), unmountTimeoutMs);
  if (mountAt(hostMounts(), target) !== undefined) {
    throw new HelperError('LockerBusy', `busy`, { details: { holders: [] } });
  }
  await systemd.resetFailed(mountUnit(target));
  removeTarget(target);
  return { changed: true, lazy: false };
}

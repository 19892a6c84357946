import attachment from '../../units/generated/WORMHOLES-NAME-LOCKER.mount.hbs';
import bridge from '../../units/generated/INTERFACE.device.d/60-lockerd.conf.hbs';
import clusterMount from '../../units/generated/MOUNT.mount.d/60-lockerd.conf.hbs';
import container from '../../units/generated/lxc@NAME.service.d/60-container.conf.hbs';
import containers from '../../units/generated/lockerd-containers.path.d/60-lxcpath.conf.hbs';
import delay from '../../units/generated/lxc-delay@NAME.service.d/60-container.conf.hbs';
import disk from '../../units/generated/lxc-disk@NAME.service.d/60-container.conf.hbs';
import forward from '../../units/generated/lxc.NAME.service.hbs';
import group from '../../units/generated/lxc-group@GROUP.target.d/60-members.conf.hbs';
import held from '../../units/generated/lxc@NAME.service.d/~held.conf.hbs';
import host from '../../units/generated/lockerd.service.d/60-host.conf.hbs';
import journal from '../../units/generated/lxc@.service.d/60-journal.conf.hbs';
import late from '../../units/generated/lockerd-late.service.d/60-paths.conf.hbs';
import limits from '../../units/generated/lxc@NAME.service.d/40-limits.conf.hbs';
import needs from '../../units/generated/lxc-needs@NAME.service.d/60-container.conf.hbs';
import readOnly from '../../units/generated/READONLY-LOCKER.mount.hbs';
import rescan from '../../units/generated/lockerd-rescan.service.d/60-paths.conf.hbs';
import returning from '../../units/generated/lockerd-return.service.d/60-lockers.conf.hbs';
import volume from '../../units/generated/lxc-volume@VOLUME.service.d/60-lockers.conf.hbs';
import wormholes from '../../units/generated/WORMHOLES.mount.hbs';
import type { Planned, PlannedFile, TemplateViews } from './plan-views.ts';
import type { Output } from './write.ts';

const templates: Readonly<Record<keyof TemplateViews, (view: object) => string>> = {
  attachment,
  bridge,
  clusterMount,
  container,
  containers,
  delay,
  disk,
  forward,
  group,
  held,
  host,
  journal,
  late,
  limits,
  needs,
  readOnly,
  rescan,
  returning,
  volume,
  wormholes,
};

/** Writes out a planned file; pure. */
export function renderFile(file: PlannedFile): string {
  return templates[file.template](file.view);
}

/** What is to be written for one part of a plan; pure. */
export function renderOutput(planned: Planned): Output {
  return planned.kind === 'link'
    ? { path: planned.path, target: planned.target }
    : { path: planned.path, text: renderFile(planned) };
}

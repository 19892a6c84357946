import attachment from '../../units/attachment.mount.hbs';
import bridge from '../../units/bridge.conf.hbs';
import container from '../../units/container.conf.hbs';
import containers from '../../units/containers.conf.hbs';
import delay from '../../units/delay.conf.hbs';
import forward from '../../units/forward.service.hbs';
import group from '../../units/group.conf.hbs';
import host from '../../units/host.conf.hbs';
import limits from '../../units/limits.conf.hbs';
import readOnly from '../../units/read-only.mount.hbs';
import rescan from '../../units/rescan.conf.hbs';
import slots from '../../units/slots.mount.hbs';
import wormhole from '../../units/wormhole.mount.hbs';
import type { PlannedFile, TemplateViews } from './plan.ts';

const templates: Readonly<Record<keyof TemplateViews, (view: object) => string>> = {
  attachment,
  bridge,
  container,
  containers,
  delay,
  forward,
  group,
  host,
  limits,
  readOnly,
  rescan,
  slots,
  wormhole,
};

/** Writes out a planned file; pure. */
export function renderFile(file: PlannedFile): string {
  return templates[file.template](file.view);
}

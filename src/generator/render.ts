import bridge from '../../units/bridge.conf.hbs';
import container from '../../units/container.conf.hbs';
import delay from '../../units/delay.conf.hbs';
import forward from '../../units/forward.service.hbs';
import group from '../../units/group.conf.hbs';
import rescan from '../../units/rescan.conf.hbs';
import type { PlannedFile, TemplateViews } from './plan.ts';

const templates: Readonly<Record<keyof TemplateViews, (view: object) => string>> = {
  bridge,
  container,
  delay,
  forward,
  group,
  rescan,
};

/** Writes out a planned file; pure. */
export function renderFile(file: PlannedFile): string {
  return templates[file.template](file.view);
}

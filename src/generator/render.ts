import bridge from '../../units/bridge.conf.hbs';
import container from '../../units/container.conf.hbs';
import delay from '../../units/delay.conf.hbs';
import forward from '../../units/forward.service.hbs';
import rescan from '../../units/rescan.conf.hbs';
import type { PlannedFile, TemplateViews } from './plan.ts';

const templates: Readonly<Record<keyof TemplateViews, (view: object) => string>> = {
  bridge,
  container,
  delay,
  forward,
  rescan,
};

/** Writes out a planned file; pure. */
export function renderFile(file: PlannedFile): string {
  return templates[file.template](file.view);
}

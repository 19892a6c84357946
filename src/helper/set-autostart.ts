/**
 * Makes a container start at boot, or not, by "autostart" in its own settings. Whatever else decides is
 * another's to change: then nothing is written, and the message names it with the remedy.
 */

import { existsSync, readFileSync } from 'node:fs';
import { decideBoot, startsAtBoot } from '../host/boot-policy.ts';
import type { BootReason } from '../host/boot-policy.ts';
import { clusterCommand } from '../model/cluster-id.ts';
import { decodeContainer } from '../model/facts.ts';
import { LockerdError } from '../model/errors.ts';
import { shellWord } from '../model/shell-quote.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import { editAutostart } from './settings-edit.ts';
import { changeSettings } from './settings-change.ts';
import type { BootView, ContainerView } from './view.ts';

/** What is to be written, if anything; what the boot then does; what the caller should know. */
export interface AutostartPlan {
  readonly isWritten: boolean;
  readonly warnings: readonly string[];
}

/** As commands name it. */
function instanceOf({ unit }: ContainerView): string {
  return unit.replace(/\.service$/, '');
}

/** Who decides against the wish although the settings agree with it, with the remedy. */
function refusal(
  view: ContainerView,
  { links, runlevelLinks, isTemplateMasked }: BootView,
  reasons: readonly BootReason[],
): LockerdError {
  const unit = instanceOf(view);
  const deciders = reasons.flatMap((reason) => {
    switch (reason) {
      case 'cluster':
        return [`Pacemaker alone starts it; run: ${clusterCommand(view.name, 'start')}`];
      case 'masked':
        return isTemplateMasked
          ? ['lxc@.service is masked; run: systemctl unmask lxc@.service']
          : [`${view.unit} is masked; run: systemctl unmask ${shellWord(unit)}`];
      case 'runlevel':
        return [
          `${runlevelLinks.join(', ')} starts its init script; ` +
            `run: rm ${runlevelLinks.map((link) => shellWord(link)).join(' ')}`,
        ];
      case 'enabled':
        return [
          `${view.unit} is enabled in ${links.wantedBy.join(', ')}; run: systemctl disable ${shellWord(unit)}`,
        ];
      default:
        return [];
    }
  });
  const isKept = reasons.includes('masked') || reasons.includes('cluster');
  const what = isKept ? 'would not start at boot' : 'would start at boot still';
  const why = deciders.join('; and ') || `see: lockerctl status ${shellWord(view.name)}`;
  return new LockerdError(
    'Failed',
    `nothing was changed, as container "${view.name}" ${what}: ${why}`,
  );
}

/** Decides what is to be done. Throws Failed if the settings cannot have that effect. */
export function planAutostart(view: ContainerView, wanted: boolean): AutostartPlan {
  const [problem] = view.own.problems;
  if (problem !== undefined) throw new LockerdError('Failed', `nothing was changed: ${problem}`);
  const boot = view.boot();
  const { policy, config, links, runlevelLinks } = boot;
  const { autostart, managedBy } = view.own.merged;
  const decide = (setting: boolean | undefined) =>
    decideBoot(
      policy,
      config,
      links,
      runlevelLinks.length > 0,
      managedBy === undefined ? setting : 'cluster',
    );
  // What another one decides for may change without the setting; what it hides may come back.
  const isWritten = wanted
    ? autostart === false || !decide(autostart).starts
    : (autostart ?? startsAtBoot(policy, config));
  const after = decide(isWritten ? wanted : autostart);
  if (after.starts !== wanted) throw refusal(view, boot, after.reasons);
  const others = after.reasons.includes('other-unit') ? links.wantedBy : [];
  const warnings = others.map(
    (unit) =>
      `container "${view.name}" starts whenever ${unit} does, which wants it; ` +
      `to change that: systemctl disable ${shellWord(instanceOf(view))}`,
  );
  return { isWritten, warnings };
}

const generated = '/run/systemd/generator';

/** Whether systemd has loaded what the files say; a container that another one needs starts anyway. */
function isLoaded(view: ContainerView, wanted: boolean): boolean {
  const file = `${generated}/${view.unit}.d/60-container.conf`;
  const facts = existsSync(file) ? decodeContainer(readFileSync(file, 'utf8')) : undefined;
  return facts?.autostart === wanted || facts?.autostartReasons.includes('needed') === true;
}

/**
 * Sets whether a container starts at boot. `changed`: its settings file is another one now. Throws Failed
 * if its settings have mistakes or do not decide.
 */
export async function setAutostart(
  systemd: Pick<SystemdManager, 'reload'>,
  view: ContainerView,
  wanted: boolean,
): Promise<{ readonly changed: boolean; readonly warnings: readonly string[] }> {
  const { isWritten, warnings } = planAutostart(view, wanted);
  const { path } = view.own;
  if (isWritten) {
    await changeSettings(systemd, path, (text) =>
      editAutostart(text, wanted, path, view.settings.defaults),
    );
  } else if (!isLoaded(view, wanted)) {
    // An edit by hand, which systemd has not heard of.
    await systemd.reload();
  }
  return { changed: isWritten, warnings };
}

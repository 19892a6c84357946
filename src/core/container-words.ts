/** How messages name a container, and the commands that they advise. */

import { clusterCommand } from '../model/cluster-id.ts';
import { shellWord } from '../model/shell-quote.ts';
import { LockerdError } from '../model/errors.ts';
import type { Container } from './host-objects.ts';

export const unitInstance = (container: Container) =>
  container.definition.unit.replace(/\.service$/, '');
export const seeJournal = (container: Container) =>
  `see: journalctl -u ${shellWord(unitInstance(container))}`;
export const quotedName = (container: Container) => `container "${container.name}"`;

/** For what only works on a unit. */
export function runsOutside(container: Container): LockerdError {
  return new LockerdError(
    'Failed',
    `${quotedName(container)} runs outside its unit ${container.definition.unit}; ` +
      `to start it there, first stop it with: lxc-stop -n ${shellWord(container.name)}`,
  );
}

/** A start that has failed, and begins again by itself. */
export function startsLater(container: Container, what: string): LockerdError {
  const units = container.waitsFor.join(', ') || 'what it needs';
  return new LockerdError(
    'StartsLater',
    `${quotedName(container)} ${what}: the host lacks ${units}; ` +
      'the container starts by itself when the host has that, unless it is stopped before',
  );
}

/** What is to be said of a container whose "autostart" was set: others may start it all the same. */
export function bootRemarks(container: Container, wanted: boolean): string[] {
  const { autostart, autostartReasons, neededBy, problem } = container.definition;
  if (!wanted && autostart && autostartReasons.includes('needed')) {
    const names = neededBy.map((name) => `"${name}"`).join(', ') || 'another container';
    return [
      `${quotedName(container)} starts at boot all the same, as ${names} starts then and needs or wants ` +
        'it; to change that, disable that one as well, or take the name out of its settings',
    ];
  }
  if (autostart !== wanted) {
    const now = autostart ? 'starts' : 'does not start';
    const see = `lockerctl status ${shellWord(container.name)}`;
    return [`${quotedName(container)} ${now} at boot all the same; see: ${see}`];
  }
  if (wanted && problem !== '') {
    return [
      `the configuration of ${quotedName(container)} is broken, so that its start will fail; ` +
        `see: systemctl status ${shellWord(unitInstance(container))}`,
    ];
  }
  return [];
}

/** Whether a cluster decides on which host it runs. */
export function isOfCluster({ definition }: Container): boolean {
  return definition.autostartReasons.includes('cluster');
}

/**
 * What this host starts by itself may run on another one, and Pacemaker starts again what this host stops.
 */
export function leftToCluster(container: Container, verb: 'start' | 'stop'): LockerdError {
  const done = verb === 'start' ? 'started' : 'stopped';
  return new LockerdError(
    'Failed',
    `${quotedName(container)} is ${done} by Pacemaker alone; run: ${clusterCommand(container.name, verb)}`,
  );
}

/** What can be done with a container as a whole, in which states, and which action polkit is asked. */

import type { Container } from './objects.ts';
import { variant, type Options } from './values.ts';
import { stateWord } from './words.ts';

export interface ContainerAction {
  readonly id: string;
  readonly label: string;
  /** In the title of a notice: `Start of web`. */
  readonly noun: string;
  readonly method: string;
  readonly action: string;
  readonly options?: Options;
  /** Of the arguments before the options. */
  readonly type?: string;
  readonly args?: (container: Container) => readonly unknown[];
  readonly isDangerous?: true;
  readonly isFor: (container: Container) => boolean;
  /** Asked before it is done, as the guest loses what it has not written. */
  readonly question?: string;
}

const inState =
  (...states: string[]) =>
  ({ state }: Container): boolean =>
    states.includes(state);

export const containerActions: readonly ContainerAction[] = [
  {
    id: 'start',
    label: 'Start',
    noun: 'Start',
    method: 'Start',
    action: 'org.lockerd1.start',
    isFor: inState('stopped', 'failed', 'unmet', 'waiting'),
  },
  {
    id: 'stop',
    label: 'Stop',
    noun: 'Stop',
    method: 'Stop',
    action: 'org.lockerd1.stop',
    isFor: inState('running', 'frozen', 'starting', 'waiting', 'unmet', 'freezing'),
  },
  {
    id: 'reboot',
    label: 'Reboot',
    noun: 'Reboot',
    method: 'Reboot',
    action: 'org.lockerd1.reboot',
    isFor: inState('running'),
  },
  {
    id: 'freeze',
    label: 'Freeze',
    noun: 'Freeze',
    method: 'Freeze',
    action: 'org.lockerd1.freeze',
    isFor: inState('running'),
  },
  {
    id: 'thaw',
    label: 'Thaw',
    noun: 'Thaw',
    method: 'Thaw',
    action: 'org.lockerd1.freeze',
    isFor: inState('frozen', 'freezing'),
  },
  {
    id: 'enable',
    label: 'Start at boot',
    noun: 'Autostart',
    method: 'SetAutostart',
    action: 'org.lockerd1.set-autostart',
    type: 'b',
    args: () => [true],
    isFor: ({ autostart }) => !autostart,
  },
  {
    id: 'disable',
    label: 'Do not start at boot',
    noun: 'Autostart',
    method: 'SetAutostart',
    action: 'org.lockerd1.set-autostart',
    type: 'b',
    args: () => [false],
    isFor: ({ autostart }) => autostart,
  },
  {
    id: 'force-stop',
    label: 'Force stop',
    noun: 'Forced stop',
    method: 'Stop',
    action: 'org.lockerd1.stop-force',
    options: { force: variant('b', true) },
    isDangerous: true,
    isFor: inState('running', 'frozen', 'starting', 'stopping', 'freezing'),
    question: 'All of its processes are killed at once. What they have not written is lost.',
  },
];

/** Actions of which a container has one at a time, which so share a place among its buttons. */
const places: readonly (readonly string[])[] = [
  ['start', 'stop'],
  ['reboot'],
  ['freeze', 'thaw'],
  ['enable', 'disable'],
  ['force-stop'],
];

const hasBegun = inState('starting', 'running', 'stopping', 'freezing', 'frozen');

/**
 * An action for each place. Buttons that came and went with the state would move others under the pointer of
 * somebody who is about to press one.
 */
export function actionsOf(container: Container): readonly ContainerAction[] {
  return places.flatMap((ids) => {
    const actions = containerActions.filter(({ id }) => ids.includes(id));
    const now = actions.find((action) => action.isFor(container));
    const [first] = actions;
    return now ?? (ids.includes('stop') && hasBegun(container) ? actions.at(-1) : first) ?? [];
  });
}

/** Why an action cannot be done in this state; undefined if it can. */
export function unfit(action: ContainerAction, container: Container): string | undefined {
  if (action.isFor(container)) return undefined;
  return `This is not for a container that is ${stateWord(container.state).toLowerCase()}.`;
}

/** Why a button is grey; undefined if the user may. */
export function refusal(
  permissions: ReadonlyMap<string, string> | undefined,
  action: string,
): string | undefined {
  if (permissions === undefined) return 'polkit has not answered yet.';
  switch (permissions.get(action)) {
    case 'yes':
      return undefined;
    case 'challenge':
      return 'This needs administrative access: turn it on at the top of the page.';
    default:
      return 'The rules of polkit do not permit this.';
  }
}

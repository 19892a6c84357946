/** What the page calls things, for people. */

import { formatBytes } from '../model/memory-limit.ts';
import type { Container, Job } from './objects.ts';

/** The colour of a label of PatternFly. */
type Colour = 'green' | 'blue' | 'grey' | 'red' | 'orange' | 'teal';

/** States in the order in which the filter offers them. */
const states: Readonly<Record<string, { readonly word: string; readonly colour: Colour }>> = {
  running: { word: 'Running', colour: 'green' },
  starting: { word: 'Starting', colour: 'blue' },
  stopping: { word: 'Stopping', colour: 'blue' },
  freezing: { word: 'Freezing', colour: 'blue' },
  frozen: { word: 'Frozen', colour: 'teal' },
  waiting: { word: 'Waiting', colour: 'orange' },
  unmet: { word: 'Unmet', colour: 'orange' },
  stopped: { word: 'Stopped', colour: 'grey' },
  failed: { word: 'Failed', colour: 'red' },
  broken: { word: 'Broken', colour: 'red' },
  unknown: { word: 'Unknown', colour: 'orange' },
};

export const stateNames = Object.keys(states);

/** A later service may have more states, whose names are words. */
export const stateWord = (state: string): string => states[state]?.word ?? state;
export const stateColour = (state: string): Colour => states[state]?.colour ?? 'grey';

/** Whether the guest has processes. */
export function isUp(state: string): boolean {
  return ['running', 'frozen', 'freezing', 'stopping'].includes(state);
}

const reasons: Readonly<Record<string, string>> = {
  setting: 'its settings say so',
  cluster: 'Pacemaker starts it, on one node of the cluster',
  needed: 'another container needs it',
  config: 'lxc.start.auto is 1',
  options: '/etc/default/lxc has -A',
  runlevel: 'its init script has a link in a runlevel',
  enabled: 'its unit is enabled',
  masked: 'its unit is masked',
  'other-unit': 'only units that the boot does not start want it',
  'lxc-auto': 'LXC_AUTO is not true in /etc/default/lxc',
  'lxc-service': 'lxc.service is disabled or masked',
  'boot-groups': 'BOOTGROUPS in /etc/default/lxc has none of its groups',
};

/** `Yes: lxc.start.auto is 1`. */
export function autostartText({ autostart, autostartReasons }: Container): string {
  const why = autostartReasons.map((reason) => reasons[reason] ?? reason).join('; ');
  return (autostart ? 'Yes' : 'No') + (why === '' ? '' : `: ${why}`);
}

/** `120.5 MiB`; undefined is no limit or not known, for which the caller has the word. */
export function sizeText(bytes: number | undefined, none = '–'): string {
  if (bytes === undefined) return none;
  const short = formatBytes(BigInt(Math.round(bytes)));
  const [, number = short, unit = 'B'] = /^([\d.]+)([KMGTPE])?B?$/.exec(short) ?? [];
  return `${number} ${unit === 'B' ? 'B' : `${unit}iB`}`;
}

/** Phases that say more than the verb of the job. */
const phases: Readonly<Record<string, string>> = {
  waiting: 'waiting',
  volume: 'making the volume',
  'file-system': 'making the file system',
  encrypt: 'encrypting',
  copy: 'copying',
  mount: 'mounting',
  checking: 'adding up what cannot be taken back',
  reclaiming: 'taking memory back',
  watching: 'watching how the guest lives with the new limit',
  setting: 'setting the limit',
  recording: 'writing the settings',
};

export const phaseText = (phase: string): string | undefined => phases[phase];

const verbs: Readonly<Record<string, string>> = {
  start: 'Starting',
  stop: 'Stopping',
  reboot: 'Rebooting',
  freeze: 'Freezing',
  thaw: 'Thawing',
  balloon: 'Changing the memory limit',
  'set-limits': 'Setting limits',
  'mount-locker': 'Attaching a locker',
  'unmount-locker': 'Detaching a locker',
  'set-autostart': 'Changing autostart',
  'create-locker': 'Creating a locker',
  'grow-locker': 'Growing a locker',
  'snapshot-locker': 'Taking a snapshot',
  'rename-locker': 'Renaming a locker',
  'restore-locker': 'Restoring a locker',
  'forget-locker': 'Forgetting a locker',
  'adopt-locker': 'Taking back a locker',
};

export const verbText = (verb: string): string => verbs[verb] ?? verb;

/** `3 d 4 h`, `5 min`. @param usec microseconds */
export function spanText(usec: number): string {
  const minutes = Math.floor(usec / 60e6);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.max(0, Math.floor(usec / 1e6))} s`;
}

/** Bytes of `512M`, `1.5 GiB`, `4096`; undefined for anything else. */
export function parseSize(written: string): number | undefined {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)\s*([KMGTPE]?)(?:iB|B)?$/i.exec(written.trim());
  if (match === null) return undefined;
  const [, number = '', unit = ''] = match;
  const power = ['', 'K', 'M', 'G', 'T', 'P', 'E'].indexOf(unit.toUpperCase());
  const bytes = Math.floor(Number(number) * 1024 ** power);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** How long a balloon has held its guest up, where the kernel counts it. */
export function stallWords({ verb, stallUsec }: Job): readonly string[] {
  if (verb !== 'balloon' || stallUsec === undefined) return [];
  const ms = Math.round(stallUsec / 1000);
  return [ms > 0 ? `The guest stood still for ${ms} ms.` : 'The guest did not stand still.'];
}

/** How control groups are frozen: cgroup.freeze and cgroup.events of v2, freezer.state of v1. */
import { basename, dirname, join } from 'node:path';
import { readFile, tryReadFile } from './control-files.ts';
import { parseFlatKeyed } from './figures.ts';

export type FreezeState = 'FROZEN' | 'FREEZING';

/** The file that freezes a group of cgroup v2. */
export function freezeFile(directory: string): string {
  return join(directory, 'cgroup.freeze');
}

/** The current value of that file, to be written back later. */
export function readFreeze(directory: string): string {
  return readFile(freezeFile(directory)).trim();
}

/** Whether all processes of a group of cgroup v2 are frozen. Throws if the group has gone. */
export function isFrozen(directory: string): boolean {
  return parseFlatKeyed(readFile(join(directory, 'cgroup.events'))).get('frozen') === 1n;
}

/** The file that shows whether a group is frozen, and changes with it. */
export function freezeStateFile(directory: string, version: 1 | 2): string {
  return join(directory, version === 1 ? 'freezer.state' : 'cgroup.events');
}

/** The state in that file; undefined for a group that is not frozen or has gone. */
export function freezeStateOf(stateFile: string): FreezeState | undefined {
  const text = tryReadFile(stateFile) ?? '';
  if (basename(stateFile) === 'freezer.state') {
    const word = text.trim();
    return word === 'FROZEN' || word === 'FREEZING' ? word : undefined;
  }
  if (parseFlatKeyed(text).get('frozen') === 1n) return 'FROZEN';
  const freeze = tryReadFile(freezeFile(dirname(stateFile))) ?? '';
  return freeze.trim() === '1' ? 'FREEZING' : undefined;
}

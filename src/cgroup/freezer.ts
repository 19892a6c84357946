/** Freezing of control groups: cgroup.freeze and cgroup.events of v2, freezer.state of v1. */
import { basename, dirname, join } from 'node:path';
import { readFile, tryReadFile } from './control-files.ts';
import { parseFlatKeyed } from './figures.ts';

export type FreezeState = 'FROZEN' | 'FREEZING';

/** The file of a group of cgroup v2 that freezes it. */
export function freezeFile(directory: string): string {
  return join(directory, 'cgroup.freeze');
}

/** What that file has now, to be written back. */
export function readFreeze(directory: string): string {
  return readFile(freezeFile(directory)).trim();
}

/** Whether all processes of a group of cgroup v2 stand still. Throws for a group that has gone. */
export function isFrozen(directory: string): boolean {
  return parseFlatKeyed(readFile(join(directory, 'cgroup.events'))).get('frozen') === 1n;
}

/** The file that tells of a group's freezing, and changes with it. */
export function freezeStateFile(directory: string, version: 1 | 2): string {
  return join(directory, version === 1 ? 'freezer.state' : 'cgroup.events');
}

/** What that file says; undefined for a group that runs or has gone. */
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

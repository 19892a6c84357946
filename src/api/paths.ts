/** Object paths of org.lockerd1. */

import { escapeLabel, unescapeLabel } from '../model/object-label.ts';

export const managerPath = '/org/lockerd1';
const containers = `${managerPath}/container/`;
const lockers = `${managerPath}/locker/`;
const jobs = `${managerPath}/job/`;

export function containerPath(name: string): string {
  return containers + escapeLabel(name);
}

export function lockerPath(name: string): string {
  return lockers + escapeLabel(name);
}

export function jobPath(id: number): string {
  return jobs + String(id);
}

type Parsed =
  | { readonly kind: 'manager' }
  | { readonly kind: 'container' | 'locker'; readonly name: string }
  | { readonly kind: 'job'; readonly id: number };

let last: { readonly path: string; readonly parsed: Parsed | undefined } | undefined;

/** What a path of ours stands for; undefined for any other path. */
export function parsePath(path: string): Parsed | undefined {
  // All properties of an object are read one after the other.
  if (last?.path !== path) last = { path, parsed: parseAnew(path) };
  return last.parsed;
}

function parseAnew(path: string): Parsed | undefined {
  if (path === managerPath) return { kind: 'manager' };
  if (path.startsWith(jobs)) {
    const id = path.slice(jobs.length);
    return /^[1-9][0-9]{0,9}$/.test(id) ? { kind: 'job', id: Number(id) } : undefined;
  }
  for (const [kind, prefix] of [
    ['container', containers],
    ['locker', lockers],
  ] as const) {
    const name = path.startsWith(prefix) ? unescapeLabel(path.slice(prefix.length)) : undefined;
    if (name !== undefined) return { kind, name };
  }
  return undefined;
}

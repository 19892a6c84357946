/** Limits of control groups, of which the key itself carries the controller. */
import type { KeyedLine } from '../model/lxc-config.ts';
import type { LxcAssignment } from './grammar.ts';

const families = ['lxc.cgroup', 'lxc.cgroup2'];

const memoryKeys = families.map((family) => `${family}.memory.`);
/** Of the controllers whose limits units have; `io` is called `blkio` on cgroup v1. */
const otherKeys = families.flatMap((family) =>
  ['cpu', 'cpuset', 'io', 'blkio', 'pids'].map((controller) => `${family}.${controller}.`),
);

/** What a key limits; `all` for those that clear whatever a version of control groups has. */
type Limited = 'memory' | 'other' | 'all';

/** Undefined for other keys, which are left to LXC. */
function limitedBy(key: string): Limited | undefined {
  if (!key.startsWith('lxc.cgroup')) return undefined;
  if (families.includes(key)) return 'all';
  if (memoryKeys.some((start) => key.startsWith(start))) return 'memory';
  return otherKeys.some((start) => key.startsWith(start)) ? 'other' : undefined;
}

/** Whether a key sets or clears limits that units have. */
export function isLimitKey(key: string): boolean {
  return limitedBy(key) !== undefined;
}

/** Lines by their keys, each list in the order of the configuration. */
type LinesByKey = Map<string, KeyedLine[]>;

/** The limits of a configuration while its files are read. */
export interface LimitLines {
  readonly memory: LinesByKey;
  readonly other: LinesByKey;
}

export function noLimitLines(): LimitLines {
  return { memory: new Map(), other: new Map() };
}

export function listOf(lines: LinesByKey): KeyedLine[] {
  return [...lines.values()].flat();
}

/** An empty value clears what the same key set before, or the whole family has. */
export function mergeLimit(
  limits: LimitLines,
  file: string,
  { line, key, value }: LxcAssignment,
): void {
  const limited = limitedBy(key);
  if (limited === undefined) return;
  if (limited === 'all') {
    for (const lines of [limits.memory, limits.other])
      for (const other of lines.keys()) if (other.startsWith(`${key}.`)) lines.delete(other);
    return;
  }
  const lines = limits[limited];
  if (value === '') {
    lines.delete(key);
    return;
  }
  const entry = { key, located: { value, file, line } };
  const known = lines.get(key);
  if (known === undefined) lines.set(key, [entry]);
  else known.push(entry);
}

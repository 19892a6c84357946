import type { MemoryEntry } from '../model/lxc-config.ts';
import type { LxcAssignment } from './grammar.ts';

const CGROUPS = ['lxc.cgroup', 'lxc.cgroup2'];

/** Limits of memory, and the keys that clear them all. */
export function isMemoryKey(key: string): boolean {
  return CGROUPS.some((family) => key === family || key.startsWith(`${family}.memory.`));
}

/** An empty value clears what the same key set before, or the whole family has. */
export function mergeMemory(
  memory: MemoryEntry[],
  file: string,
  { line, key, value }: LxcAssignment,
): MemoryEntry[] {
  if (CGROUPS.includes(key)) return memory.filter((entry) => !entry.key.startsWith(`${key}.`));
  if (value === '') return memory.filter((entry) => entry.key !== key);
  memory.push({ key, located: { value, file, line } });
  return memory;
}

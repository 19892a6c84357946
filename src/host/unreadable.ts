/** Why something of the host cannot be read. */
import { codeOf, errnoText } from '../model/errno.ts';
import type { Problem } from '../model/problem.ts';
import { HungError } from './mounts.ts';

export function isAbsent(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '');
}

export function unreadable(file: string, done: 'read' | 'listed', error: unknown): Problem {
  const at = { file, line: 0 };
  if (error instanceof HungError) {
    return {
      ...at,
      reason: `cannot be ${done}: ${error.message}`,
      remedy: error.remedy,
      isHung: true,
    };
  }
  return { ...at, reason: `cannot be ${done}: ${errnoText(error)}` };
}

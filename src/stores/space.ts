import { codeOf } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';
import type { Tools } from './tools.ts';
import { ToolError } from './tools.ts';

/** Bytes of a file system. */
export interface Space {
  readonly size: bigint;
  readonly used: bigint;
  /** For anybody but root. */
  readonly available: bigint;
}

const statMs = 2_000;

/**
 * What statfs(2) says of a path, from a process of its own, which may hang on a file system that does not
 * answer; undefined where it does, or where there is nothing.
 */
export async function spaceOf(tools: Tools, path: string): Promise<Space | undefined> {
  const args = ['--file-system', '--format=%S %b %f %a', '--', path];
  const asked = tools.run('stat', args, { timeoutMs: statMs });
  // A process that sleeps in the kernel is not ended by a signal.
  const late = new Promise<undefined>((resolve) => {
    setTimeout(resolve, statMs + 500, undefined).unref();
  });
  const text = await Promise.race([asked.catch(() => undefined), late]);
  if (text === undefined) return undefined;
  const [block = 0n, blocks = 0n, free = 0n, available = 0n] = text.trim().split(' ').map(BigInt);
  return { size: block * blocks, used: block * (blocks - free), available: block * available };
}

/** What tools and the kernel say where a file system or its quota is full. */
const fullWords = /no space left|disk quota exceeded|insufficient (?:free|suitable)/i;

/** Throws NoSpace for an error that says that a store is full, and the error itself otherwise. */
export function throwFull(store: string, error: unknown): never {
  const isFull =
    error instanceof ToolError
      ? fullWords.test(error.complaint)
      : ['ENOSPC', 'EDQUOT'].includes(codeOf(error) ?? '');
  if (!isFull) throw error;
  const { message } = error as Error;
  throw new LockerdError('NoSpace', `store "${store}" is full: ${message}`, { cause: error });
}

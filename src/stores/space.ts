import type { Tools } from './tools.ts';

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

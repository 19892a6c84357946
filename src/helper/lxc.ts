import { readFileSync } from 'node:fs';
import { HelperError } from './errors.ts';

/** A container as LXC's own programs are told of it. */
export interface LxcContainer {
  readonly name: string;
  readonly lxcpath: string;
}

export interface LxcStatus {
  /** LXC's word, such as RUNNING. */
  readonly state: string;
  /** Host pid of the container's init; 0 where there is none. */
  readonly leader: number;
}

const timeoutMs = 20_000;

/** What LXC's programs need of an environment. */
export const lxcEnvironment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' } as const;

/** Arguments that name a container; -P only where it is not LXC's own choice anyway. */
export function lxcArguments({ name, lxcpath }: LxcContainer): string[] {
  return ['-P', lxcpath, '-n', name];
}

async function lxc(program: string, args: readonly string[], withinMs: number): Promise<string> {
  // Loading it takes as long as most requests, which do not need it.
  const { execa } = await import('execa');
  const { stdout } = await execa(program, args, {
    extendEnv: false,
    env: lxcEnvironment,
    stdin: 'ignore',
    stderr: 'ignore',
    timeout: withinMs,
    maxBuffer: 1024 * 1024,
  });
  return stdout;
}

/**
 * Asks LXC about a container; STOPPED when it knows nothing of it, undefined when it does not
 * answer in time (milliseconds): a monitor answers nobody while it runs a hook.
 */
export async function statusWithin(
  container: LxcContainer,
  withinMs: number,
): Promise<LxcStatus | undefined> {
  const args = ['-s', '-p', ...lxcArguments(container)];
  let text = '';
  try {
    text = await lxc('/usr/bin/lxc-info', args, withinMs);
  } catch (error) {
    const { ExecaError } = await import('execa');
    if (!(error instanceof ExecaError) || error.exitCode === undefined) return undefined;
  }
  return {
    state: /^State:\s*([A-Z]+)$/m.exec(text)?.[1] ?? 'STOPPED',
    leader: Number(/^PID:\s*([0-9]+)$/m.exec(text)?.[1] ?? 0),
  };
}

/** Asks LXC about a container; STOPPED when it knows nothing of it or does not answer for long. */
export async function statusOf(container: LxcContainer): Promise<LxcStatus> {
  return (await statusWithin(container, timeoutMs)) ?? { state: 'STOPPED', leader: 0 };
}

/** Longest name of an abstract socket; LXC hashes what would be longer. See unix(7). */
const socketNameMax = 105;

/**
 * Tells which containers LXC may have a monitor of: by its command socket, as lxc-ls(1) does, which
 * then waits for each of them to answer.
 */
export class Monitors {
  readonly #lxcpath: string;
  /** Names of the containers whose sockets tell them. */
  readonly names: ReadonlySet<string>;

  /** Takes the text of /proc/net/unix. */
  constructor(lxcpath: string, sockets = readFileSync('/proc/net/unix', 'utf8')) {
    this.#lxcpath = lxcpath;
    const names = sockets.split('\n').flatMap((line) => {
      const [, path = ''] = line.split(`@${lxcpath}/`);
      return path.endsWith('/command') ? [path.slice(0, -'/command'.length)] : [];
    });
    this.names = new Set(names);
  }

  has(name: string): boolean {
    const path = `${this.#lxcpath}/${name}/command`;
    return this.names.has(name) || Buffer.byteLength(path) > socketNameMax;
  }
}

/** Runs a program of LXC's that changes a container's state, and looks whether it did. */
async function bringTo(state: string, container: LxcContainer, program: string): Promise<void> {
  const { name } = container;
  await lxc(program, lxcArguments(container), timeoutMs).catch((error: unknown) => {
    throw new HelperError('Failed', `${program} failed for container "${name}"`, { cause: error });
  });
  const after = await statusOf(container);
  if (after.state === state) return;
  throw new HelperError('Failed', `container "${name}" is ${after.state} after ${program}`);
}

/** Freezes a running container; one that is frozen stays so. Throws NotRunning and Failed. */
export async function freeze(container: LxcContainer): Promise<{ changed: boolean }> {
  const { state } = await statusOf(container);
  if (state === 'FROZEN') return { changed: false };
  if (!['RUNNING', 'FREEZING', 'THAWED'].includes(state)) {
    throw new HelperError(
      'NotRunning',
      `container "${container.name}" is not running (${state}); start it first`,
    );
  }
  await bringTo('FROZEN', container, '/usr/bin/lxc-freeze');
  return { changed: true };
}

/** Thaws a frozen container. Throws NotFrozen and Failed. */
export async function thaw(container: LxcContainer): Promise<{ changed: boolean }> {
  const { state } = await statusOf(container);
  if (state !== 'FROZEN' && state !== 'FREEZING') {
    throw new HelperError('NotFrozen', `container "${container.name}" is not frozen (${state})`);
  }
  await bringTo('RUNNING', container, '/usr/bin/lxc-unfreeze');
  return { changed: true };
}

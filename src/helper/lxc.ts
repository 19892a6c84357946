import { execa } from 'execa';
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

async function lxc(program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await execa(program, args, {
    extendEnv: false,
    env: lxcEnvironment,
    stdin: 'ignore',
    stderr: 'ignore',
    timeout: timeoutMs,
    maxBuffer: 1024 * 1024,
  });
  return stdout;
}

/** Asks LXC about a container; STOPPED when it knows nothing of it. */
export async function statusOf(container: LxcContainer): Promise<LxcStatus> {
  const args = ['-s', '-p', ...lxcArguments(container)];
  const text = await lxc('/usr/bin/lxc-info', args).catch(() => '');
  return {
    state: /^State:\s*([A-Z]+)$/m.exec(text)?.[1] ?? 'STOPPED',
    leader: Number(/^PID:\s*([0-9]+)$/m.exec(text)?.[1] ?? 0),
  };
}

/** Names of the containers that are not stopped. */
export async function activeContainers(lxcpath: string): Promise<ReadonlySet<string>> {
  const text = await lxc('/usr/bin/lxc-ls', ['-P', lxcpath, '--active', '-1']);
  // Names are padded to one width where there is a terminal, and have no blanks at their end.
  return new Set(text.split('\n').map((line) => line.trimEnd()));
}

/** Runs a program of LXC's that changes a container's state, and looks whether it did. */
async function bringTo(state: string, container: LxcContainer, program: string): Promise<void> {
  const { name } = container;
  await lxc(program, lxcArguments(container)).catch((error: unknown) => {
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

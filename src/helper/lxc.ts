/**
 * Freezes and thaws containers with LXC's own programs, and finds their states. The state always comes
 * from the kernel (guests.ts), and LXC's programs are only run for a container that the kernel shows,
 * because any user can answer on the command socket of a container that does not run.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { LockerdError } from '../model/errors.ts';
import type { LxcStatus } from './guests.ts';
import { Guests } from './guests.ts';
import type { SocketOwner } from './socket-owner.ts';
import { commandSocketOwners } from './socket-owner.ts';

/** A container as LXC's programs take it. The name must be in root's directory of containers. */
export interface LxcContainer {
  readonly name: string;
  readonly lxcpath: string;
}

const timeoutMs = 20_000;

/** The environment that LXC's programs need. */
export const lxcEnvironment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' } as const;

/** The kernel may reach the state a moment after LXC's program has ended. */
const lookEveryMs = 50;
const looks = 20;

async function lxc(program: string, { name, lxcpath }: LxcContainer): Promise<void> {
  // Loading execa takes as long as most requests, which do not need it.
  const { execa } = await import('execa');
  await execa(program, ['-P', lxcpath, '-n', name], {
    extendEnv: false,
    env: lxcEnvironment,
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'ignore',
    timeout: timeoutMs,
  });
}

/** A state, and the process that keeps LXC from starting a stopped container. */
interface Found extends LxcStatus {
  readonly squatter?: SocketOwner | undefined;
}

/** A container's state as the kernel shows it, whoever started it. */
async function find(guests: Guests, { name, lxcpath }: LxcContainer): Promise<Found> {
  const look = (): LxcStatus => guests.look([name]).get(name) ?? { state: 'STOPPED', leader: 0 };
  const inUnit = look();
  if (inUnit.state !== 'STOPPED') return inUnit;
  const { found, squatters } = await findOutside(guests, lxcpath, [name]);
  return found.includes(name) ? look() : { ...inUnit, squatter: squatters.get(name) };
}

/**
 * Of containers that do not run as their units, finds those that root's LXC runs outside their units,
 * and the strangers that hold a container's command socket.
 */
export async function findOutside(
  guests: Pick<Guests, 'findOutside' | 'setOutside'>,
  lxcpath: string,
  names: readonly string[],
  socketOwners = commandSocketOwners,
): Promise<{ found: string[]; squatters: Map<string, SocketOwner> }> {
  const found = new Set(guests.findOutside(lxcpath, new Set(names)));
  const others = names.filter((name) => !found.has(name));
  const squatters = new Map<string, SocketOwner>();
  for (const [name, owner] of await socketOwners(lxcpath, others)) {
    const what = guests.setOutside(name, owner.pid);
    if (what === 'monitor') found.add(name);
    // A root process that has gone may be LXC's, which is just forking into the background.
    else if (what === 'stranger' || owner.uid !== 0) squatters.set(name, owner);
  }
  return { found: [...found], squatters };
}

/** A container's state as the kernel shows it; STOPPED if LXC has no monitor for it. */
export async function statusOf(container: LxcContainer): Promise<LxcStatus> {
  return find(new Guests(), container);
}

/** Runs an LXC program that changes a container's state, and checks that it did. */
async function bringTo(
  state: LxcStatus['state'],
  container: LxcContainer,
  program: string,
  guests: Guests,
): Promise<void> {
  const { name } = container;
  await lxc(program, container).catch((error: unknown) => {
    throw new LockerdError('Failed', `${program} failed for container "${name}"`, { cause: error });
  });
  let after = await find(guests, container);
  for (let look = 0; look < looks && after.state !== state; look++) {
    await sleep(lookEveryMs);
    after = await find(guests, container);
  }
  if (after.state === state) return;
  throw new LockerdError('Failed', `container "${name}" is ${after.state} after ${program}`);
}

function notRunning({ name }: LxcContainer, { state, squatter }: Found): LockerdError {
  const remedy =
    squatter === undefined
      ? 'start it first'
      : `process ${squatter.pid} of uid ${squatter.uid} has taken its command socket, so that LXC ` +
        'cannot start it; end that process';
  return new LockerdError('NotRunning', `container "${name}" is not running (${state}); ${remedy}`);
}

/** Freezes a running container; a frozen container stays frozen. Throws NotRunning and Failed. */
export async function freeze(container: LxcContainer): Promise<{ changed: boolean }> {
  const guests = new Guests();
  const found = await find(guests, container);
  if (found.state === 'FROZEN') return { changed: false };
  // For a guest that does not run, LXC's program would believe any process that answers.
  if (found.state !== 'RUNNING' && found.state !== 'FREEZING') throw notRunning(container, found);
  await bringTo('FROZEN', container, '/usr/bin/lxc-freeze', guests);
  return { changed: true };
}

/** Thaws a frozen container. Throws NotFrozen and Failed. */
export async function thaw(container: LxcContainer): Promise<{ changed: boolean }> {
  const guests = new Guests();
  const { state } = await find(guests, container);
  if (state !== 'FROZEN' && state !== 'FREEZING') {
    throw new LockerdError('NotFrozen', `container "${container.name}" is not frozen (${state})`);
  }
  await bringTo('RUNNING', container, '/usr/bin/lxc-unfreeze', guests);
  return { changed: true };
}

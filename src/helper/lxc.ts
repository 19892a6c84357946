import { setTimeout as sleep } from 'node:timers/promises';
import { LockerdError } from '../model/errors.ts';
import type { LxcStatus } from './guests.ts';
import { Guests } from './guests.ts';
import type { SocketOwner } from './socket-owner.ts';
import { commandSocketOwners } from './socket-owner.ts';

/** A container as LXC's own programs are told of it; its name is in root's directory of containers. */
export interface LxcContainer {
  readonly name: string;
  readonly lxcpath: string;
}

const timeoutMs = 20_000;

/** What LXC's programs need of an environment. */
export const lxcEnvironment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' } as const;

/** The kernel may follow a moment after LXC's program has ended. */
const lookEveryMs = 50;
const looks = 20;

async function lxc(program: string, { name, lxcpath }: LxcContainer): Promise<void> {
  // Loading it takes as long as most requests, which do not need it.
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

/** A state, and who keeps LXC from starting a container that does not run. */
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
 * Finds which of some containers, which do not run as their units, root's LXC runs outside of them,
 * and who else has their command sockets.
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
    // It may be one of LXC's that is about to go into the background.
    else if (what === 'stranger' || owner.uid !== 0) squatters.set(name, owner);
  }
  return { found: [...found], squatters };
}

/** A container's state as the kernel shows it; STOPPED where LXC has no monitor of it. */
export async function statusOf(container: LxcContainer): Promise<LxcStatus> {
  return find(new Guests(), container);
}

/** Runs a program of LXC's that changes a container's state, and looks whether it did. */
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

/** Freezes a running container; one that is frozen stays so. Throws NotRunning and Failed. */
export async function freeze(container: LxcContainer): Promise<{ changed: boolean }> {
  const guests = new Guests();
  const found = await find(guests, container);
  if (found.state === 'FROZEN') return { changed: false };
  // LXC's program would believe whoever answers in the place of a guest that is not there.
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

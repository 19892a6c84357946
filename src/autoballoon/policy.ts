/** Who gives memory and who gets it; pure. Bytes. */
import { mebibyte, unlimited } from '../model/memory-limit.ts';

/** The present limits of a container's share. */
export interface Range {
  readonly floor: bigint;
  readonly ceiling: bigint;
}

/** A running container as the policy sees it. */
export interface Member extends Range {
  readonly name: string;
  /** What it may use now (MemoryHigh=). */
  readonly share: bigint;
  readonly usage: bigint;
  /** The part of its usage that it does not miss soon: what reclaim would take first. */
  readonly cold: bigint;
  /** It has not waited for memory just now, and does not need what it does not use. */
  readonly calm: boolean;
  /** Nor has it for a while, and may be asked for what it holds and does not use. */
  readonly idle: boolean;
}

/** What there is to be handed out. */
export interface Supply {
  /** The sum of all shares that is never exceeded by a decision. */
  readonly budget: bigint;
  /** What the host has left beyond its reserve at this moment; below zero when it is short. */
  readonly spare: bigint;
}

/** A new share of one container, and what to take back from it first. */
export interface Gift {
  readonly name: string;
  readonly share: bigint;
  /** Bytes of its usage that have to go for it. */
  readonly reclaim: bigint;
}

/** Less than this is not worth a change. */
export const grain = 4n * mebibyte;

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function clamp(value: bigint, { floor, ceiling }: Range): bigint {
  return max(floor, min(value, ceiling));
}

/** What of the host's memory is never handed out. */
export function reserveOf(hostMemory: bigint): bigint {
  return max(hostMemory / 8n, 128n * mebibyte);
}

/** With less free, the kernel is near to taking memory back: above what it keeps for itself. */
export function fullBelow(hostMemory: bigint): bigint {
  return max(hostMemory / 64n, 64n * mebibyte);
}

/** The limit that the container has counts, whoever set it; without one, that of the settings. */
export function rangeWithin(setting: Range, limit: bigint): Range {
  const ceiling = limit === unlimited ? setting.ceiling : limit;
  return { floor: min(setting.floor, ceiling), ceiling };
}

/** What a container keeps free of what it is left with, so that it does not miss it at once. */
export function marginOf(usage: bigint): bigint {
  return max(usage / 8n, 16n * mebibyte);
}

/** Whether a container uses so much of its share that pressure may come from there. */
export function isNear({ usage, share }: Pick<Member, 'usage' | 'share'>): boolean {
  return usage + marginOf(share) >= share;
}

function sumOf(members: readonly Pick<Member, 'share'>[]): bigint {
  return members.reduce((sum, { share }) => sum + share, 0n);
}

/** What can be added to the shares without taking from anybody. */
export function roomFor(members: readonly Pick<Member, 'share'>[], supply: Supply): bigint {
  return max(0n, min(supply.budget - sumOf(members), supply.spare));
}

/**
 * The first share of a container that has just started: what it uses and an equal part of all, as
 * far as there is room. The floor it gets in any case. `running` counts also those that have no share
 * yet.
 */
export function firstShare(
  newcomer: Range & Pick<Member, 'usage'>,
  others: readonly Pick<Member, 'share'>[],
  supply: Supply,
  running: number,
): bigint {
  const part = supply.budget / BigInt(running);
  // What it uses already the host has not left, and need not have.
  const room = roomFor(others, { ...supply, spare: supply.spare + newcomer.usage });
  return clamp(max(newcomer.usage + marginOf(newcomer.usage), min(part, room)), newcomer);
}

/**
 * How much more a container gets that has grown `times` times in a row and still has too little. Of
 * what nobody has, it gets up to a half at once: taken back unused, that costs nobody anything.
 */
export function stepOf(share: bigint, times: number, room: bigint): bigint {
  return max(max(share / 8n, 64n * mebibyte) << BigInt(Math.min(times, 2)), room / 2n);
}

/** A step, but not beyond the ceiling. */
function wantedBy({ ceiling, share }: Member, step: bigint): bigint {
  return min(max(ceiling - share, 0n), step);
}

/** What a container gets in the end, once others have given. */
export function grownShare(
  member: Member,
  step: bigint,
  others: readonly Pick<Member, 'share'>[],
  supply: Supply,
): bigint {
  const wanted = wantedBy(member, step);
  return member.share + min(wanted, roomFor([...others, member], supply));
}

/** What is missing for a container to grow by a step. */
export function shortageFor(
  member: Member,
  step: bigint,
  others: readonly Pick<Member, 'share'>[],
  supply: Supply,
): Shortage {
  const wanted = wantedBy(member, step);
  const left = supply.budget - sumOf([...others, member]);
  return { shares: max(0n, wanted - left), memory: max(0n, wanted - supply.spare) };
}

/** Of the budget, and of the host's memory itself. */
export interface Shortage {
  readonly shares: bigint;
  readonly memory: bigint;
}

/** A donor on its way down. */
interface Donor {
  readonly member: Member;
  reclaim: bigint;
  share: bigint;
}

/** The lowest share of a member from which so much was taken back. */
function lowest({ usage, floor }: Member, reclaim: bigint): bigint {
  const left = usage - reclaim;
  return max(floor, left + marginOf(left));
}

/** What can be taken back from a member without bringing it below its floor. */
function reclaimable({ usage, cold, floor, idle }: Member): bigint {
  return idle ? max(0n, min(cold, usage - floor)) : 0n;
}

/**
 * What others give. Memory that is short itself comes from what they hold and do not use;
 * of their shares, what they have never used is taken first, because that costs nobody anything.
 */
export function giftsFor(members: readonly Member[], shortage: Shortage): Gift[] {
  const donors: Donor[] = members
    .filter(({ calm }) => calm)
    .map((member) => ({ member, reclaim: 0n, share: member.share }));
  const byCold = [...donors].sort((a, b) => Number(reclaimable(b.member) - reclaimable(a.member)));
  let { memory, shares } = shortage;
  for (const donor of byCold) {
    const take = min(memory, reclaimable(donor.member));
    // What is reclaimed must not come back at once, so the share goes down with it.
    if (take < grain) continue;
    donor.reclaim = take;
    donor.share = min(donor.share, lowest(donor.member, take));
    memory -= take;
    shares -= donor.member.share - donor.share;
  }
  // A share is of no use without the memory for it.
  shares -= memory;
  const bySlack = [...donors].sort((a, b) =>
    Number(b.share - lowest(b.member, b.reclaim) - (a.share - lowest(a.member, a.reclaim))),
  );
  for (const donor of bySlack) {
    const slack = donor.share - lowest(donor.member, donor.reclaim);
    const give = min(shares, slack);
    if (give < grain) continue;
    donor.share -= give;
    shares -= give;
  }
  for (const donor of byCold) {
    const more = min(shares, reclaimable(donor.member) - donor.reclaim);
    if (more < grain) continue;
    const share = min(donor.share, lowest(donor.member, donor.reclaim + more));
    shares -= donor.share - share;
    donor.reclaim += more;
    donor.share = share;
  }
  return donors
    .filter(({ member, share }) => member.share - share >= grain)
    .map(({ member, share, reclaim }) => ({ name: member.name, share, reclaim }));
}

/** What of the shares is beyond the budget, as after a container has got its floor. */
export function excessOf(members: readonly Pick<Member, 'share'>[], supply: Supply): Shortage {
  return { shares: max(0n, sumOf(members) - supply.budget), memory: 0n };
}

/** The share that fits a range that has changed, as by a balloon that somebody asked for. */
export function fittedShare(member: Member): bigint {
  return clamp(member.share, member);
}

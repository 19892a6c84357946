/**
 * Decides which containers give memory and which get it; pure. All amounts are in bytes. A pressed
 * container grows by a step; if that does not fit the budget or the host's free memory, others give:
 * first shares that they have never used, and memory that they hold but do not use.
 */
import { mebibyte, unlimited } from '../model/memory-limit.ts';

/** The current bounds of a container's share. */
export interface Range {
  readonly floor: bigint;
  readonly ceiling: bigint;
}

/** A running container as the policy sees it. */
export interface Member extends Range {
  readonly name: string;
  /** The memory that it may use now (MemoryHigh=). */
  readonly share: bigint;
  readonly usage: bigint;
  /** The part of its usage that it will not miss soon: what reclaim would take first. */
  readonly cold: bigint;
  /** It has not waited for memory recently, so it does not need the share that it does not use. */
  readonly calm: boolean;
  /** It has not waited for longer still, so it may also give memory that it holds but does not use. */
  readonly idle: boolean;
}

/** The memory that can be handed out. */
export interface Supply {
  /** Upper bound for the sum of all shares when a share grows. */
  readonly budget: bigint;
  /** What the host has left beyond its reserve now; negative if it is short. */
  readonly spare: bigint;
}

/** The lower share of a container that gives, and what to reclaim from it first. */
export interface Gift {
  readonly name: string;
  readonly share: bigint;
  /** Bytes of its usage that must be reclaimed for the new share. */
  readonly reclaim: bigint;
}

/** A smaller change is not worth making. */
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

/** The part of the host's memory that is never handed out. */
export function reserveOf(hostMemory: bigint): bigint {
  return max(hostMemory / 8n, 128n * mebibyte);
}

/** With less free memory the kernel is about to reclaim; this is above the kernel's own reserve. */
export function fullBelow(hostMemory: bigint): bigint {
  return max(hostMemory / 64n, 64n * mebibyte);
}

/** The container's actual limit is the ceiling, whoever set it; without one, the setting is. */
export function rangeWithin(setting: Range, limit: bigint): Range {
  const ceiling = limit === unlimited ? setting.ceiling : limit;
  return { floor: min(setting.floor, ceiling), ceiling };
}

/** What a container keeps above its remaining usage, so that it is not short at once. */
export function marginOf(usage: bigint): bigint {
  return max(usage / 8n, 16n * mebibyte);
}

/** Whether a container uses so much of its share that the share may cause the pressure. */
export function isNear({ usage, share }: Pick<Member, 'usage' | 'share'>): boolean {
  return usage + marginOf(share) >= share;
}

function sumOf(members: readonly Pick<Member, 'share'>[]): bigint {
  return members.reduce((sum, { share }) => sum + share, 0n);
}

/** What can be added to the shares without taking from other containers. */
export function roomFor(members: readonly Pick<Member, 'share'>[], supply: Supply): bigint {
  return max(0n, min(supply.budget - sumOf(members), supply.spare));
}

/**
 * The first share of a container that has just started: what it uses with a margin, or an equal part of
 * the budget as far as there is room, if that is more. It always gets its floor. `running` also counts
 * containers that have no share yet.
 */
export function firstShare(
  newcomer: Range & Pick<Member, 'usage'>,
  others: readonly Pick<Member, 'share'>[],
  supply: Supply,
  running: number,
): bigint {
  const part = supply.budget / BigInt(running);
  // `spare` no longer contains what the container uses already, so add that.
  const room = roomFor(others, { ...supply, spare: supply.spare + newcomer.usage });
  return clamp(max(newcomer.usage + marginOf(newcomer.usage), min(part, room)), newcomer);
}

/**
 * How much more a container gets that has grown `times` times in a row and still has too little. It
 * gets at least half of the unassigned room at once, because taking back an unused share costs
 * nothing.
 */
export function stepOf(share: bigint, times: number, room: bigint): bigint {
  return max(max(share / 8n, 64n * mebibyte) << BigInt(Math.min(times, 2)), room / 2n);
}

/** A step, bounded by the ceiling. */
function wantedBy({ ceiling, share }: Member, step: bigint): bigint {
  return min(max(ceiling - share, 0n), step);
}

/** The share that a container gets in the end, once others have given. */
export function grownShare(
  member: Member,
  step: bigint,
  others: readonly Pick<Member, 'share'>[],
  supply: Supply,
): bigint {
  const wanted = wantedBy(member, step);
  return member.share + min(wanted, roomFor([...others, member], supply));
}

/** What must be freed before a container can grow by a step. */
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

/** Bytes that are missing in the budget (`shares`) and in the host's memory itself (`memory`). */
export interface Shortage {
  readonly shares: bigint;
  readonly memory: bigint;
}

/** A container that gives, with its new share so far. */
interface Donor {
  readonly member: Member;
  reclaim: bigint;
  share: bigint;
}

/** The lowest share that a member can have after that much was reclaimed from it. */
function lowest({ usage, floor }: Member, reclaim: bigint): bigint {
  const left = usage - reclaim;
  return max(floor, left + marginOf(left));
}

/** What can be reclaimed from a member without taking it below its floor. */
function reclaimable({ usage, cold, floor, idle }: Member): bigint {
  return idle ? max(0n, min(cold, usage - floor)) : 0n;
}

/**
 * What others give. Missing memory comes from what they hold but do not use. Missing shares come first
 * from the part of their shares that they have not used, because taking that costs nothing.
 */
export function giftsFor(members: readonly Member[], shortage: Shortage): Gift[] {
  const donors: Donor[] = members
    .filter(({ calm }) => calm)
    .map((member) => ({ member, reclaim: 0n, share: member.share }));
  const byCold = [...donors].sort((a, b) => Number(reclaimable(b.member) - reclaimable(a.member)));
  let { memory, shares } = shortage;
  for (const donor of byCold) {
    const take = min(memory, reclaimable(donor.member));
    // Lower the share as well, so that the reclaimed memory is not used again at once.
    if (take < grain) continue;
    donor.reclaim = take;
    donor.share = min(donor.share, lowest(donor.member, take));
    memory -= take;
    shares -= donor.member.share - donor.share;
  }
  // Do not take shares for memory that could not be found, as a share is useless without it.
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

/** How far the shares exceed the budget, for example after a container has got its floor. */
export function excessOf(members: readonly Pick<Member, 'share'>[], supply: Supply): Shortage {
  return { shares: max(0n, sumOf(members) - supply.budget), memory: 0n };
}

/** The share that fits a changed range, for example after a requested balloon. */
export function fittedShare(member: Member): bigint {
  return clamp(member.share, member);
}

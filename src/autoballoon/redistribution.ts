/**
 * Carries out what the policy decides. A container that needs memory gets what is unassigned and what
 * others can spare: unused shares first, then memory, which is reclaimed before its holder's share goes
 * down. All changes are made in the kernel only; the caller settles them.
 */
import { formatLimit, mebibyte } from '../model/memory-limit.ts';
import type { AutoballoonPorts } from './autoballoon-ports.ts';
import type { UnitFigures } from './kernel-memory.ts';
import type { ManagedContainer } from './managed-container.ts';
import { Backoff } from './managed-container.ts';
import type { Gift, Shortage } from './policy.ts';
import {
  excessOf,
  firstShare,
  fittedShare,
  giftsFor,
  grain,
  grownShare,
  isNear,
  marginOf,
  roomFor,
  shortageFor,
  stepOf,
} from './policy.ts';
import type { Shares } from './shares.ts';
import { changeEveryMs } from './shares.ts';

/** A container that needs still more within this time gets a larger step. */
const inARowMs = 5000;
/** Bounds for reclaiming memory from one container for another. */
const reclaimStep = 16n * mebibyte;
const reclaimMaxMs = 1500;
/** Freed at a time for processes outside the containers; pressure comes again if it is not enough. */
const outsideStep = 64n * mebibyte;
/** Host pressure within this time after a container's is the same pressure. */
const sameMs = 2000;

export class Redistribution {
  readonly #ports: AutoballoonPorts;
  readonly #containers: ReadonlyMap<string, ManagedContainer>;
  readonly #shares: Shares;
  readonly #lookAfter: (ms: number) => void;
  readonly #hostRefused = new Backoff();

  /** `lookAfter(ms)` schedules another look at all containers after that many milliseconds. */
  constructor(
    ports: AutoballoonPorts,
    containers: ReadonlyMap<string, ManagedContainer>,
    shares: Shares,
    lookAfter: (ms: number) => void,
  ) {
    this.#ports = ports;
    this.#containers = containers;
    this.#shares = shares;
    this.#lookAfter = lookAfter;
  }

  /** Gives a container its first share. `running` counts all containers that have a share or get one. */
  async takeOn(container: ManagedContainer, figures: UnitFigures, running: number): Promise<void> {
    const supply = this.#ports.memory.supply();
    const newcomer = { ...this.#shares.rangeOf(container, figures), usage: figures.usage };
    const share = firstShare(newcomer, this.#shares.all(container), supply, running);
    await this.#shares.set(container, share, 'started');
  }

  /** Takes back what exceeds the budget after first shares were given. */
  async takeExcess(): Promise<void> {
    await this.#collect(excessOf(this.#shares.all(), this.#ports.memory.supply()), 'started');
  }

  /** Brings a share into a range that has changed. */
  async fit(container: ManagedContainer, figures: UnitFigures): Promise<void> {
    if (container.share === undefined) return;
    const share = fittedShare(this.#shares.memberOf(container, figures, container.share));
    if (share === container.share) return;
    const waitMs = container.changedAtMs + changeEveryMs - this.#ports.nowMs();
    if (waitMs > 0) this.#lookAfter(waitMs);
    else await this.#shares.set(container, share, 'limit changed');
  }

  /** Gives more memory to a container that waits for it, if there is any. */
  async grow(container: ManagedContainer): Promise<void> {
    const { memory, nowMs } = this.#ports;
    const now = nowMs();
    // The trigger fires again while the need lasts.
    if (now - container.changedAtMs < changeEveryMs || !container.refused.isOver(now)) return;
    const figures = this.#shares.figuresOf(container);
    if (figures === undefined || container.share === undefined) return;
    const member = this.#shares.memberOf(container, figures, container.share);
    // It waits for memory, but a larger share would not help or is not allowed.
    if (!isNear(member) || member.share >= member.ceiling) return;
    const times = now - container.grownAtMs < inARowMs ? container.growths + 1 : 0;
    const step = stepOf(member.share, times, roomFor(this.#shares.all(), memory.supply()));
    const others = (): { readonly share: bigint }[] => this.#shares.all(container);
    const shortage = shortageFor(member, step, others(), memory.supply());
    await this.#collect(shortage, `needed by ${container.name}`, container);
    const share = grownShare(member, step, others(), memory.supply());
    if (share - member.share < grain && share < member.ceiling) {
      if (container.refused.fail(now)) this.#reportNothingLeft(container, member.share);
      return;
    }
    container.refused.reset();
    await this.#shares.set(container, share, 'memory pressure');
    container.grownAtMs = nowMs();
    container.growths = times;
  }

  #reportNothingLeft(container: ManagedContainer, share: bigint): void {
    const text = `gets no more than ${formatLimit(share)}: nobody has any left`;
    this.#shares.report(container, 5, text, {
      BEFORE: share.toString(),
      AFTER: share.toString(),
      REASON: 'nothing left',
    });
  }

  /** Reclaims idle memory from containers when the host is short of memory. */
  async relieve(): Promise<void> {
    const { memory, nowMs } = this.#ports;
    const now = nowMs();
    const { spare } = memory.supply();
    // A process that waits in a container that has used up its share also counts as host pressure.
    const isOfContainer = [...this.#containers.values()].some(
      ({ pressedAtMs }) => now - pressedAtMs < sameMs,
    );
    // A process that has reached a limit of its own waits even if the host has free memory.
    const outside = isOfContainer || !memory.isFull() ? 0n : outsideStep;
    const short = -spare > outside ? -spare : outside;
    if (short === 0n || !this.#hostRefused.isOver(now)) return;
    const given = await this.#collect({ shares: 0n, memory: short }, 'host is short');
    if (given) this.#hostRefused.reset();
    else this.#hostRefused.fail(nowMs());
  }

  /** Returns whether any container gave anything. */
  async #collect(shortage: Shortage, reason: string, except?: ManagedContainer): Promise<boolean> {
    if (shortage.shares <= 0n && shortage.memory <= 0n) return false;
    let given = false;
    for (const gift of giftsFor(this.#shares.members(except), shortage)) {
      const donor = this.#containers.get(gift.name);
      if (donor !== undefined && (await this.#take(donor, gift, reason))) given = true;
    }
    return given;
  }

  /** Returns whether the donor gave anything. */
  async #take(donor: ManagedContainer, gift: Gift, reason: string): Promise<boolean> {
    await this.#reclaim(donor, gift.reclaim);
    const figures = this.#shares.figuresOf(donor);
    if (figures === undefined || donor.share === undefined) return false;
    const needed = figures.usage + marginOf(figures.usage);
    // Less was reclaimed than planned, so the donor keeps more.
    const share = needed > gift.share && gift.reclaim > 0n ? needed : gift.share;
    if (donor.share - share < grain) {
      donor.pressedAtMs = this.#ports.nowMs();
      return false;
    }
    await this.#shares.set(donor, share, reason);
    return true;
  }

  /** Reclaims that many bytes in steps; a donor that comes under pressure keeps the rest. */
  async #reclaim(donor: ManagedContainer, bytes: bigint): Promise<void> {
    const { memory, nowMs } = this.#ports;
    const usage = (): bigint => memory.unit(donor.controlGroup)?.usage ?? 0n;
    if (bytes === 0n) return;
    const begunMs = nowMs();
    const goal = usage() - bytes;
    for (;;) {
      const excess = usage() - goal;
      const isOver = nowMs() - begunMs > reclaimMaxMs || donor.pressedAtMs >= begunMs;
      if (excess <= 0n || isOver) return;
      const step = excess < reclaimStep ? excess : reclaimStep;
      if (!(await memory.reclaim(donor.controlGroup, step))) return;
    }
  }
}

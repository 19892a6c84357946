/**
 * The shares of containers, which are MemoryHigh= of their units. A share changes in two steps: set()
 * writes it to the kernel at once, because a process waits for the memory, and settle() tells systemd
 * and the journal afterwards.
 *
 * A container is left alone while a requested balloon is under way, and as long as somebody else has
 * set MemoryHigh= of its unit.
 */
import { isGone } from '../cgroup/control-files.ts';
import { messageIds } from '../core/message-ids.ts';
import { formatLimit, unlimited, wholePages } from '../model/memory-limit.ts';
import type { AutoballoonPorts } from './autoballoon-ports.ts';
import type { UnitFigures } from './kernel-memory.ts';
import type { ManagedContainer } from './managed-container.ts';
import type { Member, Range } from './policy.ts';
import { rangeWithin } from './policy.ts';

/** Minimum time between changes of one container's share. */
export const changeEveryMs = 1000;
/** A container that waited for memory within this time gives nothing, not even an unused share. */
const calmAfterMs = 3000;
/** A container that waited for memory within this time gives no memory that it holds. */
const idleAfterMs = 10_000;
const balloonRetryMs = 5000;

/** A change that the kernel knows and systemd does not yet. */
interface Change {
  readonly container: ManagedContainer;
  readonly before: bigint;
  readonly after: bigint;
  readonly reason: string;
}

export class Shares {
  readonly #ports: AutoballoonPorts;
  readonly #containers: ReadonlyMap<string, ManagedContainer>;
  readonly #lookAfter: (ms: number) => void;
  readonly #unsettled: Change[] = [];

  /** `lookAfter(ms)` schedules another look at all containers after that many milliseconds. */
  constructor(
    ports: AutoballoonPorts,
    containers: ReadonlyMap<string, ManagedContainer>,
    lookAfter: (ms: number) => void,
  ) {
    this.#ports = ports;
    this.#containers = containers;
    this.#lookAfter = lookAfter;
  }

  /** The figures of a container; undefined for one that must not be touched now. */
  figuresOf(container: ManagedContainer): UnitFigures | undefined {
    if (container.controlGroup === '' || container.isBlind) return undefined;
    const isForeign = this.#ports.high.isForeign(container.unit);
    if (isForeign && !container.isForeign) {
      const text = 'is left alone: MemoryHigh= of its unit was set by somebody else';
      this.report(container, 4, text);
    }
    container.isForeign = isForeign;
    if (isForeign) {
      container.share = undefined;
      return undefined;
    }
    if (this.#ports.memory.isBallooning(container.unit)) {
      this.#lookAfter(balloonRetryMs);
      return undefined;
    }
    return this.#ports.memory.unit(container.controlGroup);
  }

  rangeOf(container: ManagedContainer, { limit }: UnitFigures): Range {
    const { memoryMax = unlimited } = container.status ?? {};
    return rangeWithin(container.setting, memoryMax < limit ? memoryMax : limit);
  }

  /** The shares of all containers that have one, except `except`. */
  all(except?: ManagedContainer): { readonly share: bigint }[] {
    return [...this.#containers.values()].flatMap((container) =>
      container === except || container.share === undefined ? [] : [{ share: container.share }],
    );
  }

  /** A container with a share as the policy sees it. */
  memberOf(container: ManagedContainer, figures: UnitFigures, share: bigint): Member {
    const now = this.#ports.nowMs();
    const calmMs = now - Math.max(container.pressedAtMs, container.grownAtMs);
    return {
      name: container.name,
      ...this.rangeOf(container, figures),
      share,
      usage: figures.usage,
      cold: figures.cold,
      calm: calmMs >= calmAfterMs && now - container.changedAtMs >= changeEveryMs,
      idle: calmMs >= idleAfterMs,
    };
  }

  /** All containers with shares that may be touched now, except `except`. */
  members(except?: ManagedContainer): Member[] {
    return [...this.#containers.values()].flatMap((container) => {
      const { share } = container;
      if (container === except || share === undefined) return [];
      const figures = this.figuresOf(container);
      return figures === undefined ? [] : [this.memberOf(container, figures, share)];
    });
  }

  /** Sets a container's share in the kernel; does nothing if its control group has gone. */
  async set(container: ManagedContainer, share: bigint, reason: string): Promise<void> {
    const { high, nowMs } = this.#ports;
    const before = container.share;
    const after = wholePages(share);
    // A unit that is stopping takes no new share.
    if (container.controlGroup === '') return;
    try {
      await high.apply(container.unit, container.controlGroup, after);
    } catch (error) {
      if (isGone(error)) return;
      throw error;
    }
    container.share = after;
    container.changedAtMs = nowMs();
    this.#unsettled.push({ container, before: before ?? unlimited, after, reason });
  }

  /** Reports all that set() has done to systemd and the journal. */
  async settle(): Promise<void> {
    for (const { container, before, after, reason } of this.#unsettled.splice(0)) {
      const { high } = this.#ports;
      const isRunning = container.controlGroup !== '';
      // Only the last of several changes counts, and none if somebody else has set the limit.
      if (container.share === after && isRunning && !high.isForeign(container.unit)) {
        await high.settle(container.unit, after);
      }
      const from = before === unlimited ? '' : `${formatLimit(before)} -> `;
      this.report(container, 6, `may use ${from}${formatLimit(after)}: ${reason}`, {
        BEFORE: before.toString(),
        AFTER: after.toString(),
        REASON: reason,
      });
    }
  }

  /** Writes to the journal; priorities are those of syslog(3). */
  report(
    container: ManagedContainer,
    priority: number,
    text: string,
    fields: Readonly<Record<string, string>> = {},
  ): void {
    this.#ports.journal.write({
      messageId: messageIds.autoballoon,
      priority,
      message: `container "${container.name}" ${text}`,
      fields: { CONTAINER: container.name, ...fields },
    });
  }
}

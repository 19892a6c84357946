/**
 * The shares that containers have, which are MemoryHigh= of their units. A share is changed in two
 * steps: set() writes it to the kernel at once, because somebody waits for the memory, and settle()
 * tells systemd and the journal when nobody waits any more.
 *
 * A container is left alone while a balloon that somebody asked for is under way, and as long as
 * MemoryHigh= of its unit is somebody else's.
 */
import { isGone } from '../cgroup/control-files.ts';
import { messageIds } from '../core/message-ids.ts';
import { formatLimit, unlimited, wholePages } from '../model/memory-limit.ts';
import type { AutoballoonPorts } from './autoballoon-ports.ts';
import type { UnitFigures } from './kernel-memory.ts';
import type { ManagedContainer } from './managed-container.ts';
import type { Member, Range } from './policy.ts';
import { rangeWithin } from './policy.ts';

/** No container's share is changed more often. */
export const changeEveryMs = 1000;
/** Who has waited for memory in this time is asked for none, not even for what it does not use. */
const calmAfterMs = 3000;
/** Who has in this time is asked for nothing that it holds. */
const idleAfterMs = 10_000;
const balloonRetryMs = 5000;

/** What the kernel knows and systemd does not yet. */
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

  /** `lookAfter` has all containers looked at again after so many milliseconds. */
  constructor(
    ports: AutoballoonPorts,
    containers: ReadonlyMap<string, ManagedContainer>,
    lookAfter: (ms: number) => void,
  ) {
    this.#ports = ports;
    this.#containers = containers;
    this.#lookAfter = lookAfter;
  }

  /** What a container has now; undefined for one that is not to be touched at this moment. */
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

  /** The shares of all containers that have one, but for `except`. */
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

  /** All containers with shares that may be touched now, but for `except`. */
  members(except?: ManagedContainer): Member[] {
    return [...this.#containers.values()].flatMap((container) => {
      const { share } = container;
      if (container === except || share === undefined) return [];
      const figures = this.figuresOf(container);
      return figures === undefined ? [] : [this.memberOf(container, figures, share)];
    });
  }

  /** Gives a container a share in the kernel. */
  async set(container: ManagedContainer, share: bigint, reason: string): Promise<void> {
    const { high, nowMs } = this.#ports;
    const before = container.share;
    const after = wholePages(share);
    // A unit that is just stopping takes nothing any more.
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

  /** Tells systemd and the journal of all that set() has done. */
  async settle(): Promise<void> {
    for (const { container, before, after, reason } of this.#unsettled.splice(0)) {
      const { high } = this.#ports;
      const isRunning = container.controlGroup !== '';
      // Of more than one change the last one counts, unless somebody else's does.
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

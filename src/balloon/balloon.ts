/**
 * src/balloon changes the memory limit of one running container without killing anything in it, and
 * undoes what an interrupted change has left. It decides how to make a change. The service decides
 * whether to make it, and src/cgroup writes the control groups.
 */

import { LockerdError } from '../model/errors.ts';
import { codeOf } from '../model/errno.ts';
import { shellWord } from '../model/shell-quote.ts';
import { containerUnit } from '../model/unit-name.ts';
import { isGone } from '../cgroup/control-files.ts';
import { findGuestMemory, lacksMemory } from '../cgroup/find-group.ts';
import type { GuestMemory, Probe, Undo } from '../cgroup/guest-memory.ts';
import { controlGroups } from '../cgroup/hierarchy.ts';
import { readHostMemory } from '../cgroup/host-memory.ts';
import { memoryLimits, restoreSnapshot, setLastingLimits, takeSnapshot } from './lasting.ts';
import {
  exactLimit,
  formatLimit,
  minimumLimit,
  unlimited,
  wholePages,
} from '../model/memory-limit.ts';
import type { Phase } from './shrink.ts';
import { Shrink, ShrinkRefused } from './shrink.ts';
import { swapLeft } from './lowest.ts';
import { recordUndo, undo, withBalloonLock } from './balloon-state.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import type { Limits, UnitMemory } from './unit-memory.ts';
import { readUnitMemory } from './unit-memory.ts';

export interface BalloonRequest {
  readonly container: string;
  /** Bytes; 2^64-1 for no limit. */
  readonly limit: bigint;
  /** Bytes of swap in addition to `limit`; undefined leaves swap as it is. */
  readonly swap?: bigint | undefined;
  /** Set the limit at once and let the kernel reclaim, which may kill. */
  readonly force: boolean;
  /** Keep the limit beyond the container's stop. */
  readonly persist: boolean;
  /** systemd has these limits already; only the kernel is to have them as well. */
  readonly isKnown?: boolean;
}

export interface BalloonResult {
  /** Memory limit before, then the current limits of memory and swap, in bytes; 2^64-1 for none. */
  readonly before: bigint;
  readonly limit: bigint;
  readonly swap: bigint;
  readonly warnings: readonly string[];
  /** Microseconds in which the whole guest stalled on memory; absent if the kernel does not count. */
  readonly stallUsec?: number;
  /** Bytes that were reclaimed from the guest. */
  readonly reclaimed: bigint;
}

export interface BalloonContext {
  readonly systemd: SystemdManager;
  readonly report: (phase: Phase, fraction: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Changes the memory limit of a container. A higher limit is set at once. For a lower one, the balloon
 * first reclaims memory, then watches whether the guest can live with the rest, and only then sets the
 * limit; if that fails, everything stays as it was. Throws LockerdErrors: InvalidArgs, NotRunning,
 * JobConflict, Cancelled, Failed, and LimitBelowUsage with the `lowest` limit that would have worked
 * and the guest's `stallUsec`.
 */
export async function balloon(
  request: BalloonRequest,
  context: BalloonContext,
): Promise<BalloonResult> {
  const { container } = request;
  const unit = containerUnit(container);
  const limit = checkedLimit(request);
  return withBalloonLock(container, unit, async () => {
    // A killed helper may have left changes, and under the lock nobody else works on them.
    await undo(unit, context.systemd);
    const before = await readUnitMemory(context.systemd, unit);
    const wanted = { ...request, limit };
    if (['inactive', 'failed'].includes(before.activeState)) {
      return setForNextStart(wanted, unit, before, context);
    }
    if (before.activeState !== 'active') {
      throw new LockerdError(
        'JobConflict',
        `container "${container}" is ${before.activeState}; try again when that has ended`,
      );
    }
    const memory = findMemory(container, unit, before);
    return new Balloon(wanted, unit, before, memory, context).run();
  });
}

/**
 * Gives the kernel the limits of a running container's unit, which systemd has changed without doing so.
 * A lower one is reached like that of a balloon. Throws LockerdErrors: NotRunning, LimitBelowUsage, and
 * JobConflict while a balloon is under way.
 */
export async function applyLimits(container: string, context: BalloonContext): Promise<void> {
  const unit = containerUnit(container);
  await withBalloonLock(container, unit, async () => {
    await undo(unit, context.systemd);
    const now = await readUnitMemory(context.systemd, unit);
    if (now.activeState !== 'active') throw notRunning(container);
    const memory = findMemory(container, unit, now);
    const known = {
      container,
      limit: wholePages(now.memoryMax),
      // cgroup v1 limits only the sum of memory and swap, which stays as it is.
      swap:
        memory.version === 2 && memory.swapLimit() !== undefined ? now.memorySwapMax : undefined,
      force: false,
      persist: false,
      isKnown: true,
    };
    await new Balloon(known, unit, now, memory, context).run();
  });
}

function findMemory(container: string, unit: string, { controlGroup }: UnitMemory): GuestMemory {
  if (controlGroup !== '' && lacksMemory(controlGroup)) {
    throw new LockerdError(
      'Failed',
      `the control group of container "${container}" has no memory controller, so that no limit of ` +
        'memory holds; boot the host without cgroup_disable=memory, and see that no slice has ' +
        'DisableControllers=memory',
    );
  }
  const memory = findGuestMemory(controlGroup);
  if (memory !== undefined) return memory;
  throw new LockerdError(
    'NotRunning',
    `the guest of container "${container}" is not in the control group of its unit ${unit}, where ` +
      `a limit would hold, because it runs since before lockerd was installed, or stops just now; ` +
      `put it there with: systemctl restart ${shellWord(unit)}`,
  );
}

function notRunning(container: string): LockerdError {
  return new LockerdError(
    'NotRunning',
    `container "${container}" is not running; a limit for its next start needs "persist"`,
  );
}

function checkedLimit({ container, limit, swap }: BalloonRequest): bigint {
  if (limit < minimumLimit) {
    throw new LockerdError(
      'InvalidArgs',
      `${formatLimit(limit)} is too little for container "${container}"; ask for ${formatLimit(minimumLimit)} or more`,
    );
  }
  if (limit > unlimited || (swap !== undefined && (swap < 0n || swap > unlimited))) {
    throw new LockerdError('InvalidArgs', 'a limit has at most 64 bits');
  }
  return wholePages(limit);
}

function limitsOf(request: BalloonRequest): Limits {
  return {
    MemoryMax: request.limit,
    ...(request.swap === undefined ? {} : { MemorySwapMax: wholePages(request.swap) }),
  };
}

function noSwapAccounting(): LockerdError {
  return new LockerdError(
    'Failed',
    'the kernel does not account for swap, so it cannot be limited; boot with swapaccount=1',
  );
}

function warningsFor(
  { limit, swap = unlimited }: BalloonRequest,
  version: 1 | 2,
  swapIsAccounted: boolean,
): string[] {
  const host = readHostMemory();
  const isAbove = limit !== unlimited && limit > host.total;
  return [
    ...(isAbove ? [`the limit is above the host's memory, ${formatLimit(host.total)}`] : []),
    ...(swapIsAccounted || host.swapFree === 0n
      ? []
      : ['the kernel does not account for swap, which the limit does not bound']),
    ...(version === 1 && swap !== unlimited && limit === unlimited
      ? ['without a limit of memory, cgroup v1 does not limit swap either']
      : []),
  ];
}

async function setForNextStart(
  request: BalloonRequest,
  unit: string,
  before: UnitMemory,
  { systemd, report }: BalloonContext,
): Promise<BalloonResult> {
  if (!request.persist) throw notRunning(request.container);
  const { version, swapIsAccounted } = controlGroups();
  if (request.swap !== undefined && !swapIsAccounted) throw noSwapAccounting();
  report('setting', 0);
  await setLastingLimits(systemd, unit, memoryLimits(limitsOf(request)), true);
  const after = await readUnitMemory(systemd, unit);
  return {
    before: before.memoryMax,
    limit: after.memoryMax,
    swap: after.memorySwapMax,
    warnings: warningsFor(request, version, swapIsAccounted),
    reclaimed: 0n,
  };
}

function isNotLimit({ value }: Undo): boolean {
  return value !== 'MemoryMax';
}

/** One change of the limit of a running container. */
class Balloon {
  readonly #request: BalloonRequest;
  readonly #unit: string;
  readonly #before: UnitMemory;
  readonly #memory: GuestMemory;
  readonly #context: BalloonContext;
  #heldUpUsec = 0;

  constructor(
    request: BalloonRequest,
    unit: string,
    before: UnitMemory,
    memory: GuestMemory,
    context: BalloonContext,
  ) {
    this.#request = request;
    this.#unit = unit;
    this.#before = before;
    this.#memory = memory;
    this.#context = context;
  }

  async run(): Promise<BalloonResult> {
    const { container, limit, swap, force } = this.#request;
    const start = this.#memory.probe();
    try {
      const swapIsAccounted = this.#memory.swapLimit() !== undefined;
      if (swap !== undefined && !swapIsAccounted) throw noSwapAccounting();
      const kernelLimit = this.#memory.unitLimit();
      if (limit >= kernelLimit) await this.#set();
      else if (force) await this.#force();
      else await this.#shrink();
      const end = this.#memory.probe();
      const after = await readUnitMemory(this.#context.systemd, this.#unit);
      return {
        before: this.#before.memoryMax,
        limit: this.#memory.unitLimit(),
        swap: after.memorySwapMax,
        warnings: warningsFor(this.#request, this.#memory.version, swapIsAccounted),
        ...this.#stall(start),
        reclaimed: start.usage > end.usage ? start.usage - end.usage : 0n,
      };
    } catch (error) {
      if (error instanceof ShrinkRefused) throw this.#refusal(error, this.#stall(start).stallUsec);
      if (isGone(error)) {
        throw new LockerdError(
          'NotRunning',
          `container "${container}" stopped or rebooted meanwhile`,
          {
            cause: error,
          },
        );
      }
      throw error;
    }
  }

  /** How long the guest has stalled since the given probe, in microseconds. */
  #stall(start: Probe): { stallUsec?: number } {
    const { stallUsec } = this.#memory.probe();
    if (stallUsec === undefined || start.stallUsec === undefined) return {};
    return { stallUsec: stallUsec - start.stallUsec + this.#heldUpUsec };
  }

  #refusal({ message, lowest }: ShrinkRefused, stallUsec: number | undefined): LockerdError {
    const { container, limit } = this.#request;
    const known = lowest < this.#memory.unitLimit() ? lowest : this.#memory.unitLimit();
    const stall =
      stallUsec === undefined || stallUsec < 1000
        ? ''
        : `; to try it made the guest stand still for ${Math.round(stallUsec / 1000)} ms`;
    return new LockerdError(
      'LimitBelowUsage',
      `container "${container}" cannot live with ${formatLimit(limit)}: ${message}; ` +
        `the lowest limit that would have worked is ${exactLimit(known)}${stall}`,
      {
        details: {
          // As in requests: bytes, or `max` for no limit.
          lowest: known === unlimited ? 'max' : known.toString(),
          ...(stallUsec === undefined ? {} : { stallUsec }),
        },
      },
    );
  }

  /** Sets the limits in systemd and the kernel, or restores both if that fails. */
  async #set(): Promise<void> {
    const { limit, persist } = this.#request;
    const { systemd } = this.#context;
    const memory = this.#memory;
    this.#context.report('setting', 0);
    const limits = limitsOf(this.#request);
    const snapshot = takeSnapshot(this.#unit, Object.keys(limits));
    const old = { memory: memory.unitLimit(), swap: memory.swapLimit() ?? unlimited };
    const wanted = { memory: limit, swap: limits.MemorySwapMax ?? old.swap };
    const tellSystemd =
      this.#request.isKnown === true
        ? undefined
        : () => setLastingLimits(systemd, this.#unit, memoryLimits(limits), persist);
    try {
      await memory.setLimits(wanted, tellSystemd);
      if (memory.guestLimit() < limit) await memory.clearGuestLimit();
      this.#verify();
    } catch (error) {
      await memory.setLimits(old, tellSystemd && (() => restoreSnapshot(systemd, snapshot)));
      if (codeOf(error) === 'EBUSY') {
        throw new ShrinkRefused(
          `it has ${formatLimit(memory.swapUsed())} in swap`,
          limit + memory.swapUsed(),
        );
      }
      throw error;
    }
  }

  #verify(): void {
    const now = this.#memory.unitLimit();
    if (now !== this.#request.limit) {
      throw new LockerdError(
        'Failed',
        `container "${this.#request.container}": the kernel has a limit of ${formatLimit(now)}, not ${formatLimit(this.#request.limit)}`,
      );
    }
  }

  async #force(): Promise<void> {
    this.#context.report('setting', 0);
    recordUndo(this.#unit, [this.#memory.undoUnitLimit()]);
    try {
      // The helper waits for the kernel here, because a waiting systemd would answer nobody.
      await this.#memory.setLimits({ memory: this.#request.limit });
      await this.#set();
    } catch (error) {
      if (codeOf(error) !== 'EBUSY') throw error;
      throw new ShrinkRefused(
        'this kernel does not take it even by force',
        this.#memory.unitUsage(),
      );
    } finally {
      await undo(this.#unit, this.#context.systemd);
    }
  }

  async #shrink(): Promise<void> {
    const memory = this.#memory;
    const shrink = new Shrink(memory, {
      container: this.#request.container,
      target: this.#request.limit,
      swapLeft: swapLeft(memory, this.#request.swap),
      signal: this.#context.signal,
      report: this.#context.report,
    });
    shrink.check();
    if (shrink.isHarmless) {
      await this.#set();
      return;
    }
    const changes = memory.undo();
    recordUndo(this.#unit, changes);
    const release = (): Promise<void> => undo(this.#unit, this.#context.systemd);
    shrink.release = release;
    try {
      await shrink.try();
      const note = (more: readonly Undo[]): void => {
        // A limit that systemd has already is not taken back.
        const own = this.#request.isKnown === true ? more.filter(isNotLimit) : more;
        recordUndo(this.#unit, [...own, ...changes]);
      };
      if (!(await memory.seal(this.#request.limit, note))) throw await shrink.outgrown();
      await this.#set();
    } finally {
      await release();
      this.#heldUpUsec = shrink.heldUpMs * 1000;
    }
  }
}

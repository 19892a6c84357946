import { CoreError } from '../core/errors.ts';
import { codeOf } from '../generator/errno.ts';
import { containerUnit } from '../model/unit-name.ts';
import type { GuestMemory } from './cgroup.ts';
import { findGuestMemory, memoryOfHost } from './cgroup.ts';
import { LimitBelowUsage } from './errors.ts';
import { restoreSnapshot, setLastingLimits, takeSnapshot } from './lasting.ts';
import { formatLimit, minimumLimit, unlimited, wholePages } from './limits.ts';
import type { Phase } from './shrink.ts';
import { Shrink, ShrinkRefused } from './shrink.ts';
import { recordUndo, undo, withBalloonLock } from './state.ts';
import type { Limits, Systemd, UnitMemory } from './systemd.ts';

export interface BalloonRequest {
  readonly container: string;
  /** Bytes; 2^64-1 for no limit. */
  readonly limit: bigint;
  /** Bytes of swap beside it; undefined leaves swap as it is. */
  readonly swap?: bigint | undefined;
  /** Set the limit as the kernel does, which may kill. */
  readonly force: boolean;
  /** Keep the limit beyond the container's stop. */
  readonly persist: boolean;
}

export interface BalloonResult {
  /** Limits before and now, in bytes; 2^64-1 for none. */
  readonly before: bigint;
  readonly limit: bigint;
  readonly swap: bigint;
  readonly warnings: readonly string[];
  /** How long all of the guest stood still for want of memory; absent where nobody counts it. */
  readonly stallUsec?: number;
  /** Bytes that were taken back from the guest. */
  readonly reclaimed: bigint;
}

export interface BalloonContext {
  readonly systemd: Systemd;
  readonly report: (phase: Phase, fraction: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Changes the memory limit of a container. Growing is done at once. Shrinking takes memory back
 * first, watches the guest live with what is left, and sets the limit only then; where that fails,
 * all is as it was. Throws CoreErrors: invalidArgs, notRunning, jobConflict, cancelled, and
 * LimitBelowUsage with the lowest limit that would have worked.
 */
export async function balloon(
  request: BalloonRequest,
  context: BalloonContext,
): Promise<BalloonResult> {
  const { container } = request;
  const unit = containerUnit(container);
  const limit = checkedLimit(request);
  return withBalloonLock(container, unit, async () => {
    // A helper that was killed may have left something; nobody else works on it now.
    await undo(unit);
    const before = await context.systemd.unit(unit);
    const wanted = { ...request, limit };
    if (['inactive', 'failed'].includes(before.activeState)) {
      return setForNextStart(wanted, unit, before, context);
    }
    if (before.activeState !== 'active') {
      throw new CoreError(
        'jobConflict',
        `container "${container}" is ${before.activeState}; try again when that has ended`,
      );
    }
    const memory = findGuestMemory(before.controlGroup);
    if (memory === undefined) throw notRunning(container);
    return new Balloon(wanted, unit, before, memory, context).run();
  });
}

function notRunning(container: string): CoreError {
  return new CoreError(
    'notRunning',
    `container "${container}" is not running; a limit for its next start needs "persist"`,
  );
}

function checkedLimit({ container, limit, swap }: BalloonRequest): bigint {
  if (limit < minimumLimit) {
    throw new CoreError(
      'invalidArgs',
      `${formatLimit(limit)} is too little for container "${container}"; ask for ${formatLimit(minimumLimit)} or more`,
    );
  }
  if (limit > unlimited || (swap !== undefined && (swap < 0n || swap > unlimited))) {
    throw new CoreError('invalidArgs', 'a limit has at most 64 bits');
  }
  return wholePages(limit);
}

function limitsOf(request: BalloonRequest): Limits {
  return {
    MemoryMax: request.limit,
    ...(request.swap === undefined ? {} : { MemorySwapMax: wholePages(request.swap) }),
  };
}

function warningsFor(limit: bigint): string[] {
  const host = memoryOfHost();
  if (limit === unlimited || limit <= host) return [];
  return [`the limit is above the host's memory, ${formatLimit(host)}`];
}

async function setForNextStart(
  request: BalloonRequest,
  unit: string,
  before: UnitMemory,
  { systemd, report }: BalloonContext,
): Promise<BalloonResult> {
  if (!request.persist) throw notRunning(request.container);
  report('setting', 0);
  await setLastingLimits(systemd, unit, limitsOf(request), true);
  const after = await systemd.unit(unit);
  return {
    before: before.memoryMax,
    limit: after.memoryMax,
    swap: after.memorySwapMax,
    warnings: warningsFor(request.limit),
    reclaimed: 0n,
  };
}

/** Reads of a group that has gone. */
const goneCodes = ['ENOENT', 'ENODEV'];

/** The change of one running container. */
class Balloon {
  readonly #request: BalloonRequest;
  readonly #unit: string;
  readonly #before: UnitMemory;
  readonly #memory: GuestMemory;
  readonly #context: BalloonContext;

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
    const { container, limit, force } = this.#request;
    try {
      const start = this.#memory.probe();
      const kernelLimit = this.#memory.unitLimit();
      if (limit >= kernelLimit) await this.#set();
      else if (force) await this.#force();
      else await this.#shrink();
      const end = this.#memory.probe();
      const after = await this.#context.systemd.unit(this.#unit);
      const { stallUsec } = end;
      return {
        before: this.#before.memoryMax,
        limit: this.#memory.unitLimit(),
        swap: after.memorySwapMax,
        warnings: warningsFor(limit),
        ...(stallUsec === undefined || start.stallUsec === undefined
          ? {}
          : { stallUsec: stallUsec - start.stallUsec }),
        reclaimed: start.usage > end.usage ? start.usage - end.usage : 0n,
      };
    } catch (error) {
      if (error instanceof ShrinkRefused) throw this.#refusal(error);
      if (goneCodes.includes(codeOf(error) ?? '')) {
        throw new CoreError(
          'notRunning',
          `container "${container}" stopped or rebooted meanwhile`,
          {
            cause: error,
          },
        );
      }
      throw error;
    }
  }

  #refusal({ message, lowest }: ShrinkRefused): LimitBelowUsage {
    const { container, limit } = this.#request;
    const known = lowest < this.#memory.unitLimit() ? lowest : this.#memory.unitLimit();
    return new LimitBelowUsage(
      `container "${container}" cannot live with ${formatLimit(limit)}: ${message}; ` +
        `the lowest limit that would have worked is ${formatLimit(known)}`,
      known,
    );
  }

  async #set(): Promise<void> {
    const { limit, persist } = this.#request;
    this.#context.report('setting', 0);
    await setLastingLimits(this.#context.systemd, this.#unit, limitsOf(this.#request), persist);
    if (this.#memory.guestLimit() < limit) await this.#memory.clearGuestLimit();
    this.#verify();
  }

  #verify(): void {
    const now = this.#memory.unitLimit();
    if (now !== this.#request.limit) {
      throw new CoreError(
        'failed',
        `container "${this.#request.container}": the kernel has a limit of ${formatLimit(now)}, not ${formatLimit(this.#request.limit)}`,
      );
    }
  }

  async #force(): Promise<void> {
    this.#context.report('setting', 0);
    // The helper waits for the kernel here, so that systemd need not: it would answer nobody.
    try {
      await this.#memory.setUnitLimit(this.#request.limit);
    } catch (error) {
      if (codeOf(error) !== 'EBUSY') throw error;
      throw new ShrinkRefused(
        'this kernel does not take it even by force',
        this.#memory.unitUsage(),
      );
    }
    await this.#set();
  }

  async #shrink(): Promise<void> {
    const memory = this.#memory;
    const shrink = new Shrink(memory, {
      container: this.#request.container,
      target: this.#request.limit,
      swapLeft: undefined,
      signal: this.#context.signal,
      report: this.#context.report,
    });
    shrink.check();
    if (shrink.isHarmless) {
      await this.#set();
      return;
    }
    recordUndo(this.#unit, memory.undo());
    shrink.release = () => undo(this.#unit);
    try {
      await shrink.try();
      await this.#commit();
    } finally {
      await undo(this.#unit);
    }
  }

  async #commit(): Promise<void> {
    const { systemd } = this.#context;
    const snapshot = takeSnapshot(this.#unit, Object.keys(limitsOf(this.#request)));
    try {
      await this.#memory.still(() => this.#set());
    } catch (error) {
      await restoreSnapshot(systemd, snapshot);
      throw error;
    }
  }
}

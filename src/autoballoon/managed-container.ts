import type { UnitStatus, Unwatch } from '../core/ports.ts';
import type { Range } from './policy.ts';

/** A refused request is repeated after this time, then after twice this time, and so on. */
const refusedMs = 1000;
const refusedMaxMs = 10_000;

/** A container's settings, as far as this program needs them. */
export interface Setting {
  readonly name: string;
  readonly unit: string;
  /** Undefined for a container whose memory is not moved. */
  readonly autoballoon: Range | undefined;
}

/** Makes repeated attempts rarer while they fail. */
export class Backoff {
  #untilMs = -Infinity;
  #ms = refusedMs;

  isOver(nowMs: number): boolean {
    return nowMs >= this.#untilMs;
  }

  /** Returns whether this is the first failure in a row. */
  fail(nowMs: number): boolean {
    const isFirst = this.#ms === refusedMs;
    this.#untilMs = nowMs + this.#ms;
    this.#ms = Math.min(this.#ms * 2, refusedMaxMs);
    return isFirst;
  }

  reset(): void {
    this.#untilMs = -Infinity;
    this.#ms = refusedMs;
  }
}

/** A container that has the setting, with all that is known about it. Times are those of `nowMs()`. */
export class ManagedContainer {
  readonly name: string;
  readonly unit: string;
  setting: Range;
  status: UnitStatus | undefined;
  unwatch: Promise<Unwatch> | undefined;
  /** The run of the unit whose pressure is watched; empty for none. */
  run = '';
  unwatchPressure: (() => void) | undefined;
  /** Its pressure cannot be watched, so its need for memory would go unnoticed. */
  isBlind = false;
  /** The MemoryHigh= that we have set, in bytes; undefined for a container that is left alone. */
  share: bigint | undefined;
  /** Somebody else has set MemoryHigh= of its unit. */
  isForeign = false;
  pressedAtMs = -Infinity;
  changedAtMs = -Infinity;
  grownAtMs = -Infinity;
  /** How many times in a row it has grown. */
  growths = 0;
  readonly refused = new Backoff();

  constructor({ name, unit }: Setting, setting: Range) {
    this.name = name;
    this.unit = unit;
    this.setting = setting;
  }

  /** Empty while the container does not run. */
  get controlGroup(): string {
    return this.status?.activeState === 'active' ? this.status.controlGroup : '';
  }
}

import type { UnitStatus, Unwatch } from '../core/ports.ts';
import type { Range } from './policy.ts';

/** What was refused is asked for again after this time, then after twice of it, ... */
const refusedMs = 1000;
const refusedMaxMs = 10_000;

/** A container's settings, as far as this program needs them. */
export interface Setting {
  readonly name: string;
  readonly unit: string;
  /** Undefined for a container whose memory is not moved. */
  readonly autoballoon: Range | undefined;
}

/** Something that was in vain is tried more and more rarely. */
export class Backoff {
  #untilMs = -Infinity;
  #ms = refusedMs;

  isOver(nowMs: number): boolean {
    return nowMs >= this.#untilMs;
  }

  /** Answers whether this is the first time in a row. */
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

/** A container that has the setting, with what is known of it. Times are those of `nowMs()`. */
export class ManagedContainer {
  readonly name: string;
  readonly unit: string;
  setting: Range;
  status: UnitStatus | undefined;
  unwatch: Promise<Unwatch> | undefined;
  /** The run of the unit that is watched for pressure; empty for none. */
  run = '';
  unwatchPressure: (() => void) | undefined;
  /** Its pressure cannot be watched, so that nobody would hear of its need. */
  isBlind = false;
  /** What it has from us, in bytes; undefined for one that is left alone. */
  share: bigint | undefined;
  /** Somebody else has set MemoryHigh= of its unit. */
  isForeign = false;
  pressedAtMs = -Infinity;
  changedAtMs = -Infinity;
  grownAtMs = -Infinity;
  /** How often it has grown in a row. */
  growths = 0;
  readonly refused = new Backoff();

  constructor({ name, unit }: Setting, setting: Range) {
    this.name = name;
    this.unit = unit;
    this.setting = setting;
  }

  /** Empty while it does not run. */
  get controlGroup(): string {
    return this.status?.activeState === 'active' ? this.status.controlGroup : '';
  }
}

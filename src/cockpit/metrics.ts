/** What Cockpit's metrics channel says, and what pcp calls the control group of a unit. */

import { isObject, rows } from './values.ts';

/** A moment with its value; undefined where it was not known, which is a gap. */
export interface Sample {
  /** Milliseconds since 1970. */
  readonly ms: number;
  readonly value: number | undefined;
}

export interface Metric {
  /** As pcp names it. */
  readonly name: string;
  /** What one of the page's units is in its own. */
  readonly unit: number;
  readonly isRate?: true;
}

/** The control group of a unit as pcp names its instances: `/system.slice/system-lxc.slice/lxc@web.service`. */
export function instanceOf(slice: string, unit: string): string {
  const parts = slice.replace(/\.slice$/, '').split('-');
  // The root slice is `-.slice`.
  const slices = slice === '-.slice' ? [] : parts.map((_, index) => parts.slice(0, index + 1));
  return `/${[...slices.map((names) => `${names.join('-')}.slice`), unit].join('/')}`;
}

/**
 * Reads the messages of a metrics channel for one metric: a description, and then samples in which null stands for
 * what was before, as do instances that are left out at the end.
 */
export class MetricReader {
  readonly #unit: number;
  readonly #samples: Sample[] = [];
  #ms = 0;
  #intervalMs = 0;
  #before: readonly unknown[] = [];

  /** @param unit what one of the samples' units is in those of the metric */
  constructor(unit: number) {
    this.#unit = unit;
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** @param nowMs the time of this machine, which may be another one than the host's */
  read(message: string, nowMs: number): void {
    const content: unknown = JSON.parse(message);
    if (isObject(content)) {
      const { timestamp, now, interval } = content;
      this.#ms = Number(timestamp) + nowMs - Number(now);
      this.#intervalMs = Number(interval);
      this.#before = [];
      return;
    }
    for (const [values] of rows(content)) this.#note(values);
  }

  #note(values: unknown): void {
    const found = Array.isArray(values) ? (values as readonly unknown[]) : [];
    const length = Math.max(found.length, this.#before.length);
    this.#before = Array.from({ length }, (_, index) => found[index] ?? this.#before[index]);
    // The one group that was asked for, however pcp writes its name.
    const value = this.#before.find((one) => typeof one === 'number');
    this.#samples.push({
      ms: this.#ms,
      value: value === undefined ? undefined : value / this.#unit,
    });
    this.#ms += this.#intervalMs;
  }
}

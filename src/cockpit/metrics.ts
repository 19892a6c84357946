/** What Cockpit's metrics channel says, and what pcp calls the control group of a unit. */

import { isObject, rows, texts } from './values.ts';

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
  readonly #names: readonly string[];
  readonly #samples: Sample[] = [];
  #ms = 0;
  #intervalMs = 0;
  #index = -1;
  #before: readonly unknown[] = [];

  /**
   * @param unit what one of the samples' units is in those of the metric
   * @param names of the instance that is meant; the first that there is counts
   */
  constructor(unit: number, names: readonly string[]) {
    this.#unit = unit;
    this.#names = names;
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  get isEmpty(): boolean {
    return this.#samples.every(({ value }) => value === undefined);
  }

  /** @param nowMs the time of this machine, which may be another one than the host's */
  read(message: string, nowMs: number): void {
    const content: unknown = JSON.parse(message);
    if (isObject(content)) {
      const { timestamp, now, interval, metrics } = content;
      this.#ms = Number(timestamp) + nowMs - Number(now);
      this.#intervalMs = Number(interval);
      this.#before = [];
      const [metric] = Array.isArray(metrics) ? (metrics as readonly unknown[]) : [];
      const instances = isObject(metric) ? texts(metric['instances']) : [];
      const name = this.#names.find((one) => instances.includes(one));
      this.#index = name === undefined ? -1 : instances.indexOf(name);
      return;
    }
    for (const [values] of rows(content)) this.#note(values);
  }

  #note(values: unknown): void {
    const found = Array.isArray(values) ? (values as readonly unknown[]) : [];
    const length = Math.max(found.length, this.#before.length);
    this.#before = Array.from({ length }, (_, index) => found[index] ?? this.#before[index]);
    const value = this.#before[this.#index];
    this.#samples.push({
      ms: this.#ms,
      value: typeof value === 'number' ? value / this.#unit : undefined,
    });
    this.#ms += this.#intervalMs;
  }
}

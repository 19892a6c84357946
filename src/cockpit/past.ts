/**
 * What pcp has recorded of a container before the page was opened, by Cockpit's metrics channel. Where pcp is not
 * installed, or records no control groups, there is nothing.
 */

import { useEffect, useState } from 'react';
import type { Sample } from './plots.tsx';
import { isObject, rows, texts } from './values.ts';

/** How far one looks back, and how often, in milliseconds. */
const pastMs = 3_600_000;
const everyMs = 10_000;

interface Metric {
  /** As pcp names it. */
  readonly name: string;
  /** What one of the page's units is in its own. */
  readonly unit: number;
  readonly isRate?: true;
}

/**
 * The first one is that of cgroup v2. Disks are missing: on v2 pcp has a value for each device of a group, and on
 * v1 none that counts what is in the groups below.
 */
const metrics = {
  memory: [
    { name: 'cgroup.memory.current', unit: 1 },
    { name: 'cgroup.memory.usage', unit: 1 },
  ],
  swap: [{ name: 'cgroup.memory.stat.total.swap', unit: 1 }],
  pressure: [{ name: 'cgroup.pressure.memory.full.avg10sec', unit: 1 }],
  // Per cent of one processor, from microseconds and from nanoseconds.
  cpu: [
    { name: 'cgroup.cpu.stat.usage', unit: 10_000, isRate: true },
    { name: 'cgroup.cpuacct.usage', unit: 10_000_000, isRate: true },
  ],
} as const satisfies Readonly<Record<string, readonly Metric[]>>;

export type Past = Readonly<Record<keyof typeof metrics, readonly Sample[]>>;

const nothing: Past = { memory: [], swap: [], pressure: [], cpu: [] };

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
  readonly #metric: Metric;
  readonly #samples: Sample[] = [];
  #ms = 0;
  #intervalMs = everyMs;
  #before: readonly unknown[] = [];

  constructor(metric: Metric) {
    this.#metric = metric;
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
      value: value === undefined ? undefined : value / this.#metric.unit,
    });
    this.#ms += this.#intervalMs;
  }
}

/** Reads a metric of a group; nothing where it was not recorded. */
function readMetric(metric: Metric, instances: readonly string[]): Promise<readonly Sample[]> {
  return new Promise((resolve) => {
    const reader = new MetricReader(metric);
    const channel = cockpit.channel({
      payload: 'metrics1',
      source: 'pcp-archive',
      interval: everyMs,
      timestamp: -pastMs,
      limit: pastMs / everyMs,
      instances,
      metrics: [{ name: metric.name, ...(metric.isRate ? { derive: 'rate' } : {}) }],
    });
    channel.addEventListener('message', (_event: unknown, text: never) => {
      reader.read(text, Date.now());
    });
    channel.addEventListener('close', () => {
      resolve(reader.samples);
    });
  });
}

async function readPast(unit: string): Promise<Past> {
  const ask = ['systemctl', 'show', '--value', '--property=Slice', '--', unit];
  const [slice = ''] = texts([(await cockpit.spawn(ask, { err: 'ignore' })).trim()]);
  const name = instanceOf(slice, unit);
  // pcp writes names without systemd's escapes.
  const instances = [...new Set([name, name.replaceAll('\\x2d', '-')])];
  const found = await Promise.all(
    Object.entries(metrics).map(async ([key, candidates]) => {
      const all = await Promise.all(candidates.map((one) => readMetric(one, instances)));
      return [key, all.find((samples) => samples.length > 0) ?? []] as const;
    }),
  );
  return { ...nothing, ...Object.fromEntries(found) };
}

/** The last hour of a unit, as far as it was recorded. */
export function usePast(unit: string): Past {
  const [past, setPast] = useState(nothing);
  useEffect(() => {
    let isOver = false;
    readPast(unit).then(
      (found) => {
        if (!isOver) setPast(found);
      },
      () => undefined,
    );
    return () => {
      isOver = true;
    };
  }, [unit]);
  return past;
}

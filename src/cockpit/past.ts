/**
 * What pcp has recorded of a container before the page was opened, by Cockpit's metrics channel. Where pcp is not
 * installed, or records no control groups, there is nothing.
 */

import { useEffect, useState } from 'react';
import type { Container } from './objects.ts';
import { instanceOf, MetricReader, type Metric, type Sample } from './metrics.ts';

/** How far one looks back, and how often, in milliseconds. */
const pastMs = 3_600_000;
const everyMs = 10_000;
const seldomMs = 30_000;

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

/** More than this is not read of one metric, in characters. */
const mostText = 2 ** 24;

/** Reads a metric of a group. @param instances what the bridge is to read; all if there are none */
function readMetric(
  metric: Metric,
  names: readonly string[],
  everyMs: number,
  instances: readonly string[],
): Promise<MetricReader> {
  return new Promise((resolve) => {
    const reader = new MetricReader(metric.unit, names);
    let length = 0;
    const channel = cockpit.channel({
      payload: 'metrics1',
      source: 'pcp-archive',
      interval: everyMs,
      timestamp: -pastMs,
      limit: pastMs / everyMs,
      ...(instances.length === 0 ? {} : { instances }),
      metrics: [{ name: metric.name, ...(metric.isRate ? { derive: 'rate' } : {}) }],
    });
    channel.addEventListener('message', (_event: unknown, text: string) => {
      reader.read(text, Date.now());
      length += text.length;
      if (length > mostText) channel.close();
    });
    channel.addEventListener('close', () => {
      resolve(reader);
    });
  });
}

/** The samples of a metric; none where it was not recorded. */
async function samplesOf(metric: Metric, names: readonly string[]): Promise<readonly Sample[]> {
  const reader = await readMetric(metric, names, everyMs, names);
  if (!reader.isEmpty || reader.samples.length === 0) return reader.samples;
  // Debian 12's bridge finds no instance in an archive by its name. All of them are many, so it is asked seldom.
  const all = await readMetric(metric, names, seldomMs, []);
  return all.isEmpty ? [] : all.samples;
}

async function readPast({ unit, name: container }: Container): Promise<Past> {
  const ask = ['systemctl', 'show', '--value', '--property=Slice', '--', unit];
  const name = instanceOf((await cockpit.spawn(ask, { err: 'ignore' })).trim(), unit);
  // pcp may write names without systemd's escapes. On cgroup v1, processor time can be counted only of the guest.
  const names = [name, name.replaceAll('\\x2d', '-'), `/lxc.payload.${container}`];
  const found = await Promise.all(
    Object.entries(metrics).map(async ([key, candidates]) => {
      const all = await Promise.all(candidates.map((one) => samplesOf(one, names)));
      return [key, all.find((samples) => samples.length > 0) ?? []] as const;
    }),
  );
  return { ...nothing, ...Object.fromEntries(found) };
}

/** The last hour of a container, as far as it was recorded. */
export function usePast(container: Container): Past {
  const [past, setPast] = useState(nothing);
  useEffect(() => {
    let isOver = false;
    readPast(container).then(
      (found) => {
        if (!isOver) setPast(found);
      },
      () => undefined,
    );
    return () => {
      isOver = true;
    };
    // Its name and its unit stay the same.
  }, [container.path]);
  return past;
}

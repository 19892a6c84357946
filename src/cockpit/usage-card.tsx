/** Plots of what a container uses: the last hour where pcp has recorded it, else since the page was opened. */

import { useEffect, useState, type ReactNode } from 'react';
import type { Sample } from './metrics.ts';
import type { Container, Figures } from './objects.ts';
import { usePast, type Past } from './past.ts';
import * as pf from './patternfly.ts';
import { Plot } from './plots.tsx';
import { sizeText } from './words.ts';

export interface Moment {
  readonly ms: number;
  readonly figures: Figures;
}

/** An hour, where one moment comes every two seconds. */
const mostMoments = 1800;

const hourMs = 3_600_000;
/** Between two samples that belong together; pcp may record once a minute. */
const longestGapMs = 90_000;

/** Collects figures as they come. */
export function useHistory(figures: Figures | undefined): readonly Moment[] {
  const [moments, setMoments] = useState<readonly Moment[]>([]);
  useEffect(() => {
    if (figures === undefined) return;
    const moment = { ms: Date.now(), figures };
    setMoments((before) => [...before.slice(1 - mostMoments), moment]);
  }, [figures]);
  return moments;
}

/** How fast something grows a second; unknown over a restart, where it begins at 0 again. */
function rates(
  moments: readonly Moment[],
  read: (figures: Figures) => number | undefined,
): readonly Sample[] {
  return moments.slice(1).map(({ ms, figures }, index) => {
    const before = moments[index];
    const [then, now] = [before && read(before.figures), read(figures)];
    const isKnown = before !== undefined && then !== undefined && now !== undefined && now >= then;
    return { ms, value: isKnown ? ((now - then) / (ms - before.ms)) * 1000 : undefined };
  });
}

function amounts(
  moments: readonly Moment[],
  read: (figures: Figures) => number | undefined,
): readonly Sample[] {
  return moments.map(({ ms, figures }) => ({ ms, value: read(figures) }));
}

/** What was recorded before the page was opened, and then what it has seen itself. */
function joined(past: readonly Sample[], seen: readonly Sample[]): readonly Sample[] {
  const begin = seen[0]?.ms ?? Infinity;
  const before = past.filter(({ ms }) => ms < begin);
  // No line leads over a time of which nothing is known.
  const last = before.at(-1)?.ms ?? begin;
  const gap = begin - last > longestGapMs ? [{ ms: last + 1, value: undefined }] : [];
  // The page's own hour moves on.
  const from = (seen.at(-1)?.ms ?? 0) - hourMs;
  return [...before, ...gap, ...seen].filter(({ ms }) => ms >= from);
}

const perCent = (value: number): string => `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
const perSecond = (value: number): string => `${sizeText(value)}/s`;
const mebibyte = 1024 ** 2;

/** A percentage of one processor, from microseconds. */
const perCentOfCpu = ({ cpuTime }: Figures): number | undefined =>
  cpuTime === undefined ? undefined : cpuTime / 10_000;

function seriesOf(past: Past, moments: readonly Moment[]) {
  const seen = (read: (figures: Figures) => number | undefined) => amounts(moments, read);
  return {
    memory: joined(
      past.memory,
      seen(({ memory }) => memory),
    ),
    swap: joined(
      past.swap,
      seen(({ swap }) => swap),
    ),
    pressure: joined(
      past.pressure,
      seen(({ pressure }) => pressure),
    ),
    cpu: joined(past.cpu, rates(moments, perCentOfCpu)),
    read: rates(moments, ({ readBytes }) => readBytes),
    written: rates(moments, ({ writtenBytes }) => writtenBytes),
  };
}

function MemoryPlot({
  limit,
  memory,
  swap,
}: {
  readonly limit: number | undefined;
  readonly memory: readonly Sample[];
  readonly swap: readonly Sample[];
}): ReactNode {
  return (
    <Plot
      title="Memory"
      isBytes
      least={mebibyte}
      format={(value) => sizeText(value)}
      line={limit === undefined ? undefined : { value: limit, label: 'limit' }}
      series={[
        { label: 'in use', samples: memory },
        { label: 'swap', samples: swap },
      ]}
    />
  );
}

export function UsageCard({
  container,
  moments,
}: {
  readonly container: Container;
  readonly moments: readonly Moment[];
}): ReactNode {
  const past = usePast(container);
  const isRecorded = past.memory.some(({ value }) => value !== undefined);
  const { memory, swap, pressure, cpu, read, written } = seriesOf(past, moments);
  return (
    <pf.Card className="lockerd-wide">
      <pf.CardHeader>
        <pf.CardTitle component="h2">
          {isRecorded ? 'Usage in the last hour' : 'Usage since this page was opened'}
        </pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody className="lockerd-plots">
        <MemoryPlot limit={container.memoryLimit} memory={memory} swap={swap} />
        <Plot
          title="Memory pressure"
          least={10}
          format={perCent}
          series={[{ label: 'stalled', samples: pressure }]}
        />
        <Plot
          title="CPU"
          least={10}
          format={perCent}
          series={[{ label: 'of one processor', samples: cpu }]}
        />
        <Plot
          title="Disks"
          isBytes
          least={1024}
          format={perSecond}
          series={[
            { label: 'read', samples: read },
            { label: 'written', samples: written },
          ]}
        />
      </pf.CardBody>
    </pf.Card>
  );
}

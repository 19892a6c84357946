/** Plots of what a container uses, from the moment on at which the page was opened. */

import { useEffect, useState, type ReactNode } from 'react';
import type { Container, Figures } from './objects.ts';
import * as pf from './patternfly.ts';
import { Plot, type Sample } from './plots.tsx';
import { sizeText } from './words.ts';

export interface Moment {
  readonly ms: number;
  readonly figures: Figures;
}

/** An hour, where one moment comes every two seconds. */
const mostMoments = 1800;

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

const perCent = (value: number): string => `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
const perSecond = (value: number): string => `${sizeText(value)}/s`;
const mebibyte = 1024 ** 2;

export function UsageCard({
  container,
  moments,
}: {
  readonly container: Container;
  readonly moments: readonly Moment[];
}): ReactNode {
  const limit = container.memoryLimit;
  return (
    <pf.Card className="lockerd-wide">
      <pf.CardHeader>
        <pf.CardTitle component="h2">Usage since this page was opened</pf.CardTitle>
      </pf.CardHeader>
      <pf.CardBody className="lockerd-plots">
        <Plot
          title="Memory"
          isBytes
          least={mebibyte}
          format={(value) => sizeText(value)}
          line={limit === undefined ? undefined : { value: limit, label: 'limit' }}
          series={[
            { label: 'in use', samples: amounts(moments, ({ memory }) => memory) },
            { label: 'swap', samples: amounts(moments, ({ swap }) => swap) },
          ]}
        />
        <Plot
          title="Memory pressure"
          least={10}
          format={perCent}
          series={[{ label: 'stalled', samples: amounts(moments, ({ pressure }) => pressure) }]}
        />
        <Plot
          title="CPU"
          least={10}
          format={perCent}
          series={[
            {
              label: 'of one processor',
              samples: rates(moments, ({ cpuTime }) =>
                cpuTime === undefined ? undefined : cpuTime / 10_000,
              ),
            },
          ]}
        />
        <Plot
          title="Disks"
          isBytes
          least={1024}
          format={perSecond}
          series={[
            { label: 'read', samples: rates(moments, ({ readBytes }) => readBytes) },
            { label: 'written', samples: rates(moments, ({ writtenBytes }) => writtenBytes) },
          ]}
        />
      </pf.CardBody>
    </pf.Card>
  );
}

/** Small plots over time, drawn as SVG: lines, a grid, and the newest value in words. */

import type { ReactNode } from 'react';
import type { Sample } from './metrics.ts';

export interface Series {
  readonly label: string;
  readonly samples: readonly Sample[];
}

const width = 600;
const height = 120;
/** How much time a plot shows at least, in milliseconds. */
const leastMs = 60_000;

/** A limit of the axis that is easy to read: 1, 2 or 5 times a power of the base. */
function roundUp(value: number, isBytes: boolean): number {
  if (value <= 0) return isBytes ? 1024 : 1;
  const base = isBytes ? 2 : 10;
  const power = base ** Math.floor(Math.log(value) / Math.log(base));
  const steps = isBytes ? [1, 1.5, 2] : [1, 2, 5, 10];
  return (steps.find((step) => step * power >= value) ?? base) * power;
}

/** The lines of one series; a gap begins a new one. */
function linesOf(
  samples: readonly Sample[],
  x: (ms: number) => number,
  y: (value: number) => number,
): string {
  let isDown = false;
  return samples
    .map(({ ms, value }) => {
      const command =
        // A sample between gaps is a dot.
        value === undefined ? '' : `${isDown ? 'L' : 'M'}${at(x(ms))},${at(y(value))}h0`;
      isDown = value !== undefined;
      return command;
    })
    .join('');
}

const at = (place: number): string => place.toFixed(1);

interface PlotProps {
  readonly title: string;
  readonly series: readonly Series[];
  readonly format: (value: number) => string;
  readonly isBytes?: boolean;
  /** What the axis shows at least. */
  readonly least?: number;
  /** A value that stays, such as a limit; it is drawn if it is not far above all others. */
  readonly line?: { readonly value: number; readonly label: string } | undefined;
}

/** The newest value of a series in words. */
function newestText({ samples }: Series, format: PlotProps['format'], none: string): string {
  const value = samples.at(-1)?.value;
  return value === undefined ? none : format(value);
}

function Keys({ series, format }: Pick<PlotProps, 'series' | 'format'>): ReactNode {
  return series.map((one, index) => (
    <span key={one.label} className="lockerd-key">
      <i className={`lockerd-series-${index}`} /> {one.label} {newestText(one, format, '–')}
    </span>
  ));
}

function Across({
  className,
  height: place,
}: {
  readonly className: string;
  readonly height: number;
}): ReactNode {
  return <line className={className} x1={0} x2={width} y1={place} y2={place} />;
}

export function Plot({
  title,
  series,
  format,
  isBytes = false,
  least = 0,
  line,
}: PlotProps): ReactNode {
  const values = series.flatMap(({ samples }) => samples.flatMap(({ value }) => value ?? []));
  const most = Math.max(least, ...values);
  const shownLine = line !== undefined && line.value <= 4 * most ? line : undefined;
  const top = roundUp(Math.max(most, shownLine?.value ?? 0), isBytes);
  const times = series.flatMap(({ samples }) => samples.map(({ ms }) => ms));
  const end = Math.max(...times, 0);
  const span = Math.max(leastMs, end - Math.min(...times, end));
  const x = (ms: number): number => width - ((end - ms) / span) * width;
  const y = (value: number): number => height - (value / top) * height;
  const minutes = Math.round(span / 60_000);
  const words = series.map((one) => `${one.label}: ${newestText(one, format, 'not known')}`);
  return (
    <figure className="lockerd-plot">
      <figcaption>
        <strong>{title}</strong>
        <Keys series={series} format={format} />
      </figcaption>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${title}. ${words.join(', ')}`}
      >
        {[0.25, 0.5, 0.75].map((part) => (
          <Across key={part} className="lockerd-grid" height={y(top * part)} />
        ))}
        {shownLine !== undefined && (
          <Across className="lockerd-limit" height={y(shownLine.value)} />
        )}
        {series.map(({ label, samples }, index) => (
          <path
            key={label}
            className={`lockerd-line lockerd-series-${index}`}
            d={linesOf(samples, x, y)}
          />
        ))}
      </svg>
      <div className="lockerd-axis" aria-hidden>
        <span>{minutes === 1 ? 'last minute' : `last ${minutes} minutes`}</span>
        <span>top: {format(top)}</span>
      </div>
    </figure>
  );
}

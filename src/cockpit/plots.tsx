/** Small plots over time, drawn as SVG: lines, a grid, and the newest value in words. */

import type { ReactNode } from 'react';

/** A moment with its value; undefined where it was not known, which is a gap. */
export interface Sample {
  /** Milliseconds since 1970. */
  readonly ms: number;
  readonly value: number | undefined;
}

export interface Series {
  readonly label: string;
  readonly samples: readonly Sample[];
}

const width = 600;
const height = 120;
/** How much time a plot shows at least and at most, in milliseconds. */
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
      const command = value === undefined ? '' : `${isDown ? 'L' : 'M'}${at(x(ms))},${at(y(value))}`;
      isDown = value !== undefined;
      return command;
    })
    .join('');
}

const at = (place: number): string => place.toFixed(1);

export function Plot({
  title,
  series,
  format,
  isBytes = false,
  least = 0,
  line,
}: {
  readonly title: string;
  readonly series: readonly Series[];
  readonly format: (value: number) => string;
  readonly isBytes?: boolean;
  /** What the axis shows at least. */
  readonly least?: number;
  /** A value that stays, such as a limit; it is drawn if it is not far above all others. */
  readonly line?: { readonly value: number; readonly label: string } | undefined;
}): ReactNode {
  const values = series.flatMap(({ samples }) => samples.flatMap(({ value }) => value ?? []));
  const most = Math.max(least, ...values);
  const shownLine = line !== undefined && line.value <= 4 * most ? line : undefined;
  const top = roundUp(Math.max(most, shownLine?.value ?? 0), isBytes);
  const times = series.flatMap(({ samples }) => samples.map(({ ms }) => ms));
  const end = Math.max(...times, 0);
  const span = Math.max(leastMs, end - Math.min(...times, end));
  const x = (ms: number): number => width - ((end - ms) / span) * width;
  const y = (value: number): number => height - (value / top) * height;
  const newest = series
    .map(({ label, samples }) => {
      const value = samples.at(-1)?.value;
      return `${label}: ${value === undefined ? 'not known' : format(value)}`;
    })
    .join(', ');
  const minutes = Math.round(span / 60_000);
  return (
    <figure className="lockerd-plot">
      <figcaption>
        <strong>{title}</strong>
        {series.map(({ label, samples }, index) => {
          const value = samples.at(-1)?.value;
          return (
            <span key={label} className="lockerd-key">
              <i className={`lockerd-series-${index}`} /> {label}{' '}
              {value === undefined ? '–' : format(value)}
            </span>
          );
        })}
      </figcaption>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${title}. ${newest}`}
      >
        {[0.25, 0.5, 0.75].map((part) => (
          <line key={part} className="lockerd-grid" x1={0} x2={width} y1={y(top * part)} y2={y(top * part)} />
        ))}
        {shownLine !== undefined && (
          <line className="lockerd-limit" x1={0} x2={width} y1={y(shownLine.value)} y2={y(shownLine.value)}>
            <title>{shownLine.label}</title>
          </line>
        )}
        {series.map(({ label, samples }, index) => (
          <path key={label} className={`lockerd-line lockerd-series-${index}`} d={linesOf(samples, x, y)} />
        ))}
      </svg>
      <div className="lockerd-axis" aria-hidden>
        <span>{minutes === 1 ? 'last minute' : `last ${minutes} minutes`}</span>
        <span>top: {format(top)}</span>
      </div>
    </figure>
  );
}

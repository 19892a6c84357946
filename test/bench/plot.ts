/** The plot of the generators' processor time against the number of containers, both logarithmic. */
import type { Result } from './generator.ts';

const width = 640;
const height = 420;
const left = 70;
const top = 30;
const right = 110;
const bottom = 50;
const colours = ['#c0392b', '#7f8c8d', '#2980b9', '#27ae60'];

export function plotSvg(results: readonly Result[], counts: readonly number[]): string {
  const all = results.flatMap(({ costs }) => counts.map((count) => costs[count]?.cpuMs ?? 1));
  const [low, high] = [
    Math.floor(Math.log10(Math.min(...all))),
    Math.ceil(Math.log10(Math.max(...all))),
  ];
  const most = Math.log10(Math.max(...counts));
  const x = (count: number): number => left + (Math.log10(count) / most) * (width - left - right);
  const y = (ms: number): number =>
    height - bottom - ((Math.log10(ms) - low) / (high - low)) * (height - top - bottom);
  const parts: string[] = [];
  const text = (at: [number, number], anchor: string, words: string): void => {
    parts.push(
      `<text x="${at[0].toFixed(1)}" y="${at[1].toFixed(1)}" text-anchor="${anchor}">${words}</text>`,
    );
  };
  const line = (from: [number, number], to: [number, number]): void => {
    const [[x1, y1], [x2, y2]] = [from, to];
    parts.push(
      `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="#ddd"/>`,
    );
  };
  for (let power = low; power <= high; power++) {
    line([left, y(10 ** power)], [width - right, y(10 ** power)]);
    text([left - 8, y(10 ** power) + 4], 'end', `${10 ** power} ms`);
  }
  for (const count of counts) {
    line([x(count), top], [x(count), height - bottom]);
    text([x(count), height - bottom + 18], 'middle', String(count));
  }
  text([(left + width - right) / 2, height - 12], 'middle', 'containers');
  text([left, 18], 'start', 'processor time of one run');
  for (const [index, { name, costs }] of results.entries()) {
    const colour = colours[index % colours.length] ?? '#000';
    const points = counts.map((count) => [x(count), y(costs[count]?.cpuMs ?? 1)] as const);
    const path = points.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(' ');
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    const [, last] = points.at(-1) ?? [0, 0];
    parts.push(
      `<text x="${width - right + 8}" y="${(last + 4).toFixed(1)}" fill="${colour}">${name}</text>`,
    );
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="#fff"/>
${parts.join('\n')}
</svg>
`;
}

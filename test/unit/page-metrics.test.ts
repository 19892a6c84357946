import { describe, expect, test } from 'vitest';
import { instanceOf, MetricReader } from '../../src/cockpit/metrics.ts';

describe('the control group that pcp has of a unit', () => {
  test.each([
    ['system-lxc.slice', '/system.slice/system-lxc.slice/lxc@web.service'],
    ['a-b-c.slice', '/a.slice/a-b.slice/a-b-c.slice/lxc@web.service'],
    ['-.slice', '/lxc@web.service'],
  ])('in %s', (slice, expected) => {
    expect(instanceOf(slice, 'lxc@web.service')).toBe(expected);
  });
});

describe('a metrics channel', () => {
  const metaOf = (instances: readonly string[], timestamp = 1000) => ({
    ...{ timestamp, now: 61_000, interval: 10_000 },
    metrics: [{ name: 'memory', instances }],
  });
  const begin = 5_000_000 - 60_000;

  function readerOf(unit: number, ...messages: unknown[]): MetricReader {
    const reader = new MetricReader(unit, ['/web', '/lxc.payload.web']);
    for (const message of messages) reader.read(JSON.stringify(message), 5_000_000);
    return reader;
  }

  test('has the times of the host, and what is not said again stays', () => {
    const samples = [[[1, 4]], [[2, 6]], [[3]], [null], [[null, null]], [[null, 8]]];
    expect(readerOf(2, metaOf(['/', '/web']), samples).samples).toEqual(
      [2, 3, 3, 3, 3, 4].map((value, index) => ({ ms: begin + index * 10_000, value })),
    );
  });

  test('has gaps, where nothing was recorded and between archives with other instances', () => {
    const [first, later] = [metaOf(['/web']), metaOf(['/', '/web'], 31_000)];
    const messages = [first, [[[false]], [[7]]], later, [[[]], [[1, 9]]]];
    expect(readerOf(1, ...messages).samples).toEqual([
      { ms: begin, value: undefined },
      { ms: begin + 10_000, value: 7 },
      { ms: begin + 30_000, value: undefined },
      { ms: begin + 40_000, value: 9 },
    ]);
  });

  test('prefers the first name, and knows when there is none', () => {
    const both = readerOf(1, metaOf(['/lxc.payload.web', '/web']), [[[3, 5]]]);
    expect(both.samples.map(({ value }) => value)).toEqual([5]);
    const other = readerOf(1, metaOf(['/lxc.payload.web', '/db']), [[[3, 5]]]);
    expect(other.samples.map(({ value }) => value)).toEqual([3]);
    expect(other.isEmpty).toBe(false);
    expect(readerOf(1, metaOf(['/db']), [[[3]]]).isEmpty).toBe(true);
  });
});

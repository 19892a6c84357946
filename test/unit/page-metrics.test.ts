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
  const meta = { timestamp: 1000, now: 61_000, interval: 10_000, metrics: [] };
  const begin = 5_000_000 - 60_000;

  function samplesOf(unit: number, ...messages: unknown[]) {
    const reader = new MetricReader(unit);
    for (const message of messages) reader.read(JSON.stringify(message), 5_000_000);
    return reader.samples;
  }

  test('has the times of the host, and what is not said again stays', () => {
    expect(samplesOf(2, meta, [[[4]], [[6]], [[]], [null], [[null]], [[8]]])).toEqual(
      [2, 3, 3, 3, 3, 4].map((value, index) => ({ ms: begin + index * 10_000, value })),
    );
  });

  test('has gaps, where nothing was recorded and between archives', () => {
    const later = { ...meta, timestamp: 31_000 };
    expect(samplesOf(1, meta, [[[false]], [[7]]], later, [[[]], [[9]]])).toEqual([
      { ms: begin, value: undefined },
      { ms: begin + 10_000, value: 7 },
      { ms: begin + 30_000, value: undefined },
      { ms: begin + 40_000, value: 9 },
    ]);
  });

  test('has the one value that there is, under whichever name', () => {
    expect(samplesOf(1, meta, [[[false, 3]], [[null, 5]]]).map(({ value }) => value)).toEqual([
      3, 5,
    ]);
  });
});

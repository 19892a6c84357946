import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Member, Shortage, Supply } from '../../src/autoballoon/policy.ts';
import {
  excessOf,
  firstShare,
  fittedShare,
  giftsFor,
  grownShare,
  isNear,
  rangeWithin,
  reserveOf,
  shortageFor,
  stepOf,
} from '../../src/autoballoon/policy.ts';
import { unlimited } from '../../src/model/memory-limit.ts';

const mib = 2n ** 20n;

function member(given: Partial<Member>): Member {
  const floor = 128n * mib;
  return {
    ...{ name: 'web', floor, ceiling: 1024n * mib, share: 512n * mib },
    ...{ usage: 400n * mib, cold: 0n, calm: true, idle: true },
    ...given,
  };
}

const amount = fc.bigInt({ min: 0n, max: 4096n * mib });
const members = fc.array(
  fc
    .record({
      floor: fc.bigInt({ min: 16n * mib, max: 1024n * mib }),
      width: amount,
      fill: fc.bigInt({ min: 0n, max: 1000n }),
      usage: amount,
      coldPart: fc.bigInt({ min: 0n, max: 1000n }),
      calm: fc.boolean(),
      idle: fc.boolean(),
    })
    .map(({ floor, width, fill, usage, coldPart, calm, idle }) => ({
      ...{ floor, ceiling: floor + width, share: floor + (width * fill) / 1000n },
      ...{ usage, cold: (usage * coldPart) / 1000n, calm, idle },
    })),
  { maxLength: 6 },
);
const named = members.map((all) => all.map((one, index) => ({ ...one, name: `c${index}` })));
const supply = fc.record({
  budget: amount,
  spare: fc.bigInt({ min: -1024n * mib, max: 4096n * mib }),
});
const shortage = fc.record({ shares: amount, memory: amount });

function sum(shares: readonly { readonly share: bigint }[]): bigint {
  return shares.reduce((total, { share }) => total + share, 0n);
}

function most(...amounts: bigint[]): bigint {
  return amounts.reduce((a, b) => (a > b ? a : b));
}

describe('always', () => {
  test('nobody gives below its floor, in pressure, or more than it has', () => {
    fc.assert(
      fc.property(named, shortage, (all, short: Shortage) => {
        for (const { name, share, reclaim } of giftsFor(all, short)) {
          const giver = all.find((one) => one.name === name);
          if (giver === undefined) throw new Error('a gift of nobody');
          expect(giver.calm).toBe(true);
          if (reclaim > 0n) expect(giver.idle).toBe(true);
          expect(share).toBeLessThan(giver.share);
          expect(share).toBeGreaterThanOrEqual(giver.floor);
          expect(reclaim).toBeLessThanOrEqual(giver.cold);
          if (reclaim > 0n) expect(giver.usage - reclaim).toBeGreaterThanOrEqual(giver.floor);
          // What it keeps using fits.
          expect(share).toBeGreaterThan(giver.usage - reclaim);
        }
      }),
    );
  });

  test('no more is reclaimed than is missing', () => {
    fc.assert(
      fc.property(named, shortage, (all, short: Shortage) => {
        const gifts = giftsFor(all, short);
        const reclaimed = gifts.reduce((total, { reclaim }) => total + reclaim, 0n);
        expect(reclaimed).toBeLessThanOrEqual(short.memory + short.shares);
        if (short.memory === 0n && short.shares === 0n) expect(gifts).toEqual([]);
      }),
    );
  });

  test('growth stays below the ceiling, within the budget and within what the host has', () => {
    fc.assert(
      fc.property(named, supply, fc.nat(5), (all, there: Supply, times) => {
        const [first, ...others] = all;
        if (first === undefined) return;
        const step = stepOf(first.share, times, 0n);
        const share = grownShare(first, step, others, there);
        expect(share).toBeGreaterThanOrEqual(first.share);
        expect(share).toBeLessThanOrEqual(most(first.ceiling, first.share));
        const before = sum(all);
        const after = before - first.share + share;
        expect(after).toBeLessThanOrEqual(most(there.budget, before));
        expect(share - first.share).toBeLessThanOrEqual(most(there.spare, 0n));
      }),
    );
  });

  test('with what was missing, all of the step is there', () => {
    fc.assert(
      fc.property(named, supply, (all, there: Supply) => {
        const [first, ...others] = all;
        if (first === undefined) return;
        const step = stepOf(first.share, 0, 0n);
        const { shares, memory } = shortageFor(first, step, others, there);
        const enough = { budget: there.budget + shares, spare: there.spare + memory };
        const wanted = most(first.share, first.ceiling) - first.share;
        const share = grownShare(first, step, others, enough);
        expect(share - first.share).toBe(wanted < step ? wanted : step);
      }),
    );
  });

  test('a newcomer gets its floor, what it uses, and else nothing beyond the budget', () => {
    fc.assert(
      fc.property(named, supply, (all, there: Supply) => {
        const [first, ...others] = all;
        if (first === undefined) return;
        const share = firstShare(first, others, there, all.length);
        expect(share).toBeGreaterThanOrEqual(first.floor);
        expect(share).toBeLessThanOrEqual(first.ceiling);
        const used = first.usage + most(first.usage / 8n, 16n * mib);
        if (share > most(first.floor, used)) {
          expect(sum(others) + share).toBeLessThanOrEqual(there.budget);
        }
      }),
    );
  });

  test('a limit that somebody sets holds, below the floor as well', () => {
    fc.assert(
      fc.property(named, amount, (all, limit) => {
        for (const one of all) {
          const range = rangeWithin(one, limit);
          expect(fittedShare({ ...one, ...range })).toBeLessThanOrEqual(limit);
        }
      }),
    );
  });
});

describe('a host with three containers and too little memory', () => {
  const there: Supply = { budget: 1024n * mib, spare: 0n };
  const busy = member({ name: 'busy', idle: false, usage: 510n * mib });
  const idle = member({ name: 'idle', share: 256n * mib, usage: 240n * mib, cold: 200n * mib });
  const slack = member({ name: 'slack', share: 256n * mib, usage: 40n * mib });

  test('memory itself comes from who holds some idle', () => {
    expect(isNear(busy)).toBe(true);
    const short = shortageFor(busy, stepOf(busy.share, 0, 0n), [idle, slack], there);
    expect(short).toEqual({ shares: 64n * mib, memory: 64n * mib });
    expect(giftsFor([idle, slack], short)).toEqual([
      { name: 'idle', share: 198n * mib, reclaim: 64n * mib },
      { name: 'slack', share: 250n * mib, reclaim: 0n },
    ]);
  });

  test('shares alone come from who has never used his', () => {
    const short = { shares: 64n * mib, memory: 0n };
    expect(giftsFor([idle, slack], short)).toEqual([
      { name: 'slack', share: 192n * mib, reclaim: 0n },
    ]);
  });

  test('shares are not moved where the memory for them is not there', () => {
    expect(giftsFor([slack], { shares: 64n * mib, memory: 64n * mib })).toEqual([]);
  });

  test('what is beyond the budget is taken of the shares', () => {
    const excess = excessOf([busy, idle, slack], { ...there, budget: 1000n * mib });
    expect(giftsFor([busy, idle, slack], excess)).toEqual([
      { name: 'slack', share: 232n * mib, reclaim: 0n },
    ]);
  });

  test('the floor stays, however little of it is used', () => {
    const short = { shares: 4096n * mib, memory: 0n };
    expect(giftsFor([member({ usage: 0n })], short)).toEqual([
      { name: 'web', share: 128n * mib, reclaim: 0n },
    ]);
  });

  test('who waits for memory himself gives none', () => {
    expect(giftsFor([busy, { ...idle, idle: false }], { shares: 0n, memory: 64n * mib })).toEqual(
      [],
    );
  });

  test('a host that is short gets as much as it is short of', () => {
    expect(giftsFor([busy, idle, slack], { shares: 0n, memory: 50n * mib })).toEqual([
      { name: 'idle', share: 213n * mib + (mib / 4n) * 3n, reclaim: 50n * mib },
    ]);
  });
});

test('who needs more in a row gets more at once', () => {
  expect([0, 1, 2, 9].map((times) => stepOf(256n * mib, times, 0n) / mib)).toEqual([
    64n,
    128n,
    256n,
    256n,
  ]);
  expect(stepOf(4096n * mib, 0, 0n)).toBe(512n * mib);
  expect(stepOf(256n * mib, 0, 1024n * mib)).toBe(512n * mib);
});

test('an eighth of the host is kept back, and at least 128 MiB', () => {
  expect(reserveOf(8192n * mib)).toBe(1024n * mib);
  expect(reserveOf(512n * mib)).toBe(128n * mib);
});

test('no limit leaves the ceiling of the settings', () => {
  const setting = { floor: 128n * mib, ceiling: 512n * mib };
  expect(rangeWithin(setting, unlimited)).toEqual(setting);
  expect(rangeWithin(setting, 2048n * mib).ceiling).toBe(2048n * mib);
});

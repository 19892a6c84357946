import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Container } from '../../src/generator/container.ts';
import { decideCompanions } from '../../src/generator/decide-companions.ts';
import { orderContainers, type RankedContainer } from '../../src/generator/decide-order.ts';
import { containerUnit } from '../../src/model/unit-name.ts';

interface Made {
  readonly order: number;
  readonly needs: readonly number[];
  readonly wants: readonly number[];
  readonly starts: boolean;
}

function ranked(made: readonly Made[]): RankedContainer[] {
  const at = (value: readonly number[]) => ({
    value: value.map((index) => `c${index}`),
    file: '/f',
    line: 1,
  });
  return made.map(({ order, needs, wants, starts }, index) => ({
    container: {
      name: `c${index}`,
      configFile: '/c',
      problems: [],
      warnings: [],
      boot: { starts, reasons: starts ? ['config'] : [] },
      startDelaySec: 0,
      settings: { ready: 'running', needs: at(needs), wants: at(wants) },
    } as unknown as RankedContainer['container'],
    rank: [0, order],
  }));
}

/** What systemd would be told: each unit with the units that it comes after. */
function orderOf(containers: readonly Container[]): Map<string, Set<string>> {
  return new Map(
    containers.map(({ name, startsAfter, companions, problems }) => [
      containerUnit(name),
      new Set(
        problems.length > 0
          ? []
          : [...startsAfter, ...(companions?.needs ?? []), ...(companions?.wants ?? [])],
      ),
    ]),
  );
}

function hasCycle(after: ReadonlyMap<string, ReadonlySet<string>>): boolean {
  const left = new Map(after);
  for (let isSmaller = true; isSmaller;) {
    isSmaller = false;
    for (const [unit, earlier] of left) {
      if ([...earlier].some((one) => left.has(one))) continue;
      left.delete(unit);
      isSmaller = true;
    }
  }
  return left.size > 0;
}

const made = fc.array(
  fc.record({
    order: fc.integer({ min: 0, max: 4 }),
    needs: fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 2 }),
    wants: fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 2 }),
    starts: fc.boolean(),
  }),
  { minLength: 1, maxLength: 9 },
);

test('no needs, wishes and orders together make systemd break a cycle', () => {
  fc.assert(
    fc.property(made, (list) => {
      expect(hasCycle(orderOf(orderContainers(decideCompanions(ranked(list)))))).toBe(false);
    }),
    { numRuns: 2000 },
  );
});

test('whoever is needed by what starts at boot starts too, and says why', () => {
  fc.assert(
    fc.property(made, (list) => {
      const decided = decideCompanions(ranked(list)).map(({ container }) => container);
      const byUnit = new Map(decided.map((one) => [containerUnit(one.name), one]));
      for (const { boot, problems, companions } of decided) {
        if (!boot.starts || problems.length > 0) continue;
        for (const unit of [...(companions?.needs ?? []), ...(companions?.wants ?? [])])
          expect(byUnit.get(unit)?.boot.starts).toBe(true);
      }
      for (const [index, { boot }] of decided.entries())
        if (boot.starts !== list[index]?.starts) expect(boot.reasons).toEqual(['needed']);
    }),
    { numRuns: 1000 },
  );
});

test('a chain of a thousand is put in order', () => {
  const chain = Array.from({ length: 1000 }, (_, index) => ({
    order: index,
    needs: index < 999 ? [index + 1] : [],
    wants: [],
    starts: index === 0,
  }));
  const decided = orderContainers(decideCompanions(ranked(chain)));
  expect(decided.every(({ boot, problems }) => boot.starts && problems.length === 0)).toBe(true);
  expect(hasCycle(orderOf(decided))).toBe(false);
});

test('thousands in a row, each needing the next, take no time', () => {
  const all = ranked(
    Array.from({ length: 5000 }, (_, order) => ({
      order,
      needs: order < 4999 ? [order + 1] : [],
      wants: [],
      starts: true,
    })),
  );
  const begin = performance.now();
  expect(decideCompanions(all)[0]?.rank).toEqual([0, 4999]);
  // Going through the rest of the row for each of them took seconds.
  expect(performance.now() - begin).toBeLessThan(1000);
});

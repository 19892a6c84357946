import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { HostFacts, PlanContext } from '../../src/generator/plan-views.ts';
import type { BootReason } from '../../src/host/boot-policy.ts';
import { planUnits } from '../../src/generator/plan.ts';
import { renderFile } from '../../src/generator/render.ts';
import { compareText, type Container } from '../../src/generator/container.ts';
import { decodeContainer, decodeHost, decodeWords } from '../../src/model/facts.ts';
import { formatProblem } from '../../src/model/problem.ts';
import { containerUnit, escapeInstance } from '../../src/model/unit-name.ts';
import { fitsRestOfLine, fitsUnitFile, unitWord } from '../../src/model/unit-syntax.ts';

/** What settings and file names may hold, with much of what quoting has to care about. */
const word = fc
  .string({
    unit: fc.oneof(
      fc.constantFrom(
        '%',
        '\\',
        '"',
        "'",
        ' ',
        '\t',
        '=',
        '[',
        ']',
        '#',
        ';',
        '$',
        '-',
        ':',
        '\u00a0',
      ),
      fc.string({ minLength: 1, maxLength: 1, unit: 'grapheme' }),
    ),
    maxLength: 20,
  })
  .filter(fitsUnitFile);
const name = word.filter((text) => text !== '' && !text.includes('/'));

const host: HostFacts = {
  lockerDirectory: '/lockers',
  wormholeDirectory: '/var/locker-mappings',
  rootWithoutPolkit: false,
};
const context: PlanContext = {
  bridgeTimeout: '30s',
  initScripts: [],
  filtersLog: false,
  watched: [],
  lxcpath: '/var/lib/lxc',
  watchedMounts: [],
  lateMounts: [],
  lockers: new Map(),
  fstab: [],
  host,
};

/** The generated file of a path, as the generator would write it. */
function rendered(
  containers: readonly Container[],
  path: string,
  more: Partial<PlanContext> = {},
): string {
  const planned = planUnits(containers, { ...context, ...more });
  const file = planned.find((one) => one.path === path);
  if (file?.kind !== 'file') throw new Error(`not planned: ${path}`);
  return renderFile(file);
}

describe('words', () => {
  test('come back as they were', () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 5 }), (words) => {
        expect(decodeWords(words.map(unitWord).join(' '))).toEqual(words);
      }),
      { numRuns: 2000 },
    );
  });

  test.each(['"', '"a', 'a"', 'a\\b', '"a\\n"', '%n', '"a"b', '"a %n"', 'a \'b c"'])(
    'that the generator never writes are refused: %s',
    (text) => {
      expect(decodeWords(text)).toBeUndefined();
    },
  );

  test('never hang or throw', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        const words = decodeWords(text);
        expect(words === undefined || words.every((one) => typeof one === 'string')).toBe(true);
      }),
    );
  });
});

describe('what the generator writes is read back', () => {
  // systemd drops blanks at the end of a line, and line separators become question marks.
  const sentence = word.map((text) => `${text.replaceAll(/[\u2028\u2029]/g, '')}.`);
  const problem = fc.record({
    file: fc.constant('/etc/x'),
    line: fc.nat(99),
    reason: sentence,
    remedy: fc.oneof(fc.constant(''), sentence),
  });
  const container = fc.record({
    name: name.filter((text) => text !== '.' && text !== '..'),
    autostart: fc.boolean(),
    boot: fc.oneof(
      fc.record({
        starts: fc.boolean(),
        reasons: fc.subarray<BootReason>(['config', 'enabled', 'lxc-auto']),
      }),
      fc.record({
        starts: fc.constant(true),
        reasons: fc.constant<BootReason[]>(['needed']),
        neededBy: name.filter((text) => text !== ''),
      }),
    ),
    groups: fc.array(name, { maxLength: 3 }),
    rebootSignal: fc.option(fc.integer({ min: 1, max: 64 }), { nil: undefined }),
    problems: fc.array(problem, { maxLength: 2 }),
    autoballoon: fc.option(
      fc.record({ floor: fc.bigInt(0n, 2n ** 63n), ceiling: fc.bigInt(0n, 2n ** 63n) }),
      { nil: undefined },
    ),
    lockers: fc.option(
      fc.array(
        fc.record({
          locker: name.filter(fitsRestOfLine),
          readOnly: fc.boolean(),
          readOnlyOnHost: fc.boolean(),
          strict: fc.boolean(),
        }),
        {
          maxLength: 3,
        },
      ),
      { nil: undefined },
    ),
  });

  test('of a container', () => {
    fc.assert(
      fc.property(container, ({ lockers, rebootSignal, autoballoon, ...c }) => {
        const path = '/var/locker-mappings/c';
        const text = rendered(
          [
            {
              ...c,
              ...(rebootSignal === undefined ? {} : { rebootSignal }),
              instance: escapeInstance(c.name),
              configFile: `/var/lib/lxc/${c.name}/config`.replaceAll(/[\s\\]*$/g, ''),
              warnings: [],
              init: 'unknown',
              halt: { signal: 'SIGPWR', heardBy: [30], isSentAtStop: false },
              memory: { limits: [], held: [], taken: [], warnings: [] },
              controls: { settings: [], taken: [], warnings: [] },
              clearedKeys: [],
              hasPreStart: false,
              hasLogFile: false,
              requiredPaths: [],
              startPaths: [],
              after: [],
              devices: [],
              mayComeLate: false,
              wants: [],
              bridges: [],
              startDelaySec: 0,
              startsAfter: [],
              settings: {
                ready: 'running',
                ...(autoballoon === undefined ? {} : { autoballoon }),
              },
              ...(lockers === undefined
                ? {}
                : {
                    wormhole: {
                      path,
                      slots: '/run/slots',
                      insidePath: '/lockers',
                      attachments: lockers.map((locker, index) => ({
                        ...locker,
                        source: `/lockers/${index}`,
                        target: `${path}/${index}`,
                      })),
                    },
                  }),
            },
          ],
          `${containerUnit(c.name)}.d/60-container.conf`,
        );
        expect(decodeContainer(text)).toEqual({
          name: c.name,
          unit: containerUnit(c.name),
          configFile: `/var/lib/lxc/${c.name}/config`,
          autostart: c.boot.starts,
          autostartReasons: c.boot.reasons,
          neededBy: 'neededBy' in c.boot ? [c.boot.neededBy] : [],
          groups: c.groups,
          problem: c.problems.map((one) => formatProblem(one)).join('\n'),
          wormhole: lockers === undefined ? undefined : path,
          lockers: (lockers ?? []).map(({ locker, readOnly, strict }) => ({
            name: locker,
            readOnly,
            strict,
          })),
          rebootSignal: rebootSignal ?? 2,
          autoballoon,
        });
      }),
      { numRuns: 300 },
    );
  });

  test('of the host', () => {
    const facts = fc.record({
      lockers: fc.uniqueArray(fc.record({ name, path: word.map((text) => `/${text}`) }), {
        maxLength: 5,
        selector: (locker) => locker.name,
      }),
      lockerDirectory: word.map((text) => `/${text}`),
      wormholeDirectory: word.map((text) => `/${text}`),
      rootWithoutPolkit: fc.boolean(),
    });
    fc.assert(
      fc.property(facts, ({ rootWithoutPolkit, ...rest }) => {
        const { lockers, ...directories } = rest;
        const text = rendered([], 'lockerd.service.d/60-host.conf', {
          lockers: new Map(
            lockers.map((locker) => [
              locker.name,
              { ...locker, mayFail: false, readOnly: false, file: '', line: 0, options: [] },
            ]),
          ),
          host: { ...directories, rootWithoutPolkit },
        });
        expect(decodeHost(text)).toEqual({
          ...directories,
          lockers: [...lockers].sort((a, b) => compareText(a.name, b.name)),
          rootNeedsNoAuthority: rootWithoutPolkit,
        });
      }),
    );
  });
});

describe('only the section of facts', () => {
  test('is read', () => {
    const text =
      '[Service]\nContainer=no\n\n[X-Lockerd]\nContainer=web\n# Container=x\n[X-Other]\nWormhole=/w\n';
    expect(decodeContainer(text)).toMatchObject({ name: 'web', wormhole: undefined });
  });

  test.each(['512M 2G', '1', '-1 2', '1 99999999999999999999999'])(
    'has no range of memory but in bytes: %s',
    (range) => {
      const text = `[X-Lockerd]\nContainer=web\nAutoballoon=${range}\n`;
      expect(decodeContainer(text)?.autoballoon).toBeUndefined();
    },
  );

  test('makes a container', () => {
    expect(decodeContainer('[Service]\nContainer=web\n')).toBeUndefined();
    expect(decodeContainer('')).toBeUndefined();
  });

  test.each(['0', '65', 'x', '-1', ''])('with a reboot signal that is none: "%s"', (signal) => {
    const text = `[X-Lockerd]\nContainer=web\nRebootSignal=${signal}\n`;
    expect(decodeContainer(text)?.rebootSignal).toBe(2);
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toJson } from '../../src/cli/json.ts';
import { parsePath } from '../../src/api/paths.ts';
import { nameOf } from '../../src/cli/object-info.ts';
import { Terminal } from '../../src/cli/terminal.ts';
import { renderTable, type Column } from '../../src/cli/text-table.ts';
import { ellipsize, escapeText, pad, textWidth, wrapText } from '../../src/cli/text.ts';
import { formatAgo, formatTimestamp } from '../../src/cli/time.ts';
import { parseTimespan } from '../../src/model/timespan.ts';
import { plainOutput } from './plain-output.ts';

const anyText = fc.string({ unit: 'binary' });

describe('escapeText', () => {
  test.each([
    ['web', 'web'],
    ['evil\u001b[31m', 'evil\\x1b[31m'],
    ['two\nlines\t', 'two\\x0alines\\x09'],
    ['\u009b31m', '\\x9b31m'],
    ['reversed \u202egnp.exe', 'reversed \\u202egnp.exe'],
    ['ünïcode 容器', 'ünïcode 容器'],
  ])('%j', (text, escaped) => {
    expect(escapeText(text)).toBe(escaped);
  });

  test('leaves no control character of any text', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(escapeText(text)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e]/u);
      }),
    );
  });
});

describe('a terminal', () => {
  test('prints JSON of any length', () => {
    let printed = '';
    const stdout = (text: string): void => void (printed += text);
    const numbers = Array.from({ length: 300_000 }, (_, index) => index);
    new Terminal(plainOutput, { stdout, stderr: stdout }).printJson(numbers, 'pretty');
    expect(printed.split('\n')).toHaveLength(300_003);
    expect(JSON.parse(printed)).toHaveLength(300_000);
  });
});

describe('widths', () => {
  test.each([
    ['web', 3],
    ['容器', 4],
    ['e\u0301', 1],
    ['🦆', 2],
    ['✅', 2],
    ['\u1112\u1161\u11ab', 2],
  ])('%s', (text, width) => {
    expect(textWidth(text)).toBe(width);
  });

  test.each([
    ['container', 9, 'container'],
    ['container', 8, 'contain…'],
    ['container', 1, 'c'],
    ['容器容器', 7, '容器容…'],
    ['容器容器', 6, '容器…'],
  ])('%s in %i columns', (text, columns, cut) => {
    expect(ellipsize(text, columns, '…')).toBe(cut);
  });

  test('what is cut fits, whatever it is', () => {
    fc.assert(
      fc.property(anyText, fc.nat(20), (text, columns) => {
        expect(textWidth(ellipsize(text, columns, '…'))).toBeLessThanOrEqual(columns);
      }),
    );
  });

  test('what is wrapped fits and loses nothing', () => {
    const words = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '器'), minLength: 1 }));
    fc.assert(
      fc.property(words, fc.integer({ min: 2, max: 20 }), (list, columns) => {
        const lines = wrapText(list.join(' '), columns);
        for (const line of lines) expect(textWidth(line)).toBeLessThanOrEqual(columns);
        expect(lines.join('').replaceAll(' ', '')).toBe(list.join(''));
      }),
    );
  });

  test('pad', () => {
    expect(pad('器', 4, 'left')).toBe('器  ');
    expect(pad('7', 3, 'right')).toBe('  7');
    expect(pad('long', 2, 'left')).toBe('long');
  });
});

describe('tables', () => {
  const columns: Column[] = [
    { header: 'NAME', shrinks: true },
    { header: 'PID', align: 'right' },
    { header: 'LOCKERS', shrinks: true },
  ];
  const style = { width: undefined, legend: true, mark: '…' };

  test('columns are as wide as their widest cell, and no line ends in blanks', () => {
    const rows = [
      ['web', '1234', 'data'],
      ['mail-server', '7', ''],
    ];
    expect(renderTable(columns, rows, style)).toEqual([
      'NAME         PID LOCKERS',
      'web         1234 data',
      'mail-server    7',
    ]);
  });

  test('without legend there is no header', () => {
    expect(renderTable(columns, [['w', '1', 'd']], { ...style, legend: false })).toEqual(['w 1 d']);
  });

  test('the widest of the columns that shrink gives way first', () => {
    const rows = [['a-name-of-20-letters', '1234', 'a-list,of,lockers,that-is,far-too-long']];
    const [, row] = renderTable(columns, rows, { ...style, width: 50 });
    expect(row).toBe('a-name-of-20-letters 1234 a-list,of,lockers,that-…');
    expect(textWidth(row ?? '')).toBeLessThanOrEqual(50);
  });

  test('fits the terminal where its fixed columns do', () => {
    const cell = fc.string({ unit: fc.constantFrom('a', '器', '-'), maxLength: 90 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(cell, cell)),
        fc.integer({ min: 24, max: 100 }),
        (rows, width) => {
          const full = rows.map(([name, lockers]) => [name, '1234', lockers]);
          for (const line of renderTable(columns, full, { ...style, width })) {
            expect(textWidth(line)).toBeLessThanOrEqual(width);
          }
        },
      ),
    );
  });
});

describe('toJson', () => {
  test('is what JSON.parse() reads back', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = toJson(value);
        // -0 is 0 in JSON.
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
        expect(text).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
      }),
    );
  });

  test('pretty is the same with a value a line', () => {
    const value = { a: [1n, 'x\u001b'], empty: [], none: {}, b: { c: null, d: undefined } };
    expect(toJson(value, 'pretty')).toBe(`{
  "a": [
    1,
    "x\\u001b"
  ],
  "empty": [],
  "none": {},
  "b": {
    "c": null
  }
}`);
    fc.assert(
      fc.property(fc.jsonValue(), (any) => {
        expect(toJson(any, 'pretty')).toBe(JSON.stringify(JSON.parse(toJson(any)), null, 2));
      }),
    );
  });

  test('64-bit integers keep their digits, undefined members are left out', () => {
    expect(toJson({ a: 2n ** 64n - 2n, b: undefined, c: null })).toBe(
      '{"a":18446744073709551614,"c":null}',
    );
  });
});

describe('time', () => {
  test.each([
    ['90', 90_000_000n],
    ['1min 30s', 90_000_000n],
    ['1.5h', 5_400_000_000n],
    ['250ms', 250_000n],
    ['infinity', null],
    ['soon', undefined],
    ['-5', undefined],
    ['', undefined],
  ])('the span "%s"', (text, usec) => {
    expect(parseTimespan(text)).toBe(usec);
  });

  const now = 1_700_000_000_000_000n;
  test.each([
    [0n, 'just now'],
    [59n, '59s ago'],
    [436n, '7min 16s ago'],
    [3600n, '1h ago'],
    [90_061n, '1d 1h ago'],
    [700_000n, '1w 1d ago'],
    [-5n, 'in the future'],
  ])('%s seconds', (seconds, text) => {
    expect(formatAgo(now - seconds * 1_000_000n, now)).toBe(text);
  });

  test('a point in time, in the form of systemd', () => {
    expect(formatTimestamp(now)).toMatch(/^(Tue|Wed) 2023-11-1[45] \d\d:\d\d:20 [A-Z0-9+:-]+$/);
  });
});

describe('object paths', () => {
  test.each([
    ['/org/lockerd1/container/web', 'container', 'web'],
    ['/org/lockerd1/container/web_2d1', 'container', 'web-1'],
    ['/org/lockerd1/locker/_e5_99_a8', 'locker', '器'],
    ['/org/lockerd1/locker/_', 'locker', ''],
    ['/org/lockerd1/job/12', 'job', '12'],
  ])('%s', (path, kind, name) => {
    expect(parsePath(path)?.kind).toBe(kind);
    expect(nameOf(path)).toBe(name);
  });

  test.each(['/org/lockerd1/container/a/b', '/org/other/container/web'])(
    '%s is none of ours',
    (path) => {
      expect(parsePath(path)).toBeUndefined();
      expect(nameOf(path)).toBe(path);
    },
  );
});

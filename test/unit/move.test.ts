import { PassThrough } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { parseBelongings, pathsOf } from '../../src/move/belongings.ts';
import { changeOf, parseLine } from '../../src/move/changed.ts';
import { Fields } from '../../src/move/fields.ts';
import { eachLine } from '../../src/move/protocol.ts';
import { parseProgress } from '../../src/move/sync.ts';
import { isName } from '../../src/move/target-checks.ts';
import { unfinishedNames } from '../../src/move/target-lockers.ts';
import { isNewName } from '../../src/model/new-name.ts';

describe('progress of rsync', () => {
  test.each([
    ['    1,238,099  42%  146.38kB/s    0:00:08 (xfr#5, to-chk=169/396)', 1_238_099, 149_893],
    ['              0   0%    0.00kB/s    0:00:00', 0, 0],
    [
      ' 12,345,678,901 100%    1.50GB/s    0:00:07 (xfr#1, to-chk=0/2)',
      12_345_678_901,
      1_610_612_736,
    ],
    ['  1.024 3% 10.00MB/s 0:00:01', 1024, 10_485_760],
  ])('%j', (text, bytes, rate) => {
    expect(parseProgress(text)).toEqual({ bytes, rate });
  });

  test.each(['', 'rsync: connection closed', 'sending incremental file list', '42%  1kB/s'])(
    '%j is none',
    (text) => {
      expect(parseProgress(text)).toBeUndefined();
    },
  );
});

describe('what the other end says', () => {
  test('is checked before it is used', () => {
    const fields = new Fields({
      text: 'a',
      nul: 'a\0b',
      list: ['x', 1],
      id: '../../../../etc',
      n: '1',
    });
    expect(fields.text('text')).toBe('a');
    expect(() => fields.text('nul')).toThrow('nul is no text');
    expect(() => fields.text('constructor')).toThrow('constructor is no text');
    expect(() => fields.texts('list')).toThrow('list has no texts');
    expect(() => fields.id('id')).toThrow('id is no number of a move');
    expect(() => fields.number('n')).toThrow('n is no number');
    expect(() => fields.flag('text')).toThrow('text is not true or false');
    expect(() => fields.oneOf('text', ['b', 'c'])).toThrow('text is none of b, c');
    expect(() => Fields.parse('[]')).toThrow('it is no object');
  });

  test('is an object or an error of ours, whatever it is', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          expect(Fields.parse(text)).toBeInstanceOf(Fields);
        } catch (error) {
          expect(error).toMatchObject({ code: 'Failed' });
        }
      }),
    );
  });

  test('comes in lines, wherever it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ n: fc.integer(), text: fc.string() }), { maxLength: 5 }),
        fc.array(fc.nat(30), { minLength: 1, maxLength: 5 }),
        async (values, sizes) => {
          const bytes = Buffer.from(values.map((value) => `${JSON.stringify(value)}\n`).join(''));
          const stream = new PassThrough();
          const found: unknown[] = [];
          const read = eachLine(stream, (fields) => {
            found.push({ n: fields.number('n'), text: fields.optionalText('text') });
          });
          for (let at = 0, turn = 0; at < bytes.length; turn++) {
            const size = (sizes[turn % sizes.length] ?? 0) + 1;
            stream.write(bytes.subarray(at, at + size));
            at += size;
          }
          stream.end();
          await read.catch((error: unknown) => {
            // NUL is in no text that anybody needs.
            if (!values.some(({ text }) => text.includes('\0'))) throw error;
          });
          if (!values.some(({ text }) => text.includes('\0'))) expect(found).toEqual(values);
        },
      ),
    );
  });

  test('ends when nothing comes any more, and not before', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const input = new PassThrough();
      let lines = 0;
      const end = expect(eachLine(input, () => lines++, 1000)).rejects.toThrow('says nothing');
      for (let n = 1; n <= 3; n++) {
        input.write('{}\n');
        while (lines < n) await setImmediate();
        vi.advanceTimersByTime(900);
        expect(input.destroyed).toBe(false);
      }
      vi.advanceTimersByTime(100);
      await end;
      expect(input.destroyed).toBe(true);
    } finally {
      vi.useRealTimers();
    }
  });

  test('is no line without an end', async () => {
    const stream = new PassThrough();
    const read = eachLine(stream, () => undefined);
    const chunk = Buffer.alloc(1024 * 1024, 'x');
    for (let count = 0; count < 20 && !stream.destroyed; count++) stream.write(chunk);
    await expect(read).rejects.toThrow('a line is too long');
  });
});

test.each([
  ['web', true],
  ['my web @ home', true],
  ['-n', true],
  ['', false],
  ['.', false],
  ['..', false],
  ['.lockerd-move-0123456789abcdef', false],
  ['a/b', false],
  ['a'.repeat(300), false],
])('%j as the name of a container at the target', (name, isOne) => {
  expect(isName(name)).toBe(isOne);
});

describe('what a container has outside its directory', () => {
  const parse = (dropIns: unknown, limits: unknown = {}) =>
    parseBelongings(new Fields({ settings: 'a = b\n', dropIns, limits }));

  test('becomes files of its unit and its settings', () => {
    const belongings = parse({ 'override.conf': 'x' }, { '50-TasksMax.conf': 'y' });
    expect(pathsOf('my web', belongings)).toEqual([
      '/etc/lockerd/containers/my web.conf',
      String.raw`/etc/systemd/system/lxc@my\x20web.service.d/override.conf`,
      String.raw`/etc/systemd/system.control/lxc@my\x20web.service.d/50-TasksMax.conf`,
    ]);
  });

  test.each(['../x.conf', 'a/b.conf', '.hidden.conf', 'x', 'x.conf/', '', 'a\nb.conf', '/x.conf'])(
    'has no file %j',
    (name) => {
      expect(() => parse({ [name]: '' })).toThrow('cannot be drop-ins');
      expect(() => parse({}, { [name]: '' })).toThrow('cannot be drop-ins');
    },
  );

  test('has neither many files nor large ones', () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`${n}.conf`, '']));
    expect(() => parse(many)).toThrow('cannot be drop-ins');
    expect(() => parse({ 'x.conf': 'x'.repeat(64 * 1024 + 1) })).toThrow('cannot be drop-ins');
    expect(() => parse({ 'x.conf': 1 })).toThrow('dropIns has no texts');
    expect(() => parse([])).toThrow('dropIns is no object');
  });
});

test('unfinished lockers have names that any store takes, the same in each try', () => {
  const id = '0123456789abcdef';
  const names = unfinishedNames(id, ['b', 'a']);
  expect(names).toEqual(unfinishedNames(id, ['a', 'b']));
  expect(new Set(Object.values(names)).size).toBe(2);
  expect(Object.values(names).every(isNewName)).toBe(true);
});

describe('what has changed in a tree', () => {
  const look = { seen: new Set(['f 1 100.0 a', 'd 2 100.0 dir', 'f 3 100.0 dir/b']) };

  test('is what is not as it was seen', () => {
    expect(changeOf([...look.seen], look)).toEqual({ files: [], directories: [] });
    // A rename changes the ctime of a directory, and the paths of what is in it.
    const lines = ['f 9 100.0 a', 'd 2 101.5 new', 'f 3 100.0 new/b', 'l 4 99.0 x\ny', 'd 5 1.0 '];
    expect(changeOf(lines, look)).toEqual({
      files: ['a', 'new/b', 'x\ny'],
      directories: ['new', ''],
    });
  });

  test('has all links to a file that has a new one', () => {
    const lines = ['f 1 100.0 a', 'd 8 101.0 new', 'f 3 100.0 dir/b', 'f 3 100.0 new/b'];
    expect(changeOf(lines, look)).toEqual({ files: ['dir/b', 'new/b'], directories: ['new'] });
  });

  test('is unknown where a line makes no sense', () => {
    expect(changeOf(['f 1 ? a'], look)).toBeUndefined();
    expect(changeOf(['nonsense'], look)).toBeUndefined();
    expect(parseLine('f 12 100.5 a  b ')).toEqual({
      ...{ isDirectory: false, inode: '12', ctimeMs: 100_500, path: 'a  b ' },
    });
  });
});

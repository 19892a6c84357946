import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseFstab, parseFstabLine } from '../../src/model/fstab.ts';

test('reads a table, with the line each entry stands in', () => {
  const text =
    '# a comment\n\nUUID=1 / ext4 errors=remount-ro 0 1\n\t/dev/sdb1\t/srv  xfs  nofail,x-y 0 2\n' +
    '/srv/a /b\n   # another\nalone\n/dev/sdc1 none swap sw\n';
  expect(parseFstab(text)).toEqual([
    { source: 'UUID=1', target: '/', type: 'ext4', options: ['errors=remount-ro'], line: 3 },
    { source: '/dev/sdb1', target: '/srv', type: 'xfs', options: ['nofail', 'x-y'], line: 4 },
    { source: '/srv/a', target: '/b', type: 'none', options: ['defaults'], line: 5 },
    { source: '/dev/sdc1', target: 'none', type: 'swap', options: ['sw'], line: 8 },
  ]);
});

test.each([
  ['/a\\040b', '/a b'],
  ['/a\\011b', '/a\tb'],
  ['/a\\012b', '/a\nb'],
  ['/a\\134b', '/a\\b'],
  ['/a\\134040b', '/a\\040b'],
  ['/a\\041b', '/a\\041b'],
  ['/a\\', '/a\\'],
])('%s stands for %j', (field, path) => {
  expect(parseFstabLine(`${field} /x`, 1)?.source).toBe(path);
  expect(parseFstabLine(`x ${field}`, 1)?.target).toBe(path);
});

test('any path comes back after it was written as getmntent(3) wants it', () => {
  const encode = (path: string): string =>
    path
      .replaceAll('\\', '\\134')
      .replaceAll(' ', '\\040')
      .replaceAll('\t', '\\011')
      .replaceAll('\n', '\\012');
  const characters = fc.constantFrom(...Array.from('ab \t\n\\0134#,ü'));
  fc.assert(
    fc.property(fc.string({ unit: characters }), (name) => {
      expect(parseFstabLine(`/${encode(name)} /x none bind 0 0`, 1)?.source).toBe(`/${name}`);
    }),
  );
});

import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  containerUnit,
  delayUnit,
  deviceUnit,
  escapeInstance,
  escapePath,
  groupTarget,
  mountUnit,
  netDeviceUnit,
  unitNameFits,
} from '../../src/model/unit-name.ts';

/** The real program's answers, a line each. */
function systemdEscape(args: readonly string[]): string[] {
  return execFileSync('systemd-escape', args, { encoding: 'utf8' }).replace(/\n$/, '').split(' ');
}

const generated = (unit: fc.Arbitrary<string>): string[] =>
  fc.sample(fc.string({ unit, minLength: 1, maxLength: 30 }), { numRuns: 300, seed: 7 });
const noNul = fc
  .string({ unit: 'binary', minLength: 1, maxLength: 1 })
  .filter((char) => char !== '\0');
const nameList = [
  'web',
  'web-1',
  'my web',
  '-web',
  '50%n',
  'blåbär',
  'a\\x2db',
  '日本',
  '𝕨eb',
  '"',
  "'",
];

test('a path with thousands of parts is escaped like any other', () => {
  const parts = Array.from({ length: 20_000 }, (_, index) => `p-${index}`);
  const escaped = parts.map((part) => part.replace('-', '\\x2d')).join('-');
  expect(escapePath(`/${parts.join('/')}`)).toBe(escaped);
});

test.each([
  ['/', '-'],
  ['//b', 'b'],
  ['/a/', 'a'],
  ['/a//b', 'a-b'],
  ['/a/./b', 'a-b'],
  ['/.a/b', '\\x2ea-b'],
  ['/a/.b', 'a-.b'],
  ['/-/-', '\\x2d-\\x2d'],
  ['/a b/c', 'a\\x20b-c'],
])('the path %j is escaped as %j, also a second time', (path, escaped) => {
  expect([escapePath(path), escapePath(path)]).toEqual([escaped, escaped]);
});

describe('escapeInstance', () => {
  test.each([
    ['web', 'web'],
    ['web-1', 'web-1'],
    ['-web', '-web'],
    ['web@home', 'web@home'],
    ['a:b_c.d', 'a:b_c.d'],
    ['my web', 'my\\x20web'],
    ['50%n', '50\\x25n'],
    ['a\\b', 'a\\x5cb'],
    ['å', '\\xc3\\xa5'],
    ['a/b', 'a\\x2fb'],
    ['.', '.'],
  ])('%s becomes %s', (name, escaped) => {
    expect(escapeInstance(name)).toBe(escaped);
  });

  test('is read back by systemd-escape --unescape', () => {
    const names = [...nameList, ...generated(noNul)].filter((name) => !/[-/\s]/.test(name));
    expect(systemdEscape(['--unescape', '--', ...names.map(escapeInstance)])).toEqual(names);
  });

  test('is what systemd-escape makes, but for "-", "@" and a leading dot', () => {
    const names = [...nameList, ...generated(noNul)].filter((name) => !/[-@/]|^\./.test(name));
    expect(names.map(escapeInstance)).toEqual(systemdEscape(['--', ...names]));
  });

  test('is what systemctl makes of a typed name, backslashes aside', () => {
    const names = nameList.filter((name) => !name.includes('\\')).map((name) => `lxc@${name}`);
    const mangled = systemdEscape(['--mangle', '--', ...names]);
    expect(names.map((name) => `${escapeInstance(name)}.service`)).toEqual(mangled);
  });

  test('gives different names different units', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
        fc.pre(a !== b);
        expect(escapeInstance(a)).not.toBe(escapeInstance(b));
      }),
    );
  });

  test('leaves nothing that a unit name, a path or a unit file could trip over', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (name) => {
        expect(escapeInstance(name)).toMatch(/^[0-9A-Za-z:_.@\\-]*$/);
      }),
    );
  });
});

describe('escapePath', () => {
  const paths = [
    '/',
    '/srv',
    '//srv/./lxc/',
    '/.hidden/.also',
    '/my disk',
    '/dev/disk/by-uuid/5c8a-11',
    '/Ünïcode',
    '/a\\b',
    '/...',
    '/50%',
  ];

  test('agrees with systemd-escape --path', () => {
    const more = generated(fc.constantFrom('/', '.', '-', '_', 'a', 'Z', '7', ' ', 'ü', '%', '\\'))
      .map((path) => `/${path}`)
      .filter((path) => !path.split('/').includes('..'));
    const all = [...paths, ...more];
    expect(all.map(escapePath)).toEqual(systemdEscape(['--path', '--', ...all]));
  });
});

test('units are named after what they stand for', () => {
  expect(containerUnit('my web')).toBe('lxc@my\\x20web.service');
  expect(groupTarget('a/b')).toBe('lxc-group@a\\x2fb.target');
  expect(delayUnit('web-1')).toBe('lxc-delay@web-1.service');
  expect(mountUnit('/srv/my-data')).toBe('srv-my\\x2ddata.mount');
  expect(mountUnit('/')).toBe('-.mount');
  expect(deviceUnit('/dev/vg0/root')).toBe('dev-vg0-root.device');
  expect(netDeviceUnit('br-lan')).toBe('sys-subsystem-net-devices-br\\x2dlan.device');
});

test('a unit name fits when its drop-in directory does', () => {
  expect(unitNameFits('x'.repeat(253))).toBe(true);
  expect(unitNameFits('x'.repeat(254))).toBe(false);
});

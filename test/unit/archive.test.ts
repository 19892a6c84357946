import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { ArchiveReader, parsePax } from '../../src/archive/check-tar.ts';
import { formatManifest, headerSum, memberOf, members } from '../../src/archive/format.ts';
import { relocateConfig } from '../../src/archive/relocate.ts';

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'archive-'));
afterAll(() => {
  fs.rmSync(directory, { recursive: true });
});

const manifest = memberOf(
  members.manifest,
  Buffer.from(
    formatManifest({
      name: 'web',
      lxc: '5.0.2',
      directory: '/var/lib/lxc/web',
      rootfs: 'rootfs',
      config: '',
      needs: [],
      idmaps: [],
      lockers: [],
      autostart: false,
      wasRunning: false,
      belongings: { settings: undefined, dropIns: {}, limits: {} },
    }),
  ),
);

/** A header like that of memberOf(), of any kind. */
function entry(
  name: string,
  type: string,
  options: { link?: string; content?: Buffer; size?: number } = {},
): Buffer {
  const { link = '', content = Buffer.alloc(0) } = options;
  const { size = content.length } = options;
  const member = memberOf(name, content);
  member.write(type, 156, 'latin1');
  member.write(link, 157, 'latin1');
  member.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  member.write(`${headerSum(member).toString(8).padStart(6, '0')}\0`, 148, 'latin1');
  return member;
}

function pax(...records: [key: string, value: string][]): Buffer {
  const text = records.map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = rest.length + 1;
    while (String(length).length + rest.length !== length) length++;
    return `${length}${rest}`;
  });
  return entry('pax', 'x', { content: Buffer.from(text.join(''), 'latin1') });
}

const tree = [
  entry('container/', '5'),
  entry('container/config', '0', { content: Buffer.from('# x\n') }),
  entry('container/rootfs/', '5'),
];

/** Reads parts as one archive with the right checksum, in pieces of a size. */
function read(parts: readonly Buffer[], pieceBytes = 1000, end = Buffer.alloc(1024)) {
  const given: Buffer[] = [];
  const reader = new ArchiveReader({
    manifest: () => undefined,
    tree: (bytes) => given.push(Buffer.from(bytes)),
  });
  const push = (bytes: Buffer): void => {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      reader.push(bytes.subarray(at, at + pieceBytes));
    }
  };
  for (const part of parts) push(part);
  push(memberOf(members.checksum, Buffer.from(`${reader.digest()}\n`)));
  push(end);
  reader.end();
  return { reader, given: Buffer.concat(given) };
}

describe('an archive', () => {
  test('of all kinds of files, in pieces of any size, is given on as it was', () => {
    const parts = [
      ...tree,
      entry('container/rootfs/a', '0', { content: Buffer.alloc(700, 'a') }),
      entry('container/rootfs/b', '1', { link: 'container/rootfs/a' }),
      entry('container/rootfs/c', '2', { link: '/etc/passwd' }),
      entry('container/rootfs/null', '3'),
      entry('container/rootfs/disk', '4'),
      entry('container/rootfs/fifo', '6'),
      pax(['path', `container/rootfs/${'n'.repeat(200)}`], ['SCHILY.xattr.user.note', 'a=b\nc']),
      entry('container/rootfs/nnn', '0'),
      pax(
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.name', 'container/rootfs/holes'],
        ['GNU.sparse.realsize', '20971520'],
      ),
      entry('container/rootfs/GNUSparseFile.1/holes', '0', { content: Buffer.alloc(512, '0\n') }),
    ];
    for (const pieceBytes of [1, 511, 512, 513, 100_000]) {
      const { reader, given } = read([manifest, ...parts], pieceBytes);
      expect(given.equals(Buffer.concat(parts))).toBe(true);
      expect(reader.size).toEqual({ files: 11, bytes: 11 * 4096 });
      expect(reader.hasDirectory('rootfs')).toBe(true);
      expect(reader.hasDirectory('rootfs/a')).toBe(false);
      expect(reader.checksum).toMatch(/^[0-9a-f]{64}$/);
    }
  });

  const hostile: readonly [string, readonly Buffer[], RegExp][] = [
    ['a path upwards', [entry('container/../../etc/passwd', '0')], /is no path/],
    ['an absolute path', [entry('/etc/passwd', '0')], /is no path/],
    ['a path beside the tree', [entry('other', '0')], /is no path/],
    ['an empty part', [entry('container//x', '0')], /is no path/],
    [
      'a long path upwards',
      [pax(['path', 'container/../x']), entry('container/x', '0')],
      /is no path/,
    ],
    [
      'a path upwards of a file with holes',
      [
        pax(
          ['GNU.sparse.major', '1'],
          ['GNU.sparse.minor', '0'],
          ['GNU.sparse.realsize', '1'],
          ['GNU.sparse.name', '/etc/passwd'],
        ),
        entry('container/x', '0'),
      ],
      /is no path/,
    ],
    [
      'a file below a link',
      [entry('container/x', '2', { link: '/etc' }), entry('container/x/passwd', '0')],
      /not in a directory/,
    ],
    [
      'a link in the place of a directory',
      [entry('container/rootfs', '2', { link: '/etc' })],
      /twice/,
    ],
    ['a hard link upwards', [entry('container/x', '1', { link: '../etc/passwd' })], /is no path/],
    [
      'a hard link through a link',
      [
        entry('container/x', '2', { link: '/etc' }),
        entry('container/y', '1', { link: 'container/x/passwd' }),
      ],
      /not in a directory/,
    ],
    [
      'a long hard link upwards',
      [pax(['linkpath', '/etc/passwd']), entry('container/y', '1', { link: 'container/config' })],
      /is no path/,
    ],
    ['a link in the place of the tree', [entry('container', '2', { link: '/etc' })], /twice/],
    ['a global header', [entry('container/x', 'g')], /is of type/],
    ['a long name of GNU', [entry('container/x', 'L')], /is of type/],
    ['holes of GNU', [entry('container/x', 'S')], /is of type/],
    ['a volume', [entry('container/x', 'M')], /is of type/],
    [
      'content of a device',
      [entry('container/x', '3', { content: Buffer.from('x') })],
      /has content/,
    ],
    [
      'an unknown record',
      [pax(['GNU.volume.label', 'x']), entry('container/x', '0')],
      /a header has/,
    ],
    [
      'a record twice',
      [pax(['path', 'container/x'], ['path', '/x']), entry('container/x', '0')],
      /twice/,
    ],
    ['two headers', [pax(['path', 'container/x']), pax(['uid', '0'])], /follow each other/],
    ['a size that is no number', [pax(['size', '-1']), entry('container/x', '0')], /no number/],
    [
      'a size that a number cannot be',
      [pax(['size', '99999999999999999']), entry('container/x', '0')],
      /no number/,
    ],
    ['an endless size', [pax(['size', '9007199254740991']), entry('container/x', '0')], /middle/],
    [
      'a name that is too long',
      [pax(['path', `container/${'x'.repeat(256)}`]), entry('container/x', '0')],
      /is no path/,
    ],
  ];
  test.each(hostile)('with %s is refused', (_, parts, why) => {
    expect(() => read([manifest, ...tree, ...parts])).toThrow(why);
  });

  test.each([
    ['no manifest', tree, /does not begin with/],
    ['no configuration', [manifest, entry('container/', '5')], /no configuration/],
    [
      'a link as configuration',
      [manifest, entry('container/', '5'), entry('container/config', '2', { link: '/x' })],
      /no configuration/,
    ],
    ['nothing', [manifest], /no configuration/],
    ['a second manifest', [manifest, manifest], /is no path/],
    [
      'a manifest that is too large',
      [entry(members.manifest, '0', { size: 20 * 1024 * 1024 })],
      /too large/,
    ],
  ] as const)('with %s is refused', (_, parts, why) => {
    expect(() => read([...parts])).toThrow(why);
  });

  test('with something behind its end is refused', () => {
    const end = Buffer.concat([Buffer.alloc(1024), entry('container/x', '0')]);
    expect(() => read([manifest, ...tree], 1000, end)).toThrow(/follows its end/);
  });

  test('with any other byte is refused', () => {
    const reader = new ArchiveReader({ manifest: () => undefined });
    const all = [manifest, ...tree];
    for (const part of all) reader.push(part);
    const whole = Buffer.concat([
      ...all,
      memberOf(members.checksum, Buffer.from(`${reader.digest()}\n`)),
    ]);
    fc.assert(
      fc.property(fc.nat(whole.length - 1024), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = Buffer.from(whole);
        changed[at] = (changed[at] ?? 0) ^ change;
        const second = new ArchiveReader({ manifest: () => undefined });
        expect(() => {
          second.push(changed);
          second.end();
        }).toThrow();
      }),
    );
  });

  test('of noise is refused with an error of ours, and gives nothing on', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 3000 }), (noise) => {
        const given: Buffer[] = [];
        const reader = new ArchiveReader({
          manifest: () => undefined,
          tree: (bytes) => given.push(bytes),
        });
        let error: unknown;
        try {
          reader.push(Buffer.from(noise));
          reader.end();
        } catch (caught) {
          error = caught;
        }
        expect(error).toMatchObject({ code: 'Failed' });
        expect(given).toEqual([]);
      }),
    );
  });

  test('that tar(1) has written passes', () => {
    const root = path.join(directory, 'container');
    fs.mkdirSync(path.join(root, 'rootfs', 'd'.repeat(200)), { recursive: true });
    fs.writeFileSync(path.join(root, 'config'), '# x\n');
    fs.writeFileSync(path.join(root, 'rootfs', 'd'.repeat(200), 'é\n'), 'x');
    fs.linkSync(path.join(root, 'config'), path.join(root, 'rootfs', 'l'.repeat(150)));
    fs.symlinkSync(`/${'t'.repeat(300)}`, path.join(root, 'rootfs', 'link'));
    fs.writeFileSync(path.join(root, 'rootfs', 'holes'), '');
    fs.truncateSync(path.join(root, 'rootfs', 'holes'), 10_000_000);
    const { stdout } = spawnSync(
      'tar',
      [
        '-c',
        '--format=posix',
        '--pax-option=delete=atime,delete=ctime',
        '--blocking-factor=1',
        '--sparse',
        'container',
      ],
      {
        cwd: directory,
        env: { PATH: process.env['PATH'], LC_ALL: 'C' },
        maxBuffer: 64 * 1024 * 1024,
      },
    );
    const { reader } = read([manifest, stdout.subarray(0, -1024)], 4096);
    expect(reader.size.files).toBe(8);
  });

  test('has records that tar writes, and no others', () => {
    expect(() => parsePax(Buffer.from('9 path=a'))).toThrow(/no list/);
    expect(() => parsePax(Buffer.from('8 path=a\n'))).toThrow(/no list/);
    expect(() => parsePax(Buffer.from('x path=a\n'))).toThrow(/no list/);
    expect(() => parsePax(Buffer.from('0 path=a\n'))).toThrow(/no list/);
    expect([...parsePax(Buffer.from('9 path=a\n8 uid=0\n'))]).toEqual([
      ['path', 'a'],
      ['uid', '0'],
    ]);
  });
});

describe('a configuration in another place', () => {
  const config = `# of /var/lib/lxc/web
lxc.rootfs.path = overlay:/var/lib/lxc/web/lower:/var/lib/lxc/web/upper
lxc.mount.entry = /var/lib/lxc/web-data data none bind 0 0
lxc.hook.start = /var/lib/lxc/web/hook "/var/lib/lxc/web/x"
lxc.uts.name = web
lxc.net.0.hwaddr = 00:16:3e:00:00:01
`;
  const from = { name: 'web', directory: '/var/lib/lxc/web' };

  test('has its paths, its name and addresses of its own', () => {
    const to = { name: 'new', directory: '/srv/lxc/new' };
    const lines = relocateConfig(config, { from, to }).split('\n');
    expect(lines.slice(0, 5)).toEqual([
      '# of /srv/lxc/new',
      'lxc.rootfs.path = overlay:/srv/lxc/new/lower:/srv/lxc/new/upper',
      'lxc.mount.entry = /var/lib/lxc/web-data data none bind 0 0',
      'lxc.hook.start = /srv/lxc/new/hook "/srv/lxc/new/x"',
      'lxc.uts.name = new',
    ]);
    expect(lines[5]).toMatch(/^lxc\.net\.0\.hwaddr = 00:16:3e(?::[0-9a-f]{2}){3}$/);
    expect(lines[5]).not.toContain('00:00:01');
  });

  test('is as it was where neither changes', () => {
    expect(relocateConfig(config, { from, to: from })).toBe(config);
  });
});

/** The compiled generator says and writes the same as the source on Node, whatever it finds. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { main } from '../../src/generator/main.ts';
import { compiledGenerator } from './cases.ts';

const work = mkdtempSync(join(tmpdir(), 'lockerd-compiled-'));
afterAll(() => {
  rmSync(work, { recursive: true });
});

/** A name or value as bytes, for not all of them are text. */
const odd = fc.constantFrom(
  'ü',
  '€ uro',
  '😀',
  '\u2028',
  '%n',
  '"q',
  "it's",
  'a\\b',
  '$HOME',
  ';x',
  '\t',
  '\r',
  '\x01',
  '\x7f',
  '#c',
  '..',
  '.',
  '-x',
  '_vm',
  'x'.repeat(100),
);
const bad = fc.constantFrom(
  [0xff],
  [0x80, 0x80],
  [0xe2, 0x82],
  [0xed, 0xa0, 0x80],
  [0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80],
  [0xf0, 0x9f, 0x98],
  [0xc0, 0xaf],
  [0xf5, 0x80],
  [0xef, 0xbf, 0xbd],
  [0],
);
const plain = fc.stringMatching(/^[a-z0-9]{1,6}$/);
const bytes = fc
  .array(
    fc.oneof(
      { weight: 8, arbitrary: plain.map((text) => Buffer.from(text)) },
      { weight: 2, arbitrary: odd.map((text) => Buffer.from(text)) },
      { weight: 1, arbitrary: bad.map((list) => Buffer.from(list)) },
    ),
    { minLength: 1, maxLength: 4 },
  )
  .map((parts) => Buffer.concat(parts));
/** What a file can be named. */
const fileName = bytes.map((name) =>
  Buffer.from(name.filter((byte) => byte !== 0 && byte !== 0x2f)).subarray(0, 255),
);
const containerName = fc.oneof(
  { weight: 3, arbitrary: plain.map((s) => Buffer.from(s)) },
  fileName,
);

const path = fc.constantFrom(
  '/srv/data',
  '/srv/link/x',
  '/var/lib/lxc/a/rootfs',
  'dir:/srv/tree',
  'lvm:/dev/vg/x',
  'overlay:/srv/a:/srv/b',
  'zfs:tank/x',
  'tank/x',
  'loop:/srv/image',
  '/dev/mapper/x',
  '//srv/./data/',
  '/srv/../data',
);
const value = fc.oneof(
  path.map((text) => Buffer.from(text)),
  bytes,
  fc
    .constantFrom(
      '',
      '0',
      '1',
      '-1',
      '07',
      '0x10',
      '5000000000',
      'SIGPWR',
      'SIGRTMIN+3',
      '99',
      'veth',
      'br0',
      'lxcbr0',
      'empty',
      '512M',
      'max',
      'on',
      'a b',
      'u 0 100000 65536',
    )
    .map((text) => Buffer.from(text)),
  path.map((text) => Buffer.from(`${text} srv none bind,optional 0 0`)),
  path.map((text) => Buffer.from(`${text} mnt ext4 defaults`)),
);
const key = fc.oneof(
  fc
    .constantFrom(
      'lxc.rootfs.path',
      'lxc.rootfs',
      'lxc.mount.entry',
      'lxc.mount.fstab',
      'lxc.net.0.type',
      'lxc.net.0.link',
      'lxc.network.type',
      'lxc.network.link',
      'lxc.start.auto',
      'lxc.start.order',
      'lxc.start.delay',
      'lxc.group',
      'lxc.signal.halt',
      'lxc.haltsignal',
      'lxc.signal.reboot',
      'lxc.init.cmd',
      'lxc.uts.name',
      'lxc.idmap',
      'lxc.hook.pre-start',
      'lxc.hook',
      'lxc.cgroup.memory.limit_in_bytes',
      'lxc.cgroup2.memory.max',
      'lxc.cgroup2.memory.high',
      'lxc.cgroup2',
      'lxc.log.file',
      'lxc.apparmor.profile',
      'lxc.rootfs.pth',
      'lxc.net',
      'lxc.net.1',
      'lxc.cap.drop',
      'lxc.environment',
    )
    .map((text) => Buffer.from(text)),
  bytes.map((text) => Buffer.concat([Buffer.from('lxc.'), text])),
);
const include = fc
  .constantFrom(
    '/etc/lxc/one.conf',
    '/etc/lxc/two.conf',
    '/etc/lxc/dir',
    '/etc/lxc/dir/',
    '/etc/lxc/none.conf',
    'etc/lxc/one.conf',
  )
  .map((file) => Buffer.from(`lxc.include = ${file}`));
const line = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(key, value).map(([k, v]) => Buffer.concat([k, Buffer.from(' = '), v])),
  },
  { weight: 1, arbitrary: include },
  { weight: 1, arbitrary: bytes },
  { weight: 1, arbitrary: bytes.map((text) => Buffer.concat([Buffer.from('# '), text])) },
);
const config = fc
  .array(line, { maxLength: 8 })
  .map((lines) => Buffer.concat(lines.flatMap((one) => [one, Buffer.from('\n')])));
const settings = fc
  .array(
    fc.constantFrom(
      'ready = booted',
      'lockers = data:ro scratch',
      'wormhole = no',
      'strict-lockers = no',
      'idmap-lockers = yes',
      'stop-timeout = 5s',
      'stop-timeout = soon',
      'log-level = debug',
      'autoballoon = 64M 1G',
      'strict-needs = yes',
      'autostart = yes',
      'needs = web db',
      'wants = db gone\\040one',
      'machined = no',
      'journal = host',
      'nonsense = 1',
      '[section]',
      'lockers[] = x',
      'locker-directory = /srv/link',
      'shared-lockers = data:ro',
    ),
    { maxLength: 4 },
  )
  .map((lines) => Buffer.from(`${lines.join('\n')}\n`));
const fstab = fc.array(
  fc.constantFrom(
    '/dev/vg/d /lockers/data ext4 nofail 0 2',
    '/dev/vg/s /lockers/scratch xfs nosuid,nodev',
    '/dev/x /srv/data ext4 noauto',
    '/dev/y /srv ext4',
    '/dev/z /lockers/b\\040c ext4 ro',
    'tank/x /srv/link zfs',
    '/dev/vg/a /lockers/a',
    '# none',
    'junk',
  ),
  { maxLength: 6 },
);
const rootOf = fc.record({
  containers: fc.array(
    fc.record({
      name: containerName,
      config,
      settings: fc.option(settings),
      init: fc.constantFrom('none', 'systemd', 'sysv', 'loop'),
    }),
    { maxLength: 4 },
  ),
  one: config,
  two: config,
  inDirectory: config,
  host: fc.option(settings),
  fstab,
  defaults: fc.constantFrom(
    '',
    'LXC_AUTO="false"\n',
    'BOOTGROUPS="onboot,,a"\n',
    'OPTIONS="-A -g x"\n',
  ),
  script: fc.option(plain),
});

type Root = typeof rootOf extends fc.Arbitrary<infer T> ? T : never;

function at(root: string, name: string | Buffer, rest = ''): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(name), Buffer.from(rest)]);
}

function makeRoot(root: string, made: Root): void {
  const write = (name: string, text: string | Buffer): void => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  };
  write('etc/fstab', made.fstab.join('\n'));
  write('etc/default/lxc', made.defaults);
  write('etc/lxc/one.conf', made.one);
  write('etc/lxc/two.conf', made.two);
  write('etc/lxc/dir/x.conf', made.inDirectory);
  write('srv/tree/usr/bin/x', '');
  symlinkSync('data', join(root, 'srv/link'));
  if (made.host !== null) write('etc/lockerd/lockerd.conf', made.host);
  if (made.script !== null) write(`etc/init.d/lxc.${made.script}`, '');
  mkdirSync(join(root, 'var/lib/lxc'), { recursive: true });
  mkdirSync(join(root, 'etc/lockerd/containers'), { recursive: true });
  for (const { name, config, settings, init } of made.containers) {
    const directory = at(`${root}/var/lib/lxc`, name);
    if (name.length === 0 || ['.', '..'].includes(name.toString()) || existsSync(directory))
      continue;
    mkdirSync(directory);
    writeFileSync(Buffer.concat([directory, Buffer.from('/config')]), config);
    if (init !== 'none') {
      const sbin = Buffer.concat([directory, Buffer.from('/rootfs/sbin')]);
      mkdirSync(sbin, { recursive: true });
      const target = { systemd: '/lib/systemd/systemd', sysv: 'init.sysv', loop: 'init' }[init];
      symlinkSync(target, Buffer.concat([sbin, Buffer.from('/init')]));
    }
    if (settings !== null && name.length < 200) {
      writeFileSync(at(`${root}/etc/lockerd/containers`, name, '.conf'), settings);
    }
  }
}

/** What the source says here and now. */
function onNode(root: string): { stdout: string; stderr: string; status: number } {
  const said = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((stream) =>
    vi.spyOn(process[stream], 'write').mockImplementation((text) => {
      // As the stream would write it: half a character is none.
      said[stream] += Buffer.from(String(text)).toString();
      return true;
    }),
  );
  try {
    return { status: main(['--dry-run'], { LOCKERD_ROOT: root }), ...said };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

function onCompiled(root: string): ReturnType<typeof onNode> {
  const { stdout, stderr, status } = spawnSync(compiledGenerator, ['--dry-run'], {
    encoding: 'utf8',
    env: { LOCKERD_ROOT: root },
    maxBuffer: 1 << 26,
  });
  return { stdout, stderr, status: status ?? -1 };
}

describe.skipIf(!existsSync(compiledGenerator))('compiled', () => {
  beforeAll(() => {
    execFileSync(compiledGenerator, ['--version']);
  });

  test(
    'it escapes and quotes each byte the same, wherever that stands',
    { timeout: 60_000 },
    () => {
      const root = join(work, 'bytes');
      const around = [...Array(256).keys()].filter((byte) => ![0, 0x0a, 0x2f].includes(byte));
      const containers = around.flatMap((byte) =>
        [
          [byte, 0x61],
          [0x61, byte, 0x62],
          [0x61, byte],
        ].map((bytes) => {
          const name = Buffer.from(bytes);
          const path = Buffer.concat([Buffer.from('/srv/'), name]);
          const lines = [
            ['lxc.rootfs.path = ', path],
            ['lxc.group = ', name],
            ['lxc.net.0.type = veth\nlxc.net.0.link = ', name],
            ['lxc.mount.entry = ', path, ' mnt none bind 0 0'],
            ['lxc.mount.entry = /dev/', name, ' mnt ext4 defaults 0 0'],
          ];
          const text = lines.flatMap((line) => [...line, '\n']).map((part) => Buffer.from(part));
          const config = Buffer.concat(text);
          return { name, config, settings: null, init: 'none' as const };
        }),
      );
      const empty = Buffer.from('');
      makeRoot(root, {
        ...{ containers, one: empty, two: empty, inDirectory: empty, host: null },
        ...{ fstab: [], defaults: '', script: null },
      });
      expect(onCompiled(root)).toEqual(onNode(root));
    },
  );

  test('it makes the same of 1000 hosts', { timeout: 600_000 }, () => {
    let count = 0;
    fc.assert(
      fc.property(rootOf, (made) => {
        const root = join(work, String(count++));
        makeRoot(root, made);
        const [expected, found] = [onNode(root), onCompiled(root)];
        rmSync(root, { recursive: true });
        expect(found).toEqual(expected);
      }),
      { numRuns: 1000 },
    );
  });
});

import { describe, expect, test } from 'vitest';

import { splitLxcText } from '../../src/host/grammar.ts';
import { parseLxcConfig } from '../../src/host/parse-lxc.ts';
import type { LxcFile } from '../../src/host/lxc-source.ts';
import type { LxcConfig } from '../../src/model/lxc-config.ts';
import { formatProblem } from '../../src/model/problem.ts';

const PATH = '/var/lib/lxc/web/config';

function file(text: string, path = PATH, files: LxcFile[][] = []): LxcFile {
  const includes = files.map((list) => ({ path: '/inc', exists: true, files: list }));
  return { path, text: splitLxcText(text), badLines: new Set(), includes };
}

function parse(text: string, ...files: LxcFile[][]): LxcConfig {
  return parseLxcConfig({ file: file(text, PATH, files), paths: [] });
}

/** The problems as an admin sees them, without the file they all share. */
function problems(text: string): string[] {
  return parse(text).problems.map((p) => formatProblem(p).replace(`${PATH}:`, ''));
}

function warnings(text: string): string[] {
  return parse(text).warnings.map((p) => formatProblem(p).replace(`${PATH}:`, ''));
}

test('an empty file has LXC’s defaults', () => {
  expect(parse('')).toEqual({
    file: PATH,
    startAuto: false,
    startOrder: 0,
    startDelaySec: 0,
    groups: [],
    mountEntries: [],
    hooks: [],
    idmaps: [],
    nets: [],
    memory: [],
    files: [PATH],
    problems: [],
    warnings: [],
  });
});

test('every value comes with its place', () => {
  const config = parse(
    [
      'lxc.rootfs.path = dir:/srv/web',
      'lxc.init.cmd = /sbin/init',
      'lxc.uts.name = web',
      'lxc.signal.halt = SIGRTMIN+3',
      'lxc.start.auto = 1',
      'lxc.start.order = -5',
      'lxc.start.delay = 0x10',
      'lxc.group = onboot  web\tdb',
      'lxc.mount.entry = /a b none bind 0 0',
      'lxc.mount.fstab = /etc//web.fstab/',
      'lxc.net.1.type = veth',
      'lxc.net.1.link = br1',
      'lxc.net.0.flags = up',
      'lxc.hook.mount = /a b',
      'lxc.hook.autodev = /c',
      'lxc.hook.pre-start = /d',
      'lxc.idmap = u 0 100000 65536',
    ].join('\n'),
  );
  const at = <T>(value: T, line: number) => ({ value, file: PATH, line });
  expect(config).toEqual({
    file: PATH,
    rootfsPath: at('dir:/srv/web', 1),
    initCmd: at('/sbin/init', 2),
    utsName: at('web', 3),
    haltSignal: at(37, 4),
    startAuto: true,
    startOrder: -5,
    startDelaySec: 16,
    groups: ['onboot', 'web', 'db'],
    mountEntries: [at('/a b none bind 0 0', 9)],
    mountFstab: at('/etc/web.fstab', 10),
    hooks: [at('/a b', 14), at('/d', 16)],
    makers: [{ key: 'lxc.hook.pre-start', hook: at('/d', 16) }],
    idmaps: [at('u 0 100000 65536', 17)],
    nets: [{ index: 0 }, { index: 1, type: at('veth', 11), link: at('br1', 12) }],
    memory: [],
    files: [PATH],
    problems: [],
    warnings: [],
  });
});

describe('repeats and clears', () => {
  test('the last scalar wins, lists grow', () => {
    const config = parse(
      'lxc.uts.name=a\nlxc.uts.name=b\nlxc.group=x\nlxc.group=y x\n' +
        'lxc.mount.entry=1\nlxc.mount.entry=2',
    );
    expect(config.utsName).toEqual({ value: 'b', file: PATH, line: 2 });
    expect(config.groups).toEqual(['x', 'y', 'x']);
    expect(config.mountEntries.map((entry) => entry.value)).toEqual(['1', '2']);
  });

  test('an empty value takes hooks of its kind back, and lxc.hook all', () => {
    const hooks = 'lxc.hook.mount=a\nlxc.hook.post-stop=b\n';
    const left = (text: string) => parse(hooks + text).hooks.map(({ value }) => value);
    expect(left('lxc.hook.mount=')).toEqual(['b']);
    expect(left('lxc.hook=')).toEqual([]);
    expect(left('lxc.hook.mount=c')).toEqual(['a', 'b', 'c']);
  });

  test('an empty value takes everything back', () => {
    const keys = [
      ['lxc.rootfs.path', '/a'],
      ['lxc.init.cmd', '/a'],
      ['lxc.uts.name', 'a'],
      ['lxc.signal.halt', '9'],
      ['lxc.start.auto', '1'],
      ['lxc.start.order', '1'],
      ['lxc.start.delay', '1'],
      ['lxc.group', 'a'],
      ['lxc.mount.entry', 'a'],
      ['lxc.net.0.type', 'veth'],
    ];
    const set = keys.map(([key, value]) => `${String(key)}=${String(value)}`).join('\n');
    const clear = keys.map(([key]) => `${String(key)}=""`).join('\n');
    expect(parse(`${set}\n${clear}\nlxc.net=`)).toEqual(parse(''));
  });

  test('a storage type outlives the path it came with', () => {
    const path = (text: string) => parse(text).rootfsPath?.value;
    expect(path('lxc.rootfs.path=overlay:/a:/b\nlxc.rootfs.path=/c')).toBe('overlay:/c');
    expect(path('lxc.rootfs.path=lvm:/a\nlxc.rootfs.path=\nlxc.rootfs.path=/c')).toBe('lvm:/c');
    expect(path('lxc.rootfs.path=lvm:/a\nlxc.rootfs.path=:/c')).toBe('/c');
    expect(path('lxc.rootfs.path=/a\nlxc.rootfs.path=dir:')).toBeUndefined();
    expect(path('lxc.rootfs.path=:/a:b')).toBe(':/a:b');
  });

  test.each([
    ['/a//b/./c/', '/a/b/c'],
    ['/', '/'],
    ['//.//', '/'],
    ['./a', 'a'],
    ['./', '.'],
    ['.', '.'],
    ['../a/..', '../a/..'],
    ['/.a/...', '/.a/...'],
  ])('the path %s is kept as %s', (path, kept) => {
    expect(parse(`lxc.rootfs.path=${path}`).rootfsPath?.value).toBe(kept);
    expect(parse(`lxc.mount.fstab=${path}`).mountFstab?.value).toBe(kept);
  });
});

describe('interfaces', () => {
  const nets = (text: string) =>
    parse(text).nets.map((net) => [net.index, net.type?.value, net.link?.value]);

  test('are ordered by number', () => {
    expect(nets('lxc.net.10.type=veth\nlxc.net.9.type=phys\nlxc.net.010.link=x')).toEqual([
      [9, 'phys', undefined],
      [10, 'veth', 'x'],
    ]);
  });

  test('lose their link when the type is set again', () => {
    expect(nets('lxc.net.0.link=br0\nlxc.net.0.type=veth')).toEqual([[0, 'veth', undefined]]);
    expect(nets('lxc.net.0.type=veth\nlxc.net.0.link=br0\nlxc.net.0.link=')).toEqual([
      [0, 'veth', undefined],
    ]);
  });

  test('can be removed, with a number as C writes it', () => {
    const eleven = Array.from({ length: 11 }, (_, i) => `lxc.net.${i}.type=veth\n`).join('');
    const left = (text: string) => parse(eleven + text).nets.map((net) => net.index);
    expect(left('lxc.net.3=')).not.toContain(3);
    expect(left('lxc.net.010=')).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 9, 10]);
    expect(left('lxc.net.0xA=')).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(left('lxc.net.99=')).toHaveLength(11);
    expect(left('lxc.net=')).toEqual([]);
  });

  test('a link that is too long is cut as LXC cuts it', () => {
    const text = 'lxc.net.0.link=abcdefghijklm\u00e4\u00e4';
    expect(nets(text)).toEqual([[0, undefined, 'abcdefghijklm\u00e4']]);
    expect(warnings(text)).toEqual([
      '1: lxc.net.0.link is longer than 15 bytes, so LXC takes "abcdefghijklm\u00e4"; ' +
        'write the name of a network interface',
    ]);
  });

  test('a pattern of a physical interface is no name', () => {
    expect(nets('lxc.net.0.type=phys\nlxc.net.0.link=eth+')).toEqual([[0, 'phys', undefined]]);
    expect(nets('lxc.net.0.type=veth\nlxc.net.0.link=br+')).toEqual([[0, 'veth', 'br+']]);
  });
});

describe('problems', () => {
  test.each([
    [
      'lxc.uts.name',
      '1: a line that starts with "lxc." has no "="; write KEY = VALUE, or put a # in front of the line',
    ],
    ['\nlxc.utsnam=', '2: unknown key "lxc.utsnam"; write lxc.uts.name or remove the line'],
    [
      'lxc.start.oder=1',
      '1: unknown key "lxc.start.oder"; write lxc.start.order or remove the line',
    ],
    ['lxc.foo=1', '1: unknown key "lxc.foo"; remove the line or see lxc.container.conf(5)'],
    ['lxc.\x7f\v=', '1: unknown key "lxc.??"; remove the line or see lxc.container.conf(5)'],
    [
      'lxc.Start.auto=1',
      '1: unknown key "lxc.Start.auto"; write lxc.start.auto or remove the line',
    ],
    ['lxc.net.0.lnk=a', '1: unknown key "lxc.net.0.lnk"; write lxc.net.0.link or remove the line'],
    [
      'lxc.net.x.link=a',
      '1: unknown key "lxc.net.x.link"; remove the line or see lxc.container.conf(5)',
    ],
    [
      'lxc.net.0type=veth',
      '1: unknown key "lxc.net.0type"; remove the line or see lxc.container.conf(5)',
    ],
    ['lxc.net.08=', '1: unknown key "lxc.net.08"; remove the line or see lxc.container.conf(5)'],
    ['lxc.net.0=veth', '1: lxc.net.0 does not take "veth"; write lxc.net.0.type = veth'],
    [
      'lxc.net=veth',
      '1: lxc.net does not take "veth"; write lxc.net = to remove all interfaces, or lxc.net.0.type = veth',
    ],
    [
      'lxc.net.0.type=bridge',
      '1: lxc.net.0.type does not take "bridge"; write one of veth, macvlan, ipvlan, vlan, phys, empty, none',
    ],
    [
      'lxc.net.0.mtu=',
      '1: lxc.net.0.mtu clears something of an interface that is not defined yet; remove the line',
    ],
    ['lxc.hook=/x', '1: lxc.hook takes no value of its own; remove the line'],
    ['lxc.cgroup2.=1', '1: lxc.cgroup2. takes no value of its own; remove the line'],
    [
      'lxc.hook.foo=',
      '1: unknown key "lxc.hook.foo"; remove the line or see lxc.container.conf(5)',
    ],
    ['lxc.start.auto=yes', '1: lxc.start.auto does not take "yes"; write 0 or 1'],
    ['lxc.start.auto=2', '1: lxc.start.auto does not take "2"; write 0 or 1'],
    [
      'lxc.start.auto=1 # on',
      '1: lxc.start.auto does not take "1 # on"; put the comment on a line of its own',
    ],
    [
      'lxc.start.order=1.5',
      '1: lxc.start.order does not take "1.5"; write a whole number from -2147483648 to 2147483647',
    ],
    [
      'lxc.start.delay=-1',
      '1: lxc.start.delay does not take "-1"; write whole seconds from 0 to 4294967295',
    ],
    [
      'lxc.signal.halt=PWR',
      '1: lxc.signal.halt does not take "PWR"; write a signal such as SIGPWR or SIGRTMIN+3, or a number from 1 to 64',
    ],
    [
      'lxc.mount.fstab=',
      '1: lxc.mount.fstab does not take ""; remove the line, for LXC does not accept it empty',
    ],
    [
      `lxc.uts.name=${'a'.repeat(65)}`,
      `1: lxc.uts.name does not take "${'a'.repeat(65)}"; write at most 64 bytes`,
    ],
    [
      `lxc.uts.name=${'\u00e4'.repeat(33)}`,
      `1: lxc.uts.name does not take "${'\u00e4'.repeat(33)}"; write at most 64 bytes`,
    ],
    [
      `lxc.rootfs.path=/${'a'.repeat(4095)}`,
      `1: lxc.rootfs.path does not take "/${'a'.repeat(79)}..."; write a path of less than 4096 bytes`,
    ],
    [
      'lxc.a=\x01',
      '1: is not a text file: it has the control byte 0x01; write the configuration as text',
    ],
  ])('%j', (text, problem) => {
    expect(problems(text)).toEqual([problem]);
  });

  test('do not hide the other values', () => {
    const config = parse('lxc.uts.name\nlxc.foo=1\nlxc.start.auto=2\nlxc.signal.halt=SIGINT');
    expect(config.problems.map((p) => p.line)).toEqual([1, 2, 3]);
    expect(config.haltSignal?.value).toBe(2);
  });

  test('of one file are listed up to a hundred', () => {
    const all = problems('lxc.foo=1\n'.repeat(1000));
    expect(all).toHaveLength(101);
    expect(all[100]).toBe(
      '101: from here on the problems are not listed any more; mend the ones above first',
    );
  });

  test('a program is one problem, and its values still count', () => {
    const config = parse('\x7fELF\x02\x01\0\nlxc.foo\n');
    expect(config.problems.map(formatProblem)).toEqual([
      `${PATH}:1: is not a text file: it has the control byte 0x02; write the configuration as text`,
    ]);
    expect(parse('lxc.signal.halt=2\n# \x01').haltSignal?.value).toBe(2);
  });

  test('bytes that are not UTF-8 matter where a value is read', () => {
    const bad = {
      ...file('# \uFFFD\nlxc.uts.name=\uFFFD\nlxc.tty.dir=\uFFFD'),
      badLines: new Set([1, 2, 3]),
    };
    const config = parseLxcConfig({ file: bad, paths: [] });
    expect(config.problems.map(formatProblem)).toEqual([
      `${PATH}:2: the value of lxc.uts.name is not UTF-8; save the file in UTF-8`,
    ]);
    expect(config.utsName).toBeUndefined();
    expect(parse('lxc.uts.name=\uFFFD').problems).toEqual([]);
  });

  test('of the reader are passed on', () => {
    const problem = { reason: 'no such file', remedy: 'create it' };
    expect(parseLxcConfig({ file: { ...file(''), problem }, paths: [] })).toMatchObject({
      files: [],
      problems: [{ file: PATH, line: 0, ...problem }],
    });
    const includes = [{ path: '/a', exists: false, files: [], problem }];
    const config = parseLxcConfig({ file: { ...file('\nlxc.include=/a'), includes }, paths: [] });
    expect(config.problems).toEqual([{ file: PATH, line: 2, ...problem }]);
  });
});

describe('keys of LXC 1.x and 2.x', () => {
  test('are problems and still understood', () => {
    const text = [
      'lxc.utsname = web',
      'lxc.rootfs = /srv/web',
      'lxc.rootfs.backend = lvm',
      'lxc.haltsignal = SIGINT',
      'lxc.mount = /etc/web.fstab',
      'lxc.init_cmd = /init',
      'lxc.network.type = veth',
      'lxc.network.link = br0',
      'lxc.network.ipv4 = 10.0.0.1/24',
      'lxc.network.type = phys',
      'lxc.network.link = eth1',
      'lxc.network.7.type = veth',
      'lxc.tty = 4',
      'lxc.limit.nofile = 1',
      'lxc.kmsg = 0',
    ];
    const config = parse(text.join('\n'));
    expect(config.problems.map((p) => p.line)).toEqual(text.map((_, i) => i + 1));
    expect(config.problems[3]).toEqual({
      file: PATH,
      line: 4,
      reason: 'lxc.haltsignal is a key of LXC 1.x and 2.x, which LXC 3 and later refuse',
      remedy: `run: lxc-update-config -c ${PATH}`,
    });
    expect(config).toMatchObject({
      utsName: { value: 'web' },
      rootfsPath: { value: 'lvm:/srv/web' },
      haltSignal: { value: 2 },
      mountFstab: { value: '/etc/web.fstab' },
      initCmd: { value: '/init' },
      nets: [
        { index: 0, type: { value: 'veth' }, link: { value: 'br0' } },
        { index: 1, type: { value: 'phys' }, link: { value: 'eth1' } },
        { index: 7, type: { value: 'veth' } },
      ],
    });
  });

  test('lxc.network clears, and lines before the first type mean nothing', () => {
    expect(parse('lxc.network.type=veth\nlxc.network=').nets).toEqual([]);
    expect(parse('lxc.network.link=br0').nets).toEqual([]);
    expect(parse('lxc.network.0.type=veth\nlxc.network.0=').nets).toEqual([]);
  });

  test('the remedy can be pasted into a shell', () => {
    const odd = file('lxc.tty=1', "/var/lib/lxc/it's me/config");
    expect(parseLxcConfig({ file: odd, paths: [] }).problems[0]?.remedy).toBe(
      `run: lxc-update-config -c '/var/lib/lxc/it'\\''s me/config'`,
    );
  });
});

describe('warnings', () => {
  test.each([
    ['lxc.uts.name=a\n\0', '2: LXC ignores the file from the NUL byte here on; remove it'],
    [
      '\uFEFFlxc.uts.name=a',
      '1: LXC ignores this line, for it starts with a byte order mark; remove it',
    ],
    [
      'lxc.uts.name=a # b',
      '1: the "#" is part of the value of lxc.uts.name; put the comment on a line of its own',
    ],
    [
      'lxc.net.0.link=a #',
      '1: the "#" is part of the value of lxc.net.0.link; put the comment on a line of its own',
    ],
    [
      'lxc.signal.halt=65',
      '1: there is no signal 65; write a number from 1 to 64, or a name such as SIGPWR',
    ],
    [
      'lxc.signal.halt=SIGCHLD',
      '1: lxc-start does not pass signal SIGCHLD on to the container; choose a signal on which the container shuts down, such as SIGPWR or SIGRTMIN+3',
    ],
    [
      'lxc.signal.halt=1',
      '1: lxc-start passes SIGHUP on as SIGTERM; choose a signal on which the container shuts down, such as SIGPWR or SIGRTMIN+3',
    ],
  ])('%j', (text, warning) => {
    expect(warnings(text)).toEqual([warning]);
    expect(problems(text)).toEqual([]);
  });

  test.each(['lxc.uts.name=a#b', 'lxc.tty.dir=a # b', 'lxc.signal.halt=9\nlxc.signal.halt='])(
    '%j has none',
    (text) => {
      expect(warnings(text)).toEqual([]);
    },
  );

  test('a signal that does not exist is not handed on', () => {
    expect(parse('lxc.signal.halt=65').haltSignal).toBeUndefined();
    expect(parse('lxc.signal.halt=0').haltSignal).toBeUndefined();
    expect(parse('lxc.signal.halt=9').haltSignal?.value).toBe(9);
  });
});

describe('includes', () => {
  test('stand where their line stands', () => {
    const inner = file('lxc.group=b\nlxc.uts.name=inner\nlxc.foo=', '/inc');
    const config = parse('lxc.group=a\nlxc.include=\nlxc.include=/inc\nlxc.group=c\nlxc.bar=', [
      inner,
      file('lxc.group=bb', '/inc2'),
    ]);
    expect(config.groups).toEqual(['a', 'b', 'bb', 'c']);
    expect(config.utsName).toEqual({ value: 'inner', file: '/inc', line: 2 });
    expect(config.files).toEqual([PATH, '/inc', '/inc2']);
    expect(config.problems.map((p) => `${p.file}:${p.line}`)).toEqual(['/inc:3', `${PATH}:5`]);
  });

  test('that multiply come to an end', () => {
    let bomb = file('lxc.group=x', '/0');
    for (let i = 1; i < 30; i++) {
      const text = 'lxc.include=/x\nlxc.include=/x\n';
      bomb = file(text, `/${i}`, [[bomb], [bomb]]);
    }
    const config = parseLxcConfig({ file: bomb, paths: [] });
    expect(config.problems[0]?.reason).toBe('more than 4096 files are included');
  });
});

test.each([
  ['unknown keys', 'lxc.start.autos=1\n'.repeat(1 << 16)],
  ['one group line', `lxc.group=${'a '.repeat(1 << 19)}`],
  ['a long path', `lxc.rootfs.path=${'/.'.repeat(1 << 19)}`],
  ['a long number', `lxc.start.order=${'0'.repeat(1 << 20)}`],
  ['a long blank number', `lxc.start.order="${'\v'.repeat(1 << 20)}`],
  ['a long key', `lxc.net.0.${'a'.repeat(1 << 20)}=1`],
  ['interfaces', 'lxc.network.type=veth\n'.repeat(47_000)],
])('1 MiB takes linear time, or this would not end within the time of a test: %s', (_, text) => {
  expect(() => parse(text)).not.toThrow();
});

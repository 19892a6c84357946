import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { Files } from '../../src/host/files.ts';
import { applyImport, ImportError } from '../../src/import/apply-import.ts';
import type { Change } from '../../src/import/changes.ts';
import { editedText } from '../../src/import/changes.ts';
import { convertConfig } from '../../src/import/convert-config.ts';
import { planImport } from '../../src/import/plan-import.ts';
import { unifiedDiff } from '../../src/import/unified-diff.ts';
import type { HostTree } from './check-trees.ts';
import { withHostTree } from './check-trees.ts';
import { plainOutput } from './plain-output.ts';

const common = { '/usr/share/lxc/config/common.conf': '' };
const v1 = '30 22 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n';

/** Every file and link below a directory, with what is in it. */
function snapshot(root: string): Record<string, string> {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
  return Object.fromEntries(
    names.map((name) => {
      const path = join(root, name);
      const stat = lstatSync(path);
      if (stat.isSymbolicLink()) return [name, `-> ${readlinkSync(path)}`];
      return [name, stat.isFile() ? readFileSync(path, 'utf8') : 'directory'];
    }),
  );
}

const plan = (root: string, names: readonly string[] = []): ReturnType<typeof planImport> =>
  planImport(root, names, new Files(''));

/** Imports and answers what a file then says. */
function imported(tree: HostTree, path: string): string {
  return withHostTree({ ...common, ...tree }, (root) => {
    applyImport(root, plan(root).changes, new Date(0));
    return readFileSync(join(root, path), 'utf8');
  });
}

/** What the rules make of the lines of a configuration. */
function converted(lines: readonly string[], keepsCgroup1 = false): string[] {
  const text = lines.map((line) => `${line}\n`).join('');
  const context = { keepsCgroup1, isThere: () => false, net: -1 };
  return editedText(text, convertConfig(text, context).edits).split('\n').slice(0, -1);
}

describe('lines', () => {
  test.each<[string, string[], string[]]>([
    ['a key of LXC 1', ['lxc.utsname = a'], ['lxc.uts.name = a']],
    ['one without blanks', ['lxc.utsname=a'], ['lxc.uts.name=a']],
    ['columns', ['lxc.tty      = 6', 'lxc.arch     = x'], ['lxc.tty.max  = 6', 'lxc.arch     = x']],
    ['quotes', ['lxc.utsname = "a"'], ['lxc.uts.name = "a"']],
    ['a key that is gone', ['lxc.kmsg = 0', 'lxc.arch = x'], ['lxc.arch = x']],
    ['comments', ['# lxc.utsname = a', '#lxc.tty = 1'], ['# lxc.utsname = a', '#lxc.tty = 1']],
    ['what is no key', ['hello', ''], ['hello', '']],
    ['two lines that are one', ['lxc.tty = 1\rlxc.pts = 2'], ['lxc.tty = 1\rlxc.pts = 2']],
    ['the end of a line of DOS', ['lxc.utsname = a\r'], ['lxc.uts.name = a\r']],
    ['a comment behind a value', ['lxc.tty = 6 # six'], ['# six', 'lxc.tty.max = 6']],
    ['one behind a key of today', ['  lxc.arch = x # y'], ['  # y', '  lxc.arch = x']],
    ['a hash in a command', ['lxc.hook.start = /x # y'], ['lxc.hook.start = /x # y']],
    ['limits of processes', ['lxc.limit.nofile = 9'], ['lxc.prlimit.nofile = 9']],
    [
      'interfaces by their order',
      ['lxc.network.type = veth', 'lxc.network.ipv4 = 192.0.2.7/24', 'lxc.network.type = empty'],
      ['lxc.net.0.type = veth', 'lxc.net.0.ipv4.address = 192.0.2.7/24', 'lxc.net.1.type = empty'],
    ],
    [
      'interfaces with numbers',
      ['lxc.network.3.type = veth', 'lxc.network.3.ipv6 = 2001:db8::7/64'],
      ['lxc.net.3.type = veth', 'lxc.net.3.ipv6.address = 2001:db8::7/64'],
    ],
    ['a directory', ['lxc.rootfs = /srv/a'], ['lxc.rootfs.path = /srv/a']],
    ['a volume', ['lxc.rootfs = /dev/vg/a'], ['lxc.rootfs.path = lvm:/dev/vg/a']],
    ['one with its type', ['lxc.rootfs = loop:/a.img'], ['lxc.rootfs.path = loop:/a.img']],
    [
      'a back end, wherever it stands',
      ['lxc.rootfs = /srv/a', 'lxc.rootfs.backend = btrfs'],
      ['lxc.rootfs.path = btrfs:/srv/a'],
    ],
    ['the devpts that LXC has', ['lxc.mount.entry = devpts dev/pts devpts newinstance 0 0'], []],
    [
      'a mount point below /dev',
      ['lxc.mount.entry = tmpfs dev/shm tmpfs nodev 0 0'],
      ['lxc.mount.entry = tmpfs dev/shm tmpfs nodev,create=dir 0 0'],
    ],
    [
      'another one',
      ['lxc.mount.entry = proc proc proc nodev 0 0'],
      ['lxc.mount.entry = proc proc proc nodev 0 0'],
    ],
    ['a console whose directory is gone', ['lxc.console = /run/old/a'], []],
    ['classic hooks', ['lxc.hook.mount = /etc/lxc/locker_mount.sh'], []],
    ['other hooks', ['lxc.hook.mount = /etc/lxc/x.sh'], ['lxc.hook.mount = /etc/lxc/x.sh']],
    [
      'limits of cgroup v1',
      [
        'lxc.cgroup.memory.limit_in_bytes = 512M',
        'lxc.cgroup.memory.memsw.limit_in_bytes = 1G',
        'lxc.cgroup.cpu.shares = 512 # half',
        'lxc.cgroup.net_cls.classid = 1',
        'lxc.cgroup.use = memory',
        'lxc.cgroup.cpu.cfs_quota_us = 50000',
        'lxc.cgroup.cpu.cfs_period_us = 100000',
      ],
      [
        'lxc.cgroup2.memory.max = 512M',
        'lxc.cgroup2.memory.swap.max = 536870912',
        '# half',
        'lxc.cgroup2.cpu.weight = 50',
        'lxc.cgroup2.cpu.max = 50000 100000',
      ],
    ],
  ])('%s', (_, lines, expected) => {
    expect(converted(lines)).toEqual(expected);
    // A second time there is nothing to do.
    expect(converted(expected)).toEqual(expected);
  });

  test('limits of cgroup v1 stay where the host has it', () => {
    const lines = ['lxc.cgroup.memory.limit_in_bytes = 512M', 'lxc.cgroup.cpu.shares = 1024'];
    expect(converted(lines, true)).toEqual(lines);
    expect(converted(['lxc.cgroup.use = memory', 'lxc.cgroup.cpu.shares = 1 # x'], true)).toEqual([
      '# x',
      'lxc.cgroup.cpu.shares = 1',
    ]);
  });
});

describe('hosts', () => {
  const old = 'lxc.utsname = a\nlxc.rootfs = /srv/a\n';
  const now = 'lxc.uts.name = a\nlxc.rootfs.path = /srv/a\n';
  const config = '/var/lib/lxc/a/config';

  test('a container in a directory of its own gets a link, and starts as its runlevel says', () => {
    const tree = {
      '/lxc/a/config': old,
      '/etc/lxc/a/config': '-> /lxc/a/config',
      '/etc/init.d/lxc': '#!/sbin/openrc-run\n',
      '/etc/init.d/lxc.a': '-> /etc/init.d/lxc',
      '/etc/runlevels/default/lxc.a': '-> /etc/init.d/lxc.a',
    };
    expect(imported(tree, '/lxc/a/config')).toBe(`${now}lxc.start.auto = 1\n`);
    withHostTree(tree, (root) => {
      applyImport(root, plan(root).changes, new Date(0));
      expect(readlinkSync(join(root, 'var/lib/lxc/a'))).toBe('/lxc/a');
      const names = Object.keys(snapshot(root));
      expect(names.filter((name) => /(?:init\.d|default)\/lxc\.a/.test(name))).toEqual([]);
      expect(names).toContain('lxc/a/config.before-import');
    });
  });

  test('the number of a runlevel link of sysvinit becomes the order', () => {
    const tree = {
      [config]: `${old}lxc.start.auto = 0\n`,
      '/etc/init.d/lxc.a': '-> lxc',
      '/etc/rc2.d/S25lxc.a': '-> ../init.d/lxc.a',
      '/etc/rc0.d/K05lxc.a': '-> ../init.d/lxc.a',
    };
    expect(imported(tree, config)).toBe(
      `${now}lxc.start.auto = 0\nlxc.start.auto = 1\nlxc.start.order = 25\n`,
    );
  });

  test.each(['rc6.d/S05lxc.a', 'rc2.d/K05lxc.a', 'runlevels/shutdown/lxc.a'])(
    '%s starts nothing',
    (link) => {
      const tree = { [config]: old, '/etc/init.d/lxc.a': '-> lxc', [`/etc/${link}`]: '-> x' };
      expect(imported(tree, config)).toBe(now);
    },
  );

  test("an init script of the site's own stays", () => {
    const tree = {
      [config]: now,
      '/etc/init.d/lxc.a': '#!/bin/sh\n',
      '/etc/rc2.d/S25lxc.a': '-> ../init.d/lxc.a',
    };
    withHostTree(tree, (root) => {
      const { changes, notes } = plan(root);
      expect(changes).toEqual([]);
      expect(notes).toEqual([expect.stringContaining('/etc/init.d/lxc.a is no link')]);
    });
  });

  test('where autostart is off, the unit is enabled', () => {
    const tree = {
      [config]: now,
      '/etc/lxc/auto/a.conf': '-> /var/lib/lxc/a/config',
      '/etc/default/lxc': 'LXC_AUTO="false"\n',
    };
    withHostTree(tree, (root) => {
      const { changes } = plan(root);
      expect(changes).toMatchObject([
        {
          kind: 'link',
          path: '/etc/systemd/system/multi-user.target.wants/lxc@a.service',
          target: '/lib/systemd/system/lxc@.service',
        },
      ]);
    });
  });

  test.each([
    ['CONTAINERS of LXC 0.7', { '/etc/default/lxc': 'RUN=yes\nCONTAINERS="b a"\n' }, true],
    ['the same, switched off', { '/etc/default/lxc': 'RUN=no\nCONTAINERS="b a"\n' }, false],
    ['a link in /etc/lxc/auto', { '/etc/lxc/auto/a': '-> /var/lib/lxc/a/config' }, true],
  ])('%s', (_, files: HostTree, starts) => {
    expect(imported({ [config]: now, ...files }, config).includes('lxc.start.auto = 1')).toBe(
      starts,
    );
  });

  test.each(['/etc/lxc/a.conf', '/var/run/ganeti/lxc/a.conf'])('%s is copied', (path) => {
    expect(imported({ [path]: old }, config)).toBe(now);
    expect(imported({ [path]: old }, path)).toBe(old);
  });

  test('what a partition of an image needs is told', () => {
    const tree = {
      '/run/ganeti/lxc/a.conf': 'lxc.rootfs = /dev/mapper/loop0p1\nlxc.start.auto = 1\n',
    };
    withHostTree(tree, (root) => {
      expect(plan(root).notes).toEqual([
        expect.stringContaining('kpartx'),
        expect.stringContaining('gnt-instance shutdown a'),
      ]);
    });
  });

  test.each<[string, HostTree, boolean]>([
    ['nothing', {}, true],
    ['its own configuration', { [config]: `${old}lxc.start.auto = 1 # yes\n` }, false],
    [
      'an included file',
      { [config]: `${old}lxc.include = /etc/lxc/x\n`, '/etc/lxc/x': 'lxc.start.auto = 1\n' },
      false,
    ],
    [
      'a group that is no boot group',
      { [config]: `${old}lxc.start.auto = 1\nlxc.group = night\n` },
      true,
    ],
    [
      'its unit',
      { '/etc/systemd/system/multi-user.target.wants/lxc@a.service': '-> /lib/lxc@.service' },
      false,
    ],
    ['a masked unit', { '/etc/systemd/system/lxc@a.service': '-> /dev/null' }, false],
    ['a runlevel', { '/etc/init.d/lxc.a': '-> lxc', '/etc/rc2.d/S25lxc.a': '-> x' }, false],
    [
      "the site's script",
      { '/etc/init.d/lxc.a': '#!/bin/sh\n', '/etc/rc2.d/S25lxc.a': '-> x' },
      false,
    ],
    ['a unit, and it is up to date', { [config]: now }, false],
  ])('started at boot by %s', (_, files, isNoted) => {
    withHostTree({ [config]: old, ...files }, (root) => {
      const noted = plan(root).notes.filter((note) => note.startsWith('a: nothing starts it'));
      expect(noted).toHaveLength(isNoted ? 1 : 0);
      for (const note of noted) expect(note).toContain('systemctl enable lxc@a.service');
    });
  });

  test('a console where nothing is after a boot is left out', () => {
    const console = (path: string): HostTree => ({
      [config]: `${now}lxc.console = ${path}/a.console\nlxc.start.auto = 1\n`,
      [`${path}/`]: '',
    });
    for (const gone of ['/run/ganeti/lxc', '/var/run/ganeti/lxc', '/tmp/lxc']) {
      expect(imported(console(gone), config)).not.toContain('console');
    }
    for (const stays of ['/run', '/tmp', '/var/log/lxc']) {
      expect(imported(console(stays), config)).toContain(`lxc.console.path = ${stays}/a.console`);
    }
  });

  test('the include of a distribution that is not installed becomes the general one', () => {
    const include = (name: string): string => `lxc.include = /usr/share/lxc/config/${name}.conf\n`;
    expect(imported({ [config]: include('fedora.common') }, config)).toBe(include('common'));
    const there = { '/usr/share/lxc/config/fedora.common.conf': '' };
    withHostTree({ ...common, ...there, [config]: include('fedora.common') }, (root) => {
      expect(plan(root).changes).toEqual([]);
    });
  });

  test('files that are included are brought over once, those of packages are not', () => {
    const tree = {
      [config]: 'lxc.network.type = empty\nlxc.include = /etc/lxc/site.conf\n',
      '/var/lib/lxc/b/config': 'lxc.network.type = empty\nlxc.include = /etc/lxc/site.conf\n',
      '/etc/lxc/site.conf': 'lxc.network.type = veth\nlxc.start.auto = 1\n',
    };
    expect(imported(tree, '/etc/lxc/site.conf')).toBe(
      'lxc.net.1.type = veth\nlxc.start.auto = 1\n',
    );
    // Interfaces are counted in the order in which LXC reads the lines.
    const first = {
      ...tree,
      [config]: 'lxc.include = /etc/lxc/site.conf\nlxc.network.type = empty\n',
    };
    expect(imported(first, config)).toContain('lxc.net.1.type = empty');
    withHostTree(first, (root) => {
      expect(plan(root).notes).toEqual([
        expect.stringContaining('number their interfaces otherwise'),
      ]);
      expect(plan(root, ['a']).notes).toEqual([]);
    });
    // Loops end.
    const loop = {
      [config]: 'lxc.include = /etc/lxc/x\n',
      '/etc/lxc/x': 'lxc.include = /etc/lxc/x\nlxc.tty = 1\n',
    };
    expect(imported(loop, '/etc/lxc/x')).toContain('lxc.tty.max = 1');
    const packaged = {
      [config]: 'lxc.include = /usr/share/lxc/config/x.conf\n',
      '/usr/share/lxc/config/x.conf': 'lxc.tty = 1\n',
    };
    withHostTree(packaged, (root) => {
      expect(plan(root).changes).toEqual([]);
    });
  });

  test('control groups in fstab are left to systemd', () => {
    const line = 'cgroup /sys/fs/cgroup cgroup defaults 0 0\n';
    expect(imported({ '/etc/fstab': `/dev/sda1 / ext4\n${line}` }, '/etc/fstab')).toBe(
      `/dev/sda1 / ext4\n# ${line}`,
    );
  });

  test('arguments of the locker hooks become the setting', () => {
    const tree = {
      [config]: `${now}lxc.start.auto = 1\nlxc.hook.mount = /etc/lxc/locker_mount.sh music gone\n`,
      '/etc/fstab': '/dev/vg/music /lockers/music ext4 nosuid,nodev 0 2\n',
    };
    const settings = '/etc/lockerd/containers/a.conf';
    expect(imported(tree, settings)).toBe('lockers = music\n');
    expect(imported({ ...tree, [settings]: '# own\nstop-timeout = 9s\n' }, settings)).toBe(
      '# own\nstop-timeout = 9s\nlockers = music\n',
    );
    withHostTree(tree, (root) => {
      expect(plan(root).notes).toEqual([expect.stringContaining('"gone", which is no locker')]);
    });
  });

  test('limits of cgroup v1 stay on a host that has it', () => {
    const lines = `${now}lxc.cgroup.cpu.shares = 512\n`;
    expect(imported({ [config]: lines }, config)).toContain('lxc.cgroup2.cpu.weight = 50');
    withHostTree({ [config]: lines, '/proc/self/mountinfo': v1 }, (root) => {
      expect(plan(root).changes).toEqual([]);
    });
  });

  test('what LXC would still refuse is told', () => {
    const wrong = 'lxc.utsname = a\nlxc.uts.nmae = a\nlxc.start.auto = 1\n';
    withHostTree({ [config]: wrong }, (root) => {
      expect(plan(root).notes).toEqual([expect.stringMatching(/^a: line 2 .*lxc\.uts\.nmae/)]);
    });
  });

  test("a guest's own files, and what is no text, are left alone", () => {
    const tree = {
      [config]: '-> /srv/a/etc/lxc.conf',
      '/srv/a/etc/lxc.conf': old,
      '/var/lib/lxc/b/config': 'lxc.utsname = \0b\n',
    };
    withHostTree(tree, (root) => {
      const { changes, notes } = plan(root);
      expect(changes).toEqual([]);
      expect(notes).toEqual([
        expect.stringContaining('never touched'),
        expect.stringContaining('no UTF-8 text'),
      ]);
    });
  });

  test('names choose, and one that no container has is told', () => {
    const tree = { [config]: old, '/var/lib/lxc/b/config': old };
    withHostTree(tree, (root) => {
      const { changes, unknown } = plan(root, ['b', 'c']);
      expect(changes.map(({ path }) => path)).toEqual(['/var/lib/lxc/b/config']);
      expect(unknown).toEqual(['c']);
    });
  });
});

/** A host on which every kind of change is made. */
const full: HostTree = {
  ...common,
  '/var/lib/lxc/a/config': 'lxc.utsname = a\nlxc.rootfs = /srv/a\n',
  '/lxc/b/config': 'lxc.utsname = b\n',
  '/etc/init.d/lxc.b': '-> lxc',
  '/etc/rc3.d/S20lxc.b': '-> ../init.d/lxc.b',
  '/etc/lxc/c.conf': 'lxc.rootfs = /srv/c\n',
  '/etc/fstab': 'cgroup /cgroup cgroup\n',
};

describe('applying', () => {
  test('a second import has nothing to do, and the script undoes the first', () => {
    withHostTree(full, (root) => {
      const before = snapshot(root);
      const { changes } = plan(root);
      expect(new Set(changes.map(({ kind }) => kind))).toEqual(
        new Set(['edit', 'create', 'link', 'unlink']),
      );
      const script = applyImport(root, changes, new Date(0));
      expect(script).toBe('/var/backups/lockerd-import-19700101-000000.sh');
      expect(plan(root)).toMatchObject({ changes: [], notes: [] });
      expect(Object.keys(snapshot(root)).filter((name) => name.includes('.lockerd-'))).toEqual([]);
      // The script has the paths of the host.
      const text = readFileSync(join(root, script), 'utf8');
      const here = text.replaceAll(/(?<=\s)\/(?=(?:etc|var|lxc)\/)/g, `${root}/`);
      execFileSync('sh', ['-c', here.replaceAll(`${root}/etc/init.d/lxc `, '/etc/init.d/lxc ')]);
      // The script stays.
      const made = ['var/backups', script.slice(1)];
      const after = Object.entries(snapshot(root)).filter(([name]) => !made.includes(name));
      expect(Object.fromEntries(after)).toEqual(before);
    });
  });

  test('owner, mode and time of the old file are kept', () => {
    withHostTree(full, (root) => {
      const file = join(root, 'var/lib/lxc/a/config');
      chmodSync(file, 0o640);
      const before = statSync(file);
      applyImport(root, plan(root).changes, new Date(0));
      expect(statSync(file).mode).toBe(before.mode);
      expect(statSync(`${file}.before-import`)).toMatchObject({
        ino: before.ino,
        mtimeMs: before.mtimeMs,
      });
    });
  });

  test('an earlier backup stays', () => {
    withHostTree({ ...full, '/var/lib/lxc/a/config.before-import': 'first' }, (root) => {
      applyImport(root, plan(root).changes, new Date(0));
      const read = (end: string): string =>
        readFileSync(join(root, `var/lib/lxc/a/config${end}`), 'utf8');
      expect(read('.before-import')).toBe('first');
      expect(read('.before-import.1')).toContain('lxc.utsname');
    });
  });

  test.each<[string, (root: string) => void, RegExp]>([
    [
      'a file changed meanwhile',
      (root) => {
        writeFileSync(join(root, 'etc/fstab'), 'else\n');
      },
      /fstab: it was changed meanwhile/,
    ],
    [
      'something came in the way of a copy',
      (root) => {
        mkdirSync(join(root, 'var/lib/lxc/c/config'), { recursive: true });
      },
      /c\/config: there is something of this name already/,
    ],
    [
      'the place of the script is a file',
      (root) => {
        writeFileSync(join(root, 'var/backups'), '');
      },
      /lockerd-import-.*: a part of the path is not a directory/,
    ],
  ])('when %s, nothing is changed', (_, spoil, message) => {
    withHostTree(full, (root) => {
      const { changes } = plan(root);
      spoil(root);
      const before = snapshot(root);
      expect(() => applyImport(root, changes, new Date(0))).toThrow(ImportError);
      expect(() => applyImport(root, changes, new Date(0))).toThrow(message);
      expect(snapshot(root)).toEqual(before);
    });
  });

  test('what fails in the middle puts back what was done', () => {
    withHostTree(full, (root) => {
      const { changes } = plan(root);
      const before = snapshot(root);
      // Both are prepared; the second finds the first in its place.
      const twice: Change = { kind: 'link', path: '/var/lib/lxc/x', target: '/y', reason: '' };
      expect(() => applyImport(root, [...changes, twice, twice], new Date(0))).toThrow(
        /nothing was changed: \/var\/lib\/lxc\/x: a file of that name is in the way/,
      );
      expect(snapshot(root)).toEqual(before);
    });
  });
});

test.each<[string, string, string[]]>([
  ['one line', 'a\nb\nc\n', ['2 x']],
  ['the first and the last of many', 'a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n', ['1 x y', '10']],
  ['an end', 'a\nb\n', ['3 x y']],
  ['an empty file', '', ['1 x y']],
  ['a removal of all', 'a\n', ['1']],
])('patch(1) makes the same of a diff of %s', (_, before, list) => {
  const edits = list.map((item) => {
    const [line = '', ...after] = item.split(' ');
    return { line: Number(line), after, reason: '' };
  });
  withHostTree({ '/file': before }, (root) => {
    const diff = ['--- file', '+++ file', ...unifiedDiff(before, edits), ''].join('\n');
    execFileSync('patch', ['--silent', join(root, 'file')], { input: diff });
    const after = readdirSync(root).includes('file')
      ? readFileSync(join(root, 'file'), 'utf8')
      : '';
    expect(after).toBe(editedText(before, edits));
  });
});

describe('the command', () => {
  let stdout = '';
  beforeEach(() => {
    stdout = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      stdout += String(text);
      return true;
    });
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  });
  afterEach(() => {
    vi.restoreAllMocks();
    delete process.env['LOCKERD_ROOT'];
  });
  const run = (root: string, ...args: string[]): Promise<number> => {
    process.env['LOCKERD_ROOT'] = root;
    return main(['import', ...args], plainOutput);
  };
  const tree = { '/var/lib/lxc/a/config': '# a\nlxc.utsname = a\n' };

  test('shows the change and its reason, and changes nothing', async () => {
    await withHostTree(tree, (root) => {
      const before = snapshot(root);
      const ended = run(root);
      expect(snapshot(root)).toEqual(before);
      return ended;
    });
    expect(stdout).toBe(
      [
        '# /var/lib/lxc/a/config:2: since LXC 3, lxc.utsname is lxc.uts.name',
        '--- /var/lib/lxc/a/config',
        '+++ /var/lib/lxc/a/config',
        '@@ -1,2 +1,2 @@',
        ' # a',
        '-lxc.utsname = a',
        '+lxc.uts.name = a',
        '',
        'note: a: nothing starts it at boot; if it should start: systemctl enable lxc@a.service',
        '1 change, none of them made. To make them: lockerctl import --apply',
        '',
      ].join('\n'),
    );
  });

  test('--apply changes, and says how to undo', async () => {
    expect(
      await withHostTree(tree, async (root) => {
        const ended = await run(root, '--apply');
        expect(readFileSync(join(root, 'var/lib/lxc/a/config'), 'utf8')).toContain('lxc.uts.name');
        return ended;
      }),
    ).toBe(0);
    expect(stdout).toMatch(/1 change made\. .* To undo: sh \/var\/backups\/lockerd-import-\S+\.sh/);
  });

  test('moves no cursor, whatever a file says', async () => {
    const evil = { '/var/lib/lxc/a/config': '# \u001b[2J\u202e\nlxc.utsname = \u001b]0;x\u0007\n' };
    await withHostTree(evil, (root) => run(root));
    await withHostTree(evil, (root) => run(root, '--json'));
    expect(stdout).toContain('lxc.uts.name');
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  });

  test('a name that no container has ends it with 5', async () => {
    expect(await withHostTree(tree, (root) => run(root, '--apply', 'b'))).toBe(5);
  });

  test('"check" has no option --apply', async () => {
    expect(await main(['check', '--apply'], plainOutput)).toBe(2);
  });
});

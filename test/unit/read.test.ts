import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runlevelLinks } from '../../src/host/read-boot-policy.ts';
import { HostReader } from '../../src/host/read.ts';
import { formatProblem } from '../../src/model/problem.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-read-'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

function put(path: string, text = ''): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

function link(path: string, target: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  symlinkSync(target, join(root, path));
}

function problemsOf(host: HostReader): string[] {
  return host.problems.map(formatProblem);
}

describe('a text file', () => {
  test('that is absent is no problem', () => {
    const host = new HostReader(root);
    put('/file');
    expect(host.text('/etc/fstab')).toBeUndefined();
    expect(host.text('/file/below')).toBeUndefined();
    expect(host.problems).toEqual([]);
  });

  test('is read', () => {
    put('/etc/fstab', 'ü\n');
    expect(new HostReader(root).text('/etc/fstab')).toBe('ü\n');
  });

  test.each([
    ['a directory', 'mkdir x', 'is not a file'],
    ['a FIFO', 'mkfifo x', 'is not a file'],
    ['a device', 'mknod x c 1 5', 'is not a file'],
    ['a link to itself', 'ln -s x x', 'cannot be read: the system answered ELOOP'],
  ])('that is %s is a problem and never waited for', (_what, command, reason) => {
    execFileSync('sh', ['-c', command], { cwd: root });
    const host = new HostReader(root);
    expect(host.text('/x')).toBeUndefined();
    expect(problemsOf(host).join()).toContain(`/x: ${reason}`);
  });

  test('that is switched off by a link to /dev/null is empty', () => {
    execFileSync('sh', ['-c', 'mkdir dev && mknod dev/null c 1 3'], { cwd: root });
    link('/x', '/dev/null');
    const host = new HostReader(root);
    expect(host.text('/x')).toBe('');
    expect(host.problems).toEqual([]);
  });

  test('behind an absolute link is looked for below the root', () => {
    link('/x', '/etc/hostname');
    expect(new HostReader(root).text('/x')).toBeUndefined();
    put('/etc/hostname', 'inside');
    expect(new HostReader(root).text('/x')).toBe('inside');
  });

  test('of more than a mebibyte is a problem', () => {
    put('/x');
    truncateSync(join(root, 'x'), 1024 * 1024);
    const host = new HostReader(root);
    expect(host.text('/x')).toHaveLength(1024 * 1024);
    truncateSync(join(root, 'x'), 1024 * 1024 + 1);
    expect(host.text('/x')).toBeUndefined();
    expect(problemsOf(host)).toEqual(['/x: is larger than 1 MiB; put a text file there']);
  });
});

describe('lxc.lxcpath', () => {
  test.each([
    ['', '/var/lib/lxc'],
    ['lxc.lxcpath=/srv/lxc', '/srv/lxc'],
    [' \tlxc.lxcpath \t= /srv//lxc/ \r\n', '/srv/lxc'],
    ['#lxc.lxcpath = /no\nlxc.lxcpath =\nlxc.lxcpath = /a\nlxc.lxcpath = /b\n', '/a'],
    ['lxc.lxcpaths = /no\nlxc.bdev.lvm.vg = lxc.lxcpath = /no\n', '/var/lib/lxc'],
    ['lxc.lxcpath = /my containers\n', '/my containers'],
  ])('%j', (text, lxcpath) => {
    put('/etc/lxc/lxc.conf', text);
    expect(new HostReader(root).lxcpath()).toBe(lxcpath);
  });

  test.each(['lxc', '/srv/../lxc', '/a\tb'])('%j is a problem', (value) => {
    put('/etc/lxc/lxc.conf', `\nlxc.lxcpath = ${value}\n`);
    const host = new HostReader(root);
    expect(host.lxcpath()).toBeUndefined();
    expect(host.problems).toMatchObject([{ file: '/etc/lxc/lxc.conf', line: 2 }]);
  });
});

describe('containers', () => {
  test('are directories with something named config in them', () => {
    put('/c/web/config');
    put('/c/.hidden/config');
    put('/c/empty/other');
    put('/c/file');
    put('/real/config');
    link('/c/linked', '../real');
    link('/c/dangling/config', 'nowhere');
    link('/c/lost', 'nowhere');
    mkdirSync(join(root, 'c/odd/config'), { recursive: true });
    const host = new HostReader(root);
    expect(host.containers('/c')).toEqual([
      { name: 'dangling', directory: '/c/dangling', configFile: '/c/dangling/config' },
      { name: 'linked', directory: '/c/linked', configFile: '/c/linked/config' },
      { name: 'odd', directory: '/c/odd', configFile: '/c/odd/config' },
      { name: 'web', directory: '/c/web', configFile: '/c/web/config' },
    ]);
    expect(host.problems).toEqual([]);
  });

  test('with a name that is no text are not passed over', () => {
    put('/c/web/config');
    execFileSync('sh', ['-c', 'mkdir "c/$(printf \'b\\377d\')"'], { cwd: root });
    const names = new HostReader(root).containers('/c').map(({ name }) => name);
    expect(names).toEqual(['b\ufffdd', 'web']);
  });

  test('of a directory that is none are a problem, of an absent one not', () => {
    put('/file');
    const host = new HostReader(root);
    expect(host.containers('/absent')).toEqual([]);
    expect(host.problems).toEqual([]);
    link('/loop', 'loop');
    expect(host.containers('/loop')).toEqual([]);
    expect(problemsOf(host)).toEqual(['/loop: cannot be listed: the system answered ELOOP']);
  });
});

test('settings are read with their drop-ins in order', () => {
  put('/etc/lockerd/lockerd.conf', 'ready = booted\n');
  put('/etc/lockerd/lockerd.conf.d/20-b.conf', 'ready = x\n');
  put('/etc/lockerd/lockerd.conf.d/10-a.conf', 'ready = y\n');
  put('/etc/lockerd/lockerd.conf.d/.hidden.conf');
  put('/etc/lockerd/lockerd.conf.d/README');
  const files = new HostReader(root).hostSettings();
  expect(files.map(({ path, values }) => [path, values['ready']])).toEqual([
    ['/etc/lockerd/lockerd.conf', 'booted'],
    ['/etc/lockerd/lockerd.conf.d/10-a.conf', 'y'],
    ['/etc/lockerd/lockerd.conf.d/20-b.conf', 'x'],
  ]);
});

test('init scripts and the links of runlevels', () => {
  for (const name of ['lxc', 'lxc.web', 'lxc.a.b', 'lxc.', 'lxc-net']) put(`/etc/init.d/${name}`);
  put('/etc/rc2.d/S20lxc.web');
  put('/etc/rc5.d/S01lxc.a.b');
  put('/etc/rc3.d/K20lxc.killed');
  put('/etc/rc0.d/S20lxc.halt');
  put('/etc/rc2.d/S20lxc');
  put('/etc/runlevels/default/lxc.gentoo');
  put('/etc/runlevels/boot/lxc.early');
  const host = new HostReader(root);
  expect(host.initScripts()).toEqual(['a.b', 'web']);
  expect([...runlevelLinks(host).keys()].sort()).toEqual(['a.b', 'gentoo', 'web']);
});

describe('lxc.service starts at boot', () => {
  const starts = () => new HostReader(root).lxcServiceStartsAtBoot();
  const etc = '/etc/systemd/system';

  test('where nothing is known of it', () => {
    expect(starts()).toBe(true);
  });

  test('not when it is masked', () => {
    link(`${etc}/multi-user.target.wants/lxc.service`, '/lib/systemd/system/lxc.service');
    link(`${etc}/lxc.service`, '/dev/null');
    expect(starts()).toBe(false);
  });

  test.each([`${etc}/lxc.service`, '/lib/systemd/system/lxc.service'])(
    'when its unit is %s and something pulls it in',
    (unit) => {
      put(unit);
      put(`${etc}/a-file.wants`);
      expect(starts()).toBe(false);
      link(`${etc}/multi-user.target.wants/lxc.service`, unit);
      expect(starts()).toBe(true);
    },
  );

  test('when it is required instead of wanted', () => {
    put('/usr/lib/systemd/system/lxc.service');
    link(`${etc}/my.target.requires/lxc.service`, '/usr/lib/systemd/system/lxc.service');
    expect(starts()).toBe(true);
  });
});

test('a path is known again by what the rescan hook sees', () => {
  put('/srv/x');
  const host = new HostReader(root);
  const seen = execFileSync('stat', ['-L', '-c', '%d:%i', '--', join(root, 'srv')], {
    encoding: 'utf8',
  });
  expect(host.identify('/srv')).toEqual({ path: '/srv', identity: seen.trim() });
  expect(host.identify('/absent')).toEqual({ path: '/absent', identity: '-' });
  expect(statSync(join(root, 'srv')).isDirectory()).toBe(true);
});

describe("the guest's init", () => {
  const init = (cmd?: string, trees = ['/g']) => new HostReader(root).guestInit(trees, cmd).init;

  test('is unknown where nothing can be seen', () => {
    expect(init()).toBe('unknown');
    expect(init(undefined, [])).toBe('unknown');
    expect(init('sbin/init')).toBe('unknown');
  });

  test('is another where it is a file', () => {
    put('/g/sbin/init');
    expect(init()).toBe('other');
  });

  test.each([
    ['/lib/systemd/systemd', 'systemd'],
    ['../lib/systemd/systemd', 'systemd'],
    ['../../../../lib/./systemd/systemd', 'systemd'],
    ['/usr/bin/busybox', 'other'],
    ['/usr/bin/not-systemd', 'other'],
    // The program may lie on a file system that is mounted later.
    ['/usr/lib/systemd/systemd', 'systemd'],
    ['/usr/bin/absent', 'unknown'],
    ['init', 'unknown'],
  ])('as a link to %s is %s', (target, expected) => {
    put('/g/lib/systemd/systemd');
    put('/g/usr/bin/busybox');
    put('/g/usr/bin/not-systemd');
    link('/g/sbin/init', target);
    expect(init()).toBe(expected);
  });

  test('is found through links of directories', () => {
    link('/g/sbin', 'usr/sbin');
    link('/g/lib', '/usr/lib');
    link('/g/usr/sbin/init', '../../lib/systemd/systemd');
    put('/g/usr/lib/systemd/systemd');
    expect(init()).toBe('systemd');
  });

  test('never leads out of the guest', () => {
    put('/out/systemd');
    link('/g/sbin/init', '../../../out/systemd');
    expect(init()).toBe('systemd');
    link('/g/sbin/other', '../../../out/busybox');
    put('/out/busybox');
    expect(init('/sbin/other')).toBe('unknown');
  });

  test('is that of lxc.init.cmd, without its arguments', () => {
    put('/g/sbin/init');
    put('/g/bin/systemd');
    expect(init('/bin/systemd --unit=x')).toBe('systemd');
  });

  test('is that of the upper layer', () => {
    put('/low/sbin/init');
    put('/low/lib/systemd/systemd');
    link('/up/sbin/init', '/lib/systemd/systemd');
    expect(init(undefined, ['/up', '/low'])).toBe('systemd');
    expect(init(undefined, ['/low', '/up'])).toBe('other');
  });
});

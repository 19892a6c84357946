import { linkSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { InitKind } from '../../src/check/guest-inits.ts';
import { defaultSignals, haltSignals, initKind, whyDeaf } from '../../src/check/guest-inits.ts';
import { Files } from '../../src/host/files.ts';
import { GuestFiles } from '../../src/host/guest-files.ts';
import type { HostTree } from './check-trees.ts';
import { withHostTree } from './check-trees.ts';

/** What comes of a guest with these files. */
function inGuest<T>(tree: HostTree, use: (guest: GuestFiles, root: string) => T): T {
  return withHostTree({ '/etc/hostname': 'web\n', ...tree }, (root) =>
    use(new GuestFiles(new Files(''), [root]), root),
  );
}

describe('the kind of an init', () => {
  const kindOf = (tree: HostTree, path = '/sbin/init'): InitKind | undefined =>
    inGuest(tree, (guest) => initKind(guest, path));

  // A link to each program tells, and nothing that has only a part of such a name.
  test.each<[program: string, kind: InitKind | undefined]>([
    ['systemd', 'systemd'],
    ['systemd-shim', undefined],
    ['busybox', 'busybox'],
    ['busybox.nosuid', 'busybox'],
    ['toybox', 'busybox'],
    ['busybox-init', undefined],
    ['mybusybox', undefined],
    ['openrc-init', 'openrc-init'],
    ['openrc-init-wrapper', undefined],
    ['my-openrc-init', undefined],
    ['procd', 'procd'],
    ['uprocd', undefined],
    ['procd2', undefined],
    ['runit', 'runit'],
    ['runit-init', 'runit'],
    ['runit-init2', undefined],
    ['nrunit', undefined],
    ['s6-svscan', 's6-svscan'],
    ['s6-linux-init', 's6-svscan'],
    ['my-s6-init', undefined],
    ['dinit', 'dinit'],
    ['dinit-init', 'dinit'],
    ['dinitctl', undefined],
    ['mydinit', undefined],
    ['sinit', 'sinit'],
    ['sinit2', undefined],
    ['mysinit', undefined],
    ['upstart', 'upstart'],
    ['upstarts', undefined],
    ['myupstart', undefined],
    ['mysystemd', undefined],
  ])('%s: %s', (program, kind) => {
    expect(kindOf({ '/sbin/init': `-> ../lib/${program}`, [`/lib/${program}`]: 'ELF' })).toBe(kind);
  });

  // Of an "init" its neighbours tell, the first of them.
  test.each<[HostTree, InitKind | undefined]>([
    [{}, undefined],
    [{ '/etc/inittab': '' }, undefined],
    [{ '/sbin/procd': '', '/sbin/telinit': '' }, 'procd'],
    [{ '/etc/runit/2': '', '/sbin/telinit': '' }, 'runit'],
    [{ '/etc/s6-linux-init/': '', '/sbin/telinit': '' }, 's6-svscan'],
    [{ '/etc/init/rc-sysinit.conf': '', '/sbin/telinit': '' }, 'upstart'],
    [{ '/sbin/telinit': '' }, 'sysvinit'],
    [{ '/bin/busybox': 'another file', '/sbin/telinit': '' }, 'sysvinit'],
  ])('an "init" beside %j: %s', (tree, kind) => {
    expect(kindOf({ '/sbin/init': 'ELF', ...tree })).toBe(kind);
  });

  test('an init called "sysvinit" is one, another program is not looked at further', () => {
    const tree = { '/sbin/telinit': '', '/lib/sysvinit': 'ELF', '/lib/my-init': 'ELF' };
    expect(kindOf({ ...tree, '/sbin/init': '-> ../lib/sysvinit' })).toBe('sysvinit');
    expect(kindOf({ ...tree, '/sbin/init': '-> ../lib/my-init' })).toBeUndefined();
  });

  test.each(['/bin/busybox', '/usr/bin/busybox', '/bin/toybox', '/usr/bin/toybox'])(
    'a hard link to %s is busybox',
    (program) => {
      const kind = inGuest({ '/sbin/init': 'ELF', '/sbin/telinit': '' }, (guest, root) => {
        mkdirSync(join(root, program, '..'), { recursive: true });
        linkSync(join(root, 'sbin/init'), join(root, program));
        return initKind(guest, '/sbin/init');
      });
      expect(kind).toBe('busybox');
    },
  );

  test('where no init is, none is told, whatever lies beside it', () => {
    expect(kindOf({ '/sbin/telinit': '' }, '/sbin/other')).toBeUndefined();
  });

  test('what is there in name only is not told by the multi-call programs that are missing', () => {
    expect(kindOf({ '/sbin/init': '-> /gone/init', '/sbin/telinit': '' })).toBe('sysvinit');
  });
});

/** All signals that lxc.signal.halt can name. */
const signals = Array.from({ length: 64 }, (_, index) => index + 1);

/** On what each shuts down, whatever its files are; see the manual page of each. */
const hears: Readonly<Record<InitKind, readonly number[]>> = {
  // SIGRTMIN+3, +4, +13 and +14: halt.target and poweroff.target.
  systemd: [37, 38, 47, 48],
  // These ask their files; see below.
  sysvinit: [],
  upstart: [],
  runit: [],
  // SIGUSR1 halts, SIGUSR2 powers off.
  busybox: [10, 12, 30],
  procd: [10, 12, 30],
  'openrc-init': [15],
  's6-svscan': [10, 12, 15, 30],
  // SIGQUIT is a shutdown without services' scripts.
  dinit: [3, 15],
  sinit: [10],
};

describe.each(Object.entries(hears))('a guest with %s', (name, heard) => {
  const kind = name as InitKind;
  const why = (signal: number): ReturnType<typeof whyDeaf> =>
    inGuest({}, (guest) => whyDeaf(guest, kind, signal));

  test('shuts down on its signals and on no other', () => {
    inGuest({}, (guest) => {
      expect(signals.filter((signal) => whyDeaf(guest, kind, signal) === undefined)).toEqual(heard);
      expect([...haltSignals[kind]].sort((a, b) => a - b)).toEqual(heard);
    });
  });

  test('is told the signal that a stop sends without the line', () => {
    // SIGHUP is for none of them.
    const { what = '', remedy = '' } = why(1) ?? {};
    expect(what).toBe(`${kind} does not shut down on this signal`);
    expect(remedy).toMatch(/^write lxc\.signal\.halt = SIG[A-Z0-9+]+, or remove the line$/);
    if (heard.length > 0) expect(heard).toContain(defaultSignals[kind]);
  });

  test('is said to reboot where it does', () => {
    const reboots = kind === 'busybox' || kind === 'procd' ? [15] : [];
    const said = [15].filter((signal) => why(signal)?.what === `${kind} reboots on this signal`);
    expect(said).toEqual(reboots);
  });
});

test('the signal of each, where the configuration names none', () => {
  expect(defaultSignals).toEqual({
    systemd: 37,
    sysvinit: 30,
    upstart: 30,
    busybox: 30,
    procd: 30,
    runit: 18,
    'openrc-init': 15,
    's6-svscan': 15,
    dinit: 15,
    sinit: 10,
  });
});

describe('what the files of a guest decide', () => {
  const deaf = (kind: InitKind, signal: number, tree: HostTree) =>
    inGuest(tree, (guest) => whyDeaf(guest, kind, signal));

  const gone = '/etc/init.d/gone';
  const there = { '/etc/init.d/powerfail': '#!/bin/sh\n', '/sbin/reboot': 'ELF' };

  // The action of SIGPWR, the older word for it, and the keys, with each way to shut down.
  describe.each([
    [30, 'powerwait'],
    [30, 'powerfail'],
    [2, 'ctrlaltdel'],
  ])('sysvinit on signal %i by a line %s', (signal, action) => {
    const why = (...lines: string[]) =>
      deaf('sysvinit', signal, { ...there, '/etc/inittab': `${lines.join('\n')}\n` });

    test.each([
      '/sbin/init 0',
      'init 0',
      '/sbin/init  0',
      '/sbin/telinit 0',
      '+/sbin/init 0',
      '+ /sbin/init 0',
      '/sbin/halt -p',
      '/sbin/poweroff',
      '/sbin/shutdown -h now',
      '/sbin/shutdown -t1 -a -P now "power: fails"',
      '/etc/init.d/powerfail start',
      '/etc/init.d/powerfail\tstart',
      // A script of the guest, whatever its name begins with.
      '/etc/init.d/powerfail',
    ])('%s: shuts down', (process) => {
      expect(why('id:2:initdefault:', `x:12345:${action}:${process}`)).toBeUndefined();
    });

    test.each([
      '',
      '/sbin/init 6',
      '/sbin/telinit 6',
      '/sbin/reboot',
      '/sbin/shutdown -r now',
      '/sbin/shutdown -t1 -r now',
      `${gone} start`,
      'powerfail start',
      '/etc/init.d/powerfail-not',
      '/bin/whoinit 0',
      '/sbin/initial 0',
      '/sbin/myhalted',
      '/sbin/powerofficer',
      '/sbin/init 10',
    ])('%s: does not', (process) => {
      const { what, remedy } = why(`x::${action}:${process}`) ?? {};
      expect(what).toMatch(/^no .* line of the guest's \/etc\/inittab shuts the guest down$/);
      expect(remedy).toMatch(
        signal === 30 ? / p0::powerwait:\/sbin\/init 0$/ : / ca::ctrlaltdel:\/sbin\/init 0$/,
      );
    });

    test('one line of several is enough', () => {
      expect(why(`x::${action}:${gone}`, `y::${action}:/sbin/init 0`)).toBeUndefined();
    });

    test('a comment and a line for something else are none', () => {
      expect(why(`#x::${action}:/sbin/init 0`, 'y::wait:/sbin/init 0')?.what).toMatch(
        /\/etc\/inittab has no /,
      );
    });

    test('a line that init does not reach is none', () => {
      const others = Array.from({ length: 1000 }, (_, index) => `${index}::respawn:/bin/true`);
      expect(why(...others, `x::${action}:/sbin/init 0`)).toBeDefined();
      expect(why(...others.slice(1), `x::${action}:/sbin/init 0`)).toBeUndefined();
    });
  });

  test('sysvinit without an inittab names the lines that it lacks', () => {
    expect(deaf('sysvinit', 30, {})).toEqual({
      what: "the guest's /etc/inittab has no powerwait or powerfail line",
      remedy: 'write into /etc/inittab of the guest: p0::powerwait:/sbin/init 0',
    });
    expect(deaf('sysvinit', 2, {})).toEqual({
      what: "the guest's /etc/inittab has no ctrlaltdel line",
      remedy: 'write into /etc/inittab of the guest: ca::ctrlaltdel:/sbin/init 0',
    });
  });

  test('a line of the keys does not serve SIGPWR, nor the other way round', () => {
    const keys = { '/etc/inittab': 'ca::ctrlaltdel:/sbin/init 0\n' };
    const power = { '/etc/inittab': 'p0::powerwait:/sbin/init 0\n' };
    expect(deaf('sysvinit', 30, keys)).toBeDefined();
    expect(deaf('sysvinit', 2, power)).toBeDefined();
  });

  test.each<[InitKind, number, HostTree]>([
    ['upstart', 30, { '/etc/init/power-status-changed.conf': '' }],
    ['systemd', 30, { '/etc/systemd/system/sigpwr.target': '' }],
    ['systemd', 30, { '/etc/systemd/system/sigpwr.target.wants/': '' }],
    ['runit', 18, { '/etc/runit/stopit': '#!/bin/true\n' }],
  ])('%s shuts down on signal %i with %j, and on no other', (kind, signal, tree) => {
    const heard = signals.filter((one) => deaf(kind, one, tree) === undefined);
    expect(heard).toEqual([...haltSignals[kind], signal].sort((a, b) => a - b));
  });

  test.each<[InitKind, number, RegExp, RegExp]>([
    ['upstart', 30, /no job of upstart for SIGPWR/, /exec \/sbin\/shutdown -h now/],
    ['systemd', 30, /only starts sigpwr\.target/, /SIGRTMIN\+3, or remove/],
    ['runit', 18, /only if \/etc\/runit\/stopit is executable/, /install -m 744/],
  ])('%s on signal %i says what is missing', (kind, signal, what, remedy) => {
    expect(deaf(kind, signal, {})).toEqual({
      what: expect.stringMatching(what) as string,
      remedy: expect.stringMatching(remedy) as string,
    });
  });

  test('a stopit that is not executable is not enough', () => {
    expect(deaf('runit', 18, { '/etc/runit/stopit': '' })).toBeDefined();
  });
});

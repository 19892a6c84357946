import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { checkHost } from '../../src/check/check.ts';
import { main } from '../../src/cli/main.ts';
import { Files } from '../../src/host/files.ts';
import type { HostTree } from './check-trees.ts';
import { config, soundHost, withHostTree } from './check-trees.ts';
import { plainOutput } from './plain-output.ts';

let stdout = '';
let stderr = '';
const root = process.env['LOCKERD_ROOT'];
beforeEach(() => {
  stdout = '';
  stderr = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  if (root === undefined) delete process.env['LOCKERD_ROOT'];
  else process.env['LOCKERD_ROOT'] = root;
});

/** Runs lockerctl for the sound host with some files changed. */
function lockerctl(changes: HostTree, ...args: string[]): Promise<number> {
  return withHostTree({ ...soundHost, ...changes }, (directory) => {
    process.env['LOCKERD_ROOT'] = `${directory}/`;
    return main(['check', ...args], plainOutput);
  });
}

const web = '/var/lib/lxc/web/config';
const oldKeys = { [web]: `${config}lxc.utsname = web\nlxc.tty = 4\n` };
const warned = { '/etc/default/lxc': 'LXC_AUTO="false"\n' };
const noted = { '/etc/init.d/lxc.web': '#!/bin/sh\n' };

describe('the exit status', () => {
  test.each([
    ['of a sound host', {}, [], 0],
    ['with notes only', noted, [], 0],
    ['with warnings', warned, [], 6],
    ['with errors', { ...warned, ...oldKeys }, [], 1],
    ['for a name that no container has', {}, ['wbe'], 5],
    ['for such a name, with errors of the host', { '/usr/bin/lxc-start': undefined }, ['wbe'], 1],
    ['with wrong usage', {}, ['--force'], 2],
  ])('%s', async (_, changes: HostTree, args: readonly string[], status) => {
    expect(await lockerctl(changes, ...args)).toBe(status);
  });
});

describe('the text', () => {
  test('says where, what, why and how, and why and how of like lines once', async () => {
    await lockerctl(oldKeys);
    expect(stdout).toBe(
      [
        `error web: ${web}:8 [old-key]`,
        '    lxc.utsname is a key of LXC 1.x and 2.x, which LXC 3 and later refuse',
        '    line 9: lxc.tty is a key of LXC 1.x and 2.x, which LXC 3 and later refuse',
        '    Since version 3, LXC refuses a configuration that has a key of LXC 0.9 to 2.',
        '    → run: lockerctl import web',
        '1 container checked: 2 errors.',
        '',
      ].join('\n'),
    );
  });

  test('of a sound host is one line, and none without a legend', async () => {
    await lockerctl({});
    expect(stdout).toBe('1 container checked: nothing found.\n');
    stdout = '';
    await lockerctl({}, '--no-legend');
    expect(stdout).toBe('');
  });

  test('is errors only, if it is to be quiet', async () => {
    await lockerctl({ ...oldKeys, ...warned }, '-q');
    expect(stdout).toMatch(/^error web: /);
    expect(stdout).not.toMatch(/warning|checked/);
  });

  test('names what is no container', async () => {
    await lockerctl({}, 'wbe');
    expect(stderr).toBe('lockerctl: there is no container "wbe"\nDid you mean "web"?\n');
  });
});

test('--json has every finding with all its members', async () => {
  expect(await lockerctl(oldKeys, '--json')).toBe(1);
  const findings = JSON.parse(stdout) as Record<string, unknown>[];
  expect(findings).toHaveLength(2);
  expect(findings[0]).toEqual({
    id: 'old-key',
    severity: 'error',
    container: 'web',
    file: web,
    line: 8,
    what: 'lxc.utsname is a key of LXC 1.x and 2.x, which LXC 3 and later refuse',
    why: 'Since version 3, LXC refuses a configuration that has a key of LXC 0.9 to 2.',
    remedy: 'run: lockerctl import web',
  });
});

describe('what a hostile file says', () => {
  const evil = '\u001b]0;owned\u0007\u001b[2J\u202egnp.exe\u009b31m';

  test.each([[[]], [['--json']]])('moves no cursor and hides no text %j', async (args) => {
    await lockerctl(
      {
        [web]: `${config}lxc.uts.nmae${evil} = x\nlxc.rootfs.path = dir:/srv/${evil}\nlxc.net.0.link = ${evil}\n`,
        [`/var/lib/lxc/${evil.replaceAll('/', '')}/config`]: 'lxc.tty = 1\n',
        '/etc/rc.local': `lxc-start -n ${evil}\n`,
        '/etc/fstab': `cgroup /cgroup${evil} cgroup defaults 0 0\n`,
        [`/etc/systemd/system/lxc@web.service.d/zz.conf`]: `[Service]\nKillMode=${evil}\n`,
        '/etc/lockerd/containers/web.conf': `stop-timeout = ${evil}\n`,
      },
      ...args,
    );
    expect(stdout.length).toBeGreaterThan(1000);
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  });
});

describe('what a guest has in place of its files', () => {
  /** The findings with something in place of /etc/inittab of a guest with an init of its own. */
  function withInittab(make: (path: string) => void): readonly string[] {
    const changes = {
      '/srv/web/sbin/init': 'ELF',
      '/srv/web/lib/systemd/systemd': undefined,
      '/srv/web/sbin/telinit': '-> init',
      '/srv/web/etc/hostname': 'web\n',
    };
    return withHostTree({ ...soundHost, ...changes }, (directory) => {
      make(join(directory, 'srv/web/etc/inittab'));
      const { findings } = checkHost(directory, [], new Files(''));
      return findings.map(({ id }) => id);
    });
  }
  const halts = 'p0::powerwait:/sbin/init 0\n';

  test('an inittab that shuts down is heard', () => {
    expect(
      withInittab((path) => {
        writeFileSync(path, halts);
      }),
    ).toEqual([]);
  });

  test('an init that is a hard link to busybox is no sysvinit', () => {
    const found = withInittab((path) => {
      writeFileSync(path, 'id:2:initdefault:\n');
      mkdirSync(join(path, '../../bin'));
      linkSync(join(path, '../../sbin/init'), join(path, '../../bin/busybox'));
    });
    expect(found).toEqual([]);
  });

  test.each<[string, (path: string) => void]>([
    ['a FIFO', (path): void => void execFileSync('mkfifo', [path])],
    [
      'a directory',
      (path) => {
        mkdirSync(path);
      },
    ],
    [
      'a huge file',
      (path) => {
        writeFileSync(path, halts);
        truncateSync(path, 1024 ** 3);
      },
    ],
    [
      'a circle of links',
      (path) => {
        symlinkSync('inittab', path);
      },
    ],
  ])('%s is not read, and nothing waits for it', (_, make) => {
    const start = performance.now();
    withInittab(make);
    expect(performance.now() - start).toBeLessThan(2000);
  });

  test.each(['../../../proc/inittab', '/proc/inittab'])(
    'a link to %s is followed in the guest, not on the host',
    (target) => {
      const found = withInittab((path) => {
        const guest = join(path, '../..');
        // To the kernel, the link leads to the host's file.
        writeFileSync(join(guest, '../../proc/inittab'), 'id:2:initdefault:\n');
        mkdirSync(join(guest, 'proc'));
        writeFileSync(join(guest, 'proc/inittab'), halts);
        symlinkSync(target, path);
      });
      expect(found).toEqual([]);
    },
  );
});

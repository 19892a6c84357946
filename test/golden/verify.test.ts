import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { caseNames, generate, project, run, withTemporaryDirectory, writeTree } from './cases.ts';
import type { Ended } from './cases.ts';

/** The units of Debian's lxc package that the drop-ins belong to. */
const distributionUnits = ['lxc@.service', 'lxc.service', 'lxc-net.service'];

/** Units of systemd and of other packages that ours name; what they do is not looked at. */
const standIns = [
  'basic.target',
  'dbus.socket',
  'local-fs.target',
  'multi-user.target',
  'network-online.target',
  'network.target',
  'remote-fs.target',
  'shutdown.target',
  'sysinit.target',
  'systemd-journald.socket',
  'umount.target',
  'zfs-import.target',
  'zfs-mount.service',
];

const standInTexts: Readonly<Record<string, string>> = {
  target: '[Unit]\nDescription=Stands in\n',
  socket: '[Unit]\nDescription=Stands in\n[Socket]\nListenStream=/run/stands-in\n',
  service: '[Unit]\nDescription=Stands in\n[Service]\nExecStart=/bin/true\n',
};

/** Programs that the units start; systemd-analyze looks whether they can be executed. */
const programs = [
  'bin/sh',
  'bin/true',
  'usr/bin/env',
  'usr/bin/mkdir',
  'usr/lib/lockerd/lockerd',
  'usr/lib/lockerd/lockerd-autoballoon',
  'usr/lib/lockerd/lockerd-helper',
  'usr/bin/lockerctl',
  'usr/bin/lxc-start',
  'usr/bin/lxc-wait',
  'usr/bin/sleep',
  'usr/bin/systemctl',
  'usr/libexec/lxc/lxc-apparmor-load',
  'usr/libexec/lxc/lxc-containers',
  'usr/libexec/lxc/lxc-net',
];

/** Builds a file system tree with everything but the generated units. */
function makeRoot(root: string): void {
  const units = join(root, 'usr/lib/systemd/system');
  mkdirSync(units, { recursive: true });
  for (const name of distributionUnits)
    cpSync(join('/lib/systemd/system', name), join(units, name));
  cpSync(join(project, 'dist/units/system'), units, { recursive: true });
  for (const name of standIns) {
    writeFileSync(join(units, name), standInTexts[name.split('.').pop() ?? ''] ?? '');
  }
  cpSync(join(project, 'dist/hooks'), join(root, 'usr/lib/lockerd/hooks'), { recursive: true });
  for (const program of programs) {
    mkdirSync(join(root, program, '..'), { recursive: true });
    writeFileSync(join(root, program), '#!/bin/sh\n', { mode: 0o755 });
  }
}

/** The units that a generated directory has files, drop-ins or links for. */
function unitsOf(directory: string): string[] {
  const units = readdirSync(directory).flatMap((name) => {
    if (name.endsWith('.wants')) {
      return [name.slice(0, -'.wants'.length), ...readdirSync(join(directory, name))];
    }
    return [name.replace(/\.d$/, '')];
  });
  return [...new Set(units)].sort();
}

/** systemd makes mount units from fstab, which is not read here: those of lockers, and what has drop-ins. */
function makeMounts(generated: string): void {
  const make = (unit: string, path: string): void => {
    const text = `[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere=${path}\n`;
    writeFileSync(join(generated, '../../../usr/lib/systemd/system', unit), text);
  };
  for (const name of readdirSync(generated).filter((entry) => entry.endsWith('.mount.d'))) {
    const path = `/${name.slice(0, -'.mount.d'.length).replaceAll('-', '/')}`;
    const unescaped = path.replaceAll(/\\x([0-9a-f]{2})/g, (_, code: string) =>
      String.fromCharCode(Number.parseInt(code, 16)),
    );
    make(name.slice(0, -'.d'.length), unescaped.replaceAll('%', '%%'));
  }
  for (const name of readdirSync(generated).filter((file) => file.endsWith('.mount'))) {
    const text = readFileSync(join(generated, name), 'utf8');
    const locker = /^BindsTo=(.+)$/m.exec(text)?.[1];
    const path = /^What=(\/.+)$/m.exec(text)?.[1];
    if (locker === undefined || path === undefined) continue;
    make(locker, path);
  }
}

/** Lets systemd itself load the units of a case; `change` may break them first. */
async function verify(
  name: string,
  change: (generated: string) => void = () => undefined,
): Promise<Ended> {
  const { tree } = await generate(name);
  return withTemporaryDirectory((root) => {
    makeRoot(root);
    // What a generator wrote is not read from its own directory here, only from /etc.
    const generated = join(root, 'etc/systemd/system');
    mkdirSync(generated, { recursive: true });
    writeTree(generated, tree);
    makeMounts(generated);
    change(generated);
    return run('systemd-analyze', [
      'verify',
      `--root=${root}`,
      '--man=no',
      '--recursive-errors=one',
      '--',
      ...unitsOf(generated),
    ]);
  });
}

const good: Ended = { status: 0, stdout: '', stderr: '' };

beforeAll(() => {
  const missing = distributionUnits.filter(
    (name) => !existsSync(join('/lib/systemd/system', name)),
  );
  expect(missing, 'units of the lxc package').toEqual([]);
});

describe.concurrent('systemd finds nothing wrong with', () => {
  test.each(caseNames)('%s', async (name) => {
    expect(await verify(name)).toEqual(good);
  });
});

describe.concurrent('systemd would find', () => {
  const dropIn = 'lxc@web.service.d/60-container.conf';
  const verifyWith = (lines: string): Promise<Ended> =>
    verify('rootfs-dir', (generated) => {
      writeFileSync(join(generated, dropIn), lines, { flag: 'a' });
    });

  test.each([
    ['an unknown key', '[Service]\nKillSignals=SIGPWR\n', /Unknown key.*KillSignals/],
    ['a bad value', '[Service]\nKillSignal=SIGNOTHING\n', /Failed to parse signal name/],
    [
      'an absent program',
      '[Service]\nExecStart=\nExecStart=/usr/bin/absent\n',
      /absent is not executable/,
    ],
    ['an absent requirement', '[Unit]\nRequires=absent.service\n', /absent\.service not found/],
    ['an ordering cycle', '[Unit]\nBefore=lxc.service\n', /ordering cycle/],
  ])('%s in a drop-in', async (_what, lines, message) => {
    // A cycle is reported but leaves the exit status at 0, so the test above looks at both.
    expect((await verifyWith(lines)).stderr).toMatch(message);
  });

  test('a mistake in a packaged drop-in', async () => {
    const { status, stderr } = await verify('rootfs-dir', (generated) => {
      const packaged = join(generated, '../../../usr/lib/systemd/system/lxc@.service.d');
      writeFileSync(join(packaged, '50-lockerd.conf'), 'Nonsense=1\n', { flag: 'a' });
    });
    expect(stderr).toMatch(/Unknown key.*Nonsense/);
    expect(status).not.toBe(0);
  });
});

import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { changeWords } from '../../src/explain/change-words.ts';
import { explain } from '../../src/explain/made-by.ts';
import type { UnitChange } from '../../src/explain/unit-change.ts';
import {
  concerns,
  generatorDirectory,
  plannedChanges,
  unifiedDiff,
} from '../../src/explain/unit-change.ts';
import { generate } from '../../src/generator/main.ts';
import { writeOutputs } from '../../src/generator/write.ts';
import { Files } from '../../src/host/files.ts';
import { containerUnit } from '../../src/model/unit-name.ts';

let root = '';
beforeEach(() => {
  root = fs.mkdtempSync(path.join(tmpdir(), 'lockerd-explain-'));
  put('usr/share/common.conf', 'lxc.cap.drop = sys_module\nlxc.signal.halt = SIGUSR1\n');
  put('etc/fstab', '# disks\n/dev/vg0/data /lockers/data ext4 nosuid,nodev 0 2\n');
  put(
    'var/lib/lxc/web/config',
    `lxc.include = /usr/share/common.conf
lxc.uts.name = web

lxc.rootfs.path = lvm:/dev/vg0/web
lxc.start.auto = 1
lxc.start.order = 10
`,
  );
  put('var/lib/lxc/db/config', 'lxc.rootfs.path = dir:/srv/db\nlxc.start.auto = 1\n');
  put('var/lib/lxc/other/config', 'lxc.rootfs.path = dir:/srv/other\n');
  put('etc/lockerd/containers/web.conf', 'stop-timeout = 250s\nlockers = data:ro\n');
});
afterEach(() => {
  fs.rmSync(root, { recursive: true });
});

function put(file: string, text: string): void {
  const full = path.join(root, file);
  fs.mkdirSync(path.dirname(full), { recursive: true });
  fs.writeFileSync(full, text);
}

const containers = { lxcpath: '/var/lib/lxc', names: ['db', 'other', 'web'] };
const dropIn = 'lxc@web.service.d/60-container.conf';

/** `FILE:LINE` of all that made a line of a container's own drop-in. */
function makersOf(text: string, name = 'web', file = dropIn): string[] | undefined {
  const found = explain(root, containers, name).files.find((one) => one.path === file);
  return found?.lines
    .find((line) => line.text === text)
    ?.makers.map((maker) => `${maker.file}:${maker.line}`);
}

describe('explain', () => {
  test('names the line of an included file, not the include', () => {
    expect(makersOf('KillSignal=SIGUSR1')).toEqual(['/usr/share/common.conf:2']);
  });

  test('names lines of the configuration and of the settings', () => {
    expect(makersOf('Wants=dev-vg0-web.device')).toEqual(['/var/lib/lxc/web/config:4']);
    expect(makersOf('TimeoutStopSec=250s')).toEqual(['/etc/lockerd/containers/web.conf:1']);
    expect(makersOf('Autostart=yes')).toEqual(['/var/lib/lxc/web/config:5']);
  });

  test('names the lines of limits of other things than memory', () => {
    const limits =
      'lxc.cgroup2.cpuset.cpus = 0\nlxc.cgroup.cpu.shares = 512\nlxc.cgroup2.pids.max = 1\n';
    put('var/lib/lxc/web/config', `lxc.rootfs.path = dir:/srv/web\n${limits}`);
    const file = dropIn.replace('60-container', '40-limits');
    const lines = { 'AllowedCPUs=0': 2, 'CPUWeight=50': 3, 'TasksMax=17': 4 };
    for (const [text, line] of Object.entries(lines))
      expect(makersOf(text, 'web', file)).toEqual([`/var/lib/lxc/web/config:${line}`]);
  });

  test('names what another container has to do with it', () => {
    put('var/lib/lxc/db/config', 'lxc.rootfs.path = dir:/srv/db\nlxc.start.order = 5\n');
    put('var/lib/lxc/other/config', 'lxc.rootfs.path = dir:/srv/db\nlxc.start.order = 10\n');
    expect(makersOf('After=lxc@db.service')).toEqual(['/var/lib/lxc/web/config:6']);
    put('var/lib/lxc/web/config', 'lxc.rootfs.path = dir:/srv/web\nlxc.start.order = 1\n');
    expect(makersOf('After=lxc@web.service', 'db', dropIn.replace('web', 'db'))).toEqual([
      '/var/lib/lxc/db/config:2',
    ]);
  });

  test('names nothing for what every container gets', () => {
    expect(makersOf('SourcePath=/var/lib/lxc/web/config')).toEqual([]);
  });

  test('tells of other files and of links', () => {
    const { files, problems } = explain(root, containers, 'web');
    const link = files.find((one) => one.path === 'multi-user.target.wants/lxc@web.service');
    expect(link?.target).toBe('/usr/lib/systemd/system/lxc@.service');
    expect(link?.makers.map(({ line }) => line)).toEqual([5]);
    expect(files.map((one) => one.path).join('\n')).not.toMatch(/db|other/);
    expect(problems).toEqual([]);
  });

  test('tells which line keeps a container from starting', () => {
    put('var/lib/lxc/web/config', 'lxc.rootfs.path = dir:/srv/web\nlxc.utsname = web\n');
    const { problems } = explain(root, containers, 'web');
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^\/var\/lib\/lxc\/web\/config:2: /);
  });

  test('a host with others that name each other is told alike', () => {
    // The list of watched paths names every container, so none can be left out.
    for (let i = 0; i < 5; i++) put(`var/lib/lxc/c${i}/config`, 'lxc.include = /srv/none.conf\n');
    const names = ['c0', 'c1', 'c2', 'c3', 'c4', ...containers.names];
    const all = explain(root, { ...containers, names }, 'web');
    expect(all.files.find((one) => one.path === dropIn)).toEqual(
      explain(root, containers, 'web').files.find((one) => one.path === dropIn),
    );
  });
});

/** Has the generator write what is now on disk, as a daemon-reload does. */
function reload(): void {
  const directory = root + generatorDirectory;
  fs.rmSync(directory, { recursive: true, force: true });
  expect(writeOutputs(directory, generate(root, new Files()).outputs)).toEqual([]);
}

function words(name: string): readonly string[] {
  const { changes, refused } = plannedChanges(root);
  const own = changes.filter((change) => concerns(change, name));
  return own.length === 0 ? [] : changeWords(own, refused.get(name) ?? [], containerUnit(name));
}

describe('diff', () => {
  beforeEach(() => {
    reload();
  });

  test('says nothing where nothing changes, and does not touch what others have written', () => {
    put('run/systemd/generator/opt.mount', '[Mount]\nWhere=/opt\n');
    expect(plannedChanges(root).changes).toEqual([]);
  });

  test('says what a changed value means, and from when on', () => {
    put(
      'etc/lockerd/containers/web.conf',
      'stop-timeout = 10min\nlockers = data\nlog-level = DEBUG\n',
    );
    expect(words('web')).toEqual([
      'has for its shutdown 10min instead of 250s from the reload on',
      'sees locker data from its next start on',
      'does not see locker data, read-only any more from its next start on',
      'is started with other options from its next start on',
    ]);
    expect(words('db')).toEqual([]);
  });

  test('knows limits, autostart, and what is waited for', () => {
    put(
      'var/lib/lxc/web/config',
      'lxc.rootfs.path = lvm:/dev/vg0/web\nlxc.signal.halt = SIGUSR1\nlxc.cgroup2.memory.max = 512M\n',
    );
    expect(words('web')).toEqual([
      'has a memory limit of 512M instead of the default from its next start on',
      'does not wait for lxc@db.service any more from its next start on',
      'does not wait for lxc@other.service any more from its next start on',
      'does not start any more at the next boot',
      'is started with other options from its next start on',
    ]);
  });

  test('says limits of devices in words, and that running containers have them at once', () => {
    const head =
      'lxc.rootfs.path = lvm:/dev/vg0/web\nlxc.signal.halt = SIGUSR1\nlxc.start.auto = 1\nlxc.start.order = 10\n';
    put(
      'var/lib/lxc/web/config',
      `${head}lxc.cgroup2.cpu.max = 50000\nlxc.cgroup2.pids.max = 10\nlxc.cgroup2.io.max = 8:0 rbps=2097152 wiops=9\n`,
    );
    const startedOtherwise = 'is started with other options from its next start on';
    expect(words('web')).toEqual([
      'has a limit of processor time of 50% instead of the default from the reload on',
      'has a task limit of 26 instead of the default from the reload on',
      'reads from /dev/block/8:0 at most 2M/s from the reload on',
      'writes to /dev/block/8:0 at most 9 times a second from the reload on',
      startedOtherwise,
    ]);
    reload();
    put('var/lib/lxc/web/config', head);
    expect(words('web')).toContain(
      'does not have the limit of 2M/s for what it reads from /dev/block/8:0 any more from the reload on',
    );
  });

  test('tells of a container that comes, goes, breaks, and is repaired', () => {
    put('var/lib/lxc/new/config', 'lxc.rootfs.path = dir:/srv/new\n');
    fs.rmSync(path.join(root, 'var/lib/lxc/other'), { recursive: true });
    put('var/lib/lxc/db/config', 'lxc.utsname = db\n');
    expect(words('new')).toEqual(['is new: it can be started']);
    expect(words('other')).toEqual(['has no units any more']);
    expect(words('db').join('\n')).toMatch(/^will not start: .*db\/config:1/);
    reload();
    put('var/lib/lxc/db/config', 'lxc.rootfs.path = dir:/srv/db\n');
    expect(words('db')).toEqual(['can be started again']);
  });

  test('shows a unified diff, also of what comes and goes', () => {
    put('etc/lockerd/containers/web.conf', 'stop-timeout = 10min\nlockers = data:ro\n');
    const { changes } = plannedChanges(root);
    expect(changes.map((change) => change.path)).toEqual([dropIn]);
    const [change] = changes as [UnitChange];
    expect(unifiedDiff(change)).toContain('-TimeoutStopSec=250s\n+TimeoutStopSec=10min\n');
    expect(unifiedDiff({ ...change, before: undefined })).toMatch(/^--- \/dev\/null\n\+\+\+ \/run/);
    expect(unifiedDiff({ ...change, after: undefined })).toContain('\n+++ /dev/null\n');
  });

  test('a container whose name begins like another one is not mistaken for it', () => {
    put('var/lib/lxc/web2/config', 'lxc.rootfs.path = dir:/srv/web2\nlxc.start.order = 20\n');
    expect(words('web')).toEqual([]);
    expect(words('web2')).toEqual(['is new: it can be started']);
  });
});

describe('the commands', () => {
  let stdout = '';
  const before = process.env['LOCKERD_ROOT'];
  beforeEach(() => {
    stdout = '';
    process.env['LOCKERD_ROOT'] = root;
    const take = (text: string | Uint8Array): boolean => {
      stdout += String(text);
      return true;
    };
    vi.spyOn(process.stdout, 'write').mockImplementation(take);
    vi.spyOn(process.stderr, 'write').mockImplementation(take);
  });
  afterEach(() => {
    vi.restoreAllMocks();
    if (before === undefined) delete process.env['LOCKERD_ROOT'];
    else process.env['LOCKERD_ROOT'] = before;
  });

  const traits = {
    columns: undefined,
    progressColumns: undefined,
    colour: false,
    utf8: false,
    inputIsTerminal: false,
  };
  const run = (...args: string[]): Promise<number> => main(args, traits);

  test('"explain" shows each line with what made it, and what all have in common once', async () => {
    expect(await run('explain', 'web')).toBe(0);
    expect(stdout).toContain(
      '  KillSignal=SIGUSR1\n      -> /usr/share/common.conf:2: lxc.signal.halt = SIGUSR1\n',
    );
    const [, attachment = ''] = /\n(var-locker.*web-data\.mount\n(?:.+\n)+)/.exec(stdout) ?? [];
    expect(attachment.match(/ -> /g)).toHaveLength(1);
  });

  test('"explain --json" has them as lists', async () => {
    expect(await run('explain', 'web', '--json')).toBe(0);
    const { container, files } = JSON.parse(stdout) as {
      container: string;
      files: { path: string; lines: { text: string; makers: { line: number }[] }[] }[];
    };
    expect(container).toBe('web');
    const lines = files.find((file) => file.path === dropIn)?.lines;
    expect(lines?.find(({ text }) => text === 'KillSignal=SIGUSR1')?.makers).toMatchObject([
      { file: '/usr/share/common.conf', line: 2 },
    ]);
  });

  test('a name that no container has ends both with the status for that', async () => {
    reload();
    expect(await run('explain', 'wbe')).toBe(5);
    expect(await run('diff', 'wbe')).toBe(5);
    expect(stdout).toContain('there is no container "wbe"');
  });

  test('"diff" tells of the named ones only, and shows nothing that a terminal obeys', async () => {
    reload();
    put('etc/lockerd/containers/web.conf', 'stop-timeout = 10min\nlockers = data:ro\n');
    put('var/lib/lxc/db/config', 'lxc.rootfs.path = dir:/srv/\u001b[31mdb\n');
    expect(await run('diff', 'web', '-q')).toBe(0);
    expect(stdout).toBe('web: has for its shutdown 10min instead of 250s from the reload on\n');
    expect(await run('diff')).toBe(0);
    expect(stdout).not.toContain('\u001b');
    fs.rmSync(path.join(root, 'var/lib/lxc/other'), { recursive: true });
    stdout = '';
    expect(await run('diff', 'other', '--json')).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      sentences: [{ container: 'other', words: 'has no units any more' }],
    });
  });
});

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const hooks = path.join(import.meta.dirname, '../../hooks');
const unit = 'lxc@web.service';

let root: string;
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-hooks-'));
  for (const name of [
    'bin',
    'notes',
    'cgroup',
    `run/${unit}.d`,
    `etc/${unit}.d`,
    `notes/${unit}`,
  ]) {
    fs.mkdirSync(path.join(root, name), { recursive: true });
  }
  fakeSystemctl('echo infinity');
  put('self-cgroup', `0::/system.slice/${unit}\n`);
});
afterEach(() => {
  fs.rmSync(root, { recursive: true });
});

function put(name: string, text: string): void {
  fs.writeFileSync(path.join(root, name), text);
}

function textOf(name: string): string | undefined {
  const file = path.join(root, name);
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : undefined;
}

/** Answers "show" with what a script prints, and is otherwise content. */
function fakeSystemctl(show: string): void {
  const file = path.join(root, 'bin/systemctl');
  fs.writeFileSync(file, `#!/bin/sh\n[ "$1" = show ] || exit 0\n${show}\n`, { mode: 0o755 });
}

/** Runs a hook with its directories in ours. */
function run(hook: string, ...args: string[]): string {
  const text = fs
    .readFileSync(path.join(hooks, hook), 'utf8')
    .replaceAll('/run/lockerd/balloon', `${root}/notes`)
    .replaceAll('/sys/fs/cgroup', `${root}/cgroup`)
    .replaceAll('/run/systemd/system.control', `${root}/run`)
    .replaceAll('/etc/systemd/system.control', `${root}/etc`)
    .replaceAll('/run/systemd/generator', `${root}/generator`)
    .replaceAll('/usr/lib/systemd /run/systemd /etc/systemd', `${root}/systemd`)
    .replaceAll('/proc/self/cgroup', `${root}/self-cgroup`);
  const { stdout, stderr } = spawnSync('sh', ['-c', text, path.join(hooks, hook), ...args], {
    encoding: 'utf8',
    env: { PATH: `${root}/bin:${process.env['PATH'] ?? ''}`, LOCKERD_UNIT: unit },
  });
  return stdout + stderr;
}

describe('balloon-undo', () => {
  const record = `notes/${unit}/undo`;
  const high = 'cgroup/guest/memory.high';
  beforeEach(() => {
    fs.mkdirSync(path.join(root, 'cgroup/guest'));
    put(high, '1000');
    put(`notes/${unit}/busy`, '');
  });

  test('puts back what was written down and forgets it', () => {
    put('cgroup/guest/memory.max', '1000');
    put('cgroup/memory.limit_in_bytes', '1000');
    put(
      record,
      `max ${root}/${high}\n4096 ${root}/cgroup/gone/memory.high\n` +
        `MemoryMax ${root}/cgroup/guest/memory.max\n` +
        `MemoryMax ${root}/cgroup/memory.limit_in_bytes\n`,
    );
    expect(run('balloon-undo')).toContain('undoing');
    expect(textOf(high)).toBe('max');
    expect(textOf('cgroup/guest/memory.max')).toBe('max');
    expect(textOf('cgroup/memory.limit_in_bytes')).toBe('-1');
    expect([textOf(record), textOf(`notes/${unit}/busy`)]).toEqual([undefined, undefined]);
  });

  test('keeps what it could not put back, and does it the next time', () => {
    fakeSystemctl('exit 1');
    put('cgroup/guest/memory.max', '1000');
    const limit = `MemoryMax ${root}/cgroup/guest/memory.max\n`;
    put(record, `max ${root}/${high}\n${limit}`);
    expect(run('balloon-undo')).toContain('<3>');
    expect([textOf(high), textOf(record)]).toEqual(['max', limit]);
    fakeSystemctl('echo 8192');
    run('balloon-undo');
    expect([textOf('cgroup/guest/memory.max'), textOf(record)]).toEqual(['8192', undefined]);
  });

  test('keeps a record that it cannot read', () => {
    // A read from address 0 of a process fails, also for root. A directory could not be removed
    // by the hook either, so it would prove nothing.
    fs.symlinkSync('/proc/self/mem', path.join(root, record));
    expect(run('balloon-undo')).toContain('cannot be read');
    expect(fs.lstatSync(path.join(root, record)).isSymbolicLink()).toBe(true);
  });

  test('does not act on half of a line, nor outside of control groups', () => {
    put('cgroup/guest/memory', 'other');
    put('else', 'other');
    const outside = `4096 ${root}/else\n`;
    const half = `4096 ${root}/cgroup/guest/memory`;
    put(record, `max ${root}/${high}\n${outside}${half}`);
    expect(run('balloon-undo')).toContain('not complete');
    expect([textOf(high), textOf('else'), textOf('cgroup/guest/memory')]).toEqual([
      ...['max', 'other', 'other'],
    ]);
    expect(textOf(record)).toBe(`${half}\n${outside}`);
  });

  test('leaves what somebody still works on', () => {
    put(record, `max ${root}/${high}\n`);
    const lock = path.join(root, 'notes', unit, 'lock');
    const held = spawnSync('flock', [lock, 'sh', '-c', 'exec "$@"', 'sh', 'true']);
    expect(held.status).toBe(0);
    const text = fs.readFileSync(path.join(hooks, 'balloon-undo'), 'utf8');
    const copy = text.replaceAll('/run/lockerd/balloon', `${root}/notes`);
    spawnSync('flock', [lock, 'sh', '-c', copy]);
    expect([textOf(record), textOf(high)]).toEqual([`max ${root}/${high}\n`, '1000']);
  });
});

describe('balloon-gone', () => {
  const dropIn = '50-MemoryMax.conf';
  const ours = '# made\n[Service]\nMemoryMax=4096\n';

  test('takes back a limit of ours, and brings back the persistent one', () => {
    put(`notes/${unit}/${dropIn}`, ours);
    put(`run/${unit}.d/${dropIn}`, ours);
    put(`etc/${unit}.d/45-MemoryMax.conf`, 'persistent');
    expect(run('balloon-gone')).toBe('');
    expect(textOf(`run/${unit}.d/${dropIn}`)).toBeUndefined();
    expect(textOf(`notes/${unit}/${dropIn}`)).toBeUndefined();
    expect(textOf(`etc/${unit}.d/${dropIn}`)).toBe('persistent');
  });

  test('leaves a limit that somebody has set since then', () => {
    put(`notes/${unit}/${dropIn}`, ours);
    put(`run/${unit}.d/${dropIn}`, `${ours}MemoryMax=1\n`);
    run('balloon-gone');
    expect(textOf(`run/${unit}.d/${dropIn}`)).toContain('MemoryMax=1\n');
    expect(textOf(`notes/${unit}/${dropIn}`)).toBeUndefined();
  });

  test('keeps its note of a limit that it cannot read', () => {
    put(`notes/${unit}/${dropIn}`, ours);
    fs.mkdirSync(path.join(root, `run/${unit}.d/${dropIn}`));
    expect(run('balloon-gone')).toContain('cannot compare');
    expect(textOf(`notes/${unit}/${dropIn}`)).toBe(ours);
  });

  test.each([
    ['before', undefined, undefined],
    ['after', ours, undefined],
    ['long after', '[Service]\nMemoryMax=5\n', '[Service]\nMemoryMax=5\n'],
  ])('knows a limit whose helper was killed %s systemd had set it', (_when, found, left) => {
    put(`notes/${unit}/${dropIn}.wanted`, 'MemoryMax=4096\n');
    put(`etc/${unit}.d/45-MemoryMax.conf`, 'persistent');
    if (found !== undefined) put(`run/${unit}.d/${dropIn}`, found);
    run('balloon-gone');
    expect(textOf(`run/${unit}.d/${dropIn}`)).toBe(left);
    expect(textOf(`etc/${unit}.d/${dropIn}`)).toBe('persistent');
    expect(fs.readdirSync(path.join(root, 'notes', unit))).toEqual([]);
  });
});

describe('autoballoon-gone', () => {
  const note = `notes/${unit}/autoballoon`;
  const dropIn = `run/${unit}.d/50-MemoryHigh.conf`;
  const kernel = 'cgroup/unit/memory.high';
  beforeEach(() => {
    fs.mkdirSync(path.join(root, 'cgroup/unit'));
    put(kernel, '4096');
    put(note, '4096\n');
    fakeSystemctl(
      'case $3 in --value) ;; esac; case "$*" in *Group*) echo /unit ;; *) echo infinity ;; esac',
    );
  });

  test('takes off what is its own', () => {
    put(dropIn, '[Service]\nMemoryHigh=4096\n');
    expect(run('autoballoon-gone')).toBe('');
    expect([textOf(dropIn), textOf(note), textOf(kernel)]).toEqual([undefined, undefined, 'max']);
  });

  test('leaves what somebody has set since then', () => {
    put(dropIn, '[Service]\nMemoryHigh=1\n');
    run('autoballoon-gone');
    expect([textOf(dropIn), textOf(note)]).toEqual(['[Service]\nMemoryHigh=1\n', undefined]);
  });

  test('keeps its note where something cannot be read, and does it the next time', () => {
    fs.mkdirSync(path.join(root, dropIn));
    expect(run('autoballoon-gone')).toContain('cannot be read');
    expect([textOf(note), textOf(kernel)]).toEqual(['4096\n', '4096']);
    fs.rmdirSync(path.join(root, dropIn));
    put(dropIn, 'MemoryHigh=4096\n');
    fakeSystemctl('exit 1');
    expect(run('autoballoon-gone')).toContain('systemd does not say');
    expect(textOf(note)).toBe('4096\n');
    fakeSystemctl('case "$*" in *Group*) echo /unit ;; *) echo infinity ;; esac');
    run('autoballoon-gone');
    expect([textOf(note), textOf(kernel)]).toEqual([undefined, 'max']);
  });
});

describe('memory-limits', () => {
  const v2 = `cgroup/system.slice/${unit}`;
  const v1 = `cgroup/memory/system.slice/${unit}`;
  beforeEach(() => {
    for (const group of [v1, v2]) fs.mkdirSync(path.join(root, group), { recursive: true });
    put('self-cgroup', `8:cpu,memory:/system.slice/${unit}\n0::/system.slice/${unit}\n`);
    const files = {
      [`generator/${unit}.d/40-limits.conf`]: 'MemoryMax=4096\nMemorySwapMax=infinity\n',
      [`system/${unit}.d/own.conf`]: '[Service]\nTasksMax=9\nMemorySwapMax=1G\n',
    };
    for (const [name, text] of Object.entries(files)) {
      const file = path.join(root, 'systemd', name);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, text);
    }
  });
  const onV2 = (): void => {
    put('self-cgroup', `0::/system.slice/${unit}\n`);
    put('cgroup/cgroup.controllers', '');
  };
  /** The limits that are said to have no effect. */
  const useless = () =>
    [...run('memory-limits').matchAll(/^<4>\S+: (Memory\S+) has no/gm)].map((m) => m[1]);

  test.each([
    ['v1', () => undefined],
    ['v2', onV2],
  ])('says on cgroup %s which limits do not hold without a memory controller', (_, version) => {
    version();
    expect(useless()).toEqual(['MemoryMax=4096', 'MemorySwapMax=1G']);
  });

  test.each([
    [
      'v1',
      () => {
        put(`${v1}/memory.limit_in_bytes`, '4096\n');
      },
    ],
    [
      'v2',
      () => {
        onV2();
        put(`${v2}/memory.max`, '4096\n');
      },
    ],
  ])('says on cgroup %s that swap is not accounted', (_, version) => {
    version();
    expect(useless()).toEqual(['MemorySwapMax=1G']);
  });

  test('says nothing where all limits hold', () => {
    onV2();
    put(`${v2}/memory.max`, '4096\n');
    put(`${v2}/memory.swap.max`, 'max\n');
    expect(run('memory-limits')).toBe('');
    expect(textOf(`${v2}/memory.swap.max`)).toBe('max\n');
  });

  test('limits the sum of memory and swap on cgroup v1', () => {
    put(`${v1}/memory.limit_in_bytes`, '4096\n');
    put(`${v1}/memory.memsw.limit_in_bytes`, '9223372036854771712\n');
    fakeSystemctl('echo 8192');
    expect(run('memory-limits')).toBe('');
    expect(textOf(`${v1}/memory.memsw.limit_in_bytes`)).toBe('12288\n');
  });
});

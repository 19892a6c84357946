import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const hook = join(import.meta.dirname, '../../hooks/show-wormhole');

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-wormhole-'));
  // No directory, so that not even root can mount it on one. It has no entries either.
  writeFileSync(join(root, 'wormhole'), '');
  mkdirSync(join(root, 'guest'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

/** Runs the hook for a guest's tree, with a wormhole that it does not come to mount or cannot. */
function run(wormhole: string, strict = false): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync('perl', [hook], {
    encoding: 'utf8',
    env: {
      PATH: process.env['PATH'],
      LXC_NAME: 'web',
      LXC_ROOTFS_PATH: join(root, 'guest'),
      LXC_ROOTFS_MOUNT: join(root, 'guest'),
      LOCKERD_WORMHOLE: wormhole,
      LOCKERD_LOCKER_PATH: '/lockers',
      ...(strict ? { LOCKERD_STRICT_LOCKERS: 'yes' } : {}),
    },
  });
  return { status, stderr };
}

const inGuest = (path: string): string => join(root, 'guest', path);

describe.each([
  [
    'a file',
    () => {
      writeFileSync(inGuest('lockers'), '');
    },
  ],
  [
    'a symbolic link',
    () => {
      symlinkSync('/etc', inGuest('lockers'));
    },
  ],
  ['a FIFO', () => execFileSync('mkfifo', [inGuest('lockers')])],
])('%s in the place of the lockers', (what, make) => {
  test('is told, and a container without lockers starts', () => {
    make();
    const { status, stderr } = run(join(root, 'wormhole'));
    expect(status).toBe(0);
    expect(stderr).toContain(`"lockers" of /lockers in the guest is ${what}, not a directory`);
    expect(stderr).toContain('starts without lockers');
  });

  test('keeps a container that needs its lockers from starting', () => {
    make();
    const { status, stderr } = run(join(root, 'wormhole'), true);
    expect(status).toBe(1);
    expect(stderr).toMatch(/web is not started .* remove it, or write "wormhole = no"/);
  });
});

describe('what the guest has there itself', () => {
  test.each([
    [
      'a file',
      () => {
        writeFileSync(inGuest('lockers/notes'), 'text');
      },
    ],
    [
      'a link',
      () => {
        symlinkSync('/etc', inGuest('lockers/notes'));
      },
    ],
    [
      'a directory with a file',
      () => {
        mkdirSync(inGuest('lockers/data'));
        writeFileSync(inGuest('lockers/data/notes'), 'text');
      },
    ],
  ])('%s is not hidden by an empty wormhole', (_, make) => {
    mkdirSync(inGuest('lockers'));
    make();
    const { status, stderr } = run(join(root, 'wormhole'));
    expect(status).toBe(0);
    expect(stderr).toContain("has files of the guest's own; move them, or write");
  });

  test('empty directories are no data', () => {
    mkdirSync(inGuest('lockers/data'), { recursive: true });
    const wormhole = join(root, 'wormhole');
    expect(run(wormhole).stderr).toContain(`${root} is not mounted`);
    writeFileSync(inGuest('lockers/data/notes'), 'text');
    expect(run(wormhole).stderr).toContain("has files of the guest's own");
  });

  test('a wormhole that is not empty, or cannot be seen, would be mounted whatever it covers', () => {
    mkdirSync(inGuest('lockers/data'), { recursive: true });
    writeFileSync(inGuest('lockers/notes'), 'text');
    expect(run('/nowhere/web').stderr).toContain('/nowhere is not mounted');
    mkdirSync(join(root, 'full/data'), { recursive: true });
    expect(run(join(root, 'full')).stderr).toContain(`${root} is not mounted`);
  });
});

describe('a bare directory in place of the wormhole', () => {
  beforeEach(() => {
    mkdirSync(join(root, "it's/web"), { recursive: true });
  });

  test('is not shown, and a container without lockers starts', () => {
    const { status, stderr } = run(join(root, "it's/web"));
    expect(status).toBe(0);
    expect(stderr).toContain('starts without lockers');
    expect(stderr).toContain(`see: systemctl status '${root}/it'\\''s'`);
  });

  test('keeps a container that needs its lockers from starting', () => {
    expect(run(join(root, "it's/web"), true)).toMatchObject({ status: 1 });
  });
});

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
} from 'node:fs';
import { symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Files } from '../../src/host/files.ts';
import { locateLockers } from '../../src/host/locate.ts';
import { HostReader } from '../../src/host/read.ts';
import { parseSettings } from '../../src/host/settings.ts';
import { mountUnit } from '../../src/model/unit-name.ts';
import { linkFstab, linkScript, linkTargets } from '../machines/fstab-links.ts';

let root = '';
beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'lockerd-locate-')));
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

const defaults = parseSettings([]).host;

/** What lockers are called and where they are. */
function lockersOf(settings: Partial<typeof defaults> = {}): string[] {
  const { lockers } = locateLockers(new HostReader(root), { ...defaults, ...settings });
  return [...lockers.values()].map(({ name, path }) => `${name} ${path}`);
}

const generator = '/usr/lib/systemd/system-generators/systemd-fstab-generator';

test.skipIf(!existsSync(generator))(
  'mounts of fstab are where systemd-fstab-generator has them',
  () => {
    execFileSync('sh', ['-euc', linkScript(root), 'sh', '']);
    put('etc/fstab', linkFstab(root));
    mkdirSync(join(root, 'out'));
    execFileSync(generator, Array(3).fill(join(root, 'out')), {
      env: { SYSTEMD_FSTAB: join(root, 'etc/fstab') },
      stdio: 'ignore',
    });
    const theirs = readdirSync(join(root, 'out')).filter((name) => name.endsWith('.mount'));
    const host = new HostReader('');
    const ours = linkTargets(root).map((target) => mountUnit(host.realPath(target)));
    expect([...new Set(ours)].sort()).toEqual(theirs.sort());
    expect(readFileSync(join(root, 'out', mountUnit(`${root}/real/data`)), 'utf8')).toContain(
      `Where=${root}/real/data\n`,
    );
  },
);

describe('lockers behind links', () => {
  test('have the names of fstab and the places of systemd', () => {
    link('lockers', '/srv/lk');
    put('srv/lk/x');
    link('srv/lk/far', '../../mnt/far');
    put(
      'etc/fstab',
      'a /lockers/a x\nb /srv/lk/b x\nc /lockers/far x\nd /mnt/d x\ne /lockers/a/deep x\n',
    );
    expect(lockersOf()).toEqual(['a /srv/lk/a', 'b /srv/lk/b', 'far /mnt/far']);
    const { settings } = locateLockers(new HostReader(root), defaults);
    expect(settings.lockerDirectory).toBe('/srv/lk');
    expect(settings.lockerPath).toBe('/lockers');
  });

  test('of the settings are resolved too, one after the other', () => {
    link('a', 'b/c');
    link('b', '/d');
    link('d/c', '../e');
    put('e/x');
    const located = locateLockers(new HostReader(root), {
      ...defaults,
      lockerDirectory: '/a/lockers',
      wormholeDirectory: '/a/maps',
    });
    expect(located.settings).toMatchObject({
      lockerDirectory: '/e/lockers',
      wormholeDirectory: '/e/maps',
    });
  });

  test('that go in circles stay as they are written', () => {
    link('lockers', 'lockers');
    put('etc/fstab', 'a /lockers/a x\n');
    expect(lockersOf()).toEqual(['a /lockers/a']);
  });
});

describe('what is mounted', () => {
  const line = (path: string, type = 'zfs', options = 'rw,nosuid') =>
    `30 22 0:30 / ${path} ${options} shared:2 - ${type} tank${path} rw\n`;

  test('directly below the locker directory is a locker, whoever mounted it', () => {
    put(
      'proc/1/mountinfo',
      line('/lockers/data') +
        line('/lockers/my\\040films', 'btrfs', 'ro') +
        line('/lockers/idle', 'autofs') +
        line('/lockers/data/deep') +
        line('/lockers') +
        line('/srv/x'),
    );
    const { lockers } = locateLockers(new HostReader(root), defaults);
    expect([...lockers.keys()]).toEqual(['data', 'my films']);
    expect(lockers.get('data')).toMatchObject({ readOnly: false, options: ['rw', 'nosuid'] });
    expect(lockers.get('my films')).toMatchObject({ readOnly: true });
  });

  test('is known from fstab first, and not at all when it is masked', () => {
    put('proc/1/mountinfo', line('/lockers/data') + line('/lockers/masked'));
    put('etc/fstab', 'x /lockers/data ext4 nofail\n');
    link('etc/systemd/system/lockers-masked.mount', '/dev/null');
    const { lockers } = locateLockers(new HostReader(root), defaults);
    expect([...lockers.values()].map(({ name, file }) => [name, file])).toEqual([
      ['data', '/etc/fstab'],
    ]);
  });
});

test('links on a file system that may hang are followed only where it is read anyway', () => {
  link('nfs/link', '/elsewhere');
  link('to-nfs', 'nfs');
  const mountinfo = `30 22 0:30 / ${root}/nfs rw shared:2 - nfs server:/x rw\n`;
  const asked: string[] = [];
  const files = new Files(mountinfo, (paths) => {
    asked.push(...paths);
    return new Set(paths);
  });
  const host = new HostReader('', files);
  expect(host.realPath(`${root}/to-nfs/link/x`)).toBe(`${root}/nfs/link/x`);
  expect(asked).toEqual([]);
  expect(host.realPath(`${root}/to-nfs/link/x`, true)).toBe('/elsewhere/x');
  expect(asked).toEqual([`${root}/nfs`]);
});

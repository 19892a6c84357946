import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Files } from '../../src/host/files.ts';
import { generate } from '../../src/generator/main.ts';
import { findGuestInit } from '../../src/host/guest-init.ts';
import { createLxcReader } from '../../src/host/read-lxc.ts';
import { HostReader } from '../../src/host/read.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-guest-'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

function put(path: string, text = ''): void {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), text);
}

function mountLine(path: string, type = 'nfs4', options = 'rw'): string {
  return `50 22 0:40 / ${path} rw,relatime shared:1 - ${type} server:/x ${options}\n`;
}

/** A probe whose mounts never answer, and what it was asked. */
function hungProbe(): { asked: string[][]; probe: (paths: readonly string[]) => Set<string> } {
  const asked: string[][] = [];
  return {
    asked,
    probe: (paths) => {
      asked.push([...paths]);
      return new Set<string>();
    },
  };
}

test('a chain of links at the bottom of a deep path is given up soon', () => {
  const deep = Array.from({ length: 300 }, () => 'a').join('/');
  mkdirSync(join(root, 'sbin'));
  // The path is longer than one call takes.
  let at = root;
  for (let depth = 0; depth < 300; depth += 300) {
    at = join(at, Array.from({ length: 300 }, () => 'a').join('/'));
    mkdirSync(at, { recursive: true });
  }
  symlinkSync(`/${deep}/init`, join(root, 'sbin/init'));
  const found = findGuestInit(new Files(), [root], undefined);
  expect(found).toEqual({
    init: 'unknown',
    why: 'the path has more than 256 parts, links included',
  });
});

test('links that go in circles are given up', () => {
  mkdirSync(join(root, 'sbin'));
  symlinkSync('other', join(root, 'sbin/init'));
  symlinkSync('init', join(root, 'sbin/other'));
  const { init, why } = findGuestInit(new Files(), [root], undefined);
  expect([init, why]).toEqual(['unknown', 'more than 40 symbolic links']);
});

test('a root file system that hangs is asked once and never touched', () => {
  put('hung/sbin/init');
  put('sound/sbin/init');
  const { asked, probe } = hungProbe();
  const files = new Files(mountLine(join(root, 'hung')), probe);
  for (let turn = 0; turn < 3; turn++) {
    expect(findGuestInit(files, [join(root, 'hung')], undefined)).toEqual({
      init: 'unknown',
      isHung: true,
      why: `it is on the nfs4 file system at ${join(root, 'hung')}, which does not answer`,
    });
    expect(findGuestInit(files, [join(root, 'sound')], undefined)).toEqual({ init: 'other' });
  }
  expect(asked).toEqual([[join(root, 'hung')]]);
});

test('a hung directory inside a root file system is not touched either', () => {
  put('g/sbin/init');
  symlinkSync('sbin', join(root, 'g/bin'));
  const files = new Files(mountLine(join(root, 'g/sbin'), 'fuse.sshfs'), hungProbe().probe);
  expect(findGuestInit(files, [join(root, 'g')], '/bin/init').isHung).toBe(true);
});

test('what answers is read as ever, while its neighbour hangs', () => {
  put('a/config', 'lxc.uts.name = a\n');
  put('b/config', 'lxc.uts.name = b\n');
  const lines = mountLine(join(root, 'a')) + mountLine(join(root, 'b'), 'fuse');
  const reader = createLxcReader('', new Files(lines, () => new Set([join(root, 'b')])));
  expect(reader.read(join(root, 'a/config')).file.problem).toEqual({
    reason: `it is on the nfs4 file system at ${join(root, 'a')}, which does not answer`,
    remedy: `run "systemctl daemon-reload" when ${join(root, 'a')} answers`,
    isHung: true,
  });
  const { file } = reader.read(join(root, 'b/config'));
  expect(file.problem).toBeUndefined();
  expect(file.text.lines).toHaveLength(1);
});

test('a link to a hung file system is as hung as a path', () => {
  put('hung/config', 'lxc.uts.name = x\n');
  symlinkSync(join(root, 'hung'), join(root, 'link'));
  const files = new Files(mountLine(join(root, 'hung')), hungProbe().probe);
  const host = new HostReader('', files);
  expect(host.readText(join(root, 'link/config')).problem?.reason).toMatch(/does not answer/);
  expect(host.identify(join(root, 'link')).identity).toBe('-');
});

test('what systemd would have to mount first is never asked', () => {
  put('auto/config');
  const { asked, probe } = hungProbe();
  const line = mountLine(join(root, 'auto'), 'autofs', 'rw,fd=30,pgrp=1,timeout=0');
  const host = new HostReader('', new Files(line, probe));
  expect(host.readText(join(root, 'auto/config')).problem?.reason).toMatch(/is not mounted now/);
  expect(asked).toEqual([]);
});

test('local file systems are never asked', () => {
  put('local/config', 'x');
  const { asked, probe } = hungProbe();
  const lines = mountLine(join(root, 'local'), 'ext4') + mountLine('/elsewhere', 'nfs4');
  expect(new HostReader('', new Files(lines, probe)).text(join(root, 'local/config'))).toBe('x');
  expect(asked).toEqual([]);
});

test('an overlay hangs with its layers', () => {
  put('merged/config', 'x');
  const { asked, probe } = hungProbe();
  const overlay = mountLine(join(root, 'merged'), 'overlay', 'rw,lowerdir=/mnt/a:/l,upperdir=/u');
  const read = (lines: string) =>
    new HostReader('', new Files(lines, probe)).text(join(root, 'merged/config'));
  expect(read(overlay)).toBe('x');
  expect(read(overlay + mountLine('/mnt', 'ceph'))).toBeUndefined();
  expect(asked).toHaveLength(1);
});

test('many files that each are allowed are too much together', () => {
  const lines = '#'.repeat(1023 * 1024);
  for (let n = 0; n < 10; n++) put(`c/${n}.conf`, lines);
  put('config', `lxc.include = ${join(root, 'c')}\n`);
  put('other', `lxc.include = ${join(root, 'c/9.conf')}\n`);
  const reader = createLxcReader('');
  const problems = reader
    .read(join(root, 'config'))
    .file.includes.flatMap(({ files }) => files.map(({ problem }) => problem?.reason))
    .filter((reason) => reason !== undefined);
  expect(problems[0]).toBe('with the files before it, it has more than 8 MiB');
  // What one container has too much of is read for the other.
  expect(reader.read(join(root, 'other')).file.includes[0]?.problem).toBeUndefined();
});

test('one container that brings a defect to light takes no other one along', () => {
  for (const name of ['bad', 'good']) {
    put(`var/lib/lxc/${name}/config`, `lxc.uts.name = ${name}\n`);
  }
  class Faulty extends Files {
    override stat(path: string): ReturnType<Files['stat']> {
      const stats = super.stat(path);
      if (path.includes('/bad/')) throw new RangeError('Maximum call stack size exceeded');
      return stats;
    }
  }
  const { outputs, errors } = generate(root, new Faulty());
  const text = (name: string) =>
    outputs.find(({ path }) => path === `lxc@${name}.service.d/60-container.conf`)?.text;
  expect(text('good')).not.toMatch(/refuse-start/);
  expect(text('bad')).toMatch(/refuse-start/);
  expect(errors.join()).toMatch(/container "bad" will not start/);
});

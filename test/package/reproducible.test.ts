import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest';
import { inCleanRoom } from '../../src/build/clean-room.mjs';
import { ensurePrograms } from '../machines/programs.mjs';
import { buildPackage, fileWith, pageDeb, programsDeb, project } from './packages.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 900_000 });

const { now: built } = inject('packages');

/** The first build; a second one from its source package is put beside it. */
let first: string;
beforeAll(() => {
  first = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-again-'));
  fs.cpSync(built, first, { recursive: true });
});
afterAll(() => {
  fs.rmSync(first, { recursive: true });
});

/** More than a year later, by another user, in another place, with other habits. */
const elsewhere = `
useradd --create-home --home-dir /home/somebody --uid 4242 somebody
mkdir -p /srv/far/away
install -m 644 lockerd_*.dsc lockerd_*.tar.* libfaketime.so.1 /srv/far/away/
chown -R somebody /srv/far
runuser -u somebody -- env LD_PRELOAD=/srv/far/away/libfaketime.so.1 FAKETIME=+400d \\
  LC_ALL=C LANGUAGE=de TZ=Pacific/Kiritimati sh -euc '
  umask 077
  cd /srv/far/away && dpkg-source --extract lockerd_*.dsc another-name && cd another-name
  date +%Y >/srv/far/year
  DEB_BUILD_OPTIONS="noautodbgsym parallel=3" dpkg-buildpackage -us -uc --build=binary'
mkdir again
cp /srv/far/year /srv/far/away/*lockerd_*.deb again/`;

test('a package that is built elsewhere and later is the same, byte for byte', () => {
  ensurePrograms(['faketime']);
  const files = execFileSync('dpkg', ['-L', 'libfaketime'], { encoding: 'utf8' }).split('\n');
  const library = files.find((file) => file.endsWith('/libfaketime.so.1')) ?? '';
  fs.copyFileSync(library, path.join(first, 'libfaketime.so.1'));
  inCleanRoom(first, elsewhere);
  const again = path.join(first, 'again');
  expect(Number(fs.readFileSync(path.join(again, 'year'), 'utf8'))).toBeGreaterThan(
    new Date().getFullYear(),
  );
  for (const end of [programsDeb, pageDeb]) {
    const [deb, other] = [fileWith(first, end), fileWith(again, end)];
    expect(path.basename(other)).toBe(path.basename(deb));
    expect(fs.readFileSync(other).equals(fs.readFileSync(deb))).toBe(true);
  }
});

test('the source package is the same each time', async () => {
  const again = await buildPackage();
  try {
    for (const end of ['.dsc', '.tar.xz', programsDeb, pageDeb]) {
      const [one, other] = [first, again].map((directory) =>
        fs.readFileSync(fileWith(directory, end)),
      );
      expect({ end, same: one?.equals(other ?? Buffer.of()) }).toEqual({ end, same: true });
    }
  } finally {
    fs.rmSync(again, { recursive: true });
  }
});

test('nothing in the package is newer than its sources', () => {
  const list = execFileSync('dpkg-deb', ['--contents', fileWith(first, programsDeb)], {
    encoding: 'utf8',
    env: { ...process.env, TZ: 'UTC' },
  });
  const times = list.split('\n').flatMap((line) => /\d{4}-\d\d-\d\d \d\d:\d\d/.exec(line) ?? []);
  const log = ['-C', project, 'log', '-1', '--format=%ct'];
  const commit = Number(execFileSync('git', log, { encoding: 'utf8' })) * 1000;
  expect(times.length).toBeGreaterThan(100);
  const newest = Math.max(...times.map((time) => Date.parse(`${time.replace(' ', 'T')}:00Z`)));
  expect(newest).toBeLessThanOrEqual(commit);
});

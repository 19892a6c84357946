// Builds the Debian packages and its source package; see src/debian/README.source.
// Usage: node src/build/deb.mjs [--output DIR] [--suffix TEXT]
//
// --suffix is put behind the version, as a distribution of one's own does ("+home1").
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildRoot, inCleanRoom, run } from './clean-room.mjs';
import { project } from './esbuild-options.mjs';
import { writeSourceTree } from './source-tree.mjs';

const { values } = parseArgs({
  options: { output: { type: 'string' }, suffix: { type: 'string', default: '' } },
});
const output = resolve(values.output ?? join(project, 'dist'));

/** In the directory with the tree `lockerd`. Its times are what the archive has. */
const makeSource = 'dpkg-source --build lockerd';

/** As an ordinary user, to whom nothing belongs but the tree that is unpacked. */
const buildInCleanRoom = `${makeSource}
  useradd --create-home --home-dir /build --uid 1000 builder
  install -o builder -m 644 lockerd_*.dsc lockerd_*.tar.* /build/
  runuser -u builder -- sh -euc '
    cd /build && dpkg-source --extract lockerd_*.dsc tree && cd tree
    export DEB_BUILD_OPTIONS=noautodbgsym
    dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary'
  cp /build/lockerd_* /build/cockpit-lockerd_* .`;

/** Where no clean room can be made: with what npm has installed, and a generator for Node. */
const buildHere = `cd "$1"
  ${makeSource}
  cd lockerd
  export DEB_BUILD_OPTIONS=noautodbgsym LOCKERD_NODE_MODULES="$2/node_modules"
  dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary \\
    --build-profiles=pkg.lockerd.node --no-check-builddeps`;

/** @param {string} directory of the source tree */
function buildPackage(directory) {
  try {
    buildRoot();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    process.stderr.write(`deb: no clean tree to build in, and no compiler: ${why}\n`);
    process.stderr.write('deb: building here, by debhelper; the generator needs Node at boot\n');
    if (spawnSync('dh', ['--version']).status !== 0) {
      const advice = 'debhelper is missing. Install it with: apt-get install debhelper';
      throw new Error(advice, { cause: error });
    }
    run('sh', '-euc', buildHere, 'sh', directory, project);
    return;
  }
  inCleanRoom(directory, buildInCleanRoom);
}

process.umask(0o022);
const work = mkdtempSync(join(tmpdir(), 'lockerd-deb-'));
try {
  await writeSourceTree(join(work, 'lockerd'), values.suffix);
  buildPackage(work);
  mkdirSync(output, { recursive: true });
  for (const file of readdirSync(work).filter((name) => /^(cockpit-)?lockerd_/.test(name))) {
    copyFileSync(join(work, file), join(output, file));
    if (file.endsWith('.deb')) process.stdout.write(`${join(output, file)}\n`);
  }
} catch (error) {
  process.stderr.write(`deb: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

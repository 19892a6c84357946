// Puts together the source tree of the Debian package: what git keeps, with src/debian moved to the
// top as dpkg wants it, the changelog in Debian's form, and the npm packages that go into the
// programs. src/debian/README.source says why.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { build } from 'esbuild';
import { forBrowser, forNode, forQuickjs, programs, project } from './esbuild-options.mjs';

/** What git does not keep. */
const made = new Set(['.git', 'coverage', 'dist', 'node_modules']);

/**
 * Every path below a directory, relative to the top and sorted.
 * @param {string} top
 * @param {string} [below]
 * @returns {string[]}
 */
function walk(top, below = '') {
  const entries = readdirSync(join(top, below), { withFileTypes: true });
  return entries
    .flatMap((entry) => {
      const path = join(below, entry.name);
      return entry.isDirectory() ? [...walk(top, path), path] : [path];
    })
    .sort();
}

/** The project's own files; those of an unpacked archive, which has no git, are all that are there. */
function ownFiles() {
  if (!existsSync(join(project, '.git'))) {
    return walk(project).filter(
      (path) =>
        !made.has(path.split('/')[0] ?? '') && !lstatSync(join(project, path)).isDirectory(),
    );
  }
  const list = ['-C', project, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const { status, stdout, stderr, error } = spawnSync('git', list, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`git cannot list the sources: ${error?.message ?? stderr}`);
  return stdout.split('\0').filter((path) => path !== '' && existsSync(join(project, path)));
}

/** Files in node_modules that the programs and the page are made of. */
async function bundledFiles() {
  /** @type {import('esbuild').BuildOptions} */
  const dry = { write: false, metafile: true, outdir: join(project, 'dist') };
  const results = [
    await build({ ...forNode, ...dry, entryPoints: Object.values(programs) }),
    await build({ ...forQuickjs('amd64'), ...dry }),
    await build({ ...forBrowser, ...dry }),
  ];
  const inputs = results.flatMap(({ metafile }) => Object.keys(metafile?.inputs ?? {}));
  return [...new Set(inputs)].filter((path) => path.startsWith('node_modules/')).sort();
}

/** Directories of the npm packages that are in the programs, with the files of each. */
export async function bundledPackages() {
  /** @type {Map<string, string[]>} */
  const packages = new Map();
  for (const path of await bundledFiles()) {
    const [, directory = ''] = /^(.*\bnode_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path) ?? [];
    const files = packages.get(directory) ?? [];
    packages.set(directory, [...files, path]);
  }
  for (const [directory, files] of packages) {
    const terms = readdirSync(join(project, directory)).filter((name) =>
      /^(?:package\.json|(?:licen[cs]e|copying|notice).*)$/i.test(name),
    );
    files.push(...terms.map((name) => join(directory, name)));
  }
  return packages;
}

/**
 * One change as Debian's changelog has it: a bullet and lines of at most 79 characters.
 * @param {string} text
 */
function wrapChange(text) {
  let line = '  *';
  const lines = [];
  for (const word of text.split(/\s+/)) {
    if (line.length + 1 + word.length > 79) {
      lines.push(line);
      line = '   ';
    }
    line += ` ${word}`;
  }
  return [...lines, line].join('\n');
}

/**
 * CHANGELOG.md in Debian's form, one paragraph a version, the newest first.
 * @param {number} epoch time of what is not released yet
 * @param {string} [suffix] of the newest version
 */
function debianChangelog(epoch, suffix = '') {
  const control = readFileSync(join(project, 'src/debian/control'), 'utf8');
  const maintainer = /^Maintainer: (.*)$/m.exec(control)?.[1] ?? '';
  const versions = readFileSync(join(project, 'CHANGELOG.md'), 'utf8').split(/^## /m).slice(1);
  return versions
    .map((section, index) => {
      const [, number, day] = /^\[(\S+)\] - (\S+)/.exec(section) ?? [];
      if (number === undefined || day === undefined) throw new Error('CHANGELOG.md: no version');
      const isReleased = day !== 'Unreleased';
      const time = isReleased ? new Date(day) : new Date(epoch * 1000);
      const changes = section.split(/^- /m).slice(1);
      return [
        `lockerd (${number}${index === 0 ? suffix : ''}) ${isReleased ? 'unstable' : 'UNRELEASED'}; urgency=medium`,
        '',
        // The next heading is no part of the change before it.
        ...changes.map((change) => wrapChange(change.split('\n\n')[0]?.trim() ?? '')),
        '',
        ` -- ${maintainer}  ${time.toUTCString().replace('GMT', '+0000')}`,
        '',
      ].join('\n');
    })
    .join('\n');
}

/**
 * When the sources were changed last, as far as that can be told on every machine alike.
 * @returns {number} seconds since 1970
 */
export function sourceTime() {
  const given = process.env['SOURCE_DATE_EPOCH'];
  if (given !== undefined) return Number(given);
  const log = ['-C', project, 'log', '-1', '--format=%ct'];
  const { status, stdout } = spawnSync('git', log, { encoding: 'utf8' });
  return status === 0 && stdout !== '' ? Number(stdout) : Math.floor(Date.now() / 1000);
}

/**
 * @param {string} target
 * @param {string} path
 */
function copy(target, path) {
  const from = join(project, path);
  const to = join(target, path);
  mkdirSync(dirname(to), { recursive: true });
  const stat = lstatSync(from);
  if (stat.isSymbolicLink()) {
    symlinkSync(readlinkSync(from), to);
    return;
  }
  copyFileSync(from, to);
  // The same, whatever the checkout's umask was.
  chmodSync(to, (stat.mode & 0o100) === 0 ? 0o644 : 0o755);
}

/**
 * Writes the tree; the same sources give the same tree, times included.
 * @param {string} target a new directory
 * @param {string} [suffix] of the version
 */
export async function writeSourceTree(target, suffix) {
  const epoch = sourceTime();
  const bundled = [...(await bundledPackages()).values()].flat();
  for (const path of [...ownFiles(), ...bundled]) copy(target, path);
  renameSync(join(target, 'src/debian'), join(target, 'debian'));
  // The installation takes the settings from there.
  symlinkSync(relative('src', 'debian'), join(target, 'src/debian'));
  writeFileSync(join(target, 'debian/changelog'), debianChangelog(epoch, suffix));
  chmodSync(join(target, 'debian/changelog'), 0o644);
  for (const path of [...walk(target), '']) {
    const full = join(target, path);
    if (lstatSync(full).isDirectory()) chmodSync(full, 0o755);
    lutimesSync(full, epoch, epoch);
  }
}

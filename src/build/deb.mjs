// Makes the Debian package from the built program; see src/debian.
// Usage: node src/build/deb.mjs [--output DIR]
//
// With SOURCE_DATE_EPOCH set, the same sources give the same package, byte for byte.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const project = fileURLToPath(new URL('../..', import.meta.url));
/** @type {{ version: string }} */
const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
const epoch = process.env['SOURCE_DATE_EPOCH'] ?? String(Math.floor(Date.now() / 1000));

/** @param {string} name */
const debianFile = (name) => readFileSync(join(project, 'src/debian', name), 'utf8');

/**
 * @param {string} command
 * @param {string[]} args
 */
function run(command, args) {
  const env = { ...process.env, SOURCE_DATE_EPOCH: epoch };
  const { status, error } = spawnSync(command, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env,
  });
  if (error !== undefined) throw new Error(`cannot run ${command}: ${error.message}`);
  if (status !== 0) throw new Error(`${command} ended with status ${status}`);
}

/**
 * @param {string} path
 * @param {string | Buffer} content
 * @param {number} [mode]
 */
function write(path, content, mode = 0o644) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  chmodSync(path, mode);
}

/**
 * Every file and directory below a directory, sorted, relative to it.
 * @param {string} directory
 */
function walk(directory) {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();
  const entries = names.map((path) => ({ path, stat: lstatSync(join(directory, path)) }));
  return { entries, files: entries.filter(({ stat }) => stat.isFile()).map(({ path }) => path) };
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

/** CHANGELOG.md in Debian's form, one paragraph a version, the newest first. */
function debianChangelog() {
  const maintainer = /^Maintainer: (.*)$/m.exec(debianFile('control'))?.[1] ?? '';
  const versions = readFileSync(join(project, 'CHANGELOG.md'), 'utf8').split(/^## /m).slice(1);
  return versions
    .map((section) => {
      const [, number, day] = /^\[(\S+)\] - (\S+)/.exec(section) ?? [];
      if (number === undefined || day === undefined) throw new Error('CHANGELOG.md: no version');
      const isReleased = day !== 'Unreleased';
      const time = isReleased ? new Date(day) : new Date(Number(epoch) * 1000);
      const changes = section.split(/^- /m).slice(1);
      return [
        `lockerd (${number}) ${isReleased ? 'unstable' : 'UNRELEASED'}; urgency=medium`,
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
 * What dpkg-gencontrol counts: files in whole kibibytes, one for anything else.
 * @param {string} tree
 */
function installedSize(tree) {
  const sizes = walk(tree).entries.map(({ stat }) =>
    stat.isFile() ? Math.ceil(stat.size / 1024) : 1,
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** @param {string} tree */
function md5sums(tree) {
  return walk(tree)
    .files.map((path) => {
      const sum = createHash('md5')
        .update(readFileSync(join(tree, path)))
        .digest('hex');
      return `${sum}  ${path}\n`;
    })
    .join('');
}

/** @param {string} tree */
function addDocumentation(tree) {
  const doc = join(tree, 'usr/share/doc/lockerd');
  write(join(doc, 'copyright'), debianFile('copyright'));
  write(join(doc, 'changelog.gz'), gzipSync(debianChangelog(), { level: 9 }));
  write(join(doc, 'README.md'), readFileSync(join(project, 'README.md')));
  if (isCompiled) {
    write(join(tree, 'usr/share/lintian/overrides/lockerd'), debianFile('lintian-overrides'));
  }
}

/** @param {string} tree */
function addControl(tree) {
  const size = installedSize(tree);
  const sums = md5sums(tree);
  const control = join(tree, 'DEBIAN');
  write(
    join(control, 'control'),
    debianFile('control')
      .replace('@VERSION@', version)
      .replace(
        '@ARCHITECTURE@',
        isCompiled ? `${architecture}\nBuilt-Using: ${builtUsing()}` : 'all',
      )
      .replace('@INSTALLED_SIZE@', String(size)),
  );
  write(join(control, 'md5sums'), sums);
  write(join(control, 'conffiles'), debianFile('conffiles'));
  for (const script of ['postinst', 'prerm', 'postrm']) {
    write(join(control, script), debianFile(script), 0o755);
  }
}

const [option, given] = process.argv.slice(2);
if (option !== undefined && (option !== '--output' || given === undefined)) {
  process.stderr.write('Usage: node src/build/deb.mjs [--output DIR]\n');
  process.exit(2);
}
/** Sources of what is in the compiled program. */
function builtUsing() {
  return readFileSync(join(project, 'dist/compiled/built-using'), 'utf8').trimEnd();
}

/** Without a compiled generator, the package is the same on all processors. */
const isCompiled = existsSync(join(project, 'dist/compiled/lockerd-generator'));
const architecture = isCompiled ? (process.arch === 'x64' ? 'amd64' : process.arch) : 'all';
const output = join(given ?? join(project, 'dist'), `lockerd_${version}_${architecture}.deb`);

process.umask(0o022);
const tree = mkdtempSync(join(tmpdir(), 'lockerd-deb-'));
try {
  chmodSync(tree, 0o755);
  run(process.execPath, [join(project, 'src/build/install.mjs'), '--destdir', tree]);
  addDocumentation(tree);
  addControl(tree);
  // Without its own -Z, dpkg-deb of another distribution may choose what Debian cannot unpack.
  run('dpkg-deb', ['--root-owner-group', '-Zxz', '--build', tree, output]);
  process.stdout.write(`${output}\n`);
} finally {
  rmSync(tree, { recursive: true, force: true });
}

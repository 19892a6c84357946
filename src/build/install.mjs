// Copies the built program into a file system tree, where a package has it; with --page, the page for
// Cockpit, which is a package of its own.
// Usage: node src/build/install.mjs --destdir DIR [--page]
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const project = fileURLToPath(new URL('../..', import.meta.url));
const [option, destination, part] = process.argv.slice(2);
const isUsage = part === undefined || part === '--page';
if (option !== '--destdir' || destination === undefined || destination === '' || !isUsage) {
  process.stderr.write('Usage: node src/build/install.mjs --destdir DIR [--page]\n');
  process.exit(2);
}
if (!existsSync(join(project, 'dist/lockerd-generator'))) {
  process.stderr.write('install: dist/ is not built; run: npm run build\n');
  process.exit(1);
}

/**
 * Names of the files in a directory of the project, with those in its directories.
 * @param {string} directory
 */
function filesIn(directory) {
  const top = join(project, directory);
  const names = readdirSync(top, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => statSync(join(top, name)).isFile());
}

/**
 * Modes are set here, whatever the checkout's are and the umask is.
 * @param {string} target
 * @param {string | Buffer} content
 * @param {number} [mode]
 */
function install(target, content, mode = 0o644) {
  const path = join(/** @type {string} */ (destination), target);
  mkdirSync(dirname(path), { recursive: true });
  // Never through a link that was there before.
  rmSync(path, { force: true });
  writeFileSync(path, content);
  chmodSync(path, mode);
}

/**
 * @param {string} target
 * @param {string} to
 */
function link(target, to) {
  const path = join(/** @type {string} */ (destination), target);
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  symlinkSync(to, path);
}

/** @param {string} source */
const read = (source) => readFileSync(join(project, source));

process.umask(0o022);

/** No name and no time in the result, so that it depends on the content alone. */
const compress = (/** @type {Buffer} */ content) => gzipSync(content, { level: 9 });

/** Cockpit's bridge finds a file also under its name with `.gz`, and browsers take it so. */
function installPage() {
  for (const file of filesIn('dist/cockpit')) {
    const isSmall = ['.html', '.json'].includes(extname(file));
    const content = read(`dist/cockpit/${file}`);
    const target = `usr/share/cockpit/lockerd/${file}`;
    install(isSmall ? target : `${target}.gz`, isSmall ? content : compress(content));
  }
}

/** Manual pages of one of the packages. */
function installManuals(/** @type {(name: string) => boolean} */ isOwn) {
  for (const page of filesIn('src/man').filter(isOwn)) {
    const target = `usr/share/man/man${extname(page).slice(1)}/${page}.gz`;
    install(target, compress(read(`src/man/${page}`)));
  }
}

/** @param {string} name of a file */
const isForPage = (name) => name.startsWith('cockpit-');

if (part === '--page') {
  installPage();
  installManuals(isForPage);
  process.exit();
}

/** What programs load when they need it; see src/build/program.mjs. */
const parts = 'usr/lib/lockerd/parts';

/**
 * Generators run with whatever PATH the manager has; an installed program names its interpreter.
 * @param {string} name
 * @param {string} directory
 */
function installProgram(name, directory) {
  const program = read(`dist/${name}`).toString();
  install(
    `${directory}/${name}`,
    program
      .replace(/^#!\/usr\/bin\/env node\n/, '#!/usr/bin/node\n')
      .replaceAll(`require("./parts/`, `require("/${parts}/`),
    0o755,
  );
  // None of another version stays, where this is no package.
  const own = `${parts}/${name}`;
  rmSync(join(/** @type {string} */ (destination), own), { recursive: true, force: true });
  if (!existsSync(join(project, `dist/parts/${name}`))) return;
  for (const file of filesIn(`dist/parts/${name}`)) {
    install(`${own}/${file}`, read(`dist/parts/${name}/${file}`));
  }
}

if (existsSync(join(project, 'dist/compiled/lockerd-generator'))) {
  const generators = 'usr/lib/systemd/system-generators';
  install(`${generators}/lockerd-generator`, read('dist/compiled/lockerd-generator'), 0o755);
  link('usr/lib/lockerd/lockerd-lockers', '../systemd/system-generators/lockerd-generator');
} else {
  installProgram('lockerd-generator', 'usr/lib/systemd/system-generators');
  installProgram('lockerd-lockers', 'usr/lib/lockerd');
}
installProgram('lockerd', 'usr/lib/lockerd');
installProgram('lockerd-helper', 'usr/lib/lockerd');
installProgram('lockerd-autoballoon', 'usr/lib/lockerd');
installProgram('lockerd-move', 'usr/lib/lockerd');
installProgram('lockerctl', 'usr/bin');
/** Where each shell looks for completion. */
const completions = /** @type {const} */ ([
  ['lockerctl', 'usr/share/bash-completion/completions'],
  ['_lockerctl', 'usr/share/zsh/vendor-completions'],
  ['lockerctl.fish', 'usr/share/fish/vendor_completions.d'],
]);
for (const [name, directory] of completions) {
  install(`${directory}/${name}`, read(`dist/completion/${name}`));
}
for (const hook of filesIn('dist/hooks')) {
  // mount(8) finds its helpers nowhere else.
  const directory = hook.startsWith('mount.') ? 'usr/sbin' : 'usr/lib/lockerd/hooks';
  install(`${directory}/${hook}`, read(`dist/hooks/${hook}`), 0o755);
}
for (const unit of filesIn('dist/units/system')) {
  install(`usr/lib/systemd/system/${unit}`, read(`dist/units/system/${unit}`));
}
link(
  'usr/lib/systemd/system/multi-user.target.wants/lockerd-moves.service',
  '../lockerd-moves.service',
);
// Enabled for every host, as nothing else asks for it; an admin can mask it.
link(
  'usr/lib/systemd/system/sockets.target.wants/lockerd-helper.socket',
  '../lockerd-helper.socket',
);
link(
  'usr/lib/systemd/system/sockets.target.wants/lockerd-stores.socket',
  '../lockerd-stores.socket',
);
link(
  'usr/lib/systemd/system/multi-user.target.wants/lockerd-recover.service',
  '../lockerd-recover.service',
);
for (const file of filesIn('units/sysusers')) {
  install(`usr/lib/sysusers.d/${file}`, read(`units/sysusers/${file}`));
}
/** Where the packaged files of a kind go, by the end of their names. */
const places = /** @type {const} */ ([
  ['units/dbus', '.conf', 'usr/share/dbus-1/system.d'],
  ['units/dbus', '.service', 'usr/share/dbus-1/system-services'],
  ['units/dbus', '.xml', 'usr/share/dbus-1/interfaces'],
  ['units/catalog', '.catalog', 'usr/lib/systemd/catalog'],
  ['units/polkit', '.policy', 'usr/share/polkit-1/actions'],
  ['units/polkit', '.rules', 'usr/share/polkit-1/rules.d'],
  ['src/examples', '', 'usr/share/doc/lockerd/examples'],
  ['src/doc', '.svg', 'usr/share/doc/lockerd'],
]);
for (const [source, end, target] of places) {
  for (const file of filesIn(source).filter((name) => name.endsWith(end))) {
    install(`${target}/${file}`, read(`${source}/${file}`));
  }
}
installManuals((name) => !isForPage(name));

for (const directory of ['lockerd.conf.d', 'containers']) {
  mkdirSync(join(destination, 'etc/lockerd', directory), { recursive: true });
}
// An admin's settings stay.
if (!existsSync(join(destination, 'etc/lockerd/lockerd.conf'))) {
  install('etc/lockerd/lockerd.conf', read('src/debian/lockerd.conf'));
}

import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const project = fileURLToPath(new URL('../..', import.meta.url));
const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as {
  version: string;
};

/** A program's output; the error of a program that fails has its output too. */
function run(command: string, args: string[], env: Record<string, string> = {}): string {
  try {
    return execFileSync(command, args, {
      cwd: project,
      encoding: 'utf8',
      stdio: 'pipe',
      env: { ...process.env, ...env },
    });
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} failed:\n${stdout}${stderr}`, { cause: error });
  }
}

const scratch = mkdtempSync(join(tmpdir(), 'lockerd-deb-test-'));
const staged = join(scratch, 'staged');
const extracted = join(scratch, 'extracted');
const control = join(scratch, 'control');
/** Without a compiler, the package has the generator for Node. */
const isCompiled = existsSync(join(project, 'dist/compiled/lockerd-generator'));
const architecture = run('dpkg', ['--print-architecture']).trim();
const packageName = `lockerd_${version}_${architecture}`;
const deb = join(scratch, `${packageName}.deb`);
const overrides = 'usr/share/lintian/overrides/lockerd';
const doc = 'usr/share/doc/lockerd';
/** What the package has beside what install.mjs installs. */
const documentation = ['README.md.gz', 'changelog.gz', 'copyright'];

/** Type, mode and content of everything below a directory; what is compressed, as it was before. */
function readTree(directory: string): Map<string, string> {
  const tree = new Map<string, string>();
  for (const path of readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()) {
    const full = join(directory, path);
    const stat = lstatSync(full);
    const bytes = stat.isFile() ? readFileSync(full) : Buffer.from('not a file');
    const content = (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('latin1');
    tree.set(path, `${(stat.mode & 0o7777).toString(8)} ${content}`);
  }
  return tree;
}

/** A tree in which programs have their modes alone: Debian's esbuild and compiler make others than ours. */
function withoutPrograms(tree: Iterable<[string, string]>): Map<string, string> {
  const programs =
    /^usr\/(?:bin\/|lib\/lockerd\/(?:parts\/.+\/)?[^/]+$|lib\/systemd\/system-generators\/)/;
  return new Map(
    [...tree].map(([path, entry]) => [
      // The names of parts have a hash of what is in them.
      path.replace(/(\/parts\/.+)-[0-9a-f]{8}-(\d+\.cjs)$/, '$1-$2'),
      programs.test(path) ? (entry.split(' ', 1)[0] ?? '') : entry,
    ]),
  );
}

beforeAll(() => {
  expect(existsSync(join(project, 'dist/lockerd-generator')), 'run first: npm run build').toBe(
    true,
  );
  run(process.execPath, ['src/build/deb.mjs', '--output', scratch]);
  run('dpkg-deb', ['-x', deb, extracted]);
  run('dpkg-deb', ['-e', deb, control]);
  run(process.execPath, ['src/build/install.mjs', '--destdir', staged]);
}, 300_000);

afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
});

test("the page is a package of its own, which needs the service's and Cockpit's bridge", () => {
  const page = join(scratch, `cockpit-lockerd_${version}_all.deb`);
  const [tree, installed] = [join(scratch, 'page'), join(scratch, 'page-staged')];
  run('dpkg-deb', ['-x', page, tree]);
  run(process.execPath, ['src/build/install.mjs', '--destdir', installed, '--page']);
  const names = [...readTree(tree).keys()].filter((path) => !path.startsWith('usr/share/doc'));
  expect(names).toEqual([...readTree(installed).keys()]);
  expect(names.filter((name) => name.includes('.'))).toEqual([
    ...['index.html', 'manifest.json', 'page.css.gz', 'page.js.gz'].map(
      (name) => `usr/share/cockpit/lockerd/${name}`,
    ),
    'usr/share/man/man8/cockpit-lockerd.8.gz',
  ]);
  expect(run('dpkg-deb', ['-f', page, 'Depends']).trim()).toBe(
    `cockpit-bridge (>= 287), lockerd (>= ${version})`,
  );
  expect(readdirSync(join(tree, 'usr/share/doc/cockpit-lockerd')).sort()).toEqual([
    'changelog.gz',
    'copyright',
  ]);
});

describe('the Debian package', () => {
  test('has what install.mjs installs, and documentation', () => {
    const packaged = [...readTree(extracted)].filter(
      ([path]) =>
        !documentation.some((name) => path === join(doc, name)) &&
        path !== overrides &&
        !(overrides.startsWith(`${path}/`) && path.startsWith('usr/share/lintian')),
    );
    expect(existsSync(join(extracted, overrides))).toBe(isCompiled);
    expect(withoutPrograms(packaged)).toEqual(withoutPrograms(readTree(staged)));
    expect(readdirSync(join(extracted, doc)).sort()).toEqual(
      [...documentation, 'boot.svg', 'examples'].sort(),
    );
  });

  test('has nothing but directories and files of root, with modes as they should be', () => {
    const lines = run('dpkg-deb', ['-c', deb]).trimEnd().split('\n');
    for (const line of lines) {
      const [mode, owner, , , , path = ''] = line.split(/\s+/);
      const isProgram =
        /\/(hooks|system-generators|s?bin)\/[^/]+$|\/usr\/lib\/lockerd\/[^/]+$/.test(path);
      const isLink =
        /\.wants\/lockerd-(?:helper\.socket|stores\.socket|recover\.service|moves\.service)$/.test(
          path,
        ) ||
        (isCompiled && path.endsWith('/lockerd-lockers'));
      const file = isLink ? 'lrwxrwxrwx' : isProgram ? '-rwxr-xr-x' : '-rw-r--r--';
      const expected = path.endsWith('/') ? 'drwxr-xr-x' : file;
      expect(`${mode} ${owner} ${path}`).toBe(`${expected} root/root ${path}`);
    }
    expect(lines.length).toBeGreaterThan(30);
  });

  test('says what it is and needs', () => {
    const fields = new Map(
      run('dpkg-deb', ['-f', deb])
        .split('\n')
        .filter((line) => /^\S/.test(line))
        .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
    );
    expect(fields.get('Version')).toBe(version);
    expect(fields.get('Architecture')).toBe(architecture);
    if (isCompiled) expect(fields.get('Built-Using')).toMatch(/glibc \(= .*quickjs \(= /);
    expect(fields.get('Depends')).toBe(
      // Older releases of polkit do not read rules in JavaScript; PropagatesStopTo= is of systemd 249.
      'dbus, lxc (>= 1:4), nodejs (>= 18.19), polkitd (>= 0.106), systemd (>= 249)',
    );
    expect(Number(fields.get('Installed-Size'))).toBeGreaterThan(100);
  });

  test('leaves the settings to the admin', () => {
    expect(readFileSync(join(control, 'conffiles'), 'utf8')).toBe('/etc/lockerd/lockerd.conf\n');
    expect(readdirSync(join(extracted, 'etc/lockerd')).sort()).toEqual([
      'containers',
      'lockerd.conf',
      'lockerd.conf.d',
    ]);
    const text = readFileSync(join(extracted, 'etc/lockerd/lockerd.conf'), 'utf8');
    expect(text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))).toEqual([]);
  });

  test('has checksums of every file but the settings, which dpkg watches itself', () => {
    const sums = readFileSync(join(control, 'md5sums'), 'utf8');
    const files = [...readTree(extracted)].filter(
      ([path, entry]) => !entry.endsWith(' not a file') && path !== 'etc/lockerd/lockerd.conf',
    );
    expect(sums.trimEnd().split('\n')).toHaveLength(files.length);
    execFileSync('md5sum', ['--check', '--quiet', '--strict', '-'], {
      cwd: extracted,
      input: sums,
    });
  });

  test('has a generator that needs nothing else, or names its interpreter', () => {
    const generator = join(extracted, 'usr/lib/systemd/system-generators/lockerd-generator');
    const lockers = join(extracted, 'usr/lib/lockerd/lockerd-lockers');
    const nothing = join(scratch, 'nothing');
    mkdirSync(nothing);
    const first = readFileSync(generator, 'latin1').split('\n', 1)[0];
    if (isCompiled) {
      // Not even a library: the directory is all that it sees.
      copyFileSync(generator, join(nothing, 'g'));
      const printed = run('unshare', ['-r', 'chroot', nothing, '/g', '--version']);
      expect(printed).toBe(`lockerd-generator ${version}\n`);
      expect(run(lockers, ['--version'])).toBe(`lockerd-lockers ${version}\n`);
    } else {
      expect(first).toBe('#!/usr/bin/node');
      expect(run(process.execPath, [generator, '--version'])).toBe(
        `lockerd-generator ${version}\n`,
      );
    }
  });

  test('has the changelog of this version in Debian’s form', () => {
    const changelog = gunzipSync(readFileSync(join(extracted, doc, 'changelog.gz'))).toString();
    expect(changelog.split('\n', 1)[0]).toMatch(
      new RegExp(`^lockerd \\(${version.replaceAll('.', '\\.')}\\) \\w+; urgency=medium$`),
    );
  });

  test('pleases lintian', { timeout: 300_000 }, () => {
    const asRoot = process.getuid?.() === 0 ? ['--allow-root'] : [];
    // That of an older Debian does not know the newest standards, which change nothing for us.
    const args = [...asRoot, '--pedantic', '--suppress-tags', 'newer-standards-version'];
    expect(run('lintian', [...args, join(scratch, `${packageName}.changes`)])).toBe('');
    expect(run('lintian', [...args, join(scratch, `lockerd_${version}.dsc`)])).toBe('');
  });
});

describe.each(['postinst', 'prerm', 'postrm'])('%s', (script) => {
  const text = readFileSync(join(project, 'src/debian', script), 'utf8');

  test('pleases shellcheck', () => {
    expect(run('shellcheck', [join(project, 'src/debian', script)])).toBe('');
  });

  test('starts and stops no container', () => {
    // What is said, to a reader or to the admin, is no command.
    const commands = text.replaceAll(/^ *#.*$/gm, '').replaceAll(/<<'NOTE'\n.*?\nNOTE\n/gs, '');
    const calls = [
      ...commands.matchAll(/\b(?:systemctl|deb-systemd-invoke|invoke-rc\.d|lxc-\w+).*/g),
    ];
    for (const [call] of calls) {
      expect(call).toMatch(
        /^(systemctl --system daemon-reload |lxc-config lxc\.lxcpath|deb-systemd-invoke [\w-]+( '?(system-)?lockerd[a-z.*-]+'?)+ )/,
      );
    }
  });
});

describe('the example in README.md', () => {
  const fixture = join(project, 'test/golden/readme');
  const [config, output] = [
    ...readFileSync(join(project, 'README.md'), 'utf8').matchAll(/^```ini\n(.*?)^```$/gms),
  ].map(([, block = '']) => block);

  test('shows the configuration', () => {
    expect(config).toBe(readFileSync(join(fixture, 'var/lib/lxc/web/config'), 'utf8'));
  });

  test('shows what the generator prints for it', () => {
    const generator = join(extracted, 'usr/lib/systemd/system-generators/lockerd-generator');
    const program = isCompiled ? generator : process.execPath;
    const args = isCompiled ? ['--dry-run'] : [generator, '--dry-run'];
    const printed = run(program, args, { LOCKERD_ROOT: fixture });
    const files = printed.split(/^(?=# \S+(?: -> \S+)?$)/m).filter((file) => file !== '');
    const shown = files
      .filter((file) => !/^# \S*(?:lxc@|mappings-|slots-)db\./.test(file))
      .join('');
    // Device and inode number differ everywhere.
    const anywhere = (text: string): string => text.replaceAll(/\b\d+:\d+=\//g, 'DEVICE:INODE=/');
    expect(anywhere(output ?? '')).toBe(anywhere(`${shown.trimEnd()}\n`));
  });
});

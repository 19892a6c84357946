import { execFileSync } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { parseLxcConfig } from '../../src/host/parse-lxc.ts';
import { createLxcReader } from '../../src/host/read-lxc.ts';
import { formatProblem } from '../../src/model/problem.ts';

let dir = '';

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'read-lxc-'));
});

afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

function put(path: string, content: string | Buffer): string {
  const full = join(dir, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, content);
  return full;
}

/** The problems of a file below the test's directory, whose name is cut out of the texts. */
function problems(path: string): string[] {
  const config = parseLxcConfig(createLxcReader('').read(join(dir, path)));
  return config.problems.map((problem) => formatProblem(problem).replaceAll(dir, ''));
}

function include(target: string): string[] {
  put('config', `\nlxc.include = ${target}\n`);
  return problems('config');
}

describe('the container’s own file', () => {
  test('is read with its path', () => {
    const path = put('config', 'lxc.uts.name = w\u00e4b');
    const source = createLxcReader('').read(path);
    expect(source.file).toMatchObject({ path, includes: [] });
    expect(source.file.text.lines).toEqual([{ line: 1, key: 'lxc.uts.name', value: 'w\u00e4b' }]);
    expect(source.paths).toEqual([{ path, exists: true }]);
  });

  test('keeps a byte order mark', () => {
    const source = createLxcReader('').read(put('config', '\uFEFFlxc.uts.name = web'));
    expect(source.file.text.markHidesKey).toBe(true);
  });

  test('may be absent', () => {
    expect(problems('config')).toEqual([
      '/config: no such file; create it or remove what names it',
    ]);
    expect(createLxcReader('').read(join(dir, 'config')).paths).toEqual([
      { path: join(dir, 'config'), exists: false },
    ]);
  });

  test('names the lines that are not UTF-8', () => {
    const bytes = Buffer.from('# \uFFFD\n# \xff\nlxc.uts.name = \xe4\n', 'latin1');
    const path = put('config', Buffer.concat([Buffer.from('# \uFFFD\n'), bytes]));
    expect([...createLxcReader('').read(path).file.badLines]).toEqual([2, 3, 4]);
    const good = put('good', '# \uFFFD\n');
    expect([...createLxcReader('').read(good).file.badLines]).toEqual([]);
  });

  test('is looked for no includes when it is a program', () => {
    put('config', 'lxc.include = /nowhere\n\x01');
    expect(problems('config')).toEqual([
      '/config:2: is not a text file: it has the control byte 0x01; write the configuration as text',
    ]);
  });

  test('larger than one chunk', () => {
    const path = put('config', `${'# comment\n'.repeat(20_000)}lxc.uts.name = web\n`);
    expect(createLxcReader('').read(path).file.text.lines).toHaveLength(1);
  });
});

describe('what cannot be read', () => {
  const at = (reason: string) => `/config:2: cannot include ${reason}`;

  test('a file that is absent', () => {
    expect(include(`${dir}/a`)).toEqual([
      at('/a: no such file; create it or remove what names it'),
    ]);
  });

  test('a link to nowhere', () => {
    symlinkSync('nowhere', join(dir, 'a'));
    expect(include(`${dir}/a`)).toEqual([
      at(
        '/a: it is a symbolic link to a file that does not exist; ' +
          'create that file or correct the link',
      ),
    ]);
  });

  test('a link to itself', () => {
    symlinkSync('a', join(dir, 'a'));
    expect(include(`${dir}/a`)).toEqual([
      at('/a: its symbolic links go in circles; correct the links'),
    ]);
  });

  test('a path through a file', () => {
    expect(include(`${dir}/config/a`)).toEqual([
      at('/config/a: part of its path is not a directory; correct the path'),
    ]);
    expect(include(`${dir}/config/`)).toEqual([
      at('/config/: part of its path is not a directory; correct the path'),
    ]);
  });

  test('a path that is too long', () => {
    expect(include(`/${'a'.repeat(300)}`)[0]).toMatch(/: its path is too long; shorten the path$/);
  });

  test('a FIFO, without waiting for a writer', () => {
    execFileSync('mkfifo', [join(dir, 'a')]);
    expect(include(`${dir}/a`)).toEqual([
      at('/a: it is a FIFO, not a file; put a text file there'),
    ]);
  });

  test('a socket', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(dir, 'a'), resolve));
    expect(include(`${dir}/a`)).toEqual([
      at('/a: it is a socket, not a file; put a text file there'),
    ]);
    await new Promise((resolve) => server.close(resolve));
  });

  test('a device, but /dev/null is an empty file', () => {
    expect(include('/dev/zero')).toEqual([
      at('/dev/zero: it is a device, not a file; put a text file there'),
    ]);
    expect(include('/dev/null')).toEqual([]);
  });

  test('a directory in place of a file', () => {
    mkdirSync(join(dir, 'config'));
    expect(problems('config')).toEqual([
      '/config: it is a directory, not a file; put a text file there',
    ]);
  });

  test('a huge file, without reading it', () => {
    put('a', '');
    truncateSync(join(dir, 'a'), 10 * 1024 * 1024);
    expect(include(`${dir}/a`)).toEqual([
      at('/a: it is larger than 1 MiB; put a configuration file there'),
    ]);
    truncateSync(join(dir, 'a'), 1024 * 1024);
    expect(include(`${dir}/a`)).toEqual([]);
  });
});

describe('loops', () => {
  test('a file that includes itself', () => {
    expect(include(`${dir}/config`)).toEqual([
      '/config:2: cannot include /config: files include each other: /config -> /config; ' +
        'break the loop',
    ]);
  });

  test('a ring of three, entered from outside', () => {
    put('a', `lxc.include = ${dir}/b`);
    put('b', `lxc.include = ${dir}/c`);
    put('c', `lxc.include = ${dir}/a`);
    expect(include(`${dir}/a`)).toEqual([
      '/c:1: cannot include /a: files include each other: /a -> /b -> /c -> /a; break the loop',
    ]);
  });

  test('through links and other spellings', () => {
    put('config', `lxc.include = ${dir}/./link`);
    symlinkSync('config', join(dir, 'link'));
    expect(problems('config')[0]).toContain('/config -> /./link; break the loop');
    put('config', `lxc.include = ${dir}/hard`);
    linkSync(join(dir, 'config'), join(dir, 'hard'));
    expect(problems('config')[0]).toContain('/config -> /hard; break the loop');
  });

  test('through a directory', () => {
    put('d/x.conf', `lxc.include = ${dir}/d`);
    expect(include(`${dir}/d`)).toEqual([
      '/d/x.conf: files include each other: /d/x.conf -> /d/x.conf; break the loop',
    ]);
  });

  test('a result that depends on the way in is not shared', () => {
    put('a', `lxc.include = ${dir}/b`);
    put('b', `lxc.include = ${dir}/a`);
    const reader = createLxcReader('');
    reader.read(join(dir, 'a'));
    const config = parseLxcConfig(reader.read(join(dir, 'b')));
    expect(config.problems[0]?.reason).toContain(`${dir}/b -> ${dir}/a -> ${dir}/b`);
  });

  test('depth and number are limited', () => {
    for (let i = 0; i < 40; i++) {
      put(`f${i}`, `lxc.include = ${dir}/f${i + 1}\nlxc.include = ${dir}/f${i + 1}`);
    }
    put('f40', '');
    expect(problems('f0')[0]).toContain('more than 32 deep');
    expect(problems('f30')).toEqual([]);
  });

  test('the same file twice is no loop', () => {
    put('a', 'lxc.group = a');
    put('config', `lxc.include = ${dir}/a\nlxc.include = ${dir}/a\n`);
    expect(parseLxcConfig(createLxcReader('').read(join(dir, 'config'))).groups).toEqual([
      'a',
      'a',
    ]);
  });
});

describe('directories', () => {
  test('give their *.conf files', () => {
    put('d/a.conf', 'lxc.group = a');
    put('d/b.conf', 'lxc.group = b');
    put('d/.conf', 'lxc.foo');
    put('d/c.conf.bak', 'lxc.foo');
    put('d/.h.conf', 'lxc.group = h');
    put('config', `lxc.include = ${dir}/d\nlxc.include = ${dir}/d/\n`);
    const config = parseLxcConfig(createLxcReader('').read(join(dir, 'config')));
    expect(config.problems).toEqual([]);
    expect(config.groups.slice(0, 3).sort()).toEqual(['a', 'b', 'h']);
    expect(config.groups.slice(3)).toEqual(config.groups.slice(0, 3));
    expect([...config.files].sort()).toEqual(
      ['config', 'd/.h.conf', 'd/a.conf', 'd/b.conf'].map((name) => join(dir, name)),
    );
  });

  test('may be absent when written with a slash', () => {
    expect(include(`${dir}/none/`)).toEqual([]);
    expect(include(`${dir}/none`)).not.toEqual([]);
    put('config', `lxc.include = ${dir}/none/\nlxc.include = ${dir}/gone\nlxc.include =\n`);
    expect(createLxcReader('').read(join(dir, 'config')).paths).toEqual([
      { path: join(dir, 'config'), exists: true },
      { path: join(dir, 'none/'), exists: false },
      { path: join(dir, 'gone'), exists: false },
    ]);
  });

  test('with something else than files in them', () => {
    mkdirSync(join(dir, 'd/sub.conf'), { recursive: true });
    expect(include(`${dir}/d`)).toEqual([
      '/d/sub.conf: it is a directory, not a file; put a text file there',
    ]);
  });

  test('with a name that is not UTF-8', () => {
    mkdirSync(join(dir, 'd'));
    writeFileSync(
      Buffer.concat([Buffer.from(`${dir}/d/`), Buffer.from('\xff.conf', 'latin1')]),
      '',
    );
    expect(include(`${dir}/d`)).toEqual(['/d/\uFFFD.conf: its name is not UTF-8; rename it']);
  });
});

describe('below a root directory', () => {
  const names = (path: string) => {
    const config = parseLxcConfig(createLxcReader(dir).read(path));
    return [config.utsName?.value, ...config.problems.map(formatProblem)];
  };

  test('paths are those of the host', () => {
    put('etc/a', 'lxc.uts.name = inside');
    put('c', 'lxc.include = /etc/a');
    expect(names('/c')).toEqual(['inside']);
    expect(
      createLxcReader(dir)
        .read('/c')
        .paths.map((entry) => entry.path),
    ).toEqual(['/c', '/etc/a']);
  });

  test.each(['../../../../../../etc/a', '/../etc/a', 'etc/./x/../a', '//etc//a'])(
    '%s stays inside',
    (target) => {
      put('etc/a', 'lxc.uts.name = inside');
      mkdirSync(join(dir, 'etc/x'));
      put('c', `lxc.include = ${target}`);
      expect(names('/c')).toEqual(['inside']);
    },
  );

  test('links stay inside, absolute ones and those that climb', () => {
    put('etc/a', 'lxc.uts.name = inside');
    symlinkSync('/etc', join(dir, 'abs'));
    symlinkSync('../../../../../../../../etc/a', join(dir, 'climb'));
    symlinkSync('/abs/a', join(dir, 'both'));
    for (const target of ['/abs/a', '/climb', '/both']) {
      put('c', `lxc.include = ${target}`);
      expect(names('/c')).toEqual(['inside']);
    }
  });

  test('a file of the host itself is not found', () => {
    for (const target of ['/etc/passwd', '../../../../../../../etc/passwd']) {
      put('c', `lxc.include = ${target}`);
      expect(names('/c')).toEqual([
        undefined,
        `/c:1: cannot include /${target.replace(/^\//, '')}: no such file; ` +
          'create it or remove what names it',
      ]);
    }
    symlinkSync('/etc/passwd', join(dir, 'p'));
    put('c', 'lxc.include = /p');
    expect(names('/c')[1]).toContain('it is a symbolic link to a file that does not exist');
  });

  test('links in circles end', () => {
    symlinkSync('/b', join(dir, 'a'));
    symlinkSync('/a', join(dir, 'b'));
    put('c', 'lxc.include = /a');
    expect(names('/c')[1]).toContain('its symbolic links go in circles');
  });

  test('directories work too', () => {
    put('d/x.conf', 'lxc.uts.name = inside');
    symlinkSync('/d', join(dir, 'e'));
    put('c', 'lxc.include = e\nlxc.include = none/');
    expect(names('/c')).toEqual(['inside']);
    expect(createLxcReader(dir).read('/c').paths).toEqual([
      { path: '/c', exists: true },
      { path: '/e', exists: true },
      { path: '/e/x.conf', exists: true },
      { path: '/none/', exists: false },
    ]);
  });
});

test('a reader shares the files that containers include', () => {
  put('a', 'lxc.group = a');
  put('1', `lxc.include = ${dir}/a`);
  put('2', `lxc.include = ${dir}/a`);
  const reader = createLxcReader('');
  const [first, second] = ['1', '2'].map((name) => reader.read(join(dir, name)).file);
  expect(first?.includes[0]?.files[0]).toBeDefined();
  expect(first?.includes[0]?.files[0]).toBe(second?.includes[0]?.files[0]);
});

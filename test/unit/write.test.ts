import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { errnoText } from '../../src/model/errno.ts';
import { WriteError, writeOutputs } from '../../src/generator/write.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockerd-write-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

function everything(below = directory): string[] {
  return readdirSync(below, { recursive: true, encoding: 'utf8' }).sort();
}

test('writes files and links, and nothing else', () => {
  const outputs = [
    { path: 'a.service', text: 'ü\n' },
    { path: 'lxc@x.service.d/60.conf', text: '' },
    { path: 'm.wants/a.service', target: '/usr/lib/a.service' },
  ];
  expect(writeOutputs(directory, outputs)).toEqual([]);
  expect(everything()).toEqual([
    'a.service',
    'lxc@x.service.d',
    'lxc@x.service.d/60.conf',
    'm.wants',
    'm.wants/a.service',
  ]);
  expect(readFileSync(join(directory, 'a.service'), 'utf8')).toBe('ü\n');
  expect(statSync(join(directory, 'a.service')).mode & 0o777).toBe(0o644);
  expect(readlinkSync(join(directory, 'm.wants/a.service'))).toBe('/usr/lib/a.service');
});

test('puts its own in the place of what was there, without following links', () => {
  const outside = join(directory, 'outside');
  writeFileSync(outside, 'untouched');
  mkdirSync(join(directory, 'g'));
  symlinkSync(outside, join(directory, 'g/a'));
  symlinkSync('old', join(directory, 'g/b'));
  expect(
    writeOutputs(join(directory, 'g'), [
      { path: 'a', text: 'new' },
      { path: 'b', target: 'new' },
    ]),
  ).toEqual([]);
  expect(readFileSync(outside, 'utf8')).toBe('untouched');
  expect(readFileSync(join(directory, 'g/a'), 'utf8')).toBe('new');
  expect(readlinkSync(join(directory, 'g/b'))).toBe('new');
});

test.each(['../x', '..', '.', '', '/etc/x', 'a/../b', 'a/b/c', 'a//b', 'a/', 'a/..', './a'])(
  'refuses the path %j',
  (path) => {
    const inner = join(directory, 'inner');
    mkdirSync(inner);
    const errors = writeOutputs(inner, [
      { path, text: 'x' },
      { path: 'good', text: 'y' },
    ]);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toBeInstanceOf(WriteError);
    expect(everything()).toEqual(['inner', 'inner/good']);
  },
);

test('one that fails keeps nobody else back and leaves nothing behind', () => {
  mkdirSync(join(directory, 'a.conf/full'), { recursive: true });
  writeFileSync(join(directory, 'b.d'), '');
  const errors = writeOutputs(directory, [
    { path: 'a.conf', text: 'x' },
    { path: 'b.d/x.conf', text: 'x' },
    { path: 'c.conf', text: 'x' },
    { path: `${'n'.repeat(300)}.conf`, text: 'x' },
  ]);
  expect(errors.map((error) => error.message.replaceAll(directory, 'DIR'))).toEqual([
    'cannot write DIR/a.conf: a directory of that name is in the way',
    'cannot make the directory DIR/b.d: a file of that name is in the way',
    `cannot write DIR/${'n'.repeat(300)}.conf: the name is too long`,
  ]);
  expect(everything()).toEqual(['a.conf', 'a.conf/full', 'b.d', 'c.conf']);
});

test.each([
  [Object.assign(new Error(), { code: 'ENOSPC' }), 'no space is left on the file system'],
  [Object.assign(new Error(), { code: 'EXOTIC' }), 'the system answered EXOTIC'],
  [new Error('plain'), 'Error: plain'],
])('says %s in words', (error, text) => {
  expect(errnoText(error)).toBe(text);
});

describe('on a file system of its own', () => {
  /** Runs writeOutputs() in a mount namespace on a small tmpfs that ends with the process. */
  async function writeOnTmpfs(options: string, outputs: readonly object[]) {
    const program = join(directory, 'program.cjs');
    await build({
      stdin: {
        contents:
          `import { writeOutputs } from './write.ts';\n` +
          `const errors = writeOutputs(process.argv[2], JSON.parse(process.argv[3]));\n` +
          `console.log(JSON.stringify(errors.map((e) => e.message)));`,
        resolveDir: new URL('../../src/generator', import.meta.url).pathname,
        loader: 'ts',
      },
      bundle: true,
      platform: 'node',
      format: 'cjs',
      outfile: program,
    });
    const mountPoint = join(directory, 'mounted');
    mkdirSync(mountPoint);
    const script =
      'mount -t tmpfs -o "$1" none "$2" && shift && { node "$2" "$1" "$3"; ls -A "$1"; }';
    const { status, stdout, stderr } = spawnSync(
      'unshare',
      [
        ...(process.getuid?.() === 0 ? [] : ['--map-root-user']),
        ...['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh'],
        ...[options, mountPoint, program, JSON.stringify(outputs)],
      ],
      { encoding: 'utf8' },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    // Nothing of the mount is left in this namespace.
    expect(readdirSync(mountPoint)).toEqual([]);
    const [messages = '', ...listed] = stdout.trim().split('\n');
    return {
      messages: (JSON.parse(messages) as string[]).map((m) => m.replaceAll(mountPoint, 'DIR')),
      listed,
    };
  }

  test('a full disk is told, and no half a file is left', async () => {
    const outputs = [
      { path: 'fits.conf', text: 'x' },
      { path: 'large.conf', text: 'x'.repeat(100_000) },
      { path: 'small.conf', text: 'y' },
    ];
    const { messages, listed } = await writeOnTmpfs('size=64k', outputs);
    expect(messages).toEqual(['cannot write DIR/large.conf: no space is left on the file system']);
    expect(listed).toEqual(['fits.conf', 'small.conf']);
  });

  test('a disk without inodes is told', async () => {
    const outputs = [{ path: 'x.d/a.conf', text: 'x' }];
    const { messages, listed } = await writeOnTmpfs('nr_inodes=1', outputs);
    expect(messages).toEqual([
      'cannot make the directory DIR/x.d: no space is left on the file system',
    ]);
    expect(listed).toEqual([]);
  });

  test('a read-only one is told', async () => {
    const { messages } = await writeOnTmpfs('ro', [{ path: 'a.conf', text: 'x' }]);
    expect(messages).toEqual(['cannot write DIR/a.conf: the file system is read-only']);
  });
});

test('a directory that is not there yet is made', () => {
  const absent = join(directory, 'a/b');
  expect(writeOutputs(absent, [{ path: 'x', text: '' }])).toEqual([]);
  expect(existsSync(join(absent, 'x'))).toBe(true);
});

import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { parse as parseIni } from 'ini';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ContainerSettings, LockerChoice } from '../../src/host/settings.ts';
import { parseContainerSettings } from '../../src/host/settings.ts';
import { editAutostart, editSettings } from '../../src/helper/settings-edit.ts';
import { readSettingsFile, writeSettingsFile } from '../../src/host/replace-file.ts';

const file = '/etc/lockerd/containers/web.conf';
const none: ContainerSettings = { ready: 'running' };

function withDefaults(...lockers: LockerChoice[]): ContainerSettings {
  return { ...none, lockers: { value: lockers, file: '/etc/lockerd/lockerd.conf', line: 1 } };
}

function add(text: string, locker: string, readOnly = false, defaults = none): string {
  return editSettings(text, { locker, readOnly }, file, defaults);
}

function remove(text: string, locker: string, defaults = none): string {
  return editSettings(text, { locker, readOnly: undefined }, file, defaults);
}

function choices(text: string, defaults = none): readonly LockerChoice[] {
  const values: Readonly<Record<string, unknown>> = parseIni(text);
  const { settings, problems } = parseContainerSettings({ path: file, text, values }, defaults);
  expect(problems).toEqual([]);
  return settings.lockers?.value ?? [];
}

const failed: unknown = expect.objectContaining({ code: 'Failed' });

describe('the settings of a container', () => {
  test('keeps a locker one that may come and go, whatever its mode becomes', () => {
    expect(add('lockers = data:auto', 'data', true)).toBe('lockers = data:ro:auto');
    expect(add('lockers = data:ro:auto other', 'data', false)).toBe('lockers = data:auto other');
    expect(remove('lockers = data:ro:auto other', 'data')).toBe('lockers = other');
  });

  test('get a line', () => {
    expect(add('', 'data')).toBe('lockers = data\n');
    expect(add('', 'my data', true)).toBe('lockers = my\\040data:ro\n');
    expect(add('# none yet\nready = booted', 'data')).toBe(
      '# none yet\nready = booted\nlockers = data',
    );
    expect(add('ready = booted\r\n', 'data')).toBe('ready = booted\r\nlockers = data\r\n');
  });

  test('keep what stands beside a locker', () => {
    const text = '; a\n\n  lockers  =  old:ro  # why\r\nready = running';
    expect(add(text, 'data', true)).toBe(
      '; a\n\n  lockers  =  old:ro data:ro  # why\r\nready = running',
    );
    expect(remove(add(text, 'data'), 'data')).toBe(text);
    expect(add(text, 'old')).toBe('; a\n\n  lockers  =  old  # why\r\nready = running');
    expect(remove(text, 'old')).toBe('; a\n\nready = running');
  });

  test('lose a line although others move up by that', () => {
    expect(remove('lockers = data\nneeds = db\nwants = mail\n', 'data')).toBe(
      'needs = db\nwants = mail\n',
    );
  });

  test('of several lines the last one counts, and none comes back', () => {
    const text = 'lockers = one\nlockers = two\n';
    expect(add(text, 'three')).toBe('lockers = one\nlockers = two three\n');
    expect(remove(text, 'two')).toBe('');
  });

  test('take over what the host gives every container, and give it back', () => {
    const defaults = withDefaults({ name: 'all', readOnly: true });
    expect(add('', 'data', false, defaults)).toBe('lockers = all:ro data\n');
    expect(remove('lockers = all:ro data\n', 'data', defaults)).toBe('');
    // No lockers at all is something else than what the host gives.
    expect(remove('', 'all', defaults)).toBe('lockers = \n');
    expect(choices('lockers = \n', defaults)).toEqual([]);
  });

  test('hold names that mean something to ini, fstab or themselves', () => {
    for (const name of [
      'a#b',
      'a;b',
      'a\\b',
      'a\\040b',
      'x:ro',
      'x:auto',
      'x:rw',
      'tab\tname',
      '=',
      '"q',
      "'q'",
    ]) {
      for (const readOnly of [false, true]) {
        const text = add('lockers = old ; why\n', name, readOnly);
        expect(choices(text)).toEqual([
          { name: 'old', readOnly: false },
          { name, readOnly },
        ]);
        expect(text.endsWith(' ; why\n')).toBe(true);
        expect(remove(text, name)).toBe('lockers = old ; why\n');
      }
    }
  });

  test('are refused where they have mistakes or cannot hold a name', () => {
    for (const text of [
      'unknown = 1\n',
      '[section]\n',
      'lockers[] = a\n',
      'locker-directory = /x\n',
    ]) {
      expect(() => add(text, 'data')).toThrow(failed);
    }
    expect(() => add('', '"quoted"')).toThrow(failed);
  });

  test('are read back as what was meant, and all else stays', () => {
    const blank = fc.constantFrom('', ' ', '\t', '  ');
    const end = fc.constantFrom('\n', '\r\n', '\n\n', '\r');
    const name = fc.constantFrom(
      'data',
      'my data',
      'a#b',
      'x:ro',
      'x:auto',
      'é',
      'c;d',
      'back\\slash',
    );
    const line = fc.oneof(
      fc.constantFrom('# comment', '; lockers = no', 'ready = booted', 'stop-timeout = 5s', ''),
      fc
        .tuple(
          blank,
          blank,
          blank,
          fc.constantFrom('one', 'one:ro two:auto', '', '"one two"'),
          blank,
        )
        .map(([a, b, c, value, d]) => `${a}lockers${b}=${c}${value}${d}`),
      fc.constant('lockers = one # comment'),
    );
    const text = fc
      .tuple(fc.array(fc.tuple(line, end), { maxLength: 6 }), fc.boolean())
      .map(([lines, isEnded]) => {
        const all = lines.map(([content, ending]) => content + ending).join('');
        return isEnded ? all : all.replace(/[\r\n]+$/, '');
      });
    const host = fc.constantFrom(none, withDefaults({ name: 'all', readOnly: false }));
    fc.assert(
      fc.property(text, name, fc.boolean(), host, (before, locker, readOnly, defaults) => {
        const old = choices(before, defaults);
        const added = add(before, locker, readOnly, defaults);
        const now = choices(added, defaults);
        expect(now.at(now.map((choice) => choice.name).lastIndexOf(locker))).toEqual({
          name: locker,
          readOnly,
        });
        expect(now.filter((choice) => choice.name !== locker)).toEqual(
          old.filter((choice) => choice.name !== locker),
        );
        const removed = remove(added, locker, defaults);
        expect(choices(removed, defaults)).toEqual(old.filter((choice) => choice.name !== locker));
        const others = (content: string): string[] =>
          content
            .split(/[\r\n]+/)
            .filter((l) => l !== '' && !Object.hasOwn(parseIni(l), 'lockers'));
        expect(others(added)).toEqual(others(before));
        expect(others(removed)).toEqual(others(before));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('"autostart" in the settings of a container', () => {
  const set = (text: string, autostart: boolean, defaults = none): string =>
    editAutostart(text, autostart, file, defaults);

  test('gets a line of its own, or a new value in its line', () => {
    expect(set('', true)).toBe('autostart = yes\n');
    expect(set('# mine\r\nready = booted\r\n', false)).toBe(
      '# mine\r\nready = booted\r\nautostart = no\r\n',
    );
    const text = '; a\n\n  autostart  =  yes  # why\r\nlockers = data\nneeds = db';
    expect(set(text, false)).toBe('; a\n\n  autostart  =  no  # why\r\nlockers = data\nneeds = db');
    expect(set(set(text, false), true)).toBe(text);
    expect(set('autostart = "no"\n', true)).toBe('autostart = yes\n');
  });

  test('of several lines the last one counts', () => {
    expect(set('autostart = yes\nautostart = no\n', true)).toBe(
      'autostart = yes\nautostart = yes\n',
    );
  });

  test('stands there also where the host says the same', () => {
    expect(set('', true, { ...none, autostart: true })).toBe('autostart = yes\n');
  });

  test('is refused with file and line where the settings have mistakes', () => {
    for (const text of ['ready = booted\nunknown = 1\n', 'ready = booted\n[section]\n']) {
      expect(() => set(text, true)).toThrow(
        expect.objectContaining({
          code: 'Failed',
          message: expect.stringContaining(`nothing was changed: ${file}:2: unknown`) as string,
        }),
      );
    }
    expect(() => set('autostart = maybe\n', true)).toThrow(failed);
  });
});

describe('a settings file', () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'lockerd-settings-'));
    path = join(directory, 'containers/web.conf');
  });
  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  test('is made, keeps its mode, and goes when it is empty', () => {
    expect(readSettingsFile(path)).toBe('');
    writeSettingsFile(path, 'a');
    expect(statSync(path).mode & 0o7777).toBe(0o644);
    writeFileSync(join(directory, 'containers/.web.conf.new'), 'left behind');
    rmSync(path);
    writeFileSync(path, 'b', { mode: 0o600 });
    writeSettingsFile(path, 'c');
    expect(statSync(path).mode & 0o7777).toBe(0o600);
    expect(readSettingsFile(path)).toBe('c');
    expect(readdirSync(join(directory, 'containers'))).toEqual(['web.conf']);
    writeSettingsFile(path, '');
    expect(readdirSync(join(directory, 'containers'))).toEqual([]);
  });

  test('is replaced at once: who reads the old one reads all of it', () => {
    writeSettingsFile(path, 'the old text');
    const reader = openSync(path, 'r');
    writeSettingsFile(path, 'new');
    expect(readFileSync(reader, 'utf8')).toBe('the old text');
    closeSync(reader);
    expect(readSettingsFile(path)).toBe('new');
  });

  test('that is a link or a directory is refused', () => {
    mkdirSync(path, { recursive: true });
    expect(() => readSettingsFile(path)).toThrow(failed);
    rmSync(path, { recursive: true });
    symlinkSync('/etc/passwd', path);
    expect(() => readSettingsFile(path)).toThrow(failed);
  });
});

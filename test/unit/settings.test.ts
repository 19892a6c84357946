import { parse as parseIni } from 'ini';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseContainerSettings, parseSettings, settingsKeys } from '../../src/host/settings.ts';
import type { SettingsFile } from '../../src/host/settings.ts';
import { formatProblem } from '../../src/model/problem.ts';

function file(text: string, path = '/l.conf'): SettingsFile {
  return { path, text, values: parseIni(text) };
}

function problems(text: string): string[] {
  return parseSettings([file(text)]).problems.map(formatProblem);
}

const hostDefaults = {
  bridgeTimeout: '30s',
  lockerDirectory: '/lockers',
  wormholeDirectory: '/var/locker-mappings',
  lockerPath: '/lockers',
  sharedLockers: [{ name: 'sandbox', readOnly: false }],
  ownLockerSuffixes: [['_vm', '_vol']],
  rootWithoutPolkit: false,
  lockerWarning: 90,
};

describe('of the host', () => {
  test('without a file there are only the built-in ones', () => {
    expect(parseSettings([])).toEqual({
      host: hostDefaults,
      defaults: { ready: 'running' },
      problems: [],
    });
  });

  test('all keys, with comments', () => {
    const text =
      '; comment\n# another\nstart-timeout = 2min\nstop-timeout=1h 30min\nready = booted\n' +
      'log-level = debug\nbridge-timeout = 5\nlockers = a my\\040b:ro c:rw d:auto e:ro:auto\nwormhole = no\n' +
      'strict-lockers = no\nlocker-directory = /srv//vol/\nwormhole-directory = /run/holes\n' +
      'locker-path = /data/in\nshared-lockers =\nown-locker-suffixes = _vm:_vol .net:\n' +
      'root-without-polkit = yes\nmachined = no\njournal = host\ndefault-store = raid1\nlocker-warning = no\n';
    expect(parseSettings([file(text)])).toEqual({
      host: {
        bridgeTimeout: '5',
        lockerDirectory: '/srv/vol',
        wormholeDirectory: '/run/holes',
        lockerPath: '/data/in',
        sharedLockers: [],
        ownLockerSuffixes: [
          ['_vm', '_vol'],
          ['.net', ''],
        ],
        rootWithoutPolkit: true,
        defaultStore: 'raid1',
      },
      defaults: {
        startTimeout: '2min',
        stopTimeout: '1h 30min',
        ready: 'booted',
        logLevel: 'DEBUG',
        wormhole: false,
        strictLockers: false,
        machined: false,
        hostJournal: true,
        lockers: {
          file: '/l.conf',
          line: 8,
          value: [
            { name: 'a', readOnly: false },
            { name: 'my b', readOnly: true },
            { name: 'c', readOnly: false },
            { name: 'd', readOnly: false, auto: true },
            { name: 'e', readOnly: true, auto: true },
          ],
        },
      },
      problems: [],
    });
  });

  test('a later file wins key by key', () => {
    const files = ['stop-timeout = 1s\nstart-timeout = 2s\n', 'stop-timeout = 3s\n', ''];
    expect(parseSettings(files.map((text) => file(text))).defaults).toEqual({
      ready: 'running',
      stopTimeout: '3s',
      startTimeout: '2s',
    });
  });

  test('a bad value leaves the good one of an earlier file', () => {
    const files = [file('stop-timeout = 1s\n'), file('stop-timeout = soon\n')];
    expect(parseSettings(files).defaults.stopTimeout).toBe('1s');
  });

  test.each([
    ['stop-timout = 1s', '/l.conf:1: unknown key "stop-timout"; see lockerd.conf(5)'],
    ['\n[web]\nx = 1', '/l.conf:2: unknown section [web]; see lockerd.conf(5)'],
    ['ready[] = booted', '/l.conf:1: "ready" cannot be a list; see lockerd.conf(5)'],
    ['stop-timeout', '/l.conf:1: stop-timeout="true" is not valid; write a time span'],
    ['stop-timeout =', '/l.conf:1: stop-timeout="" is not valid; write a time span'],
    ['a = 1\nready = x', '/l.conf:2: ready="x" is not valid; write "running" or "booted"'],
    ['log-level = loud', '/l.conf:1: log-level="loud" is not valid; write one of TRACE'],
    ['lockers = a/b', '/l.conf:1: lockers="a/b" is not valid; write names of lockers'],
    ['lockers = ..', '/l.conf:1: lockers=".." is not valid'],
    ['lockers = :ro', '/l.conf:1: lockers=":ro" is not valid'],
    ['lockers = :auto', '/l.conf:1: lockers=":auto" is not valid'],
    ['shared-lockers = /lockers/a', 'shared-lockers="/lockers/a" is not valid'],
    ['wormhole = maybe', '/l.conf:1: wormhole="maybe" is not valid; write "yes" or "no"'],
    ['strict-lockers', 'strict-lockers="true" is not valid; write "yes" or "no"'],
    ['locker-directory = lockers', 'is not valid; write an absolute path without ".."'],
    ['wormhole-directory = /', 'wormhole-directory="/" is not valid'],
    ['locker-path = /a/../b', 'locker-path="/a/../b" is not valid'],
    ['own-locker-suffixes = _vm', 'is not valid; write pairs of endings such as "_vm:_vol"'],
    ...['512M', '2G 512M', '1G 1G', '8M 1G', '1G max', '1 G', '1G 2G 3G', 'yes'].map((range) => [
      `autoballoon = ${range}`,
      `/l.conf:1: autoballoon="${range}" is not valid; write "no", or a floor of at least 16M`,
    ]),
    ['journal = yes', '/l.conf:1: journal="yes" is not valid; write "host" or "guest"'],
    ['toString = x', '/l.conf:1: unknown key "toString"'],
    ['constructor = x', '/l.conf:1: unknown key "constructor"'],
  ])('%j is a problem', (text, message) => {
    expect(problems(text).pop()).toContain(message);
  });
});

describe('of a container', () => {
  const defaults = { ready: 'running', stopTimeout: '9s' } as const;

  test('without a file the defaults hold', () => {
    expect(parseContainerSettings(undefined, defaults)).toEqual({
      settings: defaults,
      problems: [],
    });
  });

  test('its file goes over the defaults', () => {
    const own = file('stop-timeout = 1s\nlog-level = Trace\n');
    expect(parseContainerSettings(own, defaults).settings).toEqual({
      ready: 'running',
      stopTimeout: '1s',
      logLevel: 'TRACE',
    });
  });

  test('"journal = guest" takes back the default', () => {
    const { defaults: all } = parseSettings([file('journal = host\n')]);
    const of = (text: string) => parseContainerSettings(file(text), all).settings.hostJournal;
    expect([of(''), of('journal = guest')]).toEqual([true, false]);
    expect(parseContainerSettings(file(''), defaults).settings.hostJournal).toBeUndefined();
  });

  test('a range of memory is read in bytes, and "no" takes back the default', () => {
    const { defaults: all } = parseSettings([file('autoballoon = 512m 2G\n')]);
    expect(all.autoballoon).toEqual({ floor: 2n ** 29n, ceiling: 2n ** 31n });
    const of = (text: string) => parseContainerSettings(file(text), all).settings.autoballoon;
    expect(of('')).toEqual(all.autoballoon);
    expect(of('autoballoon = no')).toBeUndefined();
    expect(of('autoballoon = 16M 1G')).toEqual({ floor: 2n ** 24n, ceiling: 2n ** 30n });
  });

  test('it cannot set what concerns the host', () => {
    const { problems: found } = parseContainerSettings(file('bridge-timeout = 1s\n'), defaults);
    expect(found.map(formatProblem)).toEqual([
      '/l.conf:1: "bridge-timeout" belongs to the whole host; move it to /etc/lockerd/lockerd.conf',
    ]);
  });

  test('only it can be about other containers', () => {
    const text = 'needs = db my\\040web\nwants = log\n';
    const { settings, problems } = parseContainerSettings(file(text), defaults);
    expect([settings.needs?.value, settings.wants?.value, problems]).toEqual([
      ['db', 'my web'],
      ['log'],
      [],
    ]);
    const of = parseSettings([file(text)]);
    expect(of.defaults).toEqual({ ready: 'running' });
    expect(of.problems.map(formatProblem)).toEqual([
      '/l.conf:1: "needs" belongs to one container; move it to /etc/lockerd/containers/NAME.conf',
      '/l.conf:2: "wants" belongs to one container; move it to /etc/lockerd/containers/NAME.conf',
    ]);
  });

  test.each(['needs = ../db', 'needs = a/b', 'wants = .', 'wants = .hidden'])(
    'it cannot name a path: %s',
    (text) => {
      const { problems: found } = parseContainerSettings(file(`${text}\n`), defaults);
      expect(found[0]?.remedy).toBe('write names of containers');
    },
  );
});

test('no text makes it throw, pass an unchecked value or touch a prototype', () => {
  const piece = fc.constantFrom(
    ...Object.keys(settingsKeys),
    ...['=', '\n', '[', ']', '"', "'", ';', '#', '\\', ' ', '.', '[]', '__proto__', 'constructor'],
    ...['1s', 'booted', 'debug', '\r', '\0', '{"a":1}', 'toString'],
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      const { defaults, host } = parseSettings([file(pieces.join(''))]);
      for (const value of Object.values<unknown>({ ...defaults, ...host })) {
        if (typeof value === 'string') expect(value).toMatch(/^[0-9A-Za-z. /-]+$/);
      }
      expect(({} as Record<string, unknown>)['a']).toBeUndefined();
    }),
    { numRuns: 2000 },
  );
});

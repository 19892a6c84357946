import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { UnitFile } from '../../src/host/lockers.ts';
import { decideLockers, findLockers, warnOfUnprotected } from '../../src/host/lockers.ts';
import { parseLxcConfig } from '../../src/host/parse-lxc.ts';
import { parseContainerSettings, parseSettings } from '../../src/host/settings.ts';
import { splitLxcText } from '../../src/host/grammar.ts';
import { decodeField, encodeField, parseFstab } from '../../src/model/fstab.ts';
import { formatProblem } from '../../src/model/problem.ts';
import { escapePath, unescapePath } from '../../src/model/unit-name.ts';
import { parse as parseIni } from 'ini';

const lockersHere = { written: '/lockers', real: '/lockers' };

function names(fstab: string, units: readonly UnitFile[] = [], directory = '/lockers'): string[] {
  return [...findLockers(parseFstab(fstab), units, { written: directory, real: directory }).keys()];
}

function unit(name: string, isMasked = false): UnitFile {
  return { name, path: `/etc/systemd/system/${name}`, isMasked, options: [] };
}

describe('lockers are', () => {
  test('what fstab mounts directly below the directory', () => {
    const fstab =
      'a /lockers/a ext4\nb /lockers/b/ ext4\nc /lockers ext4\nd /lockers/a/d ext4\n' +
      'e /lockersx/e ext4\nf /srv/f ext4\nUUID=1 none swap\n# h /lockers/h\ni /lockers//i x\n';
    expect(names(fstab)).toEqual(['a', 'b', 'i']);
    expect(names('a /srv/my\\040vols/x\\040y ext4', [], '/srv/my vols')).toEqual(['x y']);
  });

  test('what a native mount unit mounts there', () => {
    const units = ['lockers-a.mount', 'lockers-a\\x2db\\x20c.mount', 'lockers-d-e.mount'];
    const others = ['lockersx.mount', 'lockers-f.service', 'lockers-\\xff.mount', 'lockers.mount'];
    expect(
      names(
        '',
        [...units, ...others].map((name) => unit(name)),
      ),
    ).toEqual(['a', 'a-b c']);
  });

  test('not what is masked, wherever it comes from', () => {
    const masked = [unit('lockers-a.mount', true), unit('lockers-b.mount', true)];
    expect(names('a /lockers/a ext4\nc /lockers/c ext4\n', masked)).toEqual(['c']);
  });
});

const fstab =
  'a /lockers/web x\nb /lockers/web_vol x\nc /lockers/sandbox x\nd /lockers/data x nofail\n' +
  'e /lockers/ro x ro\nf /lockers/more x\n';

/** The lockers of a container as NAME:MODE:STRICTNESS, or what is said about it. */
function decide(
  name: string,
  texts: { container?: string; host?: string; config?: string; mountMapsIds?: boolean } = {},
): string[] {
  const settings = parseSettings([
    { path: '/h', text: texts.host ?? '', values: parseIni(texts.host ?? '') },
  ]);
  const text = texts.container ?? '';
  const own = parseContainerSettings(
    { path: '/c', text, values: parseIni(text) },
    settings.defaults,
  );
  const config = parseLxcConfig({
    file: {
      path: '/x',
      text: splitLxcText(texts.config ?? ''),
      badLines: new Set(),
      includes: [],
    },
    paths: [],
  });
  const lockers = findLockers(parseFstab(fstab), [], lockersHere);
  const facts = { name, config, settings: own.settings };
  const { wormhole, problems, warnings } = decideLockers(
    facts,
    lockers,
    settings.host,
    texts.mountMapsIds,
  );
  const said = [...problems, ...warnings].map(formatProblem);
  if (wormhole === undefined) return [...said, 'no wormhole'];
  const attached = wormhole.attachments.map(
    (a) => `${a.locker}:${a.readOnly ? 'ro' : 'rw'}:${a.strict ? 'strict' : 'soft'}`,
  );
  const mapped = wormhole.idmap === undefined ? [] : [`ids ${wormhole.idmap}`];
  return [...said, ...attached, ...mapped];
}

describe('a container gets', () => {
  test.each([
    ['plain', {}, ['sandbox:rw:soft']],
    ['web', {}, ['sandbox:rw:soft', 'web:rw:strict']],
    ['web_vm', {}, ['sandbox:rw:soft', 'web_vol:rw:strict']],
    ['_vm', {}, ['sandbox:rw:soft']],
    ['sandbox', {}, ['sandbox:rw:strict']],
    ['web_vm', { host: 'own-locker-suffixes =' }, ['sandbox:rw:soft']],
    ['web.net', { host: 'own-locker-suffixes = .org:x .net:_vol' }, ['sandbox', 'web_vol']],
    ['plain', { host: 'shared-lockers = absent more:ro' }, ['more:ro:soft']],
    ['plain', { host: 'shared-lockers =' }, []],
    [
      'plain',
      { container: 'lockers = more:ro data ro' },
      ['data:rw:soft', 'more:ro:strict', 'ro:ro:strict', 'sandbox'],
    ],
    ['plain', { container: 'lockers = sandbox:ro' }, ['sandbox:ro:strict']],
    [
      'web',
      { container: 'lockers = more:auto absent:ro:auto web:auto' },
      ['absent:ro:soft', 'more:rw:soft', 'sandbox', 'web:rw:soft'],
    ],
    ['plain', { host: 'shared-lockers = absent:auto more:auto' }, ['more:rw:soft']],
    ['web', { container: 'lockers = web:ro' }, ['sandbox:rw:soft', 'web:ro:strict']],
    ['web', { host: 'strict-lockers = no' }, ['sandbox:rw:soft', 'web:rw:soft']],
    [
      'web',
      { host: 'strict-lockers = no', container: 'strict-lockers = yes' },
      ['sandbox', 'web:rw:strict'],
    ],
    ['web', { container: 'wormhole = no' }, ['no wormhole']],
    [
      'web',
      { container: 'wormhole = no\nlockers = data' },
      ['/c:2: lockers are set, and so is', 'no wormhole'],
    ],
    [
      'web',
      { container: 'lockers = absent' },
      ['/c:1: the locker "absent" is never bound', 'sandbox', 'web'],
    ],
    [
      'web',
      { config: 'lxc.hook.mount = /etc/lxc/locker_mount.sh x' },
      ['/x:1: the hook /etc/lxc/locker_mount.sh x', 'no wormhole'],
    ],
    ['web', { config: 'lxc.hook.mount = /etc/lxc/my_locker_mount.sh' }, ['sandbox', 'web']],
    ['end ', {}, ['/x: no wormhole can be made', 'no wormhole']],
    ['end\\', { container: 'lockers = data' }, ['/c:1: no wormhole can be made', 'no wormhole']],
    ['-'.repeat(70), {}, ['/x: no wormhole can be made', 'no wormhole']],
  ])('%s %j: %j', (name, texts, expected) => {
    const decided = decide(name, texts);
    expect(decided).toHaveLength(expected.length);
    for (const [index, start] of expected.entries()) expect(decided[index]).toContain(start);
  });
});

describe('idmap-lockers', () => {
  const container = 'idmap-lockers = yes';
  const config = 'lxc.idmap = u 0 100000 1000\nlxc.idmap=u\t1000 1000  1\nlxc.idmap = b 0 5 9\n';
  const both = ['sandbox:rw:soft', 'web:rw:strict'];

  test.each([
    [
      { container, config, mountMapsIds: true },
      [...both, 'ids u:0:100000:1000 u:1000:1000:1 u:0:5:9 g:0:5:9'],
    ],
    [{ config, mountMapsIds: true }, both],
    [
      { container, config: `${config}lxc.idmap =\n`, mountMapsIds: true },
      ['no lxc.idmap', ...both],
    ],
    [{ container, config }, ['/x:1: idmap-lockers is set, but mount(8)', ...both]],
    [
      { container, config: 'lxc.idmap = u 0 1', mountMapsIds: true },
      ['/x:1: lxc.idmap cannot be read', ...both],
    ],
    [
      { container, config: 'lxc.idmap = u 0 1 2,suid 3', mountMapsIds: true },
      ['/x:1: lxc.idmap cannot be read', ...both],
    ],
    [{ host: container, mountMapsIds: true }, ['/x: idmap-lockers has no effect', ...both]],
  ])('%j: %j', (texts, expected) => {
    const decided = decide('web', texts);
    expect(decided).toHaveLength(expected.length);
    for (const [index, part] of expected.entries()) expect(decided[index]).toContain(part);
  });
});

test('escaped paths and fields are read back', () => {
  const text = fc.string({ unit: 'binary', minLength: 1 }).filter((t) => !/[/\0]/.test(t));
  fc.assert(
    fc.property(fc.array(text, { minLength: 1, maxLength: 3 }), (parts) => {
      const path = `/${parts.join('/')}`;
      expect(decodeField(encodeField(path))).toBe(path);
      if (!parts.includes('.')) expect(unescapePath(escapePath(path))).toBe(path);
    }),
  );
});

describe('a locker that set-user-ID programs and device nodes work on is told', () => {
  const wormhole = (...attachments: [locker: string, readOnly: boolean][]) => ({
    path: '/w',
    slots: '/run/slots',
    insidePath: '/lockers',
    attachments: attachments.map(([locker, readOnly]) => ({
      locker,
      source: `/lockers/${locker}`,
      target: `/w/${locker}`,
      readOnly,
      readOnlyOnHost: false,
      strict: true,
    })),
  });

  function told(options: string, ...wormholes: ReturnType<typeof wormhole>[]): string[] {
    const lockers = findLockers(
      parseFstab(`# comment\nd /lockers/d ext4 ${options}\n`),
      [],
      lockersHere,
    );
    return warnOfUnprotected(wormholes, lockers).map(formatProblem);
  }

  test.each([
    ['defaults', 'nosuid,nodev'],
    ['', 'nosuid,nodev'],
    ['bind,nosuid', 'bind,nosuid,nodev'],
    ['nosuid,nodev,dev', 'nosuid,nodev'],
    ['nosuid,nodev,defaults', 'nosuid,nodev'],
    ['user,suid', 'user,nosuid'],
  ])('with the options %j', (options, remedy) => {
    const [warning, ...others] = told(options, wormhole(['d', false]), wormhole(['d', false]));
    expect(others).toEqual([]);
    expect(warning).toMatch(/^\/etc\/fstab:2: .*the locker "d" work on the host/);
    expect(warning?.endsWith(`; write the options ${remedy}`)).toBe(true);
  });

  test('and no other one', () => {
    for (const options of ['nosuid,nodev', 'rw,nodev,noexec,nosuid', 'defaults,user', 'group']) {
      expect(told(options, wormhole(['d', false]))).toEqual([]);
    }
    expect(told('defaults', wormhole(['d', true]), wormhole())).toEqual([]);
  });

  test('by the file of its mount unit', () => {
    const file = { ...unit('lockers-d.mount'), options: ['bind', 'nodev'] };
    const lockers = findLockers([], [file], lockersHere);
    expect(warnOfUnprotected([wormhole(['d', false])], lockers).map(formatProblem)).toEqual([
      expect.stringMatching(
        /^\/etc\/systemd\/system\/lockers-d\.mount: .*; write Options=bind,nodev,nosuid$/,
      ),
    ]);
  });
});

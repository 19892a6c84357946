import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatProblem } from '../../src/model/problem.ts';
import { bootPass, decideBoot, parseBootPolicy, startsAtBoot } from '../../src/host/boot-policy.ts';

const FILE = '/etc/default/lxc';

function policy(text: string) {
  return parseBootPolicy(text, FILE).policy;
}

describe('/etc/default/lxc', () => {
  test('an empty file has the defaults of lxc-containers', () => {
    expect(parseBootPolicy('', FILE)).toEqual({
      policy: { enabled: true, groups: ['onboot', ''], allGroups: false, ignoreAuto: false },
      problems: [],
    });
  });

  test.each([
    ['LXC_AUTO=false', false],
    ['LXC_AUTO="true" # yes', true],
    ["export LXC_AUTO='true'", true],
    ['LXC_AUTO=TRUE', false],
    ['LXC_AUTO=', false],
    ['#LXC_AUTO=false', true],
    ['LXC_AUTO=false\nLXC_AUTO=true', true],
    ['XLXC_AUTO=false', true],
  ])('%j: autostart is on: %s', (text, enabled) => {
    expect(policy(text).enabled).toBe(enabled);
  });

  test.each([
    ['webs', ['webs']],
    ['"webs,db"', ['webs', 'db']],
    [',webs', ['']],
    ['on,onboot', ['on']],
    ['onboot,on', ['onboot', 'on']],
    ['a,,b', ['a', '']],
    ['a,a,', ['a', '']],
    ['""', ['']],
    ['"onboot, webs"', ['onboot', '']],
  ])('BOOTGROUPS=%s', (value, groups) => {
    expect(policy(`BOOTGROUPS=${value}`).groups).toEqual(groups);
  });

  test.each([
    ['-a', { allGroups: true, ignoreAuto: false }],
    ['"-a -A"', { allGroups: true, ignoreAuto: true }],
    ['-qA', { allGroups: false, ignoreAuto: true }],
    ['"--all --ignore-auto"', { allGroups: true, ignoreAuto: true }],
    ['"-- -a"', { allGroups: false, ignoreAuto: false }],
    ['"-o /var/log/autostart-A -a"', { allGroups: true, ignoreAuto: false }],
  ])('OPTIONS=%s', (value, expected) => {
    expect(policy(`OPTIONS=${value}`)).toMatchObject(expected);
  });

  test.each(['-gwebs', '"-g webs"', '--groups=webs', '"--groups webs"', '"-Ag webs"'])(
    'OPTIONS=%s adds a group in front of BOOTGROUPS',
    (value) => {
      expect(policy(`OPTIONS=${value}\nBOOTGROUPS=db`).groups).toEqual(['webs', 'db']);
    },
  );

  test.each(['"$X"', '$(hostname)', '`id`', 'a\\ b', '"unfinished'])(
    'what only a shell can tell is a problem: BOOTGROUPS=%s',
    (value) => {
      const parsed = parseBootPolicy(`\nBOOTGROUPS=${value}\n`, FILE);
      expect(parsed.policy.groups).toEqual(['onboot', '']);
      expect(parsed.problems).toMatchObject([{ file: FILE, line: 2 }]);
    },
  );
});

test('groups that LXC drops are told', () => {
  const { problems } = parseBootPolicy('BOOTGROUPS=on,onboot,x,,y\n', FILE);
  expect(problems.map(formatProblem)).toEqual([
    '/etc/default/lxc:1: LXC drops the boot group "onboot", "y", as it begins like an earlier ' +
      'one; name groups that are the beginning of others after them, and the empty one last',
  ]);
  expect(parseBootPolicy('BOOTGROUPS=a,a,b,\n', FILE).problems).toEqual([]);
});

test('the pass is the first boot group that takes the container', () => {
  const boot = policy('BOOTGROUPS=base,webs,');
  expect(bootPass(boot, ['webs', 'base'])).toBe(0);
  expect(bootPass(boot, ['webs'])).toBe(1);
  expect(bootPass(boot, [])).toBe(2);
  expect(bootPass(boot, ['elsewhere'])).toBe(3);
  expect(bootPass(policy('OPTIONS=-a'), ['elsewhere'])).toBe(0);
});

describe('the real lxc-autostart starts the same containers', () => {
  interface Situation {
    readonly name: string;
    readonly startAuto: boolean;
    readonly groups: readonly string[];
  }
  // Prefixes of one another, because lxc-autostart compares by length.
  const names = ['a', 'ab', 'abc', 'b', 'onboot', 'on', 'onboot2', 'x'];
  const groupLists = fc
    .sample(fc.array(fc.constantFrom(...names), { maxLength: 3 }), { numRuns: 40, seed: 3 })
    .concat(
      names.map((name) => [name]),
      [[]],
    );
  const containers: readonly Situation[] = groupLists.flatMap((groups, index) =>
    [true, false].map((startAuto) => ({
      name: `c${index}-${startAuto ? 'auto' : 'idle'}`,
      startAuto,
      groups,
    })),
  );
  let lxcpath = '';

  beforeAll(() => {
    lxcpath = mkdtempSync(join(tmpdir(), 'lockerd-autostart-'));
    for (const { name, startAuto, groups } of containers) {
      mkdirSync(join(lxcpath, name));
      writeFileSync(
        join(lxcpath, name, 'config'),
        `lxc.start.auto = ${startAuto ? 1 : 0}\nlxc.group = ${groups.join(' ')}\n`,
      );
    }
  });
  afterAll(() => {
    rmSync(lxcpath, { recursive: true });
  });

  /** The part of Debian's lxc-containers that starts containers, listing them instead. */
  const script = `LXC_AUTO="true" BOOTGROUPS="onboot," OPTIONS=
    . "$1"
    [ "x$LXC_AUTO" = "xtrue" ] || exit 0
    if [ -n "$BOOTGROUPS" ]; then BOOTGROUPS="-g $BOOTGROUPS"; fi
    lxc-autostart -L -P "$2" $OPTIONS $BOOTGROUPS`;

  function startedByLxc(text: string): string[] {
    const file = join(lxcpath, '.default');
    writeFileSync(file, text);
    const { status, stdout, stderr } = spawnSync('sh', ['-c', script, 'sh', file, lxcpath], {
      encoding: 'utf8',
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    return stdout
      .split('\n')
      .map((line) => line.split(' ')[0] ?? '')
      .filter((name) => name !== '')
      .sort();
  }

  const groupWord = fc.constantFrom(...names, '', 'abcd', 'onboot ', ' b');
  const listed = [
    '',
    'LXC_AUTO=false',
    'BOOTGROUPS=',
    'BOOTGROUPS=","',
    'BOOTGROUPS="onboot, webs"',
    'BOOTGROUPS="onboot ,b"',
    'OPTIONS=-a',
    'OPTIONS="-a -A"',
    'OPTIONS=-aA',
    'OPTIONS=-A\nBOOTGROUPS=b',
    'OPTIONS="-g x"',
    'OPTIONS=-gx,\nBOOTGROUPS=',
    'BOOTGROUPS=,webs',
    'BOOTGROUPS=on,onboot,b',
    'BOOTGROUPS=onboot,on',
    'OPTIONS="--all"',
    'OPTIONS="--groups=b --ignore-auto"\nBOOTGROUPS="a"',
  ];
  const generated = fc
    .sample(
      fc.record({
        groups: fc.array(groupWord, { minLength: 1, maxLength: 4 }),
        options: fc.constantFrom('', '', '-A', '-q', '-g ab', '-Agon'),
      }),
      { numRuns: 110, seed: 9 },
    )
    // The shell would leave -g without an argument there, and lxc-autostart gives up.
    .filter(({ groups }) => groups.join(',').trim() !== '' || groups.join(',') === '')
    .map(({ groups, options }) => `BOOTGROUPS="${groups.join(',')}"\nOPTIONS="${options}"\n`);

  test('in each of over 100 situations', () => {
    const situations = [...listed, ...generated];
    expect(situations.length).toBeGreaterThan(100);
    let started = 0;
    for (const text of situations) {
      const parsed = policy(text);
      const ours = containers.filter((each) => startsAtBoot(parsed, each)).map(({ name }) => name);
      expect(ours.sort(), text).toEqual(startedByLxc(text));
      started += ours.length;
    }
    expect(started).toBeGreaterThan(1000);
  });
});

describe('the next boot', () => {
  const auto = { startAuto: true, groups: [] };
  const manual = { startAuto: false, groups: [] };
  const on = policy('');
  const nothing = { wantedBy: [], isMasked: false };

  test.each([
    ['lxc.start.auto', on, auto, nothing, false, true, ['config']],
    ['nothing', on, manual, nothing, false, false, []],
    ['-A in OPTIONS', policy('OPTIONS=-A'), manual, nothing, false, true, ['options']],
    ['a runlevel link', on, manual, nothing, true, true, ['runlevel']],
    [
      'systemctl enable',
      on,
      manual,
      { wantedBy: ['multi-user.target'], isMasked: false },
      false,
      true,
      ['enabled'],
    ],
    [
      'all of them',
      on,
      auto,
      { wantedBy: ['my.target', 'graphical.target'], isMasked: false },
      true,
      true,
      ['config', 'runlevel', 'enabled'],
    ],
    [
      'a target of its own',
      on,
      manual,
      { wantedBy: ['my.target'], isMasked: false },
      false,
      false,
      ['other-unit'],
    ],
    [
      'a mask',
      on,
      auto,
      { wantedBy: ['multi-user.target'], isMasked: true },
      true,
      false,
      ['masked'],
    ],
    ['LXC_AUTO=false', policy('LXC_AUTO=false'), auto, nothing, false, false, ['lxc-auto']],
    [
      'a disabled lxc.service',
      { ...on, enabled: false, isServiceOff: true },
      auto,
      nothing,
      false,
      false,
      ['lxc-service'],
    ],
    ['BOOTGROUPS', policy('BOOTGROUPS=webs'), auto, nothing, false, false, ['boot-groups']],
    [
      'a disabled lxc.service, enabled by itself',
      { ...on, enabled: false, isServiceOff: true },
      auto,
      { wantedBy: ['multi-user.target'], isMasked: false },
      false,
      true,
      ['enabled'],
    ],
  ] as const)('with %s', (_, boot, container, links, runlevel, starts, reasons) => {
    expect(decideBoot(boot, container, links, runlevel)).toEqual({ starts, reasons });
  });

  const enabled = { wantedBy: ['multi-user.target'], isMasked: false };
  const masked = { wantedBy: [], isMasked: true };
  test.each([
    ['yes', true, on, manual, nothing, false, true, ['setting']],
    ['yes, which lxc.start.auto says too', true, on, auto, nothing, false, true, ['setting']],
    [
      'yes, while LXC_AUTO=false',
      true,
      policy('LXC_AUTO=false'),
      auto,
      nothing,
      false,
      true,
      ['setting'],
    ],
    ['yes, and a runlevel', true, on, manual, nothing, true, true, ['setting', 'runlevel']],
    ['yes, and a mask', true, on, auto, masked, false, false, ['masked']],
    ['no', false, on, manual, nothing, false, false, []],
    ['left to a cluster', 'cluster', on, auto, enabled, true, false, ['cluster']],
    ['left to a cluster, and a mask', 'cluster', on, auto, masked, false, false, ['masked']],
    ['no, against lxc.start.auto', false, on, auto, nothing, false, false, ['setting']],
    [
      'no, where LXC would not start it',
      false,
      policy('LXC_AUTO=false'),
      auto,
      nothing,
      false,
      false,
      [],
    ],
    ['no, against systemctl enable', false, on, auto, enabled, false, true, ['enabled']],
    ['no, against a runlevel', false, on, auto, nothing, true, true, ['runlevel']],
  ] as const)(
    'with autostart = %s',
    (_, setting, boot, container, links, runlevel, starts, reasons) => {
      expect(decideBoot(boot, container, links, runlevel, setting)).toEqual({ starts, reasons });
    },
  );
});

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Container } from '../../src/generator/container.ts';
import type { PlanContext } from '../../src/generator/plan-views.ts';
import { startArguments, startProgram } from '../../src/generator/plan-container.ts';
import { planUnits } from '../../src/generator/plan.ts';
import { renderFile } from '../../src/generator/render.ts';
import { escapeInstance } from '../../src/model/unit-name.ts';
import { fitsRestOfLine, fitsUnitFile } from '../../src/model/unit-syntax.ts';

const context: PlanContext = {
  bridgeTimeout: '30s',
  initScripts: [],
  filtersLog: false,
  lockers: new Map(),
  fstab: [],
  watched: [],
  lxcpath: '/var/lib/lxc',
  watchedMounts: [],
  lateMounts: [],
  host: {
    lockerDirectory: '/lockers',
    wormholeDirectory: '/var/locker-mappings',
    rootWithoutPolkit: false,
  },
};

function container(name: string, more: Partial<Container> = {}): Container {
  return {
    name,
    instance: escapeInstance(name),
    configFile: `/var/lib/lxc/${name}/config`,
    problems: [],
    warnings: [],
    init: 'unknown',
    halt: { signal: 'SIGPWR', heardBy: [30], isSentAtStop: false },
    memory: { limits: [], held: [], taken: [], warnings: [] },
    controls: { settings: [], taken: [], warnings: [] },
    clearedKeys: [],
    hasPreStart: false,
    hasLogFile: false,
    requiredPaths: [],
    startPaths: [],
    after: [],
    devices: [],
    mayComeLate: false,
    wants: [],
    bridges: [],
    autostart: false,
    boot: { starts: false, reasons: [] },
    groups: [],
    startDelaySec: 0,
    startsAfter: [],
    settings: { ready: 'running' },
    ...more,
  };
}

/** Paths with the text or the link's target. */
function plan(all: readonly Container[], more: Partial<PlanContext> = {}): Map<string, string> {
  return new Map(
    planUnits(all, { ...context, ...more }).map((planned) => [
      planned.path,
      planned.kind === 'link' ? `-> ${planned.target}` : renderFile(planned),
    ]),
  );
}

describe('the packaged drop-in agrees with the code', () => {
  const packaged = readFileSync(
    new URL('../../units/system/lxc@.service.d/50-lockerd.conf', import.meta.url),
    'utf8',
  );

  test('about the command that starts', () => {
    const start = [startProgram, ...['-F', '-n', '%i'], ...startArguments].join(' ');
    expect(packaged).toContain(`\nExecStart=\nExecStart=${start}\n`);
  });

  test('and with what is generated where an instance cannot stand for the name', () => {
    const text =
      plan([container('my web')]).get('lxc@my\\x20web.service.d/60-container.conf') ?? '';
    const generated = /^ExecStart=(.+)$/m.exec(text)?.[1];
    expect(generated?.replace('"my web"', '%i')).toBe(/^ExecStart=(.+)$/m.exec(packaged)?.[1]);
  });
});

describe('how a container is started', () => {
  const dropIn = (more: Partial<Container>): string =>
    plan([container('my web', more)]).get('lxc@my\\x20web.service.d/60-container.conf') ?? '';

  test('its own log file is left alone', () => {
    expect(dropIn({ hasLogFile: true })).toContain('\nEnvironment=LOCKERD_LOG=own\n');
    expect(dropIn({})).not.toContain('LOCKERD_LOG');
  });

  test('with a log level the journal takes more of it', () => {
    const text = dropIn({ settings: { ready: 'running', logLevel: 'DEBUG' } });
    expect(text).toMatch(/ -s lxc\.log\.syslog=daemon -l DEBUG$/m);
    expect(text).toContain('\nLogRateLimitBurst=5000\n');
    expect(dropIn({})).not.toContain('LogRateLimit');
  });

  test('the guest has a socket of its own to say that it has booted, not the host’s', () => {
    const text = dropIn({ settings: { ready: 'booted' } });
    // The directory has no backslash of the instance.
    expect(text).toContain(
      '"lxc.mount.entry=/run/lockerd/containers/my=x20web/notify run/host/notify none bind,',
    );
    expect(text).toContain('\nEnvironment=LOCKERD_READY=booted\n');
    expect(text).not.toContain('/run/systemd');
  });
});

test('each thing has its place', () => {
  const web = container('web', {
    autostart: true,
    groups: ['webs'],
    startDelaySec: 5,
    bridges: ['br0'],
  });
  expect([...plan([web], { initScripts: ['web', 'gone'] }).keys()].sort()).toEqual([
    'lockerd-rescan.service.d/60-paths.conf',
    'lockerd.service.d/60-host.conf',
    'lxc-autostart.target.wants/lxc@web.service',
    'lxc-delay@web.service.d/60-container.conf',
    'lxc-group@webs.target.d/60-members.conf',
    'lxc.web.service',
    'lxc@web.service.d/60-container.conf',
    'multi-user.target.wants/lockerd-rescan.service',
    'multi-user.target.wants/lxc@web.service',
    'sys-subsystem-net-devices-br0.device.d/60-lockerd.conf',
  ]);
});

describe('a container with problems', () => {
  const broken = (count: number) =>
    container('web', {
      problems: Array.from({ length: count }, (_, index) => ({
        file: '/c',
        line: index + 1,
        reason: 'is\nwrong',
        remedy: 'mend it',
      })),
      devices: ['/dev/absent'],
      mayComeLate: true,
      wants: ['absent.service'],
      requiredPaths: ['/absent'],
      startsAfter: ['lxc@mail.service'],
      startDelaySec: 9,
      bridges: ['br0'],
      autostart: true,
    });

  test('refuses at once: it waits for nothing and says what is wrong', () => {
    const files = plan([broken(1)]);
    const text = files.get('lxc@web.service.d/60-container.conf');
    expect(text).toContain(
      'ExecStartPre=/usr/lib/lockerd/hooks/refuse-start "/c:1: is?wrong; mend it"\n',
    );
    expect(text).not.toMatch(/absent|Requires|Wants|After|OnFailure/);
    expect([...files.keys()].join()).not.toMatch(/delay|br0/);
    expect(files.has('multi-user.target.wants/lxc@web.service')).toBe(true);
  });

  test('says the first ten and counts the others', () => {
    const text = plan([broken(14)]).get('lxc@web.service.d/60-container.conf') ?? '';
    const command = /^ExecStartPre=(.*)$/m.exec(text)?.[1] ?? '';
    expect(command.match(/"\/c:/g)).toHaveLength(10);
    expect(command).toMatch(/ "and 4 more"$/);
  });
});

describe('no value of a configuration', () => {
  const awkward = fc.oneof(
    fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }),
    fc.constantFrom(
      '%n',
      '$(x)',
      '" ; "',
      '\\',
      'a\\',
      ' a ',
      '../x',
      '..',
      '-',
      '[Service]',
      'a=b',
    ),
  );
  // What the model lets through: see nameProblem(), groupFits() and needNetwork().
  const clean = awkward.filter((text) => fitsUnitFile(text) && !text.includes('\ufffd'));
  const part = clean.filter((text) => !text.includes('/'));
  const anyContainer = fc
    .record({
      name: part,
      file: clean,
      path: clean,
      group: clean,
      link: part.filter((text) => !/\s/.test(text)),
      reason: awkward,
      isBroken: fc.boolean(),
      logLevel: fc.constantFrom(undefined, 'DEBUG'),
      locker: part.filter((text) => fitsRestOfLine(`/${text}`)),
      hole: clean.filter((text) => fitsRestOfLine(`/${text}`)),
    })
    .map(({ name, path, group, link, reason, isBroken, logLevel, locker, hole }) =>
      container(name, {
        configFile: `/var/lib/lxc/${name}/config`,
        requiredPaths: [`/${path}`],
        groups: [group],
        bridges: [link],
        autostart: true,
        startDelaySec: 1,
        problems: isBroken ? [{ file: `/${path}`, line: 1, reason, remedy: reason }] : [],
        wormhole: {
          path: `/${hole}`,
          slots: `/run/${hole}`,
          insidePath: `/${path}`,
          attachments: [
            {
              locker,
              source: `/lockers/${locker}`,
              target: `/${hole}/${locker}`,
              readOnly: isBroken,
              readOnlyOnHost: false,
              strict: !isBroken,
            },
          ],
        },
        settings: { ready: 'running', ...(logLevel === undefined ? {} : { logLevel }) },
      }),
    );
  const keys = [
    ...['#', '[Unit]', '[Service]', '[X-Lockerd]', 'SourcePath', 'RequiresMountsFor', 'Requires'],
    ...['Wants', 'After', 'BindsTo', 'PartOf', 'Environment', 'ExecStartPre', 'ExecStart'],
    ...[
      'ExecStop',
      'ExecStopPost',
      'RuntimeDirectory',
      'KillSignal',
      'SuccessExitStatus',
      'Container',
      'ConfigFile',
    ],
    ...['Autostart', 'Group', 'Problem', 'JobRunningTimeoutSec', 'Description', 'Type'],
    ...['Documentation', 'DefaultDependencies', 'Conflicts', 'Before', 'StopWhenUnneeded'],
    ...['[Mount]', 'What', 'Where', 'Options', 'PropagatesStopTo'],
    ...['Wormhole', 'Locker', 'RebootSignal'],
    ...['LockerDirectory', 'WormholeDirectory', 'RootWithoutPolkit'],
    ...['RemainAfterExit', 'TimeoutSec', 'LogRateLimitBurst', ''],
  ];

  test('adds a line, a directive or a specifier, or leaves its place', () => {
    fc.assert(
      fc.property(anyContainer, (c) => {
        const files = plan([c], { initScripts: [c.name] });
        for (const [path, text] of files) {
          const parts = path.split('/');
          expect(parts.length).toBeLessThanOrEqual(2);
          expect(parts.some((each) => each === '..' || each === '.' || each === '')).toBe(false);
          expect(path).toMatch(/^[0-9A-Za-z:_.@\\/-]+$/);
          if (text.startsWith('-> ')) continue;
          // One expectation for all lines: a million of them would take half a minute.
          const bad = text.split('\n').filter((line) => {
            const [first = ''] = line.startsWith('[') ? [line] : line.split('=');
            if (!keys.includes(line.startsWith('#') ? '#' : first)) return true;
            if (/[\0-\x1f\x7f]|\\$/.test(line)) return true;
            return !line.startsWith('#') && line.replaceAll('%%', '').includes('%');
          });
          expect(bad).toEqual([]);
        }
      }),
      { numRuns: 500 },
    );
  }, 30_000);
});

test('the second look gets every path with what it was', () => {
  const watched = [
    { path: '/var/lib/lxc', identity: '64769:12' },
    { path: '/srv/a b', identity: '-' },
  ];
  const files = plan([], { watched: watched, watchedMounts: ['srv.mount'] });
  expect(files.get('lockerd-rescan.service.d/60-paths.conf')).toContain(
    '\n[Unit]\nAfter=srv.mount\n\n[Service]\nExecStart=\n' +
      'ExecStart=/usr/lib/lockerd/hooks/rescan 64769:12=/var/lib/lxc "-=/srv/a b"\n',
  );
});

describe('what lxc-start says at each start on cgroup v2', () => {
  const path = 'lxc@.service.d/60-journal.conf';
  const [, pattern = 'missing'] =
    /^LogFilterPatterns=~(.*)$/m.exec(plan([], { filtersLog: true }).get(path) ?? '') ?? [];

  test('is kept out of the journal by a systemd that can', () => {
    expect(plan([]).has(path)).toBe(false);
    const said =
      'lxc-start: my web: ../src/lxc/cgroups/cgfsng.c: __cgfsng_delegate_controllers: 3040 Device or ' +
      'resource busy - Could not enable "+cpuset +cpu +io +memory +pids" controllers in the unified ' +
      'cgroup 11';
    expect(said).toMatch(new RegExp(pattern));
  });

  test.each([
    // The same of the log file, in the words of container-gone: the container has failed.
    'cgfsng - ../src/lxc/cgroups/cgfsng.c:__cgfsng_delegate_controllers:3040 - Device or resource busy - Could not enable "+cpuset"',
    'lxc-start: web: ../src/lxc/cgroups/cgfsng.c: __cgfsng_delegate_controllers: 3040 No such file or directory - Could not enable "+cpuset +cpu"',
    'lxc-start: web: ../src/lxc/start.c: __lxc_start: 2288 Failed to spawn container "web"',
  ])('nothing else is: %s', (said) => {
    expect(said).not.toMatch(new RegExp(pattern));
  });
});

import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { shellWord } from '../../src/model/shell-quote.ts';
import { commandNames } from '../../src/cli/command-table.ts';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { LockerdOnFakes, never } from './lockerd-on-fakes.ts';
import { offers, shellNames, typed, type ShellPlace } from './shells.ts';
import { copyLockerctl } from './installed.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
const scripts = join(project, 'dist/completion');

/** Each begins with three letters that no other has. */
const oddNames = [
  'colon:x',
  "single's",
  'double "x"',
  'back\\slash',
  'dollar$x',
  'grave`x',
  'star*x?',
  'paren(x)',
  'semi;x&y',
  'hash #x',
  'two  blanks',
  'tilde~x',
  'wörter',
];

let bus: PrivateBus;
/** A bus without the service. */
let empty: PrivateBus;
let service: LockerdOnFakes;
let place: ShellPlace;

/** A directory in front of PATH with a program of this text as lockerctl. */
function withProgram(name: string, text: string): ShellPlace {
  const bin = join(bus.directory, name);
  mkdirSync(bin);
  writeFileSync(join(bin, 'lockerctl'), text);
  chmodSync(join(bin, 'lockerctl'), 0o755);
  const scratch = join(bin, 'scratch');
  mkdirSync(scratch);
  const path = `${bin}:${process.env['PATH'] ?? '/usr/bin:/bin'}`;
  const env = {
    PATH: path,
    DBUS_SYSTEM_BUS_ADDRESS: bus.address,
    LANG: 'C.UTF-8',
    HOME: scratch,
  };
  return { scripts, scratch, env };
}

beforeAll(async () => {
  expect(existsSync(join(scripts, 'lockerctl')), 'run first: npm run build').toBe(true);
  bus = await startPrivateBus();
  empty = await startPrivateBus();
  copyLockerctl(join(bus.directory, 'program'));
  place = withProgram('bin', `#!/bin/sh\nexec ${process.execPath} ${bus.directory}/program "$@"\n`);
  service = new LockerdOnFakes(bus.address);
  await service.start();
  await service.defineLockers({ web_vol: '/dev/vg0/web', sandbox: 'tmpfs', data: '/dev/vg0/data' });
  await service.define({
    web: { state: 'running' },
    db: {},
    mail: { state: 'frozen' },
    'my web': { state: 'running' },
    '-dash': { state: 'running' },
  });
  const none = { size: undefined, free: undefined, maxSize: undefined, problem: '', forgotten: [] };
  service.outside.stores = ['slow', 'fast'].map((name) => ({
    ...{ ...none, name, type: 'lvm', fileSystem: 'ext4', isDefault: false },
  }));
  service.outside.snapshots['data'] = ['before', 'after'].map((name) => ({
    ...{ name, createdUsec: undefined, size: undefined, used: undefined },
  }));
  // A job that does not end, for "cancel".
  service.work = ({ verb }) => (verb === 'thaw' ? never() : undefined);
  await promisify(execFile)('lockerctl', ['thaw', '--no-block', 'mail'], { env: place.env });
});

afterAll(async () => {
  service.stop();
  await bus.close();
  await empty.close();
});

const listOptions = ['--columns', '--state', '--wide'];
const jobOptions = ['--no-ask-password', '--no-block', '--no-progress', '--timeout'];
const generalOptions = [
  ...['--help', '--host', '--json', '--no-legend', '--no-pager', '--quiet', '--version'],
];
const states = [
  ...['stopped', 'waiting', 'unmet', 'starting', 'running', 'freezing', 'frozen', 'stopping'],
  ...['failed', 'broken', 'unknown'],
];

const lines: readonly (readonly [line: string, words: readonly string[]])[] = [
  ['lockerctl ', commandNames],
  ['lockerctl st', ['status', 'start', 'stop', 'stores']],
  ['lockerctl --quiet st', ['status', 'start', 'stop', 'stores']],
  ['lockerctl help ', commandNames],
  ['lockerctl help st', ['status', 'start', 'stop', 'stores']],
  ['lockerctl --', [...generalOptions, ...listOptions]],
  ['lockerctl --js', ['--json']],
  ['lockerctl --json=', ['pretty', 'short', 'off']],
  ['lockerctl list --', [...generalOptions, ...listOptions]],
  ['lockerctl list --columns=ad', ['addresses']],
  ['lockerctl list --columns=os,u', ['unprivileged', 'uptime']],
  ['lockerctl enable ', ['db', 'mail', 'my web', 'web']],
  ['lockerctl disable db ', ['mail', 'my web', 'web']],
  ['lockerctl list --state=', states],
  ['lockerctl list --state=fr', ['freezing', 'frozen']],
  ['lockerctl list --state ru', ['running']],
  ['lockerctl list --state=running,fr', ['freezing', 'frozen']],
  ['lockerctl list --state=freezing,fr', ['frozen']],
  ['lockerctl list ', []],
  ['lockerctl status ', ['db', 'mail', 'my web', 'web']],
  ['lockerctl status --', generalOptions],
  ['lockerctl start ', ['db']],
  ['lockerctl start --', [...generalOptions, ...jobOptions]],
  ['lockerctl start --fo', []],
  ['lockerctl stop ', ['mail', 'my web', 'web']],
  ['lockerctl stop web ', ['mail', 'my web']],
  ['lockerctl stop w', ['web']],
  ['lockerctl stop -- ', ['-dash', 'mail', 'my web', 'web']],
  ['lockerctl stop --', [...generalOptions, ...jobOptions, '--force']],
  ['lockerctl restart ', ['mail', 'my web', 'web']],
  ['lockerctl restart --fo', ['--force']],
  ['lockerctl reboot ', ['my web', 'web']],
  ['lockerctl reboot --fo', ['--force']],
  ['lockerctl freeze ', ['my web', 'web']],
  ['lockerctl freeze --', [...generalOptions, ...jobOptions]],
  ['lockerctl -q thaw ', ['mail']],
  ['lockerctl thaw --', [...generalOptions, ...jobOptions]],
  ['lockerctl balloon ', ['db', 'mail', 'my web', 'web']],
  ['lockerctl balloon --swap 1G ', ['db', 'mail', 'my web', 'web']],
  ['lockerctl balloon web ', []],
  [
    'lockerctl balloon web --',
    [...generalOptions, ...jobOptions, '--force', '--persist', '--swap'],
  ],
  ['lockerctl attach ', ['mail', 'my web', 'web']],
  ['lockerctl attach web ', ['data', 'sandbox', 'web_vol']],
  ['lockerctl attach web web_', ['web_vol']],
  ['lockerctl attach web data ', []],
  ['lockerctl attach --', [...generalOptions, ...jobOptions, '--persist', '--read-only']],
  ['lockerctl detach web s', ['sandbox']],
  ['lockerctl detach --', [...generalOptions, ...jobOptions, '--force', '--persist']],
  ['lockerctl lockers ', []],
  ['lockerctl lockers --', [...generalOptions, '--wide']],
  ['lockerctl create-locker ', []],
  ['lockerctl create-locker new ', []],
  [
    'lockerctl create-locker --',
    [...generalOptions, ...jobOptions, '--encrypt', '--for', '--mode', '--owner', '--store'],
  ],
  ['lockerctl create-locker --store=', ['fast', 'slow']],
  ['lockerctl create-locker --store f', ['fast']],
  ['lockerctl create-locker --for=', ['db', 'mail', 'my web', 'web']],
  ['lockerctl create-locker --encrypt=', ['key-file', 'passphrase']],
  ['lockerctl grow-locker ', ['data', 'sandbox', 'web_vol']],
  ['lockerctl grow-locker data ', []],
  ['lockerctl rename-locker d', ['data']],
  ['lockerctl rename-locker data ', []],
  ['lockerctl snapshot-locker s', ['sandbox']],
  ['lockerctl snapshot-locker --fr', ['--freeze']],
  ['lockerctl snapshots ', ['data', 'sandbox', 'web_vol']],
  ['lockerctl restore-locker ', ['data', 'sandbox', 'web_vol']],
  ['lockerctl restore-locker data ', ['after', 'before']],
  ['lockerctl restore-locker sandbox ', []],
  ['lockerctl restore-locker data before ', []],
  ['lockerctl forget-locker w', ['web_vol']],
  ['lockerctl destroy-locker d', ['data']],
  // What is to be typed twice is not completed.
  ['lockerctl destroy-locker data ', []],
  ['lockerctl destroy-locker --', [...generalOptions, '--snapshot', '--store', '--yes']],
  ['lockerctl stores ', []],
  ['lockerctl stores --', generalOptions],
  ['lockerctl jobs ', []],
  ['lockerctl jobs --', generalOptions],
  ['lockerctl cancel ', ['1']],
  ['lockerctl cancel --', [...generalOptions, '--no-ask-password']],
  ['lockerctl console ', ['my web', 'web']],
  ['lockerctl console web ', []],
  ['lockerctl console --', generalOptions],
  ['lockerctl shell ', ['my web', 'web']],
  ['lockerctl shell --', generalOptions],
  ['lockerctl shell web -- l', []],
  ['lockerctl shell web -- --', []],
  ['lockerctl monitor ', []],
  ['lockerctl monitor --', generalOptions],
  ['lockerctl check w', ['web']],
  ['lockerctl check --', generalOptions],
  ['lockerctl diff ', ['db', 'mail', 'my web', 'web']],
  ['lockerctl diff --', generalOptions],
  ['lockerctl explain ', ['db', 'mail', 'my web', 'web']],
  ['lockerctl explain web ', []],
  ['lockerctl explain --', generalOptions],
  ['lockerctl import ', ['db', 'mail', 'my web', 'web']],
  ['lockerctl import --', [...generalOptions, '--apply']],
  ['lockerctl permissions ', ['db', 'mail', 'my web', 'web']],
  ['lockerctl permissions web ', []],
  ['lockerctl permissions --', generalOptions],
  ['lockerctl frobnicate ', []],
  // Names of another host would take a login.
  ['lockerctl -H other start ', []],
  ['lockerctl --host=other stop ', []],
];

describe.each(shellNames)('%s', (shell) => {
  test('offers commands, options, and names in states that they are for', async () => {
    const { words, said } = await offers(
      shell,
      place,
      lines.map(([line]) => line),
    );
    const expected = lines.map(([line, list]) => [line, [...list].sort()]);
    expect(words).toEqual(Object.fromEntries(expected));
    if (shell !== 'zsh') expect(said).toBe('');
  });

  test('a typed line with odd names becomes those names', async () => {
    const record = join(bus.directory, `record-${shell}`);
    const recorder = withProgram(
      `recording-${shell}`,
      `#!/bin/sh
      case $1 in
        --quiet) printf '%s\\n' ${[...oddNames, 'web', 'my web'].map(shellWord).join(' ')} ;;
        *) printf '%s\\n' "$@" '' >> '${record}' ;;
      esac
      `,
    );
    const cases: (readonly [line: string, words: readonly string[]])[] = [
      ...oddNames.map(
        (name) => [`lockerctl status ${name.slice(0, 3)}\t`, ['status', name]] as const,
      ),
      ['lockerctl status colon:\t', ['status', 'colon:x']],
      ['lockerctl status my\\ w\t', ['status', 'my web']],
      ["lockerctl status 'my w\t", ['status', 'my web']],
      ['lockerctl status "dou\t', ['status', 'double "x"']],
      ['lockerctl status "dol\t', ['status', 'dollar$x']],
      ["lockerctl status 'sin\t", ['status', "single's"]],
      ['lockerctl status we\t my\\ web do\t', ['status', 'web', 'my web', 'do']],
      ['lockerctl list --js\t --state=run\t', ['list', '--json', '--state=running']],
    ];
    const runs = await typed(
      shell,
      recorder,
      cases.map(([line]) => line),
      record,
    );
    expect(runs).toEqual(cases.map(([, words]) => words));
  });

  test('offers nothing and says nothing without a service', async () => {
    const env = { ...place.env, DBUS_SYSTEM_BUS_ADDRESS: empty.address };
    const asked = ['lockerctl start ', 'lockerctl attach web '];
    const { words, said } = await offers(shell, { ...place, env }, asked);
    expect(words).toEqual(Object.fromEntries(asked.map((line) => [line, []])));
    expect(said).not.toMatch(/lockerctl:|error/i);
  });

  test('gives up a service that does not answer', async () => {
    const hung = withProgram(`hung-${shell}`, '#!/bin/sh\nexec sleep 60\n');
    const start = Date.now();
    const { words } = await offers(shell, hung, ['lockerctl start ']);
    expect(words).toEqual({ 'lockerctl start ': [] });
    expect(Date.now() - start).toBeLessThan(30_000);
  });
});

test('the script for bash pleases shellcheck', () => {
  const options = { encoding: 'utf8' } as const;
  expect(execFileSync('shellcheck', [join(scripts, 'lockerctl')], options)).toBe('');
});

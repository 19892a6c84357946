import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import {
  commandSpecs,
  containerStates,
  helpText,
  optionNames,
  parseArguments,
  type Invocation,
} from '../../src/cli/arguments.ts';
import { DBusError } from '../../src/bus/values.ts';
import { localCommand, remoteCommand } from '../../src/cli/enter.ts';
import { asCommandError, UsageError } from '../../src/cli/exit.ts';
import { sshArguments } from '../../src/cli/remote.ts';
import { readTraits } from '../../src/cli/terminal.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));

function parse(...args: string[]): Invocation {
  const invocation = parseArguments(args);
  if (typeof invocation === 'string') throw new Error(invocation);
  return invocation;
}

describe('arguments', () => {
  test('without a command containers are listed', () => {
    expect(parse()).toMatchObject({ command: 'list', operands: [], json: false, legend: true });
    expect(parse('--json')).toMatchObject({ command: 'list', json: true });
  });

  test('options may stand anywhere', () => {
    const expected = { command: 'stop', operands: ['web', 'db'], force: true, block: false };
    expect(parse('--no-block', 'stop', 'web', '--force', 'db')).toMatchObject(expected);
  });

  test('a size that begins with "-" is no option', () => {
    expect(parse('balloon', 'web', '-25%').operands).toEqual(['web', '-25%']);
    expect(parse('balloon', '--force', 'web', '-512M').operands).toEqual(['web', '-512M']);
  });

  test('a name that begins with "-" stands behind "--"', () => {
    expect(parse('start', '--', '-web', '--force').operands).toEqual(['-web', '--force']);
  });

  test('a command in a container keeps its own options', () => {
    const invocation = parse('shell', '-q', 'web', '--', 'ls', '-l', '--', '--json', '-5');
    expect(invocation).toMatchObject({ operands: ['web'], quiet: true, json: false });
    expect(invocation.program).toEqual(['ls', '-l', '--', '--json', '-5']);
  });

  test('values of options', () => {
    const invocation = parse('-H', 'root@db:2222', 'list', '--timeout=1min 30s', '--state=running');
    expect(invocation).toMatchObject({
      host: 'root@db:2222',
      timeoutUsec: 90_000_000n,
      states: ['running'],
    });
    expect(parse('-Hdb', 'list', '--timeout', 'infinity').timeoutUsec).toBeUndefined();
  });

  test('help and version come before any fault', () => {
    expect(parseArguments(['start', '--help'])).toBe('help');
    expect(parseArguments(['-h'])).toBe('help');
    expect(parseArguments(['frobnicate', '--version'])).toBe('version');
  });

  test.each([
    [['frobnicate'], 'unknown command "frobnicate"'],
    [['constructor'], 'unknown command "constructor"'],
    [['list', '--frobnicate'], 'unknown option "--frobnicate"'],
    [['list', '-x'], 'unknown option "-x"'],
    [['list', '--constructor'], 'unknown option "--constructor"'],
    [['list', 'web'], '"list" has one argument too many: "web"'],
    [['start'], '"start" needs NAME...'],
    [['balloon', 'web'], '"balloon" needs NAME SIZE'],
    [['attach', 'web', 'data', 'more'], '"attach" has one argument too many: "more"'],
    [['start', 'web', '--force'], '"start" has no option --force'],
    [['detach', 'web', 'data', '--read-only'], '"detach" has no option --read-only'],
    [['stop', 'web', '--persist'], '"stop" has no option --persist'],
    [['list', '--json=yes'], 'option --json takes no value'],
    [['list', '--state'], 'option --state needs a value'],
    [['list', '--state=tired'], /^"tired" is not a state: --state= takes stopped, /],
    [
      ['list', '--timeout=soon'],
      '"soon" is not a time span: write --timeout=30s, 5min or infinity',
    ],
    [['list', '--timeout=0'], /is not a time span/],
    [['list', '-H', ''], '"" is not a host'],
    [['list', '--host=-oProxyCommand=x'], '"-oProxyCommand=x" is not a host'],
  ])('%j is wrong', (args, message) => {
    expect(() => parseArguments(args)).toThrow(UsageError);
    expect(() => parseArguments(args)).toThrow(message);
    try {
      parseArguments(args);
    } catch (error) {
      expect(asCommandError(error).status).toBe(2);
    }
  });
});

describe('what describes the arguments', () => {
  const page = readFileSync(`${project}/src/man/lockerctl.1`, 'utf8');
  const completion = readFileSync(`${project}/src/cli/completion/lockerctl`, 'utf8');
  const names = Object.keys(commandSpecs);

  test('the help has each command and option, and fits 80 columns', () => {
    for (const name of names) expect(helpText()).toMatch(new RegExp(`^  ${name} `, 'm'));
    for (const name of optionNames) expect(helpText()).toContain(` --${name}`);
    for (const line of helpText().split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  test('lockerctl(1) has each command and option, and no other', () => {
    const commands = [...page.matchAll(/^\.It Cm (.*)$/gm)].flatMap(([, line = '']) =>
      line.split(' , Cm ').map((part) => part.split(' ')[0]),
    );
    expect(commands.sort()).toEqual([...names].sort());
    const described = page.slice(page.indexOf('.Ss Options'), page.indexOf('.Sh ENVIRONMENT'));
    const options = [...described.matchAll(/^\.It .*/gm)].flatMap(([line]) =>
      [...line.matchAll(/Fl -([a-z-]+)/g)].map(([, name]) => name),
    );
    expect(options.sort()).toEqual([...optionNames].sort());
  });

  test('the completion has each command, option and state', () => {
    const list = (name: string): string[] =>
      new RegExp(`local (?:-r )?${name}='([^']*)'`).exec(completion)?.[1]?.split(/\s+/) ?? [];
    expect(list('commands').sort()).toEqual([...names].sort());
    expect(list('states').sort()).toEqual([...containerStates].sort());
    for (const name of optionNames) expect(completion).toContain(`--${name}`);
  });
});

describe('exit statuses', () => {
  test.each([
    ['org.freedesktop.DBus.Error.AccessDenied', 4],
    ['org.freedesktop.DBus.Error.InteractiveAuthorizationRequired', 4],
    ['org.freedesktop.DBus.Error.InvalidArgs', 2],
    ['org.freedesktop.DBus.Error.Spawn.ChildExited', 1],
    ['org.lockerd1.Error.AuthorizationDismissed', 4],
    ['org.lockerd1.Error.AuthorityUnavailable', 4],
    ['org.lockerd1.Error.NoSuchContainer', 5],
    ['org.lockerd1.Error.NoSuchLocker', 5],
    ['org.lockerd1.Error.LockerBusy', 1],
    ['org.lockerd1.Error.StartsLater', 7],
    ['org.example.Unheard', 1],
    ['constructor', 1],
    // dbus-broker does not say which service.
    ['org.freedesktop.DBus.Error.ServiceUnknown', 1, 'the bus has no service org.lockerd1'],
  ])('%s', (name, status, message = 'text') => {
    expect(asCommandError(new DBusError(name, 'text'))).toMatchObject({ message, status });
  });

  test('an error without a text is called by its name', () => {
    expect(asCommandError(new DBusError('org.example.Silent', '')).message).toBe(
      'org.example.Silent',
    );
  });
});

describe('programs of others', () => {
  test('a shell gets its container and a clean environment', () => {
    expect(localCommand(parse('shell', 'web'))).toEqual([
      'lxc-attach',
      '-n',
      'web',
      '--clear-env',
      '--keep-var=TERM',
    ]);
    expect(localCommand(parse('shell', 'web', '--', 'ls', '-l')).slice(-3)).toEqual([
      '--',
      'ls',
      '-l',
    ]);
    expect(localCommand(parse('console', 'web'))).toEqual(['lxc-console', '-n', 'web']);
  });

  test('on another host every word is quoted for the shell there', () => {
    const invocation = parse('shell', 'my web', '--', 'sh', '-c', "echo 'hi' $HOME");
    expect(remoteCommand(invocation, 'db')).toEqual([
      'ssh',
      '-xt',
      '--',
      'db',
      `lockerctl shell 'my web' -- sh -c 'echo '\\''hi'\\'' $HOME'`,
    ]);
  });

  test('"check" takes its options along to another host', () => {
    const words = remoteCommand(parse('check', '--json', '--no-legend', 'my web'), 'db');
    expect(words.at(-1)).toBe("lockerctl check --json --no-legend 'my web'");
    expect(remoteCommand(parse('check', '-q', '--', '-web'), 'db').at(-1)).toBe(
      'lockerctl check --quiet -- -web',
    );
  });

  test.each([
    ['db', ['-xT', '--', 'db']],
    ['root@db', ['-xT', '--', 'root@db']],
    ['root@db:2222', ['-xT', '-p', '2222', '--', 'root@db']],
  ])('ssh to %s', (host, args) => {
    expect(sshArguments(host, 'pipe')).toEqual(args);
  });
});

describe('terminals', () => {
  const tty = (columns: number): never => ({ isTTY: true, columns }) as never;
  const pipe = {} as never;
  const traits = (stdout: never, stderr: never, environment: NodeJS.ProcessEnv) =>
    readTraits({ stdin: tty(80), stdout, stderr }, environment);

  test('a pipe has no width, no colour and no progress', () => {
    expect(traits(pipe, pipe, { TERM: 'xterm', COLUMNS: '40' })).toMatchObject({
      columns: undefined,
      progressColumns: undefined,
      colour: false,
    });
  });

  test('a terminal has its own width, COLUMNS, or 80', () => {
    expect(traits(tty(132), tty(132), { TERM: 'xterm' }).columns).toBe(132);
    expect(traits(tty(132), tty(132), { TERM: 'xterm', COLUMNS: '60' }).columns).toBe(60);
    expect(traits(tty(0), tty(0), { TERM: 'xterm' }).columns).toBe(80);
  });

  test.each([
    [{ TERM: 'xterm' }, true],
    [{ TERM: 'xterm', NO_COLOR: '' }, true],
    [{ TERM: 'xterm', NO_COLOR: '1' }, false],
    [{ TERM: 'dumb' }, false],
    [{}, false],
  ])('colour with %j: %s', (environment, colour) => {
    expect(traits(tty(80), tty(80), environment).colour).toBe(colour);
  });

  test.each([
    [{ LANG: 'de_DE.UTF-8' }, true],
    [{ LANG: 'C.utf8' }, true],
    [{ LANG: 'en_US.UTF-8', LC_ALL: 'C' }, false],
    [{}, false],
  ])('UTF-8 with %j: %s', (environment, utf8) => {
    expect(traits(tty(80), tty(80), environment).utf8).toBe(utf8);
  });
});

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parseArguments, type Information, type Invocation } from '../../src/cli/arguments.ts';
import {
  commandNames,
  commandSpec,
  usualStatuses,
  type CommandName,
} from '../../src/cli/command-table.ts';
import type { Operand } from '../../src/cli/operands.ts';
import { DBusError } from '../../src/bus/values.ts';
import { localCommand, remoteCommand } from '../../src/cli/enter.ts';
import { asCommandError, exitStatus, UsageError } from '../../src/cli/exit.ts';
import { helpLines } from '../../src/cli/help.ts';
import { containerStates, optionNames, optionSpec } from '../../src/cli/option-table.ts';
import { sshArguments } from '../../src/cli/remote.ts';
import { didYouMean } from '../../src/cli/suggest.ts';
import { readTraits } from '../../src/cli/terminal.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));

const pipe = { outputIsTerminal: false };
const terminal = { outputIsTerminal: true };

function parse(...args: string[]): Invocation {
  const invocation = parseArguments(args, pipe);
  if ('show' in invocation) throw new Error(invocation.show);
  return invocation;
}

function hintOf(...args: string[]): string | undefined {
  try {
    parseArguments(args, pipe);
  } catch (error) {
    return asCommandError(error).hint;
  }
  throw new Error(`"${args.join(' ')}" is right`);
}

describe('arguments', () => {
  test('without a command containers are listed', () => {
    expect(parse()).toMatchObject({ command: 'list', operands: [], legend: true });
    expect(parse().json).toBeUndefined();
    expect(parse('--json')).toMatchObject({ command: 'list', json: 'short' });
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
    expect(invocation).toMatchObject({ operands: ['web'], quiet: true });
    expect(invocation.json).toBeUndefined();
    expect(invocation.program).toEqual(['ls', '-l', '--', '--json', '-5']);
  });

  test('values of options', () => {
    expect(parse('-H', 'a,root@b:2222,a', 'jobs').hosts).toEqual(['a', 'root@b:2222']);
    const invocation = parse('-H', 'root@db:2222', 'list', '--timeout=1min 30s', '--state=running');
    expect(invocation).toMatchObject({
      host: 'root@db:2222',
      timeoutUsec: 90_000_000n,
      states: ['running'],
    });
    expect(parse('-Hdb', 'list', '--timeout', 'infinity').timeoutUsec).toBeUndefined();
  });

  test.each<[string[], Information]>([
    [['-h'], { show: 'help', about: undefined }],
    [['help'], { show: 'help', about: undefined }],
    [['help', '--help'], { show: 'help', about: undefined }],
    [['start', '--help'], { show: 'help', about: 'start' }],
    [['--help', 'start', '--timeout=soon'], { show: 'help', about: 'start' }],
    [['help', 'start'], { show: 'help', about: 'start' }],
    [['shell', 'web', '-h', '--', 'ls'], { show: 'help', about: 'shell' }],
    [['frobnicate', '--version'], { show: 'version' }],
  ])('%j tells, whatever else is wrong', (args, information) => {
    expect(parseArguments(args, pipe)).toEqual(information);
  });

  test.each([
    [['-j', 'list'], 'short', 'pretty'],
    [['list', '-j'], 'short', 'pretty'],
    [['list', '--json'], 'short', 'pretty'],
    [['--json=short', 'list'], 'short', 'short'],
    [['list', '--json=pretty'], 'pretty', 'pretty'],
    [['-j', 'list', '--json=off'], undefined, undefined],
    [['-qj'], 'short', 'pretty'],
  ])('%j is JSON as busctl has it', (args, inPipe, onTerminal) => {
    expect(parseArguments(args, pipe)).toHaveProperty('json', inPipe);
    expect(parseArguments(args, terminal)).toHaveProperty('json', onTerminal);
  });

  test('what does no harm is accepted by every command', () => {
    for (const command of commandNames.filter((name) => name !== 'help')) {
      const operands = {
        attach: ['a', 'b'],
        balloon: ['a', '1G'],
        detach: ['a', 'b'],
        set: ['a', 'tasks=50'],
      };
      const needed = commandSpec(command).operands.filter(
        ({ count }) => count !== 'any' && count !== 'optional',
      );
      const own = Object.hasOwn(operands, command)
        ? operands[command as keyof typeof operands]
        : needed.map(() => '1');
      expect(parse(command, '--no-pager', '--no-legend', '--no-block', ...own)).toMatchObject({
        command,
        legend: false,
        block: false,
      });
    }
  });

  test.each([
    [['strat', 'web'], 'Did you mean "start"? See "lockerctl --help" or lockerctl(1).'],
    [['st'], 'Did you mean "status", "start" or "stop"? See "lockerctl --help" or lockerctl(1).'],
    [['help', 'chek'], 'Did you mean "check"? See "lockerctl --help" or lockerctl(1).'],
    [['--jsn'], 'Did you mean "--json"? See "lockerctl --help" or lockerctl(1).'],
    [
      ['stop', 'web', '--froce'],
      'Did you mean "--force"? See "lockerctl stop --help" or lockerctl(1).',
    ],
    [
      ['list', '--state=running,forzen'],
      'Did you mean "frozen"? See "lockerctl list --help" or lockerctl(1).',
    ],
    [['list', '--json=prety'], 'Did you mean "pretty"? See "lockerctl --help" or lockerctl(1).'],
    [['frobnicate'], 'See "lockerctl --help" or lockerctl(1).'],
    [['balloon', 'web'], 'See "lockerctl balloon --help" or lockerctl(1).'],
  ])('%j gets advice', (args, hint) => {
    expect(hintOf(...args)).toBe(hint);
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
    [['list', '--json=yes'], '"yes" is no kind of JSON: --json= takes pretty, short, off'],
    [['list', '--json='], /^"" is no kind of JSON/],
    [['list', '--quiet=yes'], 'option --quiet takes no value'],
    [['help', 'frobnicate'], 'unknown command "frobnicate"'],
    [['frobnicate', '--help'], 'unknown command "frobnicate"'],
    [['help', '--force'], '"help" has no option --force'],
    [['list', '--state'], 'option --state needs a value'],
    [['list', '--state=tired'], /^"tired" is not a state: --state= takes stopped, /],
    [
      ['list', '--timeout=soon'],
      '"soon" is not a time span: write --timeout=30s, 5min or infinity',
    ],
    [['list', '--timeout=0'], /is not a time span/],
    [['list', '-H', ''], '"" is not a host'],
    [['list', '--host=-oProxyCommand=x'], '"-oProxyCommand=x" is not a host'],
    [['list', '--host=a,-oProxyCommand=x'], '"-oProxyCommand=x" is not a host'],
    [['list', '--host=a,,b'], '"" is not a host'],
    [['start', 'web', '-H', 'a,b'], '"start" works on one host at a time'],
  ])('%j is wrong', (args, message) => {
    expect(() => parseArguments(args, pipe)).toThrow(UsageError);
    expect(() => parseArguments(args, pipe)).toThrow(message);
    try {
      parseArguments(args, pipe);
    } catch (error) {
      expect(asCommandError(error).status).toBe(2);
    }
  });
});

describe('didYouMean', () => {
  const names = ['web', 'web2', 'mail', 'database', 'Müller', '-dash'];
  test.each([
    ['wbe', 'Did you mean "web"?'],
    ['WEB', 'Did you mean "web"?'],
    ['wep2', 'Did you mean "web2"?'],
    ['we', 'Did you mean "web" or "web2"?'],
    ['datbase', 'Did you mean "database"?'],
    ['dtaabsae', 'Did you mean "database"?'],
    ['müler', 'Did you mean "Müller"?'],
    ['dash', 'Did you mean "-dash"?'],
    ['x', undefined],
    ['', undefined],
    ['printer', undefined],
    ['w'.repeat(100_000), undefined],
  ])('%j', (word, said) => {
    expect(didYouMean(word, names)).toBe(said);
  });

  test('guesses nothing where there is nothing', () => {
    expect(didYouMean('web', [])).toBeUndefined();
  });
});

describe('the help', () => {
  const help = helpLines(undefined);

  test('has each command and option', () => {
    for (const name of commandNames) {
      expect(help.filter((line) => new RegExp(`^  ${name}( |$)`).test(line))).toHaveLength(1);
    }
    for (const name of optionNames) {
      expect(
        help.filter((line) => new RegExp(`^  .*--${name}(?![a-z-])`).test(line)).length,
      ).toBeGreaterThan(0);
    }
  });

  test('says which commands take an option that others refuse', () => {
    const text = help.join('\n').replaceAll(/\n {3,}/g, ' ');
    expect(text).toContain(
      '--force                stop, restart, reboot, balloon, detach: at once',
    );
    expect(text).toContain('--apply                import: make');
    expect(text).toContain('--quiet                Print errors only');
  });

  test.each(commandNames)('of "%s" has its options and examples that are right', (name) => {
    const lines = helpLines(name);
    const { options, examples } = commandSpec(name);
    expect(lines[0]).toMatch(new RegExp(`^lockerctl ${name} \\[OPTION\\.\\.\\.\\]`));
    const shown = lines.flatMap(
      (line) => /^ {2}(?:-\w, {1}| {4})--([a-z-]+)/.exec(line)?.[1] ?? [],
    );
    const general = optionNames.filter((option) => optionSpec(option).scope === 'every');
    expect(shown.sort()).toEqual([...Object.keys(options), ...general].sort());
    expect(examples.length).toBeGreaterThan(0);
    for (const example of examples) {
      const [words = ''] = example.split(' | ');
      const [program, ...args] = words.split(' ');
      expect(program).toBe('lockerctl');
      const asked = parseArguments(args, pipe);
      expect('show' in asked ? 'help' : asked.command).toBe(name);
    }
  });

  test('fits 80 columns, and nothing in it is more than text', () => {
    for (const about of [undefined, ...commandNames]) {
      for (const line of helpLines(about)) {
        expect(line.length).toBeLessThanOrEqual(80);
        expect(line).toMatch(/^[ -~]*$/);
        expect(line).toBe(line.trimEnd());
      }
    }
  });

  test('names exit statuses that the program has', () => {
    const known = new Set([...Object.values(exitStatus).map(String), '*']);
    for (const name of commandNames) {
      for (const [status] of commandSpec(name).statuses ?? usualStatuses) {
        expect(known).toContain(status);
      }
    }
  });
});

describe('lockerctl(1)', () => {
  const page = readFileSync(`${project}/src/man/lockerctl.1`, 'utf8');
  const described = page.slice(page.indexOf('.Ss Options'), page.indexOf('.Sh ENVIRONMENT'));

  /** The head of an item as the page has it: own options, operands, what follows "--". */
  function head(name: CommandName): string {
    const { operands, options, program } = commandSpec(name);
    const own = optionNames.filter(
      (option) => options[option] !== undefined && optionSpec(option).scope === 'own',
    );
    const shownOptions = own.map((option) => {
      const { value } = optionSpec(option);
      // --state has an item of its own below.
      const text = value === undefined ? '' : `= Ns Ar ${value.shown}`;
      const shown = value?.optional === true ? `Oo ${text} Oc` : text;
      return `Oo Fl -${option}${shown === '' ? '' : ` Ns ${shown}`} Oc`;
    });
    const repeated = operands.some(({ count }) => count === 'any' || count === 'some');
    const isNeeded = ({ count }: Operand) => count === 'one' || count === 'some';
    const namesOf = (some: readonly Operand[]) => some.map((operand) => operand.name).join(' ');
    const end = repeated ? ' ...' : '';
    const [needed, others] = [operands.filter(isNeeded), operands.filter((one) => !isNeeded(one))];
    const shownOperands = [
      ...(needed.length === 0 ? [] : [`Ar ${namesOf(needed)}${others.length === 0 ? end : ''}`]),
      ...(others.length === 0 ? [] : [`Op Ar ${namesOf(others)}${end}`]),
    ];
    const shownProgram = program ? ['Op Cm -- Ar COMMAND ...'] : [];
    return ['Cm', name, ...shownOptions, ...shownOperands, ...shownProgram].join(' ');
  }

  test('has each command with its options and operands, and no other', () => {
    const items = [...page.matchAll(/^\.It (Cm .*)$/gm)].flatMap(([, line = '']) =>
      line.split(' , '),
    );
    const expected = commandNames.map((name) => (name === 'list' ? 'Cm list' : head(name)));
    expect(items.sort()).toEqual(expected.sort());
  });

  test('has each option with its short form, and no other', () => {
    const items = [...described.matchAll(/^\.It Fl .*/gm)].flatMap(([line]) =>
      line.split(' , Fl '),
    );
    const letters = new Set(items.flatMap((text) => /^(?:\.It Fl )?(\w)$/.exec(text)?.[1] ?? []));
    const words = items.flatMap((text) => /^(?:\.It Fl )?-([a-z-]+)/.exec(text)?.[1] ?? []);
    expect(words.sort()).toEqual([...optionNames].sort());
    const short = optionNames.flatMap((name) => optionSpec(name).short ?? []);
    expect([...letters].sort()).toEqual(short.sort());
  });

  test('has each state, in the order of the table', () => {
    const text = described.slice(described.indexOf('.It Fl -state'));
    const states = [...text.slice(0, text.indexOf('\n.It ', 5)).matchAll(/^\.Ql ([a-z]+)/gm)];
    expect(states.map(([, state]) => state).slice(0, containerStates.length)).toEqual([
      ...containerStates,
    ]);
  });

  test('has each exit status, and no other', () => {
    const section = page.slice(page.indexOf('.Sh EXIT STATUS'), page.indexOf('.Sh EXAMPLES'));
    const statuses = [...section.matchAll(/^\.It (\d)$/gm)].map(([, status]) => status);
    expect(statuses).toEqual([...new Set(Object.values(exitStatus).map(String))].sort());
  });

  test.each(['3', '6', '7'])('says like the help which commands end with status %s', (status) => {
    const section = page.slice(page.indexOf('.Sh EXIT STATUS'), page.indexOf('.Sh EXAMPLES'));
    const [item = ''] = section.split(`.It ${status}\n`)[1]?.split(/\n\.(?:It|El)/) ?? [];
    // What "stop" does about it is said behind the colon.
    const [subject = ''] = item.split(' :\n');
    const named = [...subject.matchAll(/^\.Cm (\w+)/gm)].map(([, name]) => name);
    const helped = commandNames.filter((name) =>
      (commandSpec(name).statuses ?? usualStatuses).some(([known]) => known === status),
    );
    expect(named).toEqual(helped);
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
    expect(words.at(-1)).toBe("lockerctl check --json=short --no-legend 'my web'");
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
  const noTerminal = {} as never;
  const traits = (stdout: never, stderr: never, environment: NodeJS.ProcessEnv) =>
    readTraits({ stdin: tty(80), stdout, stderr }, environment);

  test('a pipe has no width, no colour and no progress', () => {
    expect(traits(noTerminal, noTerminal, { TERM: 'xterm', COLUMNS: '40' })).toMatchObject({
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

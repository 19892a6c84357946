/** The command line of lockerctl: commands, options, help. */

import { parseArgs } from 'node:util';
import { UsageError } from './exit.ts';
import { unlimited } from '../model/memory-limit.ts';
import { parseTimespan } from '../model/timespan.ts';
import { parseBytes } from './size.ts';

/** Options that some commands have; each names the commands' own use of it. */
type OwnOption = 'force' | 'persist' | 'read-only' | 'state' | 'swap';

interface CommandSpec {
  /** As the help shows them. */
  readonly operands: string;
  readonly least: number;
  readonly most: number;
  readonly options: readonly OwnOption[];
  readonly help: string;
}

const any = Number.POSITIVE_INFINITY;

/** Every command of lockerctl, in the order of the help. */
export const commandSpecs = {
  list: {
    operands: '',
    least: 0,
    most: 0,
    options: ['state'],
    help: 'List containers',
  },
  status: {
    operands: '[NAME...]',
    least: 0,
    most: any,
    options: [],
    help: 'Show state, lockers, jobs, problems of containers',
  },
  start: { operands: 'NAME...', least: 1, most: any, options: [], help: 'Start containers' },
  stop: {
    operands: 'NAME...',
    least: 1,
    most: any,
    options: ['force'],
    help: 'Shut containers down; with --force, kill them',
  },
  restart: {
    operands: 'NAME...',
    least: 1,
    most: any,
    options: ['force'],
    help: 'Stop containers, then start them',
  },
  reboot: {
    operands: 'NAME...',
    least: 1,
    most: any,
    options: ['force'],
    help: 'Have the guests reboot',
  },
  freeze: {
    operands: 'NAME...',
    least: 1,
    most: any,
    options: [],
    help: 'Freeze all processes of containers',
  },
  thaw: { operands: 'NAME...', least: 1, most: any, options: [], help: 'Let them run again' },
  balloon: {
    operands: 'NAME SIZE',
    least: 2,
    most: 2,
    options: ['force', 'persist', 'swap'],
    help: 'Change the memory limit: 2G, +512M, -25%, max',
  },
  attach: {
    operands: 'NAME LOCKER',
    least: 2,
    most: 2,
    options: ['read-only', 'persist'],
    help: 'Mount a locker in a running container',
  },
  detach: {
    operands: 'NAME LOCKER',
    least: 2,
    most: 2,
    options: ['force', 'persist'],
    help: 'Unmount a locker from a container',
  },
  lockers: { operands: '', least: 0, most: 0, options: [], help: 'List lockers' },
  jobs: { operands: '', least: 0, most: 0, options: [], help: 'List jobs' },
  cancel: { operands: 'JOB...', least: 1, most: any, options: [], help: 'Cancel jobs' },
  console: {
    operands: 'NAME',
    least: 1,
    most: 1,
    options: [],
    help: 'Log in on a console of a container (root only)',
  },
  shell: {
    operands: 'NAME [-- COMMAND...]',
    least: 1,
    most: 1,
    options: [],
    help: 'Run a shell or a command in a container (root only)',
  },
  monitor: { operands: '', least: 0, most: 0, options: [], help: 'Show changes as they happen' },
  check: {
    operands: '[NAME...]',
    least: 0,
    most: any,
    options: [],
    help: 'Look for what will go wrong, before it does',
  },
  permissions: {
    operands: '[NAME]',
    least: 0,
    most: 1,
    options: [],
    help: 'Show what you may do',
  },
} as const satisfies Record<string, CommandSpec>;

export type CommandName = keyof typeof commandSpecs;

/** A command with its operands and all options. */
export interface Invocation {
  readonly command: CommandName;
  readonly operands: readonly string[];
  /** What follows `--` of "shell". */
  readonly program: readonly string[];
  readonly force: boolean;
  readonly persist: boolean;
  readonly readOnly: boolean;
  /** The operand of --swap, bytes; undefined to leave the limit of swap as it is. */
  readonly swap: bigint | undefined;
  /** States to list; empty for all. */
  readonly states: readonly string[];
  readonly json: boolean;
  readonly askPassword: boolean;
  readonly progress: boolean;
  readonly legend: boolean;
  readonly block: boolean;
  readonly quiet: boolean;
  /** How long a job may take; undefined for as long as the service allows. */
  readonly timeoutUsec: bigint | undefined;
  /** `[USER@]HOST[:PORT]`; undefined for this host. */
  readonly host: string | undefined;
}

/** States of a container, as the service names them. */
export const containerStates = [
  'stopped',
  'waiting',
  'unmet',
  'starting',
  'running',
  'freezing',
  'frozen',
  'stopping',
  'failed',
  'broken',
  'unknown',
] as const;

const optionTypes = {
  force: { type: 'boolean' },
  persist: { type: 'boolean' },
  'read-only': { type: 'boolean' },
  state: { type: 'string' },
  swap: { type: 'string' },
  json: { type: 'boolean' },
  'no-ask-password': { type: 'boolean' },
  'no-progress': { type: 'boolean' },
  'no-legend': { type: 'boolean' },
  'no-block': { type: 'boolean' },
  timeout: { type: 'string' },
  quiet: { type: 'boolean', short: 'q' },
  host: { type: 'string', short: 'H' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const;

type OptionName = keyof typeof optionTypes;

/** Long names of all options, without the dashes. */
export const optionNames = Object.keys(optionTypes) as OptionName[];

/** `-25%` is no option. No argument of a process can hold NUL, so that none is mistaken. */
const hiddenDash = '\u0000';

function hideSizes(args: readonly string[]): string[] {
  return args.map((arg) => (/^-\d/.test(arg) ? hiddenDash + arg : arg));
}

function showSize(arg: string): string {
  return arg.startsWith(hiddenDash) ? arg.slice(1) : arg;
}

interface RawArguments {
  readonly positionals: readonly string[];
  readonly options: ReadonlyMap<OptionName, string | true>;
}

function readOptions(args: readonly string[]): RawArguments {
  const { tokens } = parseArgs({
    args: hideSizes(args),
    options: optionTypes,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const options = new Map<OptionName, string | true>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(showSize(token.value));
    if (token.kind !== 'option') continue;
    if (!Object.hasOwn(optionTypes, token.name)) {
      throw new UsageError(`unknown option "${token.rawName}"`);
    }
    const name = token.name as OptionName;
    const value = token.value === undefined ? undefined : showSize(token.value);
    if (optionTypes[name].type === 'boolean') {
      if (value !== undefined) throw new UsageError(`option --${name} takes no value`);
      options.set(name, true);
    } else {
      if (value === undefined) throw new UsageError(`option --${name} needs a value`);
      options.set(name, value);
    }
  }
  return { positionals, options };
}

function isCommand(name: string): name is CommandName {
  return Object.hasOwn(commandSpecs, name);
}

function parseTimeout(text: string): bigint | undefined {
  const usec = parseTimespan(text);
  if (usec === undefined || usec === 0n) {
    throw new UsageError(`"${text}" is not a time span: write --timeout=30s, 5min or infinity`);
  }
  return usec ?? undefined;
}

function parseSwap(text: string): bigint {
  const bytes = text === 'max' ? unlimited : parseBytes(text);
  if (bytes !== undefined) return bytes;
  throw new UsageError(
    `"${text}" is not a size of swap: write --swap=512M, --swap=0 or --swap=max`,
  );
}

function parseStates(text: string): string[] {
  const states = text.split(',').filter((state) => state !== '');
  for (const state of states) {
    if (!(containerStates as readonly string[]).includes(state)) {
      throw new UsageError(
        `"${state}" is not a state: --state= takes ${containerStates.join(', ')}`,
      );
    }
  }
  return states;
}

function checkHost(host: string): string {
  // ssh would take it for an option.
  if (host === '' || host.startsWith('-')) throw new UsageError(`"${host}" is not a host`);
  return host;
}

function checkOperands(command: CommandName, operands: readonly string[]): void {
  const spec: CommandSpec = commandSpecs[command];
  if (operands.length < spec.least) {
    throw new UsageError(`"${command}" needs ${spec.operands}`);
  }
  if (operands.length > spec.most) {
    const extra = operands[spec.most] ?? '';
    throw new UsageError(`"${command}" has one argument too many: "${extra}"`);
  }
}

/** Splits at the first `--`, where a command in the container begins. */
function splitProgram(args: readonly string[]): [readonly string[], readonly string[]] {
  const at = args.indexOf('--');
  return at < 0 ? [args, []] : [args.slice(0, at), args.slice(at + 1)];
}

/**
 * Reads the arguments of lockerctl; `help` and `version` stand for themselves.
 * @throws {UsageError}
 */
export function parseArguments(args: readonly string[]): Invocation | 'help' | 'version' {
  const [before, after] = splitProgram(args);
  // "--" ends the options of every command, but only those of "shell" take a program behind it.
  const hasProgram = readOptions(before).positionals[0] === 'shell';
  const { positionals, options } = readOptions(hasProgram ? before : args);
  if (options.has('help')) return 'help';
  if (options.has('version')) return 'version';

  const [command = 'list', ...operands] = positionals;
  if (!isCommand(command)) throw new UsageError(`unknown command "${command}"`);
  const spec: CommandSpec = commandSpecs[command];
  for (const own of ['force', 'persist', 'read-only', 'state', 'swap'] as const) {
    if (options.has(own) && !spec.options.includes(own)) {
      throw new UsageError(`"${command}" has no option --${own}`);
    }
  }
  checkOperands(command, operands);
  const text = (name: OptionName): string | undefined => {
    const value = options.get(name);
    return typeof value === 'string' ? value : undefined;
  };
  const timeout = text('timeout');
  const host = text('host');
  const swap = text('swap');
  return {
    command,
    operands,
    program: hasProgram ? after : [],
    force: options.has('force'),
    persist: options.has('persist'),
    readOnly: options.has('read-only'),
    swap: swap === undefined ? undefined : parseSwap(swap),
    states: parseStates(text('state') ?? ''),
    json: options.has('json'),
    askPassword: !options.has('no-ask-password'),
    progress: !options.has('no-progress') && !options.has('quiet'),
    legend: !options.has('no-legend') && !options.has('quiet'),
    block: !options.has('no-block'),
    quiet: options.has('quiet'),
    timeoutUsec: timeout === undefined ? undefined : parseTimeout(timeout),
    host: host === undefined ? undefined : checkHost(host),
  };
}

/** What --help prints. */
export function helpText(): string {
  const commands = Object.entries(commandSpecs).map(([name, { operands, help }]) => {
    const synopsis = `${name} ${operands}`.trimEnd();
    return `  ${synopsis.padEnd(26)} ${help}`;
  });
  return `lockerctl [OPTION...] COMMAND ...

Shows and controls LXC containers and lockers by the D-Bus service org.lockerd1.

Commands:
${commands.join('\n')}

Options:
  -h, --help                 Show this help
      --version              Show the version
  -H, --host=[USER@]HOST     Operate on another host, by ssh
      --json                 Print JSON
      --state=STATE[,...]    list: only containers in these states
      --force                stop, restart, reboot, balloon, detach: at once,
                             with the loss that this may mean
      --persist              balloon, attach, detach: also after the next start
      --read-only            attach: mount read-only
      --swap=SIZE            balloon: also limit swap, to 512M, 0 or max
      --no-block             Do not wait until a job has ended
      --timeout=SPAN         Give a job up after this time
      --no-ask-password      Do not ask for passwords
      --no-progress          Do not show the progress of jobs
      --no-legend            Print no header and no count
  -q, --quiet                Print errors only; list, lockers, jobs: names only

See lockerctl(1).
`;
}

/** The command line of lockerctl: what it asks for, by the tables of commands and options. */

import { parseArgs } from 'node:util';
import { unlimited } from '../model/memory-limit.ts';
import { parseTimespan } from '../model/timespan.ts';
import { commandNames, commandSpec, isCommand, type CommandName } from './command-table.ts';
import { operandsText } from './operands.ts';
import {
  columnNames,
  isColumn,
  usualColumns,
  wideColumns,
  type ColumnName,
} from './container-columns.ts';
import { UsageError } from './exit.ts';
import type { JsonMode } from './json.ts';
import {
  containerStates,
  jsonModes,
  optionNames,
  optionSpec,
  optionSpecs,
  type ContainerState,
  type OptionName,
} from './option-table.ts';
import { parseBytes } from '../model/byte-size.ts';
import { encryptions, type Encryption } from '../model/locker-words.ts';
import { didYouMean } from './suggest.ts';

/** A command with its operands and all options. */
export interface Invocation {
  readonly command: Exclude<CommandName, 'help'>;
  readonly operands: readonly string[];
  /** What follows `--` of "shell". */
  readonly program: readonly string[];
  readonly apply: boolean;
  /** Of "move". */
  readonly dryRun: boolean;
  readonly abort: boolean;
  readonly deleteSource: boolean;
  readonly force: boolean;
  readonly persist: boolean;
  readonly readOnly: boolean;
  /** The operand of --swap, bytes; undefined to leave the limit of swap as it is. */
  readonly swap: bigint | undefined;
  /** States to list; empty for all. */
  readonly states: readonly string[];
  /** What to show of each container. */
  readonly columns: readonly ColumnName[];
  /** All columns of a list. */
  readonly wide: boolean;
  /** Of lockers. */
  readonly store: string | undefined;
  readonly locker: NewLocker;
  readonly freeze: boolean;
  readonly snapshot: string | undefined;
  readonly yes: boolean;
  /** Undefined for text. */
  readonly json: JsonMode | undefined;
  readonly askPassword: boolean;
  readonly progress: boolean;
  readonly legend: boolean;
  readonly block: boolean;
  readonly quiet: boolean;
  /** How long a job may take; undefined for as long as the service allows. */
  readonly timeoutUsec: bigint | undefined;
  /** How many tables "top" prints; undefined for no end. */
  readonly iterations: number | undefined;
  /** Milliseconds between two of them. */
  readonly delayMs: number;
  /** `[USER@]HOST[:PORT]`; undefined for this host. */
  readonly host: string | undefined;
  /** All of them, each once, where several were named; the commands that take several read these. */
  readonly hosts: readonly string[];
}

/** What a new locker is to be, where somebody says so. */
export interface NewLocker {
  /** `UID:GID` */
  readonly owner: string | undefined;
  readonly mode: number | undefined;
  /** The container that the owner's ids belong to. */
  readonly container: string | undefined;
  readonly encrypt: Encryption | undefined;
}

/** What can be asked for that needs nothing of this host. */
export type Information =
  { readonly show: 'version' } | { readonly show: 'help'; readonly about: CommandName | undefined };

const optionTypes = Object.fromEntries(
  optionNames.map((name) => {
    const { short, value } = optionSpec(name);
    const type = value === undefined || value.optional === true ? 'boolean' : 'string';
    return [name, { type, ...(short === undefined ? {} : { short }) } as const];
  }),
);

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
  /** With their values; undefined for an option without one. */
  readonly options: ReadonlyMap<OptionName, string | undefined>;
}

function isOption(name: string): name is OptionName {
  return Object.hasOwn(optionSpecs, name);
}

/** What to do about wrong options or operands of a command. */
function advice(command: string | undefined, guess?: string): string {
  const page = command !== undefined && isCommand(command) ? `${command} --help` : '--help';
  return `${guess === undefined ? '' : `${guess} `}See "lockerctl ${page}" or lockerctl(1).`;
}

function checkValue(name: OptionName, value: string | undefined, command?: string): void {
  const expected = optionSpec(name).value;
  if (expected === undefined && value !== undefined) {
    throw new UsageError(`option --${name} takes no value`, advice(command));
  }
  if (expected !== undefined && value === undefined && expected.optional !== true) {
    throw new UsageError(`option --${name} needs a value`, advice(command));
  }
}

function readOptions(args: readonly string[]): RawArguments {
  const { tokens } = parseArgs({
    args: hideSizes(args),
    options: optionTypes,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const positionals = tokens.flatMap((token) =>
    token.kind === 'positional' ? [showSize(token.value)] : [],
  );
  const options = new Map<OptionName, string | undefined>();
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const { name, rawName } = token;
    const [command] = positionals;
    if (!isOption(name)) {
      const offered = optionNames.map((known) => `--${known}`);
      const guess = rawName.startsWith('--') ? didYouMean(rawName, offered) : undefined;
      throw new UsageError(`unknown option "${rawName}"`, advice(command, guess));
    }
    const value = token.value === undefined ? undefined : showSize(token.value);
    checkValue(name, value, command);
    options.set(name, value);
  }
  return { positionals, options };
}

function parseTimeout(text: string): bigint | undefined {
  const usec = parseTimespan(text);
  if (usec === undefined || usec === 0n) {
    throw new UsageError(`"${text}" is not a time span: write --timeout=30s, 5min or infinity`);
  }
  return usec ?? undefined;
}

function parseCount(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError(`"${text}" is not a number of tables: write --iterations=1 or more`);
}

const defaultDelayMs = 2000;
/** The service has figures that are a tenth of a second old. */
const delayBounds = { leastMs: 100n, mostMs: 86_400_000n };

function parseDelay(text: string): number {
  const ms = (parseTimespan(text) ?? 0n) / 1000n;
  if (ms >= delayBounds.leastMs && ms <= delayBounds.mostMs) return Number(ms);
  throw new UsageError(`"${text}" is no such time: write --delay=100ms to --delay=1d`);
}

function parseSwap(text: string): bigint {
  const bytes = text === 'max' ? unlimited : parseBytes(text);
  if (bytes !== undefined) return bytes;
  throw new UsageError(
    `"${text}" is not a size of swap: write --swap=512M, --swap=0 or --swap=max`,
  );
}

function parseOwner(text: string): string {
  if (/^\d{1,10}:\d{1,10}$/.test(text)) return text;
  throw new UsageError(`"${text}" is no owner: write numbers, such as --owner=1000:1000`);
}

function parseMode(text: string): number {
  if (/^[0-7]{1,5}$/.test(text)) return Number.parseInt(text, 8);
  throw new UsageError(`"${text}" is no mode: write --mode=0750`);
}

/** Without a mode it is by a key file, which asks nobody. */
function parseEncryption(text = 'key-file'): NewLocker['encrypt'] {
  const known = encryptions.find((word) => word === text);
  if (known !== undefined) return known;
  const message = `"${text}" is no encryption: --encrypt= takes ${encryptions.join(', ')}`;
  throw new UsageError(message, advice('create-locker', didYouMean(text, encryptions)));
}

function isState(word: string): word is ContainerState {
  return (containerStates as readonly string[]).includes(word);
}

function parseStates(text: string): ContainerState[] {
  return text
    .split(',')
    .filter((word) => word !== '')
    .map((word) => {
      if (isState(word)) return word;
      const message = `"${word}" is not a state: --state= takes ${containerStates.join(', ')}`;
      throw new UsageError(message, advice('list', didYouMean(word, containerStates)));
    });
}

function parseColumns(text: string): ColumnName[] {
  const words = text.split(',').filter((word) => word !== '');
  if (words.length === 0) {
    throw new UsageError('option --columns needs the name of a column', advice('list'));
  }
  return words.map((word) => {
    const name = word.toLowerCase();
    if (isColumn(name)) return name;
    const message = `"${word}" is not a column: --columns= takes ${columnNames.join(', ')}`;
    throw new UsageError(message, advice('list', didYouMean(word, columnNames)));
  });
}

/** Without a mode it is one for people where the output is a terminal, as busctl has it. */
function parseJson(text: string | undefined, outputIsTerminal: boolean): JsonMode | undefined {
  if (text === undefined) return outputIsTerminal ? 'pretty' : 'short';
  if (text === 'off') return undefined;
  if (text === 'pretty' || text === 'short') return text;
  const message = `"${text}" is no kind of JSON: --json= takes ${jsonModes.join(', ')}`;
  throw new UsageError(message, advice(undefined, didYouMean(text, jsonModes)));
}

/** Commands that can show several hosts. */
const ofSeveralHosts: readonly CommandName[] = ['list', 'lockers', 'jobs'];

function parseHosts(text: string, command: CommandName): string[] {
  const hosts = [...new Set(text.split(','))];
  for (const host of hosts) {
    // ssh would take it for an option.
    if (host === '' || host.startsWith('-')) throw new UsageError(`"${host}" is not a host`);
  }
  if (hosts.length > 1 && !ofSeveralHosts.includes(command)) {
    const message = `"${command}" works on one host at a time`;
    throw new UsageError(message, `Several can be named with ${ofSeveralHosts.join(', ')}.`);
  }
  return hosts;
}

function knownCommand(name: string): CommandName {
  if (isCommand(name)) return name;
  const guess = didYouMean(name, commandNames);
  throw new UsageError(`unknown command "${name}"`, advice(undefined, guess));
}

function checkOperands(command: CommandName, operands: readonly string[]): void {
  const spec = commandSpec(command);
  const least = spec.operands.filter(({ count }) => count === 'one' || count === 'some').length;
  const isEndless = spec.operands.some(({ count }) => count === 'any' || count === 'some');
  if (operands.length < least) {
    throw new UsageError(`"${command}" needs ${operandsText(spec)}`, advice(command));
  }
  const extra = isEndless ? undefined : operands[spec.operands.length];
  if (extra !== undefined) {
    const message = `"${command}" has one argument too many: "${extra}"`;
    throw new UsageError(message, advice(command));
  }
}

function checkOptions(command: CommandName, options: RawArguments['options']): void {
  const own = commandSpec(command).options;
  for (const name of options.keys()) {
    if (optionSpec(name).scope === 'own' && own[name] === undefined) {
      throw new UsageError(`"${command}" has no option --${name}`, advice(command));
    }
  }
}

/** Splits at the first `--`, where a command in the container begins. */
function splitProgram(args: readonly string[]): [readonly string[], readonly string[]] {
  const at = args.indexOf('--');
  return at < 0 ? [args, []] : [args.slice(0, at), args.slice(at + 1)];
}

/** What a new locker is to be, and what is to be done with one. */
function readLockerOptions(
  options: ReturnType<typeof readOptions>['options'],
): Pick<Invocation, 'store' | 'locker' | 'freeze' | 'snapshot' | 'yes'> {
  const owner = options.get('owner');
  const mode = options.get('mode');
  return {
    store: options.get('store'),
    locker: {
      owner: owner === undefined ? undefined : parseOwner(owner),
      mode: mode === undefined ? undefined : parseMode(mode),
      container: options.get('for'),
      encrypt: options.has('encrypt') ? parseEncryption(options.get('encrypt')) : undefined,
    },
    freeze: options.has('freeze'),
    snapshot: options.get('snapshot'),
    yes: options.has('yes'),
  };
}

/**
 * Reads the arguments of lockerctl.
 * @throws {UsageError}
 */
export function parseArguments(
  args: readonly string[],
  { outputIsTerminal }: { readonly outputIsTerminal: boolean },
): Invocation | Information {
  const [before, after] = splitProgram(args);
  // "--" ends the options of every command, but only those of "shell" take a program behind it.
  const hasProgram = readOptions(before).positionals[0] === 'shell';
  const { positionals, options } = readOptions(hasProgram ? before : args);
  if (options.has('version')) return { show: 'version' };
  const [first, ...operands] = positionals;
  if (options.has('help') && first === undefined) return { show: 'help', about: undefined };
  const command = knownCommand(first ?? 'list');
  if (options.has('help') && command !== 'help') return { show: 'help', about: command };
  checkOptions(command, options);
  checkOperands(command, operands);
  if (command === 'help') {
    const [about] = operands;
    return { show: 'help', about: about === undefined ? undefined : knownCommand(about) };
  }
  const read = <T>(name: OptionName, reader: (text: string) => T): T | undefined => {
    const value = options.get(name);
    return value === undefined ? undefined : reader(value);
  };
  const hosts = read('host', (text) => parseHosts(text, command)) ?? [];
  return {
    command,
    operands,
    program: hasProgram ? after : [],
    apply: options.has('apply'),
    dryRun: options.has('dry-run'),
    abort: options.has('abort'),
    deleteSource: options.has('delete-source'),
    force: options.has('force'),
    persist: options.has('persist'),
    readOnly: options.has('read-only'),
    swap: read('swap', parseSwap),
    states: read('state', parseStates) ?? [],
    columns: read('columns', parseColumns) ?? (options.has('wide') ? wideColumns : usualColumns),
    wide: options.has('wide'),
    ...readLockerOptions(options),
    json: options.has('json') ? parseJson(options.get('json'), outputIsTerminal) : undefined,
    askPassword: !options.has('no-ask-password'),
    progress: !options.has('no-progress') && !options.has('quiet'),
    legend: !options.has('no-legend') && !options.has('quiet'),
    block: !options.has('no-block'),
    quiet: options.has('quiet'),
    timeoutUsec: read('timeout', parseTimeout),
    iterations: read('iterations', parseCount),
    delayMs: read('delay', parseDelay) ?? defaultDelayMs,
    host: hosts[0],
    hosts,
  };
}

/** Completion for bash, zsh and fish, made from the tables of commands and options. */

import { columnNames } from '../container-columns.ts';
import { shellWord } from '../../model/shell-quote.ts';
import { commandNames, commandSpec, optionText, type CommandName } from '../command-table.ts';
import type { Operand } from '../operands.ts';
import {
  containerStates,
  jsonModes,
  optionNames,
  optionSpec,
  type OptionName,
  type ValueKind,
} from '../option-table.ts';
import { limitWords } from '../limit-words.ts';
import { encryptions } from '../../model/locker-words.ts';
import bash from './bash.hbs';
import fish from './fish.hbs';
import zsh from './zsh.hbs';

const general = optionNames.filter((name) => optionSpec(name).scope === 'every');

/** Options that only some commands use, in the order of the table. */
function usedBy(command: CommandName): OptionName[] {
  return optionNames.filter((name) => commandSpec(command).options[name] !== undefined);
}

/** Options whose value may be a word of its own, as patterns of a shell's `case`. */
const separate = optionNames
  .filter((name) => {
    const { value } = optionSpec(name);
    return value !== undefined && value.optional !== true;
  })
  .flatMap((name) => {
    const { short } = optionSpec(name);
    return [...(short === undefined ? [] : [`-${short}`]), `--${name}`];
  });

/** The words of `lockerctl --quiet` that print what an operand can be; none for a free text. */
function namesCommand({ kind, states }: Operand): string | undefined {
  switch (kind) {
    case 'container':
      return states === undefined ? 'list' : `list --state=${states.join(',')}`;
    case 'locker':
      return 'lockers';
    case 'job':
      return 'jobs';
    case 'command':
    case 'host':
    case 'limit':
    case 'name':
    case 'size':
    case 'snapshot':
      return undefined;
  }
}

/** Nothing can be offered for it. */
function isFreeText({ kind }: Operand): boolean {
  return kind === 'size' || kind === 'name';
}

interface Place {
  readonly command: CommandName;
  readonly operand: Operand;
  /** From 0 on; undefined for every place. */
  readonly position: number | undefined;
}

const places: Place[] = commandNames.flatMap((command) =>
  commandSpec(command).operands.map((operand, index) => {
    const isEndless = operand.count === 'any' || operand.count === 'some';
    return { command, operand, position: isEndless ? undefined : index };
  }),
);

/** Puts what has the same text together. */
function grouped<T>(items: readonly T[], textFor: (item: T) => string): [string, T[]][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const text = textFor(item);
    groups.set(text, [...(groups.get(text) ?? []), item]);
  }
  return [...groups];
}

/** bash: `--host=`, with what its value may be a word of its own. */
function bashOption(name: OptionName): string {
  const { value } = optionSpec(name);
  return value === undefined || value.optional === true ? `--${name}` : `--${name}=`;
}

/** What a limit begins with. */
const limitStarts = limitWords.map((word) => `${word}=`);

const bashHosts = '_known_hosts_real -- "$cur"';

function bashCall(operand: Operand): string {
  if (operand.kind === 'command') return `_lockerctl_words ${commandNames.join(' ')}`;
  if (operand.kind === 'host') return bashHosts;
  if (operand.kind === 'limit') return `_lockerctl_limits ${limitStarts.join(' ')}`;
  if (operand.kind === 'snapshot') return '_lockerctl_names snapshots "${operands[0]}"';
  const names = namesCommand(operand);
  return names === undefined ? ':' : `_lockerctl_names ${names}`;
}

const bashValues: Readonly<Partial<Record<ValueKind, string>>> = {
  host: bashHosts,
  'json-mode': `_lockerctl_words ${jsonModes.join(' ')}`,
  states: `_lockerctl_list ${containerStates.join(' ')}`,
  columns: `_lockerctl_list ${columnNames.join(' ')}`,
  container: '_lockerctl_names list',
  encryption: `_lockerctl_words ${encryptions.join(' ')}`,
  store: '_lockerctl_names stores',
};

function bashScript(): string {
  const options = grouped(
    commandNames.filter((name) => usedBy(name).length > 0),
    (name) => usedBy(name).map(bashOption).join(' '),
  );
  const calls = grouped(
    places.filter(({ operand }) => !isFreeText(operand)),
    ({ operand }) => bashCall(operand),
  );
  return bash({
    separate: separate.join(' | '),
    general: general.map(bashOption).join(' '),
    commands: commandNames.join(' '),
    options: options.map(([words, names]) => ({
      // Without a command it is "list".
      pattern: names.map((name) => (name === 'list' ? "'' | list" : name)).join(' | '),
      words,
    })),
    values: optionNames.flatMap((name) => {
      const { short, value } = optionSpec(name);
      const call = value === undefined ? undefined : bashValues[value.kind];
      const pattern = short === undefined ? `--${name}` : `-${short} | --${name}`;
      return call === undefined ? [] : [{ pattern, call }];
    }),
    operands: calls.map(([call, at]) => ({
      pattern: at.map(({ command, position = '*' }) => `${command}:${position}`).join(' | '),
      call,
    })),
  });
}

const zshValues: Readonly<Record<ValueKind, string>> = {
  count: 'number: ',
  host: 'host:_hosts',
  'json-mode': `mode:(${jsonModes.join(' ')})`,
  size: 'size: ',
  span: 'time span: ',
  states: `state: _values -s , state ${containerStates.join(' ')}`,
  columns: `column: _values -s , column ${columnNames.join(' ')}`,
  container: 'container: _lockerctl_names container list',
  encryption: `mode:(${encryptions.join(' ')})`,
  store: 'store: _lockerctl_names store stores',
  text: 'text: ',
};

/** Arguments of _arguments for an option, quoted. */
function zshOption(name: OptionName, command?: CommandName): string {
  const { short, value } = optionSpec(name);
  const text = `[${optionText(name, command).replaceAll(/[[\]\\]/g, '\\$&')}]`;
  const isInformation = name === 'help' || name === 'version';
  const others = isInformation ? '- *' : short === undefined ? '' : `-${short} --${name}`;
  const excluded = others === '' ? '' : `(${others})`;
  const long = value === undefined ? '' : value.optional ? '=-' : '=';
  const argument =
    value === undefined ? '' : `:${value.optional ? ':' : ''}${zshValues[value.kind]}`;
  const forms = [`${excluded}--${name}${long}${text}${argument}`];
  if (short !== undefined) {
    const isBare = value === undefined || value.optional === true;
    forms.unshift(`${excluded}-${short}${isBare ? '' : '+'}${text}${isBare ? '' : argument}`);
  }
  return forms.map(shellWord).join(' ');
}

function zshOperand({ operand, position }: Place): string {
  const { kind, count } = operand;
  const names = namesCommand(operand);
  const action =
    names !== undefined
      ? ` _lockerctl_names ${kind} ${names}`
      : kind === 'command'
        ? ' _describe -t commands command commands'
        : kind === 'host'
          ? '_hosts'
          : kind === 'limit'
            ? ` compadd -S '' -- ${limitStarts.join(' ')}`
            : kind === 'snapshot'
              ? ' _lockerctl_names snapshot snapshots "${(Q)line[1]}"'
              : ' ';
  const place =
    position === undefined ? '*:' : `${position + 1}:${count === 'optional' ? ':' : ''}`;
  return shellWord(`${place}${kind}:${action}`);
}

function zshScript(): string {
  return zsh({
    general: general.map((name) => ({ spec: zshOption(name) })),
    listOptions: usedBy('list')
      .map((name) => zshOption(name, 'list'))
      .join(' '),
    commands: commandNames.map((name) => ({
      name,
      described: shellWord(`${name}:${commandSpec(name).summary}`),
      specs: [
        ...usedBy(name).map((option) => zshOption(option, name)),
        ...places.filter(({ command }) => command === name).map(zshOperand),
      ].map((spec) => ({ spec })),
    })),
  });
}

/** A word of fish in single quotes. */
function fishWord(text: string): string {
  return `'${text.replaceAll(/['\\]/g, '\\$&')}'`;
}

const fishHosts = '(__fish_print_hostnames)';

const fishValues: Readonly<Partial<Record<ValueKind, string>>> = {
  host: fishHosts,
  'json-mode': jsonModes.join(' '),
  states: `(__lockerctl_list ${containerStates.join(' ')})`,
  columns: `(__lockerctl_list ${columnNames.join(' ')})`,
  container: '(__lockerctl_names list)',
  encryption: encryptions.join(' '),
  store: '(__lockerctl_names stores)',
};

/** Arguments of `complete` for an option, of all commands or of some. */
function fishOption(name: OptionName, text: string, commands: readonly string[]): string[] {
  const { short, value } = optionSpec(name);
  const has = `__lockerctl_has_command ${commands.join(' ')}`;
  const isOfList = commands.includes('list');
  const condition =
    commands.length === 0
      ? ''
      : `-n ${fishWord(isOfList ? `__lockerctl_has_no_command; or ${has}` : has)} `;
  const offered = value === undefined ? undefined : fishValues[value.kind];
  const values = offered === undefined ? '' : ` -a ${fishWord(offered)}`;
  const shortForm = short === undefined ? '' : `-s ${short} `;
  const description = `-d ${fishWord(text)}`;
  if (value?.optional !== true) {
    const needed = value === undefined ? '' : '-x ';
    return [`${condition}${needed}${shortForm}-l ${name}${values} ${description}`];
  }
  // The short form has no value.
  return [
    `${condition}-l ${name}${values} ${description}`,
    ...(short === undefined ? [] : [`${condition}${shortForm}${description}`]),
  ];
}

/** A number from 0 on, `any`, or `more` for all places but the first. */
function fishPlace({ operand, position }: Place): string {
  if (position !== undefined) return String(position);
  return operand.kind === 'limit' ? 'more' : 'any';
}

function fishOffer(operand: Operand): string {
  if (operand.kind === 'command') return fishWord(commandNames.join(' '));
  if (operand.kind === 'host') return fishWord(fishHosts);
  if (operand.kind === 'limit') return fishWord(limitStarts.join(' '));
  if (operand.kind === 'snapshot') {
    return fishWord('(__lockerctl_names snapshots $__lockerctl_operands[1])');
  }
  return fishWord(`(__lockerctl_names ${namesCommand(operand) ?? ''})`);
}

function fishScript(): string {
  const some = optionNames.filter((name) => optionSpec(name).scope !== 'every');
  const options = [
    ...general.flatMap((name) => fishOption(name, optionSpec(name).help, [])),
    ...some.flatMap((name) => {
      const commands = commandNames.filter((command) => usedBy(command).includes(name));
      return grouped(commands, (command) => optionText(name, command)).flatMap(([text, takers]) =>
        fishOption(name, text, takers),
      );
    }),
  ];
  const operands = grouped(
    places.filter(({ operand }) => !isFreeText(operand)),
    (place) => `${fishPlace(place)} ${fishOffer(place.operand)}`,
  );
  return fish({
    separate: separate.join(' '),
    commands: commandNames.map((name) => ({
      name,
      summary: fishWord(commandSpec(name).summary),
    })),
    options: options.map((spec) => ({ spec })),
    operands: operands.flatMap(([, at]) => {
      const [first] = at;
      if (first === undefined) return [];
      const commands = at.map(({ command }) => command).join(' ');
      return [
        {
          position: `${fishPlace(first)} ${commands}`,
          offer: fishOffer(first.operand),
        },
      ];
    }),
  });
}

/** The scripts by the names under which the shells look for them. */
export const completionScripts: Readonly<
  Record<'lockerctl' | '_lockerctl' | 'lockerctl.fish', string>
> = { lockerctl: bashScript(), _lockerctl: zshScript(), 'lockerctl.fish': fishScript() };

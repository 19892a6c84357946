/** What "lockerctl --help" and "lockerctl COMMAND --help" print, from the tables. */

import {
  commandNames,
  commandSpec,
  optionText,
  usualStatuses,
  type CommandName,
} from './command-table.ts';
import { operandsText } from './operands.ts';
import { longForm, optionNames, optionSpec, type OptionName } from './option-table.ts';
import { pad, wrapText } from './text.ts';

/** Columns of the help; it is the same in a pipe and on a wide terminal. */
const columns = 80;

/** A word and what it means, the latter broken into lines below each other. */
function item(head: string, text: string, indent: number): string[] {
  const [first = '', ...rest] = wrapText(text, columns - indent);
  const start = pad(`  ${head}`, indent - 1, 'left');
  const own = start.length >= indent ? [start, ' '.repeat(indent) + first] : [`${start} ${first}`];
  return [...own, ...rest.map((line) => ' '.repeat(indent) + line)];
}

const optionIndent = 29;

/** `-q, --quiet                 Print errors only` */
function optionItem(name: OptionName, text: string): string[] {
  const { short } = optionSpec(name);
  return item(
    `${short === undefined ? '   ' : `-${short},`} ${longForm(name)}`,
    text,
    optionIndent,
  );
}

/** Which commands list an option. */
function takers(name: OptionName): string[] {
  return commandNames.filter((command) => commandSpec(command).options[name] !== undefined);
}

function optionInGeneral(name: OptionName): string[] {
  const { help, scope } = optionSpec(name);
  const first = help.charAt(0).toLowerCase() + help.slice(1);
  return optionItem(name, scope === 'own' ? `${takers(name).join(', ')}: ${first}` : help);
}

/** "lockerctl --help" */
function generalHelp(): string[] {
  return [
    'lockerctl [OPTION...] COMMAND ...',
    '',
    'Shows and controls LXC containers and lockers by the D-Bus service org.lockerd1.',
    '',
    'Commands:',
    ...commandNames.flatMap((name) => {
      const spec = commandSpec(name);
      return item(`${name} ${operandsText(spec)}`.trimEnd(), spec.summary, optionIndent);
    }),
    '',
    'Options:',
    ...optionNames.flatMap(optionInGeneral),
    '',
    '"lockerctl COMMAND --help" tells more about a command, lockerctl(1) about all.',
  ];
}

/** "lockerctl COMMAND --help" */
function commandHelp(name: CommandName): string[] {
  const spec = commandSpec(name);
  const own = (['own', 'some'] as const).flatMap((scope) =>
    optionNames.filter(
      (option) => spec.options[option] !== undefined && optionSpec(option).scope === scope,
    ),
  );
  const general = optionNames.filter((option) => optionSpec(option).scope === 'every');
  const list = (options: readonly OptionName[]): string[] =>
    options.flatMap((option) => optionItem(option, optionText(option, name)));
  const section = (title: string, lines: readonly string[]): string[] =>
    lines.length === 0 ? [] : ['', title, ...lines];
  return [
    `lockerctl ${name} [OPTION...] ${operandsText(spec)}`.trimEnd(),
    '',
    `${spec.summary}.`,
    ...section('', spec.help === '' ? [] : wrapText(spec.help, columns)).slice(1),
    ...section('Options:', list(own)),
    ...section('Options of every command:', list(general)),
    ...section(
      'Examples:',
      spec.examples.map((line) => `  ${line}`),
    ),
    ...section(
      'Exit status:',
      (spec.statuses ?? usualStatuses).flatMap(([status, text]) => item(status, text, 5)),
    ),
  ];
}

/** Lines of the help, in general or about a command. */
export function helpLines(about: CommandName | undefined): string[] {
  return about === undefined ? generalHelp() : commandHelp(about);
}

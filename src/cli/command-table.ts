/** Every command of lockerctl. Parsing, help and completion are made from this table. */

import { columnNames } from './container-columns.ts';
import {
  containerStates,
  optionSpec,
  type ContainerState,
  type OptionName,
} from './option-table.ts';
import { limitHelp } from './limit-words.ts';
import type { Operand } from './operands.ts';

export interface CommandSpec {
  readonly operands: readonly Operand[];
  /** Behind "--" stands a command for the container. */
  readonly program?: true;
  /** Options beside those of every command, with what they mean here; empty for what they always mean. */
  readonly options: Readonly<Partial<Record<OptionName, string>>>;
  /** One line. */
  readonly summary: string;
  /** What it does, beside the summary. */
  readonly help: string;
  readonly examples: readonly string[];
  /** Exit statuses, where they are not the usual ones. */
  readonly statuses?: readonly (readonly [status: string, meaning: string])[];
}

/** Exit statuses of a command that has no others. */
export const usualStatuses = [
  ['0', 'all is well'],
  ['1', 'something failed'],
  ['2', 'wrong usage'],
  ['4', 'not permitted'],
  ['5', 'no such container, locker, snapshot, store or job'],
] as const;

/** The same of a command that starts a container. */
const startStatuses = [
  ...usualStatuses,
  ['7', 'the container starts by itself when the host has what it needs'],
] as const;

const up = ['running', 'frozen'] as const;

/** One or more containers, in these states or in any. */
function containers(count: 'any' | 'some', states?: readonly ContainerState[]): [Operand] {
  return [{ kind: 'container', name: 'NAME', count, ...(states ? { states } : {}) }];
}

function container(count: 'one' | 'optional', states?: readonly ContainerState[]): Operand {
  return { kind: 'container', name: 'NAME', count, ...(states ? { states } : {}) };
}

function locker(name: string): Operand {
  return { kind: 'locker', name, count: 'one' };
}

const size: Operand = { kind: 'size', name: 'SIZE', count: 'one' };

const job = { 'no-block': '', timeout: '', 'no-ask-password': '', 'no-progress': '' };

const ofProgram = [
  ['2', 'wrong usage'],
  ['4', 'the caller is not root'],
  ['*', 'otherwise that of the program'],
] as const;

/** In the order of the help. */
export const commandSpecs = {
  list: {
    operands: [],
    options: {
      state: '',
      wide: 'Show all columns, also those that need a look into the guests',
      columns: '',
    },
    summary: 'List containers',
    help:
      'State, whether the next boot starts them and who decided that, process id of init on the host, memory in use and its limit, lockers. This is also what is done without a command. ' +
      `STATE is ${containerStates.slice(0, -1).join(', ')} or ${containerStates.at(-1) ?? ''}. ` +
      `COLUMN is ${columnNames.slice(0, -1).join(', ')} or ${columnNames.at(-1) ?? ''}.`,
    examples: [
      'lockerctl list --state=running,frozen',
      'lockerctl list --columns=container,addresses,os',
      'lockerctl list --json=short | jq length',
    ],
  },
  status: {
    operands: containers('any'),
    options: {},
    summary: 'Show state, lockers, jobs, problems of containers',
    help: 'Without a name it shows all of them.',
    examples: ['lockerctl status web'],
    statuses: [
      ['0', 'the named containers run; a frozen one counts as running'],
      ['1', 'something failed'],
      ['2', 'wrong usage'],
      ['3', 'a named container does not run'],
      ['4', 'there is no such container, or nobody knows whether it runs'],
    ],
  },
  start: {
    operands: containers('some', ['stopped', 'unmet', 'failed']),
    options: job,
    summary: 'Start containers',
    help: 'If one runs already, that is no failure.',
    examples: ['lockerctl start web db'],
    statuses: startStatuses,
  },
  stop: {
    operands: containers('some', [
      ...(['waiting', 'unmet', 'starting', 'running', 'freezing', 'frozen', 'stopping'] as const),
    ]),
    options: { force: 'Kill all processes of the containers at once', ...job },
    summary: 'Shut containers down; with --force, kill them',
    help: 'Asks the guests to shut down and waits. If one does not run, that is no failure.',
    examples: ['lockerctl stop web db', 'lockerctl stop --timeout=2min db'],
  },
  restart: {
    operands: containers('some', [
      ...(['waiting', 'unmet', 'starting', 'running', 'freezing', 'frozen', 'stopping'] as const),
    ]),
    options: { force: 'Kill all processes instead of shutting down', ...job },
    summary: 'Stop containers, then start them',
    help: 'One that does not run is started. One that does not stop is not started.',
    examples: ['lockerctl restart web'],
    statuses: startStatuses,
  },
  reboot: {
    operands: containers('some', ['running']),
    options: { force: 'Kill all processes instead of asking the guest', ...job },
    summary: 'Have the guests reboot',
    help: '',
    examples: ['lockerctl reboot web'],
    statuses: startStatuses,
  },
  freeze: {
    operands: containers('some', ['running']),
    options: job,
    summary: 'Freeze all processes of containers',
    help: '',
    examples: ['lockerctl freeze batch'],
  },
  thaw: {
    operands: containers('some', ['freezing', 'frozen']),
    options: job,
    summary: 'Let them run again',
    help: '',
    examples: ['lockerctl thaw batch'],
  },
  balloon: {
    operands: [container('one'), size],
    options: {
      force: 'Set it even if the kernel then kills processes of the guest',
      persist: '',
      swap: '',
      ...job,
    },
    summary: 'Change the memory limit: 2G, +512M, -25%, max',
    help: 'SIZE is in bytes, or has a suffix K, M, G, T, P or E, which count by 1024. With + or - it changes the present limit, by a size or by per cent; max means no limit. A limit that cannot be reached without killing processes is refused.',
    examples: [
      'lockerctl balloon web 1.5G',
      'lockerctl balloon --persist web +512M',
      'lockerctl balloon --swap=0 web -25%',
    ],
  },
  set: {
    operands: [container('one'), { kind: 'limit', name: 'LIMIT=VALUE', count: 'some' }],
    options: { persist: '', ...job },
    summary: 'Limit processors, disks and tasks: cpu=150%, tasks=500',
    help: `All of them are set, or none. ${limitHelp()}. DISK is a whole disk of this host, such as vda, or its numbers MAJOR:MINOR.`,
    examples: [
      'lockerctl set web cpu=150% tasks=500',
      'lockerctl set --persist web io-read=vda:20M io-write=vda:max',
    ],
  },
  attach: {
    operands: [container('one', up), locker('LOCKER')],
    options: { 'read-only': '', persist: 'Later starts mount it too', ...job },
    summary: 'Mount a locker in a running container',
    help: '',
    examples: ['lockerctl attach --read-only web music'],
  },
  detach: {
    operands: [container('one', up), locker('LOCKER')],
    options: {
      force: 'Unmount it although it is in use; its users keep it',
      persist: 'Later starts do not mount it either',
      ...job,
    },
    summary: 'Unmount a locker from a container',
    help: 'A locker that is in use stays, unless --force is given. With --persist the container need not run.',
    examples: ['lockerctl detach web music'],
  },
  enable: {
    operands: containers('some'),
    options: job,
    summary: 'Have the boot start containers',
    help: 'Writes "autostart = yes" into their settings where that decides, and says what the next boot will do. It does not start them now. Where the settings do not decide, nothing changes, and the message says what does.',
    examples: ['lockerctl enable web db'],
  },
  disable: {
    operands: containers('some'),
    options: job,
    summary: 'Have the boot leave containers alone',
    help: 'The reverse: it writes "autostart = no". It does not stop them now. Unlike "systemctl disable", it also wins over lxc.start.auto.',
    examples: ['lockerctl disable web'],
  },
  lockers: {
    operands: [],
    options: { wide: '' },
    summary: 'List lockers',
    help: 'Whether the host has mounted them, their size, what is in use and what is left, the store that they come from, their health, and which containers see them. --wide also shows source, file system, who had it made, snapshots, and which containers they come with.',
    examples: ['lockerctl lockers', 'lockerctl lockers --wide'],
  },
  'create-locker': {
    operands: [{ kind: 'name', name: 'NAME', count: 'one' }, size],
    options: { store: '', owner: '', mode: '', for: '', encrypt: '', ...job },
    summary: 'Make a locker',
    help: 'Out of a store of the host, with a mount that each boot makes. SIZE is such as 10G. It is not attached to anything.',
    examples: [
      'lockerctl create-locker music 10G',
      'lockerctl create-locker --store=raid1 --for=web --owner=33:33 uploads 1.5T',
    ],
  },
  'grow-locker': {
    operands: [locker('NAME'), size],
    options: job,
    summary: 'Make a locker larger: 20G, +5G',
    help: 'While it is in use, its file system included. A locker never becomes smaller.',
    examples: ['lockerctl grow-locker music +5G'],
  },
  'rename-locker': {
    operands: [locker('NAME'), { kind: 'name', name: 'NEW', count: 'one' }],
    options: job,
    summary: 'Give a locker another name',
    help: 'It must not be attached, and no container may come with it.',
    examples: ['lockerctl rename-locker music songs'],
  },
  'snapshot-locker': {
    operands: [locker('NAME'), { kind: 'name', name: 'SNAPSHOT', count: 'optional' }],
    options: { freeze: '', ...job },
    summary: 'Keep what is in a locker at this moment',
    help: 'Without a name, the snapshot is named after the time in UTC.',
    examples: ['lockerctl snapshot-locker music', 'lockerctl snapshot-locker --freeze db before'],
  },
  snapshots: {
    operands: [locker('NAME')],
    options: {},
    summary: 'List the snapshots of a locker',
    help: '',
    examples: ['lockerctl snapshots music'],
  },
  'restore-locker': {
    operands: [
      locker('NAME'),
      { kind: 'snapshot', name: 'SNAPSHOT', count: 'one' },
      { kind: 'name', name: 'NEW', count: 'one' },
    ],
    options: job,
    summary: 'Make a new locker of a snapshot',
    help: 'The locker that it was made of stays as it is.',
    examples: ['lockerctl restore-locker music before old-music'],
  },
  'forget-locker': {
    operands: [locker('NAME')],
    options: job,
    summary: 'Unmount a locker and drop its definition',
    help: 'Its data stays, and the message says where. It must not be attached.',
    examples: ['lockerctl forget-locker old-music'],
  },
  'adopt-locker': {
    operands: [{ kind: 'name', name: 'NAME', count: 'one' }],
    options: { store: 'Of the locker; needed where two stores have one of this name', ...job },
    summary: 'Take back a locker that was forgotten',
    help: 'It is defined and mounted again as it was. "lockerctl stores" lists what was forgotten.',
    examples: ['lockerctl adopt-locker old-music'],
  },
  'destroy-locker': {
    // What is typed a second time is not completed.
    operands: [locker('NAME'), { kind: 'name', name: 'NAME', count: 'one' }],
    options: {
      yes: '',
      store: 'Of the locker; needed where two stores have one of this name',
      snapshot: '',
    },
    summary: 'Destroy a locker and its data, for ever (root only)',
    help: 'Its name has to be given twice, and --yes. It also destroys what was forgotten. A locker that is attached is left alone.',
    examples: [
      'lockerctl destroy-locker --yes old-music old-music',
      'lockerctl destroy-locker --yes --snapshot=before music music',
    ],
  },
  stores: {
    operands: [],
    options: {},
    summary: 'List the stores that new lockers come from',
    help: 'How much they have and how much is free. The default is marked; lockerd.conf(5) says how they are set up.',
    examples: ['lockerctl stores'],
  },
  jobs: {
    operands: [],
    options: {},
    summary: 'List jobs',
    help: 'Those that have not ended.',
    examples: ['lockerctl jobs'],
  },
  cancel: {
    operands: [{ kind: 'job', name: 'JOB', count: 'some' }],
    options: { 'no-ask-password': '' },
    summary: 'Cancel jobs',
    help: 'JOB is a number that "lockerctl jobs" shows.',
    examples: ['lockerctl cancel 12'],
  },
  console: {
    operands: [container('one', ['running'])],
    options: {},
    summary: 'Log in on a console of a container (root only)',
    help: 'Runs lxc-console.',
    examples: ['lockerctl console web'],
    statuses: ofProgram,
  },
  shell: {
    operands: [container('one', ['running'])],
    program: true,
    options: {},
    summary: 'Run a shell or a command in a container (root only)',
    help: 'Runs lxc-attach. The command gets a new environment, except for TERM.',
    examples: ['lockerctl shell web', 'lockerctl shell web -- ls -l /'],
    statuses: ofProgram,
  },
  monitor: {
    operands: [],
    options: {},
    summary: 'Show changes as they happen',
    help: 'Until it is interrupted.',
    examples: ['lockerctl monitor --json=short'],
  },
  top: {
    operands: [],
    options: { iterations: '', delay: '' },
    summary: 'Show what running containers use, again and again',
    help: 'Processor time in per cent of one processor, memory, tasks, bytes read and written a second. It ends with Ctrl-C. Where the output is no terminal, tables follow each other; with --json, one line each.',
    examples: ['lockerctl top', 'lockerctl top --iterations=1 --json=short'],
  },
  check: {
    operands: containers('any'),
    options: {},
    summary: 'Look for what will go wrong, before it does',
    help: "Says for each finding how to mend it; see lockerctl-check(8). It reads the host's files, needs no service, and should be run by root.",
    examples: ['lockerctl check', 'lockerctl check web'],
    statuses: [
      ['0', 'nothing was found that needs mending'],
      ['1', 'there are errors'],
      ['2', 'wrong usage'],
      ['5', 'there is no such container'],
      ['6', 'there are warnings, and no errors'],
    ],
  },
  diff: {
    operands: containers('any'),
    options: {},
    summary: 'Show what the next daemon-reload would change',
    help: 'First in words, then as a unified diff of the generated files; with --quiet only in words. It writes nothing, and needs no service.',
    examples: ['lockerctl diff web'],
  },
  explain: {
    operands: [container('one')],
    options: {},
    summary: 'Show which line of which file made which directive',
    help: 'It writes nothing, and needs no service.',
    examples: ['lockerctl explain web'],
  },
  import: {
    operands: containers('any'),
    options: { apply: '' },
    summary: "Show how to bring an older host's containers over",
    help: 'Changes nothing without --apply; see lockerctl-import(8).',
    examples: ['lockerctl import', 'lockerctl import --apply'],
  },
  move: {
    operands: [container('one'), { kind: 'host', name: 'TARGET', count: 'optional' }],
    options: { 'dry-run': '', abort: '', 'delete-source': '', 'no-progress': '' },
    summary: 'Move a container to another host (root only)',
    help: 'Copies it while it runs, stops it, copies the rest, starts it there, and only then gives it up here; see lockerctl-move(8). Whatever fails, it runs here again, and a second try goes on from what was copied. TARGET is [USER@]HOST[:PORT], where that user is root; --abort needs none.',
    examples: [
      'lockerctl move web root@host2.example --dry-run',
      'lockerctl move web root@host2.example',
      'lockerctl move --abort web',
    ],
    statuses: [
      ['0', 'the container is on the other host'],
      ['1', 'it is where it was'],
      ['2', 'wrong usage'],
      ['4', 'the caller is not root'],
      ['5', 'there is no such container'],
    ],
  },
  permissions: {
    operands: [container('optional')],
    options: {},
    summary: 'Show what you may do',
    help: 'What polkit says about each action, for a container or in general: yes, no, or challenge where a password is needed.',
    examples: ['lockerctl permissions web'],
  },
  help: {
    operands: [{ kind: 'command', name: 'COMMAND', count: 'optional' }],
    options: {},
    summary: 'Show this help, or that of a command',
    help: '',
    examples: ['lockerctl help balloon'],
    statuses: [
      ['0', 'all is well'],
      ['2', 'wrong usage'],
    ],
  },
} as const satisfies Readonly<Record<string, CommandSpec>>;

export type CommandName = keyof typeof commandSpecs;

export const commandNames = Object.keys(commandSpecs) as CommandName[];

export function isCommand(name: string): name is CommandName {
  return Object.hasOwn(commandSpecs, name);
}

/** A command by its name; its type is the general one. */
export function commandSpec(name: CommandName): CommandSpec {
  return commandSpecs[name];
}

/** What an option means with a command, or in general. */
export function optionText(option: OptionName, command?: CommandName): string {
  const own = command === undefined ? undefined : commandSpec(command).options[option];
  return own === undefined || own === '' ? optionSpec(option).help : own;
}

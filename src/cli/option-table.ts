/** Every option of lockerctl. Parsing, help and completion are made from this table. */

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

export type ContainerState = (typeof containerStates)[number];

/** How JSON is printed; `off` stands for text. */
export const jsonModes = ['pretty', 'short', 'off'] as const;

/** What the value of an option is, which decides what completion offers for it. */
export type ValueKind =
  | ('columns' | 'count' | 'host' | 'json-mode' | 'size' | 'span' | 'states')
  | ('cluster-format' | 'container' | 'encryption' | 'store' | 'text');

export interface OptionSpec {
  readonly short?: string;
  readonly value?: {
    readonly kind: ValueKind;
    /** As the help shows it. */
    readonly shown: string;
    /** Then it can only follow "=". */
    readonly optional?: true;
  };
  /**
   * Who takes it: every command; commands that list it, while the others accept it in vain, as it
   * does no harm there; or only those, since elsewhere it would ask for what is not done.
   */
  readonly scope: 'every' | 'some' | 'own';
  readonly help: string;
}

export const optionSpecs = {
  help: { short: 'h', scope: 'every', help: 'Show help, with a command about that command' },
  version: { scope: 'every', help: 'Show the version' },
  host: {
    short: 'H',
    value: { kind: 'host', shown: '[USER@]HOST' },
    scope: 'every',
    help: 'Operate on another host, by ssh; list, lockers and jobs on several: A,B,C',
  },
  json: {
    short: 'j',
    value: { kind: 'json-mode', shown: 'MODE', optional: true },
    scope: 'every',
    help: 'Print JSON: pretty, short or off; by default pretty on a terminal, else short',
  },
  quiet: {
    short: 'q',
    scope: 'every',
    help: 'Print errors only, and of lists the names only',
  },
  'no-legend': { scope: 'every', help: 'Print no header and no count' },
  'no-pager': { scope: 'every', help: 'Accepted, but nothing is ever piped into a pager' },
  'no-block': { scope: 'some', help: 'Do not wait until a job has ended' },
  timeout: {
    value: { kind: 'span', shown: 'SPAN' },
    scope: 'some',
    help: 'Give a job up after this time: 90s, 5min, infinity',
  },
  'no-ask-password': { scope: 'some', help: 'Do not ask for passwords' },
  'no-progress': { scope: 'some', help: 'Do not show the progress of jobs' },
  state: {
    value: { kind: 'states', shown: 'STATE[,...]' },
    scope: 'own',
    help: 'Only containers in these states',
  },
  wide: { scope: 'own', help: 'Show all columns' },
  columns: {
    value: { kind: 'columns', shown: 'COLUMN[,...]' },
    scope: 'own',
    help: 'Show these columns, in this order',
  },
  force: { scope: 'own', help: 'At once, with the loss that this may mean' },
  'read-only': { scope: 'own', help: 'Mount it read-only' },
  persist: { scope: 'own', help: 'Also for later starts' },
  swap: {
    value: { kind: 'size', shown: 'SIZE' },
    scope: 'own',
    help: 'Also limit swap, to 512M, 0 or max',
  },
  iterations: {
    short: 'n',
    value: { kind: 'count', shown: 'NUMBER' },
    scope: 'own',
    help: 'End after so many tables',
  },
  delay: {
    short: 'd',
    value: { kind: 'span', shown: 'SPAN' },
    scope: 'own',
    help: 'Time between two tables: 500ms, 2s; 2s without it',
  },
  apply: { scope: 'own', help: 'Make the changes that it shows' },
  'dry-run': { scope: 'own', help: 'Only say what would be in the way' },
  abort: { scope: 'own', help: 'Undo a move that has not ended' },
  name: {
    value: { kind: 'text', shown: 'NEW' },
    scope: 'own',
    help: 'Give it another name',
  },
  'delete-source': { scope: 'own', help: 'Delete it here afterwards; asks twice' },
  format: {
    value: { kind: 'cluster-format', shown: 'FORMAT' },
    scope: 'own',
    help: 'Commands of this program: crm or pcs; crm without it',
  },
  files: { scope: 'own', help: 'List the files that all nodes must have alike' },
  'with-lockers': { scope: 'own', help: 'Copy lockers that the other host does not have' },
  store: {
    value: { kind: 'store', shown: 'STORE' },
    scope: 'own',
    help: "Take it from this store; without it, from the host's default",
  },
  owner: {
    value: { kind: 'text', shown: 'UID:GID' },
    scope: 'own',
    help: 'Give its root directory to this user and group; 0:0 without it',
  },
  mode: {
    value: { kind: 'text', shown: 'MODE' },
    scope: 'own',
    help: 'Give its root directory these permissions, octal; 0750 without it',
  },
  for: {
    value: { kind: 'container', shown: 'NAME' },
    scope: 'own',
    help: 'The numbers of --owner are those of the guest of this container',
  },
  encrypt: {
    value: { kind: 'encryption', shown: 'MODE', optional: true },
    scope: 'own',
    help: 'Encrypt it with a key-file (without MODE) or a passphrase',
  },
  freeze: { scope: 'own', help: 'Containers that write to it stand still meanwhile' },
  snapshot: {
    value: { kind: 'text', shown: 'SNAPSHOT' },
    scope: 'own',
    help: 'Only this snapshot of it',
  },
  yes: { scope: 'own', help: 'Yes, destroy the data' },
} as const satisfies Readonly<Record<string, OptionSpec>>;

export type OptionName = keyof typeof optionSpecs;

/** Long names of all options, without the dashes. */
export const optionNames = Object.keys(optionSpecs) as OptionName[];

/** An option by its name; its type is the general one. */
export function optionSpec(name: OptionName): OptionSpec {
  return optionSpecs[name];
}

/** `--timeout=SPAN`, `--json[=MODE]` */
export function longForm(name: OptionName): string {
  const { value } = optionSpec(name);
  if (value === undefined) return `--${name}`;
  return value.optional === true ? `--${name}[=${value.shown}]` : `--${name}=${value.shown}`;
}

/**
 * The keys of lxc.container.conf(5) that set one value or a list, a row for each value. A new key
 * of this kind needs a row here and its field in {@link LxcValues}, and nothing else of the parser.
 * Interfaces (`lxc.net.*`) and limits of memory have their own files, because the key itself
 * carries a part of what they say.
 */
import type { KeyedLine } from '../model/lxc-config.ts';
import { readInteger, readUnsigned } from '../model/lxc-keys.ts';
import type { Located } from '../model/problem.ts';
import { parseSignal } from '../model/signal.ts';
import { isLonger } from './lxc-length.ts';

const PATH_MAX = 4096;
/** Linux's limit in bytes, without the closing NUL: utsname.nodename. */
const NODE_NAME_BYTES = 64;

/** A line's value with its place; the value is empty where the line clears. */
type Assigned = Located<string>;

/** Why LXC refuses a value. */
interface Refusal {
  readonly remedy: string;
  /** The value that was there goes all the same. */
  readonly clears?: true;
}

/** How one key changes a value: `read` understands a line, `merge` puts it to what was there. */
interface KeyRule<V> {
  /**
   * - `plain`: a key of today
   * - `family`: clears all keys that begin with it, and takes no value
   * - `legacy`: a key that only old LXC knew
   */
  readonly kind: 'plain' | 'family' | 'legacy';
  /** The new value; lists are changed in place. */
  readonly apply: (now: V, assigned: Assigned) => { readonly value: V } | Refusal;
}

interface ValueRow<V> {
  /** What holds without a line. */
  readonly initial: () => V;
  readonly keys: Readonly<Record<string, KeyRule<V>>>;
}

/** LXC keeps the storage type apart from the path; see mergeRootfs(). */
interface RootfsParts {
  readonly type: string | undefined;
  readonly path: Located<string> | undefined;
}

/** What the keys have set. */
export interface LxcValues {
  rootfs: RootfsParts;
  initCmd: Located<string> | undefined;
  logFile: Located<string> | undefined;
  utsName: Located<string> | undefined;
  halt: Located<number> | undefined;
  reboot: Located<number> | undefined;
  startAuto: boolean;
  startOrder: number;
  startDelaySec: number;
  groups: string[];
  mountEntries: Located<string>[];
  mountFstab: Located<string> | undefined;
  hooks: { readonly key: string; readonly hook: Located<string> }[];
  groupDirectories: KeyedLine[];
  idmaps: Located<string>[];
}

/** A rule from its two steps. */
function rule<V, R>(
  read: (assigned: Assigned) => { readonly read: R } | Refusal,
  merge: (now: V, read: R) => V,
  kind: KeyRule<V>['kind'] = 'plain',
): KeyRule<V> {
  return {
    kind,
    apply: (now, assigned) => {
      const result = read(assigned);
      return 'read' in result ? { value: merge(now, result.read) } : result;
    },
  };
}

function replace<V>(_now: V, read: V): V {
  return read;
}

function nothing(): undefined {
  return undefined;
}

/** Undefined for a line that clears. */
function readText(assigned: Assigned): { readonly read: Assigned | undefined } {
  return { read: assigned.value === '' ? undefined : assigned };
}

function append<T>(list: T[], read: T | undefined): T[] {
  if (read === undefined) return [];
  list.push(read);
  return list;
}

/** A number; zero for a line that clears. */
function readNumber(
  parse: (value: string) => number | undefined,
  remedy: string,
): (assigned: Assigned) => { readonly read: number } | Refusal {
  return ({ value }) => {
    const number = value === '' ? 0 : parse(value);
    return number === undefined ? { remedy } : { read: number };
  };
}

function readAuto(assigned: Assigned): { readonly read: boolean } | Refusal {
  const remedy = 'write 0 or 1';
  const result = readNumber(readUnsigned, remedy)(assigned);
  if (!('read' in result)) return result;
  return result.read > 1 ? { remedy } : { read: result.read === 1 };
}

function readNodeName(assigned: Assigned): { readonly read: Assigned | undefined } | Refusal {
  if (!isLonger(assigned.value, NODE_NAME_BYTES)) return readText(assigned);
  return { remedy: `write at most ${NODE_NAME_BYTES} bytes` };
}

function readSignal(assigned: Assigned): { readonly read: Located<number> | undefined } | Refusal {
  const signal = assigned.value === '' ? 0 : parseSignal(assigned.value);
  if (signal === undefined) {
    return { remedy: 'write a signal such as SIGPWR or SIGRTMIN+3, or a number from 1 to 64' };
  }
  return { read: signal === 0 ? undefined : { ...assigned, value: signal } };
}

function readGroups({ value }: Assigned): { readonly read: readonly string[] | undefined } {
  if (value === '') return { read: undefined };
  return { read: value.split(/[ \t]/).filter((group) => group !== '') };
}

function mergeGroups(groups: string[], read: readonly string[] | undefined): string[] {
  if (read === undefined) return [];
  for (const group of read) groups.push(group);
  return groups;
}

function readFstab(assigned: Assigned): { readonly read: Assigned } | Refusal {
  if (assigned.value === '') {
    return { remedy: 'remove the line, for LXC does not accept it empty', clears: true };
  }
  const path = simplifyPath(assigned.value);
  if (isLonger(path, PATH_MAX - 1)) return tooLongPath;
  return { read: { ...assigned, value: path } };
}

const tooLongPath: Refusal = { remedy: `write a path of less than ${PATH_MAX} bytes` };

/** `[TYPE:]PATH`; a type that is empty takes the earlier one away. */
function readRootfs(
  assigned: Assigned,
): { readonly read: { readonly type?: string; readonly path: Assigned | undefined } } | Refusal {
  const { value } = assigned;
  if (value === '') return { read: { path: undefined } };
  const colon = value.indexOf(':');
  const text = simplifyPath(value.slice(colon + 1));
  const type = colon < 0 ? undefined : simplifyPath(value.slice(0, colon));
  if (isLonger(text, PATH_MAX - 1) || isLonger(type ?? '', PATH_MAX - 1)) return tooLongPath;
  const path = text === '' ? undefined : { ...assigned, value: text };
  return { read: { ...(type === undefined ? {} : { type }), path } };
}

/**
 * LXC keeps the type when a later line names a path alone or clears the path
 * (set_config_rootfs_path() in confile.c).
 */
function mergeRootfs(
  now: RootfsParts,
  { type = now.type, path }: { readonly type?: string; readonly path: Assigned | undefined },
): RootfsParts {
  return { type: type === '' ? undefined : type, path };
}

/** A kind of hook, whose empty line clears the hooks of this kind. */
function hookRule(key: string): KeyRule<LxcValues['hooks']> {
  return rule(readText, (hooks, hook) => {
    if (hook === undefined) return hooks.filter((other) => other.key !== key);
    hooks.push({ key, hook });
    return hooks;
  });
}

/** The only one that runs before LXC makes its control groups. */
export const preStartHook = 'lxc.hook.pre-start';
/** Hooks that run on the host, before LXC makes mounts there. */
export const makerKeys: readonly string[] = [
  preStartHook,
  'lxc.hook.start-host',
  'lxc.hook.pre-mount',
];
const hookKeys = [...makerKeys, 'lxc.hook.mount', 'lxc.hook.post-stop'];

/** Where LXC puts its control groups, below where it would put them. */
const groupDirectoryKeys = [
  'lxc.cgroup.dir',
  'lxc.cgroup.dir.container',
  'lxc.cgroup.dir.container.inner',
  'lxc.cgroup.dir.monitor',
  'lxc.cgroup.dir.monitor.pivot',
];

function keyedRule(key: string): KeyRule<KeyedLine[]> {
  return rule(readText, (values, located) => [
    ...values.filter((other) => other.key !== key),
    ...(located === undefined ? [] : [{ key, located }]),
  ]);
}

const table: { readonly [N in keyof LxcValues]: ValueRow<LxcValues[N]> } = {
  rootfs: {
    initial: () => ({ type: undefined, path: undefined }),
    keys: {
      'lxc.rootfs.path': rule(readRootfs, mergeRootfs),
      'lxc.rootfs.backend': rule(
        readText,
        ({ path }: RootfsParts, type) => ({ type: type?.value, path }),
        'legacy',
      ),
    },
  },
  initCmd: { initial: nothing, keys: { 'lxc.init.cmd': rule(readText, replace) } },
  logFile: { initial: nothing, keys: { 'lxc.log.file': rule(readText, replace) } },
  utsName: { initial: nothing, keys: { 'lxc.uts.name': rule(readNodeName, replace) } },
  halt: { initial: nothing, keys: { 'lxc.signal.halt': rule(readSignal, replace) } },
  reboot: { initial: nothing, keys: { 'lxc.signal.reboot': rule(readSignal, replace) } },
  startAuto: { initial: () => false, keys: { 'lxc.start.auto': rule(readAuto, replace) } },
  startOrder: {
    initial: () => 0,
    keys: {
      'lxc.start.order': rule(
        readNumber(readInteger, 'write a whole number from -2147483648 to 2147483647'),
        replace,
      ),
    },
  },
  startDelaySec: {
    initial: () => 0,
    keys: {
      'lxc.start.delay': rule(
        readNumber(readUnsigned, 'write whole seconds from 0 to 4294967295'),
        replace,
      ),
    },
  },
  groups: { initial: () => [], keys: { 'lxc.group': rule(readGroups, mergeGroups) } },
  mountEntries: { initial: () => [], keys: { 'lxc.mount.entry': rule(readText, append) } },
  mountFstab: { initial: nothing, keys: { 'lxc.mount.fstab': rule(readFstab, replace) } },
  hooks: {
    initial: () => [],
    keys: {
      'lxc.hook': rule<LxcValues['hooks'], unknown>(readText, () => [], 'family'),
      ...Object.fromEntries(hookKeys.map((key) => [key, hookRule(key)])),
    },
  },
  groupDirectories: {
    initial: () => [],
    keys: Object.fromEntries(groupDirectoryKeys.map((key) => [key, keyedRule(key)])),
  },
  idmaps: { initial: () => [], keys: { 'lxc.idmap': rule(readText, append) } },
};

/** A key of the table as it stands in a file. */
interface TableKey<N extends keyof LxcValues = keyof LxcValues> {
  /** The row that it is in. */
  readonly name: N;
  readonly kind: 'plain' | 'family' | 'legacy';
  /** Sets or clears the key's value; says why where LXC would refuse it. */
  readonly set: (values: ValueStore, assigned: Assigned) => Refusal | undefined;
}

const tableKeys: ReadonlyMap<string, TableKey> = new Map(
  (Object.keys(table) as (keyof LxcValues)[]).flatMap((name) => keysOfRow(name)),
);

function keysOfRow<N extends keyof LxcValues>(name: N): [string, TableKey<N>][] {
  const { keys, initial }: ValueRow<LxcValues[N]> = table[name];
  return Object.entries(keys).map(([key, { kind, apply }]) => {
    const set = (values: ValueStore, assigned: Assigned): Refusal | undefined => {
      const result = apply(values.get(name), assigned);
      if ('value' in result) {
        values.put(name, result.value);
        return undefined;
      }
      if (result.clears === true) values.put(name, initial());
      return result;
    };
    return [key, { name, kind, set }];
  });
}

/** The values of one container while its files are read. */
export class ValueStore {
  readonly #values: Partial<LxcValues> = Object.create(null) as Partial<LxcValues>;

  get<N extends keyof LxcValues>(name: N): LxcValues[N] {
    return this.#values[name] ?? table[name].initial();
  }

  put<N extends keyof LxcValues>(name: N, value: LxcValues[N]): void {
    this.#values[name] = value;
  }
}

/** Which kind of key of the table a key is; undefined for other keys. */
export function tableKeyKind(key: string): TableKey['kind'] | undefined {
  return tableKeys.get(key)?.kind;
}

/** Sets or clears what a key of the table stands for; why, where LXC would refuse the line. */
export function setTableKey(
  values: ValueStore,
  key: string,
  assigned: Assigned,
): Refusal | undefined {
  return tableKeys.get(key)?.set(values, assigned);
}

/** What path_simplify() in LXC's string_utils.c leaves: no doubled slash, no `.`, `..` untouched. */
function simplifyPath(path: string): string {
  if (path === '') return '';
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (path.startsWith('/')) return `/${parts.join('/')}`;
  return parts.length === 0 ? '.' : parts.join('/');
}

import type { LxcConfig, MemoryEntry, NetInterface } from '../model/lxc-config.ts';
import {
  isNetSubKey,
  matchKey,
  nearestKey,
  readInteger,
  readUnsigned,
  splitNetKey,
} from '../model/lxc-keys.ts';
import type { Located, Problem } from '../model/problem.ts';
import { parseSignal, whyNotForwarded } from '../model/signal.ts';
import { shellWord } from '../model/shell-quote.ts';
import { printable } from '../model/unit-syntax.ts';
import { utf8Bytes } from '../model/utf8.ts';
import { includeTarget } from './grammar.ts';
import type { LxcAssignment, LxcText } from './grammar.ts';

/** Why something could not be read, and what the admin can do about it. */
export interface ReadProblem {
  readonly reason: string;
  readonly remedy: string;
  readonly isHung?: true;
}

/** One configuration file as it was read. Containers that include the same file share the object. */
export interface LxcFile {
  /** Absolute path, as the host sees it. */
  readonly path: string;
  readonly text: LxcText;
  /** Lines, counted from 1, with bytes that are not UTF-8; the text has U+FFFD there. */
  readonly badLines: ReadonlySet<number>;
  /** One for each line that includes something, in the order of the lines. */
  readonly includes: readonly LxcInclude[];
  /** Why the file could not be read; the text is empty then. */
  readonly problem?: ReadProblem;
}

/** What one `lxc.include` line brought: one file, or the `*.conf` files of a directory. */
export interface LxcInclude {
  readonly path: string;
  readonly exists: boolean;
  readonly files: readonly LxcFile[];
  /** Why the line brought nothing. */
  readonly problem?: ReadProblem;
}

/** A container's own file with everything it includes. */
export interface LxcSource {
  readonly file: LxcFile;
  /** Every file and directory that was looked for, each once. */
  readonly paths: readonly { readonly path: string; readonly exists: boolean }[];
}

/** The scalars and lists that are read, by their name of today. */
type ReadKey =
  | 'lxc.rootfs.path'
  | 'lxc.rootfs.backend'
  | 'lxc.init.cmd'
  | 'lxc.log.file'
  | 'lxc.uts.name'
  | 'lxc.signal.halt'
  | 'lxc.signal.reboot'
  | 'lxc.start.auto'
  | 'lxc.start.order'
  | 'lxc.start.delay'
  | 'lxc.group'
  | 'lxc.mount.entry'
  | 'lxc.mount.fstab'
  | 'lxc.hook'
  | 'lxc.hook.pre-start'
  | 'lxc.hook.mount'
  | 'lxc.hook.post-stop'
  | 'lxc.idmap';

/** What a file asks for, with everything dropped that neither sets a value nor is wrong. */
type Step =
  | {
      readonly kind: 'set';
      readonly key: ReadKey;
      readonly line: LxcAssignment;
      /** Undefined when the line clears. */
      readonly located: Located<string> | undefined;
    }
  | { readonly kind: 'net'; readonly line: LxcAssignment }
  | { readonly kind: 'cgroup'; readonly line: LxcAssignment }
  | { readonly kind: 'old-net'; readonly line: LxcAssignment }
  | { readonly kind: 'include'; readonly line: number; readonly include: LxcInclude }
  | { readonly kind: 'problem' | 'warning'; readonly note: Problem };

interface Net {
  type?: Located<string>;
  link?: Located<string>;
}

interface State {
  rootfsType: string | undefined;
  rootfs: Located<string> | undefined;
  initCmd: Located<string> | undefined;
  logFile: Located<string> | undefined;
  utsName: Located<string> | undefined;
  halt: Located<number> | undefined;
  reboot: Located<number> | undefined;
  fstab: Located<string> | undefined;
  auto: number;
  order: number;
  delay: number;
  groups: string[];
  mounts: Located<string>[];
  idmaps: Located<string>[];
  hooks: { readonly key: string; readonly hook: Located<string> }[];
  memory: MemoryEntry[];
  readonly nets: Map<number, Net>;
  /** The interface that `lxc.network.*` lines without a number belong to. */
  oldNet: number | undefined;
  highestNet: number;
  readonly files: Set<string>;
  visits: number;
  steps: number;
  readonly problems: Problem[];
  readonly warnings: Problem[];
}

const READ_KEYS: ReadonlySet<string> = new Set<ReadKey>([
  'lxc.rootfs.path',
  'lxc.init.cmd',
  'lxc.log.file',
  'lxc.uts.name',
  'lxc.signal.halt',
  'lxc.signal.reboot',
  'lxc.start.auto',
  'lxc.start.order',
  'lxc.start.delay',
  'lxc.group',
  'lxc.mount.entry',
  'lxc.mount.fstab',
  'lxc.hook.pre-start',
  'lxc.hook.mount',
  'lxc.hook.post-stop',
  'lxc.idmap',
]);
const NET_TYPES = ['veth', 'macvlan', 'ipvlan', 'vlan', 'phys', 'empty', 'none'];

/** Files that include each other's files many times over would otherwise never end. */
const MAX_VISITS = 4096;
/** The same for their lines, of which a file has as many as fit into a mebibyte. */
const MAX_STEPS = 500_000;
/** More would only bury the first ones, which are what the admin mends first. */
const MAX_PROBLEMS = 100;
/** A suggestion costs much more than reading the line. */
const MAX_SUGGESTIONS = 10;
const PATH_MAX = 4096;
/** Linux's limits in bytes, without the closing NUL: IFNAMSIZ and utsname.nodename. */
const LINK_BYTES = 15;
const NODE_NAME_BYTES = 64;

const INLINE_COMMENT = /[ \t]#/;

/**
 * Interprets a container's configuration as LXC does (lxc.container.conf(5); the set_config_*
 * functions of LXC's confile.c). It never throws and never stops early: whatever would make LXC
 * refuse the configuration is listed in `problems`, next to the values of the lines that are fine.
 */
export function parseLxcConfig(source: LxcSource): LxcConfig {
  const state: State = {
    rootfsType: undefined,
    rootfs: undefined,
    initCmd: undefined,
    logFile: undefined,
    utsName: undefined,
    halt: undefined,
    reboot: undefined,
    fstab: undefined,
    auto: 0,
    order: 0,
    delay: 0,
    groups: [],
    mounts: [],
    idmaps: [],
    hooks: [],
    memory: [],
    nets: new Map(),
    oldNet: undefined,
    highestNet: -1,
    files: new Set(),
    visits: 0,
    steps: 0,
    problems: [],
    warnings: [],
  };
  visit(state, source.file);
  const halt = checkedHalt(state);
  const { rootfs } = state;
  return {
    file: source.file.path,
    ...(rootfs === undefined ? {} : { rootfsPath: { ...rootfs, value: rootfsValue(state) } }),
    ...(state.initCmd === undefined ? {} : { initCmd: state.initCmd }),
    ...(state.logFile === undefined ? {} : { logFile: state.logFile }),
    ...(state.utsName === undefined ? {} : { utsName: state.utsName }),
    ...(halt === undefined ? {} : { haltSignal: halt }),
    ...(state.reboot === undefined ? {} : { rebootSignal: state.reboot }),
    startAuto: state.auto === 1,
    startOrder: state.order,
    startDelaySec: state.delay,
    groups: state.groups,
    mountEntries: state.mounts,
    ...(state.fstab === undefined ? {} : { mountFstab: state.fstab }),
    hooks: state.hooks.map(({ hook }) => hook),
    idmaps: state.idmaps,
    nets: [...state.nets]
      .sort(([a], [b]) => a - b)
      .map(([index, net]): NetInterface => ({ index, ...net })),
    memory: state.memory,
    files: [...state.files],
    problems: state.problems,
    warnings: state.warnings,
  };
}

function visit(state: State, file: LxcFile): void {
  state.visits++;
  if (file.problem !== undefined) {
    report(state, { file: file.path, line: 0, ...file.problem });
    return;
  }
  state.files.add(file.path);
  for (const step of stepsOf(file)) {
    state.steps++;
    switch (step.kind) {
      case 'set':
        set(state, file.path, step);
        break;
      case 'net':
        setNet(state, file.path, step.line);
        break;
      case 'cgroup':
        setCgroup(state, file.path, step.line);
        break;
      case 'old-net':
        setOldNet(state, file.path, step.line);
        break;
      case 'include':
        include(state, file.path, step.line, step.include);
        break;
      case 'problem':
        report(state, step.note);
        break;
      case 'warning':
        state.warnings.push(step.note);
        break;
    }
  }
}

function report(state: State, problem: Problem): void {
  if (state.problems.length < MAX_PROBLEMS) state.problems.push(problem);
  else if (state.problems.length === MAX_PROBLEMS) {
    const { file, line } = problem;
    const reason = 'from here on the problems are not listed any more';
    state.problems.push({ file, line, reason, remedy: 'mend the ones above first' });
  }
}

function include(state: State, file: string, line: number, included: LxcInclude): void {
  if (included.problem !== undefined) {
    report(state, { file, line, ...included.problem });
  }
  for (const child of included.files) {
    if (state.visits >= MAX_VISITS) {
      report(state, {
        file,
        line,
        reason: `more than ${MAX_VISITS} files are included`,
        remedy: 'include each file once',
      });
      return;
    }
    if (state.steps >= MAX_STEPS) {
      report(state, {
        file,
        line,
        reason: `the files before it set more than ${MAX_STEPS} values`,
        remedy: 'include each file once',
      });
      return;
    }
    visit(state, child);
  }
}

// A thousand containers include the same distribution files: those are worked through once.
const steps = new WeakMap<LxcFile, readonly Step[]>();

function stepsOf(file: LxcFile): readonly Step[] {
  let known = steps.get(file);
  if (known === undefined) {
    known = findSteps(file);
    steps.set(file, known);
  }
  return known;
}

function findSteps(file: LxcFile): Step[] {
  const { path, text } = file;
  const found: Step[] = fileNotes(file);
  let includes = 0;
  const budget = { suggestions: MAX_SUGGESTIONS };
  for (const line of text.lines) {
    if ('error' in line) {
      found.push(
        problem(path, line.line, line.error, 'write KEY = VALUE, or put a # in front of the line'),
      );
      continue;
    }
    if (includeTarget(line) !== undefined) {
      const included = file.includes[includes++];
      if (file.badLines.has(line.line)) found.push(notUtf8(path, line));
      else if (included !== undefined) {
        found.push({ kind: 'include', line: line.line, include: included });
      }
    } else findSetSteps(file, line, found, budget);
  }
  // The problems of a program's bytes read as text would bury the one that matters.
  if (text.control === undefined) return found;
  const control = text.control.code.toString(16).padStart(2, '0');
  return [
    problem(
      path,
      text.control.line,
      `is not a text file: it has the control byte 0x${control}`,
      'write the configuration as text',
    ),
    ...found.filter((step) => step.kind !== 'problem' && step.kind !== 'warning'),
  ];
}

function fileNotes({ path, text }: LxcFile): Step[] {
  const notes: Step[] = [];
  if (text.nulLine !== undefined) {
    notes.push(
      warning(path, text.nulLine, 'LXC ignores the file from the NUL byte here on', 'remove it'),
    );
  }
  if (text.markHidesKey) {
    notes.push(
      warning(path, 1, 'LXC ignores this line, for it starts with a byte order mark', 'remove it'),
    );
  }
  return notes;
}

function findSetSteps(
  file: LxcFile,
  line: LxcAssignment,
  found: Step[],
  budget: { suggestions: number },
): void {
  const { path } = file;
  const step = stepOf(path, line, found, budget);
  if (step === undefined) return;
  if (file.badLines.has(line.line)) {
    found.push(notUtf8(path, line));
    return;
  }
  found.push(step);
  if (INLINE_COMMENT.test(line.value)) {
    found.push(
      warning(
        path,
        line.line,
        `the "#" is part of the value of ${printable(line.key)}`,
        'put the comment on a line of its own',
      ),
    );
  }
}

/** What a line sets, if we read its key; adds to `found` what is wrong with the key. */
function stepOf(
  path: string,
  line: LxcAssignment,
  found: Step[],
  budget: { suggestions: number },
): Step | undefined {
  const { key } = line;
  if (key.startsWith('lxc.net.') || key === 'lxc.net') return { kind: 'net', line };
  if (isReadKey(key)) return setStep(path, key, line);
  const match = matchKey(key);
  if (match.kind === 'mute' && line.value !== '') {
    found.push(problem(path, line.line, `${key} takes no value of its own`, 'remove the line'));
  } else if (key === 'lxc.hook') {
    return setStep(path, key, line);
  } else if (isMemoryKey(key)) {
    return { kind: 'cgroup', line };
  } else if (match.kind === 'unknown') {
    found.push(unknownKey(path, line, budget.suggestions-- > 0));
  } else if (match.kind === 'legacy') {
    const reason =
      `${printable(key.slice(0, 80))} is a key of LXC 1.x and 2.x, ` +
      'which LXC 3 and later refuse';
    const remedy = `run: lxc-update-config -c ${shellWord(printable(path))}`;
    found.push(problem(path, line.line, reason, remedy));
    if (key === 'lxc.rootfs.backend') return setStep(path, key, line);
    if (key === 'lxc.network' || key.startsWith('lxc.network.')) return { kind: 'old-net', line };
    if (match.now !== undefined && isReadKey(match.now)) return setStep(path, match.now, line);
  }
  return undefined;
}

const CGROUPS = ['lxc.cgroup', 'lxc.cgroup2'];

/** Limits of memory, and the keys that clear them all. */
function isMemoryKey(key: string): boolean {
  return CGROUPS.some((family) => key === family || key.startsWith(`${family}.memory.`));
}

function isReadKey(key: string): key is ReadKey {
  return READ_KEYS.has(key);
}

function setStep(file: string, key: ReadKey, line: LxcAssignment): Step {
  const { value } = line;
  const located = value === '' ? undefined : { value, file, line: line.line };
  return { kind: 'set', key, line, located };
}

function set(state: State, file: string, step: Step & { kind: 'set' }): void {
  const { key, located } = step;
  const { line, value, key: name } = step.line;
  const refuse = (remedy: string): void => {
    report(state, badValue(file, line, name, value, remedy));
  };
  switch (key) {
    case 'lxc.rootfs.path':
      setRootfs(state, value, located, refuse);
      break;
    case 'lxc.rootfs.backend':
      state.rootfsType = located?.value;
      break;
    case 'lxc.init.cmd':
      state.initCmd = located;
      break;
    case 'lxc.log.file':
      state.logFile = located;
      break;
    case 'lxc.uts.name':
      if (isLonger(value, NODE_NAME_BYTES)) refuse(`write at most ${NODE_NAME_BYTES} bytes`);
      else state.utsName = located;
      break;
    case 'lxc.signal.halt':
    case 'lxc.signal.reboot': {
      const signal = value === '' ? 0 : parseSignal(value);
      if (signal === undefined) {
        refuse('write a signal such as SIGPWR or SIGRTMIN+3, or a number from 1 to 64');
        break;
      }
      const located = signal === 0 ? undefined : { value: signal, file, line };
      if (key === 'lxc.signal.halt') state.halt = located;
      else state.reboot = located;
      break;
    }
    case 'lxc.start.auto': {
      const auto = value === '' ? 0 : readUnsigned(value);
      if (auto === undefined || auto > 1) refuse('write 0 or 1');
      else state.auto = auto;
      break;
    }
    case 'lxc.start.order': {
      const order = value === '' ? 0 : readInteger(value);
      if (order === undefined) refuse('write a whole number from -2147483648 to 2147483647');
      else state.order = order;
      break;
    }
    case 'lxc.start.delay': {
      const delay = value === '' ? 0 : readUnsigned(value);
      if (delay === undefined) refuse('write whole seconds from 0 to 4294967295');
      else state.delay = delay;
      break;
    }
    case 'lxc.group':
      if (value === '') state.groups = [];
      else for (const group of value.split(/[ \t]/)) if (group !== '') state.groups.push(group);
      break;
    case 'lxc.mount.entry':
      if (located === undefined) state.mounts = [];
      else state.mounts.push(located);
      break;
    case 'lxc.idmap':
      if (located === undefined) state.idmaps = [];
      else state.idmaps.push(located);
      break;
    case 'lxc.hook':
      state.hooks = [];
      break;
    case 'lxc.hook.pre-start':
    case 'lxc.hook.mount':
    case 'lxc.hook.post-stop':
      if (located === undefined) state.hooks = state.hooks.filter((hook) => hook.key !== key);
      else state.hooks.push({ key, hook: located });
      break;
    case 'lxc.mount.fstab': {
      if (located === undefined) {
        state.fstab = undefined;
        refuse('remove the line, for LXC does not accept it empty');
        break;
      }
      const path = simplifyPath(value);
      if (isLonger(path, PATH_MAX - 1)) refuse(`write a path of less than ${PATH_MAX} bytes`);
      else state.fstab = { ...located, value: path };
      break;
    }
  }
}

/**
 * LXC keeps the storage type apart from the path, and keeps it when a later line names a path
 * alone or clears the path (set_config_rootfs_path() in confile.c).
 */
function setRootfs(
  state: State,
  value: string,
  located: Located<string> | undefined,
  refuse: (remedy: string) => void,
): void {
  if (located === undefined) {
    state.rootfs = undefined;
    return;
  }
  const colon = value.indexOf(':');
  const path = simplifyPath(value.slice(colon + 1));
  const type = colon < 0 ? undefined : simplifyPath(value.slice(0, colon));
  if (isLonger(path, PATH_MAX - 1) || isLonger(type ?? '', PATH_MAX - 1)) {
    refuse(`write a path of less than ${PATH_MAX} bytes`);
    return;
  }
  if (type !== undefined) state.rootfsType = type === '' ? undefined : type;
  state.rootfs = path === '' ? undefined : { ...located, value: path };
}

function rootfsValue({ rootfs, rootfsType }: State): string {
  const path = rootfs?.value ?? '';
  if (rootfsType !== undefined) return `${rootfsType}:${path}`;
  // The part in front of a colon would be taken for the type.
  return path.includes(':') ? `:${path}` : path;
}

/** An empty value clears what the same key set before, or the whole family has. */
function setCgroup(state: State, file: string, { line, key, value }: LxcAssignment): void {
  if (CGROUPS.includes(key)) {
    state.memory = state.memory.filter((entry) => !entry.key.startsWith(`${key}.`));
  } else if (value === '') {
    state.memory = state.memory.filter((entry) => entry.key !== key);
  } else state.memory.push({ key, located: { value, file, line } });
}

function setNet(state: State, file: string, { line, key, value }: LxcAssignment): void {
  if (key === 'lxc.net') {
    if (value === '') state.nets.clear();
    else {
      const remedy = 'write lxc.net = to remove all interfaces, or lxc.net.0.type = veth';
      report(state, badValue(file, line, key, value, remedy));
    }
    return;
  }
  const digits = key.slice('lxc.net.'.length);
  if (value === '' && /^[0-9][^.]*$/.test(digits)) {
    // Only here LXC reads the number as C writes it: 0x1 and 01 are both interface 1.
    const index = readUnsigned(digits);
    if (index === undefined)
      report(state, unknownKey(file, { line, key }, state.problems.length < MAX_SUGGESTIONS).note);
    else state.nets.delete(index);
    return;
  }
  const net = splitNetKey(key);
  if (net === undefined || (net.sub !== undefined && !isNetSubKey(net.sub))) {
    report(state, unknownKey(file, { line, key }, state.problems.length < MAX_SUGGESTIONS).note);
  } else if (net.sub === undefined) {
    const remedy = `write ${key}.type = ${value === '' ? 'veth' : printable(value.slice(0, 80))}`;
    report(state, badValue(file, line, key, value, remedy));
  } else setNetField(state, file, { line, key, value }, net.index, net.sub);
}

function setNetField(
  state: State,
  file: string,
  { line, key, value }: LxcAssignment,
  index: number,
  sub: string,
): void {
  let net = state.nets.get(index);
  if (net === undefined) {
    if (value === '') {
      report(state, {
        file,
        line,
        reason: `${printable(key)} clears something of an interface that is not defined yet`,
        remedy: 'remove the line',
      });
      return;
    }
    net = {};
    state.nets.set(index, net);
    state.highestNet = Math.max(state.highestNet, index);
  }
  if (sub === 'type') {
    // LXC wipes the whole interface when its type is set, even when it is set to the same type.
    delete net.type;
    delete net.link;
    if (NET_TYPES.includes(value)) net.type = { value, file, line };
    else if (value !== '') {
      const remedy = `write one of ${NET_TYPES.join(', ')}`;
      report(state, badValue(file, line, key, value, remedy));
    }
  } else if (sub === 'link') {
    if (value === '') delete net.link;
    else if (value.endsWith('+') && net.type?.value === 'phys') {
      // A pattern for the host's interfaces of the moment: no name that could be waited for.
    } else net.link = { value: cutLink(state, file, line, key, value), file, line };
  }
}

/** LXC logs a name that is too long, cuts it and goes on (network_ifname() in confile_utils.c). */
function cutLink(state: State, file: string, line: number, key: string, value: string): string {
  if (!isLonger(value, LINK_BYTES)) return value;
  let name = '';
  for (const char of value) {
    if (isLonger(name + char, LINK_BYTES)) break;
    name += char;
  }
  state.warnings.push({
    file,
    line,
    reason: `${printable(key)} is longer than ${LINK_BYTES} bytes, so LXC takes "${printable(name)}"`,
    remedy: 'write the name of a network interface',
  });
  return name;
}

/** LXC 1.x numbers interfaces by their `type` lines; 2.x also knows `lxc.network.N.type`. */
function setOldNet(state: State, file: string, line: LxcAssignment): void {
  const { key, value } = line;
  if (key === 'lxc.network') {
    state.nets.clear();
    state.oldNet = undefined;
    state.highestNet = -1;
    return;
  }
  const sub = key.slice('lxc.network.'.length);
  const numbered = splitNetKey(`lxc.net.${sub}`);
  if (numbered !== undefined) {
    if (numbered.sub === undefined) state.nets.delete(numbered.index);
    else if (value !== '' || state.nets.has(numbered.index)) {
      setNetField(state, file, line, numbered.index, numbered.sub);
    }
    return;
  }
  if (sub === 'type' && value !== '') {
    state.oldNet = state.highestNet + 1;
  }
  if (state.oldNet !== undefined && (value !== '' || state.nets.has(state.oldNet))) {
    setNetField(state, file, line, state.oldNet, sub);
  }
}

function checkedHalt(state: State): Located<number> | undefined {
  const { halt } = state;
  if (halt === undefined) return undefined;
  if (halt.value > 64) {
    state.warnings.push({
      file: halt.file,
      line: halt.line,
      reason: `there is no signal ${halt.value}`,
      remedy: 'write a number from 1 to 64, or a name such as SIGPWR',
    });
    return undefined;
  }
  const lost = whyNotForwarded(halt.value);
  if (lost !== undefined) {
    state.warnings.push({
      file: halt.file,
      line: halt.line,
      reason: lost,
      remedy: 'choose a signal on which the container shuts down, such as SIGPWR or SIGRTMIN+3',
    });
  }
  return halt;
}

/** What path_simplify() in LXC's string_utils.c leaves: no doubled slash, no `.`, `..` untouched. */
function simplifyPath(path: string): string {
  if (path === '') return '';
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (path.startsWith('/')) return `/${parts.join('/')}`;
  return parts.length === 0 ? '.' : parts.join('/');
}

function isLonger(text: string, bytes: number): boolean {
  // A UTF-16 unit is one to three bytes of UTF-8, so most texts need no encoding.
  if (text.length > bytes) return true;
  return text.length * 3 > bytes && utf8Bytes(text).length > bytes;
}

function badValue(file: string, line: number, key: string, value: string, remedy: string): Problem {
  const shown = value.length > 80 ? `${value.slice(0, 80)}...` : value;
  return {
    file,
    line,
    reason: `${printable(key.slice(0, 80))} does not take "${printable(shown)}"`,
    remedy: INLINE_COMMENT.test(value) ? 'put the comment on a line of its own' : remedy,
  };
}

function unknownKey(
  file: string,
  { line, key }: { readonly line: number; readonly key: string },
  suggest: boolean,
) {
  const nearest = suggest ? nearestKey(key) : undefined;
  return problem(
    file,
    line,
    `unknown key "${printable(key.slice(0, 80))}"`,
    nearest === undefined
      ? 'remove the line or see lxc.container.conf(5)'
      : `write ${nearest} or remove the line`,
  );
}

function notUtf8(file: string, { line, key }: LxcAssignment): Step {
  return problem(
    file,
    line,
    `the value of ${printable(key.slice(0, 80))} is not UTF-8`,
    'save the file in UTF-8',
  );
}

function problem(file: string, line: number, reason: string, remedy: string) {
  return { kind: 'problem', note: { file, line, reason, remedy } } as const;
}

function warning(file: string, line: number, reason: string, remedy: string): Step {
  return { kind: 'warning', note: { file, line, reason, remedy } };
}

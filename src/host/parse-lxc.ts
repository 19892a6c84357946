/**
 * Interprets a container's configuration. lxc-steps finds what each file asks for, lxc-values has
 * the table of keys, lxc-nets and lxc-limits the keys that carry a number or a name themselves, and
 * here the files are taken one after the other.
 */
import type { LxcConfig } from '../model/lxc-config.ts';
import type { Located, Problem } from '../model/problem.ts';
import { whyNotForwarded } from '../model/signal.ts';
import type { Writable } from '../model/writable.ts';
import { noteCgroup1 } from './lxc-cgroup1.ts';
import type { LimitLines } from './lxc-limits.ts';
import { listOf, mergeLimit, noLimitLines } from './lxc-limits.ts';
import type { Nets } from './lxc-nets.ts';
import { noNets, setNet, setOldNet, sortedNets } from './lxc-nets.ts';
import { badValue, Notes } from './lxc-problems.ts';
import type { LxcRelease } from './lxc-release.ts';
import type { LxcFile, LxcInclude, LxcSource } from './lxc-source.ts';
import type { Step } from './lxc-steps.ts';
import { stepsOf, stepsOfIncluded } from './lxc-steps.ts';
import type { LxcValues } from './lxc-values.ts';
import { makerKeys, setTableKey, ValueStore } from './lxc-values.ts';

/** Files that include each other's files many times over would otherwise never end. */
const MAX_VISITS = 4096;
/** The same for their lines, of which a file has as many as fit into a mebibyte. */
const MAX_STEPS = 500_000;

/** What is known of a container while its files are read. */
interface State {
  readonly values: ValueStore;
  readonly nets: Nets;
  readonly limits: LimitLines;
  readonly files: Set<string>;
  visits: number;
  steps: number;
  readonly notes: Notes;
  readonly release: () => LxcRelease | undefined;
}

/**
 * Interprets a container's configuration as LXC does (lxc.container.conf(5); the set_config_*
 * functions of LXC's confile.c). It never throws and never stops early: whatever would make LXC
 * refuse the configuration is listed in `problems`, next to the values of the lines that are fine.
 */
export function parseLxcConfig(
  source: LxcSource,
  release: () => LxcRelease | undefined = () => undefined,
): LxcConfig {
  const state: State = {
    values: new ValueStore(),
    nets: noNets(),
    limits: noLimitLines(),
    files: new Set(),
    visits: 0,
    steps: 0,
    notes: new Notes(release),
    release,
  };
  visit(state, source.file, stepsOf);
  const { values, notes } = state;
  const rootfs = values.get('rootfs');
  const makers = values.get('hooks').filter(({ key }) => makerKeys.includes(key));
  const directories = values.get('groupDirectories');
  const halt = checkedHalt(values.get('halt'), notes.warnings);
  const config: Writable<LxcConfig> = {
    file: source.file.path,
    startAuto: values.get('startAuto'),
    startOrder: values.get('startOrder'),
    startDelaySec: values.get('startDelaySec'),
    groups: values.get('groups'),
    mountEntries: values.get('mountEntries'),
    hooks: values.get('hooks').map(({ hook }) => hook),
    idmaps: values.get('idmaps'),
    nets: sortedNets(state.nets),
    memory: listOf(state.limits.memory),
    files: [...state.files],
    problems: notes.problems,
    warnings: notes.warnings,
  };
  const { path } = rootfs;
  if (path !== undefined) config.rootfsPath = { ...path, value: rootfsValue(rootfs) };
  setPresent(config, 'initCmd', values.get('initCmd'));
  setPresent(config, 'logFile', values.get('logFile'));
  setPresent(config, 'utsName', values.get('utsName'));
  setPresent(config, 'haltSignal', halt);
  setPresent(config, 'rebootSignal', values.get('reboot'));
  setPresent(config, 'mountFstab', values.get('mountFstab'));
  if (makers.length > 0) config.makers = makers;
  if (directories.length > 0) config.groupDirectories = directories;
  if (state.limits.other.size > 0) config.limits = listOf(state.limits.other);
  return config;
}

/** A field that is left out where there is no value. */
function setPresent<K extends keyof LxcConfig>(
  config: Writable<LxcConfig>,
  key: K,
  value: LxcConfig[K] | undefined,
): void {
  if (value !== undefined) config[key] = value;
}

function visit(state: State, file: LxcFile, stepsIn: typeof stepsOf): void {
  state.visits++;
  if (file.problem !== undefined) {
    state.notes.report({ file: file.path, line: 0, ...file.problem });
    return;
  }
  state.files.add(file.path);
  const steps = stepsIn(file);
  state.steps += steps.count;
  for (const step of steps.acting) take(state, file.path, step);
  noteCgroup1(state, file.path, steps.cgroup1);
}

function take(state: State, file: string, step: Step): void {
  const { nets, notes } = state;
  switch (step.kind) {
    case 'set': {
      const { line, key, value } = step.line;
      const refusal = setTableKey(state.values, step.key, { value, file, line });
      if (refusal !== undefined) {
        notes.reportRefusal(badValue({ file, line, key, value }, refusal.remedy));
      }
      break;
    }
    case 'net':
      setNet(nets, notes, file, step.line);
      break;
    case 'cgroup':
    case 'cgroup1':
      mergeLimit(state.limits, file, step.line);
      break;
    case 'old-net':
      setOldNet(nets, notes, file, step.line);
      break;
    case 'include':
      include(state, file, step.line, step.include);
      break;
    case 'refusal':
      notes.reportRefusal(step.note);
      break;
    case 'problem':
      notes.report(step.note);
      break;
    case 'warning':
      notes.warnings.push(step.note);
      break;
  }
}

function include(state: State, file: string, line: number, included: LxcInclude): void {
  if (included.problem !== undefined) {
    state.notes.report({ file, line, ...included.problem });
  }
  for (const child of included.files) {
    if (state.visits >= MAX_VISITS) {
      state.notes.report({
        file,
        line,
        reason: `more than ${MAX_VISITS} files are included`,
        remedy: 'include each file once',
      });
      return;
    }
    if (state.steps >= MAX_STEPS) {
      state.notes.report({
        file,
        line,
        reason: `the files before it set more than ${MAX_STEPS} values`,
        remedy: 'include each file once',
      });
      return;
    }
    visit(state, child, stepsOfIncluded);
  }
}

function rootfsValue({ type, path }: LxcValues['rootfs']): string {
  const text = path?.value ?? '';
  if (type !== undefined) return `${type}:${text}`;
  // The part in front of a colon would be taken for the type.
  return text.includes(':') ? `:${text}` : text;
}

function checkedHalt(
  halt: Located<number> | undefined,
  warnings: Problem[],
): Located<number> | undefined {
  if (halt === undefined) return undefined;
  if (halt.value > 64) {
    warnings.push({
      file: halt.file,
      line: halt.line,
      reason: `there is no signal ${halt.value}`,
      remedy: 'write a number from 1 to 64, or a name such as SIGPWR',
    });
    return undefined;
  }
  const lost = whyNotForwarded(halt.value);
  if (lost !== undefined) {
    warnings.push({
      file: halt.file,
      line: halt.line,
      reason: lost,
      remedy: 'choose a signal on which the container shuts down, such as SIGPWR or SIGRTMIN+3',
    });
  }
  return halt;
}

/** The drop-in of one container's unit. */
import { encodeField } from '../model/fstab.ts';
import { formatProblem } from '../model/problem.ts';
import { parentOf } from '../model/path.ts';
import {
  containerUnit,
  delayUnit,
  groupTarget,
  mountUnit,
  runtimeName,
} from '../model/unit-name.ts';
import { printable, unitText, unitWord } from '../model/unit-syntax.ts';
import type { Wormhole } from '../host/lockers.ts';
import type { Container } from './container.ts';
import { hasDelay } from './container.ts';
import { SIGPWR, SIGRTMIN_3 } from './decide-halt.ts';
import { forwardUnit } from './plan-boot.ts';
import { lateNeeds, lateUnit, needsUnits, planDevicesCheck } from './plan-needs.ts';
import { partitionArguments, partitionUnits } from './plan-partition.ts';
import { hasReturning, returnUnit } from './plan-lockers.ts';
import type { ContainerView, Fact, Planned } from './plan-views.ts';
import { command, hookDirectory, isHung } from './plan-views.ts';

const autoballoonUnit = 'lockerd-autoballoon.service';

/** Shows the host the journals of guests that have "journal = host". */
const journalsUnit = 'run-lockerd-journals.mount';

/** What starts a container; the packaged drop-in has the same. */
export const startProgram = `${hookDirectory}/container-start`;

/** Arguments of lxc-start that every container has; the packaged drop-in has the same. */
export const startArguments = ['-s', 'lxc.cgroup.relative=1'] as const;

/**
 * What lets the guest's init report to container-notify. /run becomes a file system of its own
 * because the guest's init would otherwise mount one over the socket.
 */
function bootedStartArguments({ instance }: Container): string[] {
  const socket = encodeField(`/run/lockerd/containers/${runtimeName(instance)}/notify`);
  return [
    '-s',
    `lxc.hook.start-host=${hookDirectory}/notify-owner`,
    '-s',
    'lxc.environment=NOTIFY_SOCKET=/run/host/notify',
    '-s',
    'lxc.mount.entry=tmpfs run tmpfs rw,nosuid,nodev,mode=755,create=dir 0 0',
    '-s',
    `lxc.mount.entry=${socket} run/host/notify none bind,create=file 0 0`,
  ];
}

/**
 * What container-start and show-wormhole have to know. What is mounted into the wormhole later appears in
 * the container too, and the guest can write into lockers only, not beside them.
 */
function addWormholeEnvironment(
  environment: string[],
  { path, insidePath, attachments }: Wormhole,
): void {
  environment.push(unitWord(`LOCKERD_WORMHOLE=${path}`));
  environment.push(unitWord(`LOCKERD_LOCKER_PATH=${insidePath}`));
  if (attachments.some((a) => a.strict)) environment.push('LOCKERD_STRICT_LOCKERS=yes');
}

/** ExecStart= of a container; empty where the packaged one says the same. */
function planExecStart(c: Container): string {
  const { settings } = c;
  const isPackaged =
    c.name === c.instance &&
    settings.logLevel === undefined &&
    settings.ready === 'running' &&
    c.clearedKeys.length === 0 &&
    c.partition === undefined &&
    !c.hasPreStart;
  if (isPackaged) return '';
  return command(startProgram, [
    '-F',
    '-n',
    c.name,
    ...startArguments,
    ...(c.hasPreStart ? ['-s', `lxc.hook.pre-start=${hookDirectory}/clear-group`] : []),
    ...partitionArguments(c),
    ...c.clearedKeys.flatMap((key) => ['-s', `${key}=`]),
    ...(settings.ready === 'booted' ? bootedStartArguments(c) : []),
    ...(settings.logLevel === undefined
      ? []
      : ['-s', 'lxc.log.syslog=daemon', '-l', settings.logLevel]),
  ]);
}

/** Signals that stop-guest chooses from, the best one first; none where KillSignal= does it all. */
function signalsAtStop({ isSentAtStop, heardBy }: Container['halt']): readonly number[] {
  if (!isSentAtStop) return [];
  // A guest that was thought to run systemd may have another init.
  return heardBy.includes(SIGRTMIN_3) ? [SIGRTMIN_3, SIGPWR] : heardBy;
}

/** By the signals, as nearly all containers have the same. */
const execStops = new Map<string, readonly string[]>();

function planExecStop(c: Container): readonly string[] {
  const signals = signalsAtStop(c.halt);
  const key = signals.join(' ');
  let execStop = execStops.get(key);
  if (execStop === undefined) {
    // A frozen guest hears no signal.
    execStop = [`-${command(`${hookDirectory}/stop-guest`, signals.map(String))}`];
    execStops.set(key, execStop);
  }
  return execStop;
}

const refusedProblemsShown = 10;

/** The command that says why a container cannot start, one line a problem, and fails. */
function planRefusal(c: Container): string {
  if (c.problems.length === 0) return '';
  const lines = c.problems
    .slice(0, refusedProblemsShown)
    .map((problem) => printable(formatProblem(problem)).slice(0, 2000));
  const left = c.problems.length - lines.length;
  if (left > 0) lines.push(`and ${left} more`);
  return command(`${hookDirectory}/refuse-start`, lines);
}

function planLockerCheck({ wormhole, problems }: Container): string {
  if (wormhole === undefined || problems.length > 0) return '';
  const strict = wormhole.attachments.filter((a) => a.strict);
  if (strict.length === 0) return '';
  return command(
    `${hookDirectory}/check-lockers`,
    strict.flatMap(({ target, source }) => [target, source]),
  );
}

function addLockerFacts(facts: Fact[], { path, attachments }: Wormhole): void {
  facts.push({ key: 'Wormhole', value: unitWord(path) });
  for (const { locker, readOnly, strict } of attachments) {
    const how = `${readOnly ? 'ro' : 'rw'} ${strict ? 'strict' : 'soft'}`;
    facts.push({ key: 'Locker', value: `${unitWord(locker)} ${how}` });
  }
}

/** SIGINT, which lxc-stop(1) sends unless lxc.signal.reboot says otherwise. */
const defaultRebootSignal = 2;

function planFacts(c: Container): Fact[] {
  const facts: Fact[] = [
    { key: 'Container', value: unitWord(c.name) },
    { key: 'ConfigFile', value: unitWord(c.configFile) },
    { key: 'Autostart', value: c.boot.starts ? 'yes' : 'no' },
  ];
  const { reasons, neededBy = '' } = c.boot;
  for (const reason of reasons) {
    const by = reason === 'needed' && neededBy !== '' ? ` ${unitWord(neededBy)}` : '';
    facts.push({ key: 'AutostartReason', value: `${reason}${by}` });
  }
  facts.push({ key: 'RebootSignal', value: String(c.rebootSignal ?? defaultRebootSignal) });
  for (const group of c.groups) facts.push({ key: 'Group', value: unitWord(group) });
  const { autoballoon } = c.settings;
  if (autoballoon !== undefined) {
    facts.push({ key: 'Autoballoon', value: `${autoballoon.floor} ${autoballoon.ceiling}` });
  }
  if (c.wormhole !== undefined) addLockerFacts(facts, c.wormhole);
  for (const unit of lateNeeds(c)) facts.push({ key: 'Needs', value: unit });
  for (const problem of c.problems) {
    facts.push({ key: 'Problem', value: unitWord(printable(formatProblem(problem))) });
  }
  return facts;
}

function planEnvironment(c: Container): string[] {
  const environment = [unitWord(`LOCKERD_HALT_SIGNALS=${c.halt.heardBy.join(' ')}`)];
  for (const unit of needsUnits(c)) environment.push(unitWord(`LOCKERD_NEEDS=${unit}`));
  if (c.settings.ready === 'booted') environment.push('LOCKERD_READY=booted');
  if (c.settings.machined !== undefined)
    environment.push(`LOCKERD_MACHINED=${c.settings.machined ? 'yes' : 'no'}`);
  if (c.settings.hostJournal === true) environment.push('LOCKERD_JOURNAL=host');
  if (c.init === 'other') environment.push('LOCKERD_INIT=other');
  if (c.hasLogFile) environment.push('LOCKERD_LOG=own');
  if (c.wormhole !== undefined) addWormholeEnvironment(environment, c.wormhole);
  return environment;
}

const noNeeds: Pick<Container, 'wants' | 'after' | 'startsAfter'> = {
  wants: [],
  after: [],
  startsAfter: [],
};

/** What the unit wants and is ordered after, and the units that it is a part of. */
function planRelations(
  c: Container,
  isForwarded: boolean,
): Pick<ContainerView, 'bindsTo' | 'wants' | 'after' | 'partOf'> {
  const broken = c.problems.length > 0;
  // A unit that refuses to start need not wait for anything first.
  const needs = broken ? noNeeds : c;
  const wants = needs.wants.slice();
  const after = needs.wants.concat(needs.after);
  const { needs: bindsTo = [], wants: wishes = [] } = broken ? {} : (c.companions ?? {});
  for (const unit of wishes) wants.push(unit);
  for (const unit of [...bindsTo, ...wishes]) after.push(unit);
  const isManaged = c.settings.managedBy !== undefined;
  const partOf = c.groups.length === 0 || isManaged ? [] : c.groups.map(groupTarget);
  const units = [...needsUnits(c), ...partitionUnits(c)];
  for (const unit of units) after.push(unit);
  if (c.wormhole !== undefined) {
    // Ordered also before what runs while its configuration is broken: none is unmounted before the stop.
    const mounts = [mountUnit(parentOf(c.wormhole.path))];
    for (const { target } of c.wormhole.attachments) mounts.push(mountUnit(target));
    for (const unit of mounts) {
      if (!broken) wants.push(unit);
      after.push(unit);
    }
  }
  for (const unit of needs.startsAfter)
    if (!bindsTo.includes(unit) && !wishes.includes(unit)) after.push(unit);
  if (hasDelay(c)) wants.push(delayUnit(c.name));
  for (const unit of units) wants.push(unit);
  if (isForwarded) {
    wants.push(forwardUnit(c.name));
    partOf.push(forwardUnit(c.name));
  }
  if (c.settings.autoballoon !== undefined && !broken) wants.push(autoballoonUnit);
  if (hasReturning(c)) wants.push(returnUnit);
  if (c.settings.hostJournal === true && !broken) {
    wants.push(journalsUnit);
    after.push(journalsUnit);
  }
  return { bindsTo, wants, after, partOf };
}

/** Empty where the packaged unit's is the same. */
function planRuntimeDirectory({ instance }: Container): string {
  const name = runtimeName(instance);
  return name === instance ? '' : `lockerd/containers/${name}`;
}

/** Plans the drop-in of one container. Pure: fixtures run it without a file system. */
export function planContainerDropIn(c: Container, isForwarded: boolean): Planned {
  const broken = c.problems.length > 0;
  const { bindsTo, wants, after, partOf } = planRelations(c, isForwarded);
  return {
    kind: 'file',
    path: `${containerUnit(c.name)}.d/60-container.conf`,
    template: 'container',
    view: {
      configFile: unitText(c.configFile),
      hung: broken && isHung(c),
      managed: c.settings.managedBy !== undefined,
      requiresMountsFor: broken ? [] : c.requiredPaths.map(unitWord),
      bindsTo,
      wants,
      after,
      late: c.mayComeLate && !broken ? lateUnit(c.name) : '',
      partOf,
      refuse: planRefusal(c),
      checkDevices: planDevicesCheck(c),
      checkLockers: planLockerCheck(c),
      execStart: planExecStart(c),
      execStop: planExecStop(c),
      execStopPost:
        c.name === c.instance ? '' : command(`${hookDirectory}/container-gone`, [c.name]),
      runtimeDirectory: planRuntimeDirectory(c),
      killSignal: c.halt.signal,
      environment: planEnvironment(c),
      // Some four hundred lines tell of one start.
      logBurst: c.settings.logLevel === undefined ? '' : '5000',
      startTimeout: c.settings.startTimeout ?? '',
      stopTimeout: c.settings.stopTimeout ?? '',
      facts: planFacts(c),
    },
  };
}

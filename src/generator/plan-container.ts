/** The drop-in of one container's unit. */
import { encodeField } from '../model/fstab.ts';
import { formatProblem } from '../model/problem.ts';
import { parentOf } from '../model/path.ts';
import { containerUnit, delayUnit, groupTarget, mountUnit } from '../model/unit-name.ts';
import { printable, unitText, unitWord } from '../model/unit-syntax.ts';
import type { Wormhole } from '../host/lockers.ts';
import type { Container } from './container.ts';
import { hasDelay } from './container.ts';
import { SIGPWR, SIGRTMIN_3 } from './decide-halt.ts';
import { forwardUnit } from './plan-boot.ts';
import { lateNeeds, lateUnit, needsUnits, planDevicesCheck } from './plan-needs.ts';
import { hasReturning, returnUnit } from './plan-lockers.ts';
import type { Fact, Planned } from './plan-views.ts';
import { command, hookDirectory, isHung } from './plan-views.ts';

const autoballoonUnit = 'lockerd-autoballoon.service';

/** What starts a container; the packaged drop-in has the same. */
export const startProgram = `${hookDirectory}/container-start`;

/** Arguments of lxc-start that every container has; the packaged drop-in has the same. */
export const startArguments = ['-s', 'lxc.cgroup.relative=1'] as const;

/**
 * What lets the guest's init report to container-notify. /run becomes a file system of its own
 * because the guest's init would otherwise mount one over the socket.
 */
function bootedStartArguments({ instance }: Container): string[] {
  const socket = encodeField(`/run/lockerd/containers/${instance}/notify`);
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
function wormholeEnvironment({ path, insidePath, attachments }: Wormhole): string[] {
  return [
    `LOCKERD_WORMHOLE=${path}`,
    `LOCKERD_LOCKER_PATH=${insidePath}`,
    ...(attachments.some((a) => a.strict) ? ['LOCKERD_STRICT_LOCKERS=yes'] : []),
  ];
}

/** ExecStart= of a container; empty where the packaged one says the same. */
function planExecStart(c: Container): string {
  const { settings } = c;
  const isPackaged =
    c.name === c.instance &&
    settings.logLevel === undefined &&
    settings.ready === 'running' &&
    c.clearedKeys.length === 0 &&
    !c.hasPreStart;
  if (isPackaged) return '';
  return command(startProgram, [
    '-F',
    '-n',
    c.name,
    ...startArguments,
    ...(c.hasPreStart ? ['-s', `lxc.hook.pre-start=${hookDirectory}/clear-group`] : []),
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

function planExecStop(c: Container): string[] {
  return [
    // A frozen guest hears no signal.
    `-${command(`${hookDirectory}/stop-guest`, signalsAtStop(c.halt).map(String))}`,
  ];
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

function planLockerFacts({ wormhole }: Container): [string, string][] {
  if (wormhole === undefined) return [];
  return [
    ['Wormhole', unitWord(wormhole.path)],
    ...wormhole.attachments.map((a): [string, string] => [
      'Locker',
      `${unitWord(a.locker)} ${a.readOnly ? 'ro' : 'rw'} ${a.strict ? 'strict' : 'soft'}`,
    ]),
  ];
}

function planAutoballoon({ settings: { autoballoon } }: Container): [string, string][] {
  return autoballoon === undefined
    ? []
    : [['Autoballoon', `${autoballoon.floor} ${autoballoon.ceiling}`]];
}

/** SIGINT, which lxc-stop(1) sends unless lxc.signal.reboot says otherwise. */
const defaultRebootSignal = 2;

function planFacts(c: Container): Fact[] {
  const facts: [string, string][] = [
    ['Container', unitWord(c.name)],
    ['ConfigFile', unitWord(c.configFile)],
    ['Autostart', c.boot.starts ? 'yes' : 'no'],
    ...c.boot.reasons.map((reason): [string, string] => ['AutostartReason', reason]),
    ['RebootSignal', String(c.rebootSignal ?? defaultRebootSignal)],
    ...c.groups.map((group): [string, string] => ['Group', unitWord(group)]),
    ...planAutoballoon(c),
    ...planLockerFacts(c),
    ...lateNeeds(c).map((unit): [string, string] => ['Needs', unit]),
    ...c.problems.map((problem): [string, string] => [
      'Problem',
      unitWord(printable(formatProblem(problem))),
    ]),
  ];
  return facts.map(([key, value]) => ({ key, value }));
}

function planEnvironment(c: Container): string[] {
  const { halt, settings, hasLogFile, wormhole } = c;
  return [
    `LOCKERD_HALT_SIGNALS=${halt.heardBy.join(' ')}`,
    ...needsUnits(c).map((unit) => `LOCKERD_NEEDS=${unit}`),
    ...(settings.ready === 'booted' ? ['LOCKERD_READY=booted'] : []),
    ...(settings.machined === undefined
      ? []
      : [`LOCKERD_MACHINED=${settings.machined ? 'yes' : 'no'}`]),
    ...(hasLogFile ? ['LOCKERD_LOG=own'] : []),
    ...(wormhole === undefined ? [] : wormholeEnvironment(wormhole)),
  ];
}

/** Plans the drop-in of one container. Pure: fixtures run it without a file system. */
export function planContainerDropIn(c: Container, isForwarded: boolean): Planned {
  const broken = c.problems.length > 0;
  // A unit that refuses to start need not wait for anything first.
  const needs = broken ? { requiredPaths: [], wants: [], after: [], startsAfter: [] } : c;
  const attachments = c.wormhole?.attachments ?? [];
  const attachmentUnits = attachments.map(({ target }) => mountUnit(target));
  const wormholes = c.wormhole === undefined ? [] : [mountUnit(parentOf(c.wormhole.path))];
  const { needs: companions = [], wants: wishes = [] } = broken ? {} : (c.companions ?? {});
  const delay = hasDelay(c) ? [delayUnit(c.name)] : [];
  const forward = isForwarded ? [forwardUnit(c.name)] : [];
  const autoballoon = c.settings.autoballoon === undefined || broken ? [] : [autoballoonUnit];
  return {
    kind: 'file',
    path: `${containerUnit(c.name)}.d/60-container.conf`,
    template: 'container',
    view: {
      configFile: unitText(c.configFile),
      hung: isHung(c),
      requiresMountsFor: needs.requiredPaths.map(unitWord),
      bindsTo: companions,
      wants: [
        ...needs.wants,
        ...wishes,
        ...(broken ? [] : [...wormholes, ...attachmentUnits]),
        ...delay,
        ...needsUnits(c),
        ...forward,
        ...autoballoon,
        ...(hasReturning(c) ? [returnUnit] : []),
      ],
      after: [
        ...needs.wants,
        ...needs.after,
        ...companions,
        ...wishes,
        ...needsUnits(c),
        // Also of what runs while its configuration is broken: none is unmounted before the stop.
        ...wormholes,
        ...attachmentUnits,
        ...needs.startsAfter.filter((unit) => !companions.includes(unit) && !wishes.includes(unit)),
      ],
      late: c.mayComeLate && !broken ? lateUnit(c.name) : '',
      partOf: [...c.groups.map(groupTarget), ...forward],
      refuse: planRefusal(c),
      checkDevices: planDevicesCheck(c),
      checkLockers: planLockerCheck(c),
      execStart: planExecStart(c),
      execStop: planExecStop(c),
      execStopPost:
        c.name === c.instance ? '' : command(`${hookDirectory}/container-gone`, [c.name]),
      killSignal: c.halt.signal,
      environment: planEnvironment(c).map(unitWord),
      // Some four hundred lines tell of one start.
      logBurst: c.settings.logLevel === undefined ? '' : '5000',
      startTimeout: c.settings.startTimeout ?? '',
      stopTimeout: c.settings.stopTimeout ?? '',
      facts: planFacts(c),
    },
  };
}

import type { WatchedPath } from '../model/sight.ts';
import { hostFactsFile } from '../model/facts.ts';
import { bindOptions, bindSource, guardUnits, readOnlyPath } from '../model/attachment.ts';
import { encodeField } from '../model/fstab.ts';
import { defaultLxcpath } from '../model/path.ts';
import { formatProblem } from '../model/problem.ts';
import {
  containerUnit,
  delayUnit,
  escapeInstance,
  escapePath,
  groupTarget,
  mountUnit,
  netDeviceUnit,
  slotUnit,
  unitNameFits,
} from '../model/unit-name.ts';
import {
  execArgument,
  fitsRestOfLine,
  fitsUnitFile,
  printable,
  unitText,
  unitWord,
} from '../model/unit-syntax.ts';
import type { Attachment, Lockers, Wormhole } from '../host/lockers.ts';
import { whyNoMountUnit } from '../host/lockers.ts';
import type { Container } from './model.ts';
import { compareText, hasDelay, SIGPWR, SIGRTMIN_3 } from './model.ts';

/** The templates in units/, each with what it is given; every value is ready for a unit file. */
export interface TemplateViews {
  readonly container: ContainerView;
  readonly containers: { readonly lxcpath: string };
  readonly delay: { readonly configFile: string; readonly unit: string; readonly seconds: number };
  readonly bridge: { readonly interface: string; readonly timeout: string };
  readonly forward: ForwardView;
  readonly limits: LimitsView;
  readonly group: { readonly wants: readonly string[] };
  readonly slots: MountView;
  readonly wormhole: WormholeView;
  readonly attachment: AttachmentView;
  readonly readOnly: ReadOnlyView;
  readonly rescan: { readonly after: readonly string[]; readonly execStart: string };
  readonly host: { readonly facts: readonly Fact[] };
}

/** A line of an `[X-Lockerd]` section; `src/model/facts.ts` reads it back. */
interface Fact {
  readonly key: string;
  readonly value: string;
}

export interface ContainerView {
  readonly configFile: string;
  /** PID 1 looks at SourcePath=, and would wait for what does not answer. */
  readonly hung: boolean;
  readonly requiresMountsFor: readonly string[];
  readonly requires: readonly string[];
  readonly wants: readonly string[];
  readonly after: readonly string[];
  /** The mount unit of the wormhole; empty where there is none. */
  readonly wormhole: string;
  readonly partOf: readonly string[];
  /** The command that refuses the start; empty for a sound container. */
  readonly refuse: string;
  /** The command that looks whether lockers are there; empty where there are none. */
  readonly checkLockers: string;
  /** Empty where the packaged unit's value stands. */
  readonly execStart: string;
  readonly execStop: readonly string[];
  /** Empty where the packaged unit's value stands. */
  readonly execStopPost: string;
  readonly killSignal: string;
  readonly environment: readonly string[];
  /** Lines in the journal for each priority; empty where the packaged unit's value stands. */
  readonly logBurst: string;
  /** Empty where the packaged unit's value stands. */
  readonly startTimeout: string;
  /** Empty where the packaged unit's value stands. */
  readonly stopTimeout: string;
  readonly facts: readonly Fact[];
}

interface LimitsView {
  readonly configFile: string;
  readonly autoballoon: boolean;
  readonly limits: readonly { readonly name: string; readonly size: string }[];
}

interface MountView {
  readonly configFile: string;
  readonly description: string;
  readonly where: string;
}

interface WormholeView extends MountView {
  readonly slots: string;
  readonly slotsUnit: string;
  /** Directories to make there, escaped as one path; empty where there are none. */
  readonly names: string;
  /** Units that would make the same ones. */
  readonly slotUnits: readonly string[];
  readonly broken: boolean;
  readonly hung: boolean;
}

interface AttachmentView extends MountView {
  readonly unit: string;
  readonly what: string;
  readonly options: string;
  /** The unit that makes the mount point; empty where its name would be too long. */
  readonly slotUnit: string;
  /** The mount units of what is bound and of the wormhole. */
  readonly mounts: readonly string[];
  readonly guards: readonly string[];
}

interface ReadOnlyView {
  readonly description: string;
  readonly mount: string;
  readonly what: string;
  readonly where: string;
}

export interface ForwardView {
  readonly initScript: string;
  /** Empty where SourcePath= cannot hold it. */
  readonly sourcePath: string;
  readonly unit: string;
  readonly description: string;
  readonly execStart: string;
  readonly execStop: string;
}

/** A file made from a template. */
export interface PlannedFile<T extends keyof TemplateViews = keyof TemplateViews> {
  readonly kind: 'file';
  /** Below the generator's directory: one or two parts, none of them `..`. */
  readonly path: string;
  readonly template: T;
  readonly view: TemplateViews[T];
}

/** A symbolic link, as in `multi-user.target.wants/`. */
export interface PlannedLink {
  readonly kind: 'link';
  readonly path: string;
  readonly target: string;
}

export type Planned =
  { [T in keyof TemplateViews]: PlannedFile<T> }[keyof TemplateViews] | PlannedLink;

/** What the plan needs beside the containers. */
export interface PlanContext {
  readonly bridgeTimeout: string;
  /** Names NAME for which /etc/init.d/lxc.NAME exists. */
  readonly initScripts: readonly string[];
  readonly lockers: Lockers;
  /** Where containers live. */
  readonly lxcpath: string;
  /** Directories whose sight may change once local file systems are mounted, with what they are now. */
  readonly watched: readonly WatchedPath[];
  /** Mount units to wait for before looking again. */
  readonly watchedMounts: readonly string[];
  /** What the service has to know of the host as a whole. */
  readonly host: HostFacts;
}

export interface HostFacts {
  readonly lockerDirectory: string;
  readonly wormholeDirectory: string;
  readonly rootWithoutPolkit: boolean;
}

const unitDirectory = '/usr/lib/systemd/system';
const hookDirectory = '/usr/lib/lockerd/hooks';
const bootTarget = 'multi-user.target';
const autoballoonUnit = 'lockerd-autoballoon.service';
const autostartTarget = 'lxc-autostart.target';

/** What starts a container; the packaged drop-in has the same. */
export const startProgram = `${hookDirectory}/container-start`;

/** Arguments of lxc-start that every container has; the packaged drop-in has the same. */
export const startArguments = [
  '-s',
  'lxc.cgroup.relative=1',
  '-s',
  `lxc.hook.start-host=${hookDirectory}/container-ready`,
] as const;

/**
 * What lets the guest's init report to container-notify. /run becomes a file system of its own
 * because the guest's init would otherwise mount one over the socket.
 */
function bootedStartArguments({ instance }: Container): string[] {
  const socket = encodeField(`/run/lockerd/containers/${instance}/notify`);
  return [
    '-s',
    'lxc.environment=NOTIFY_SOCKET=/run/host/notify',
    '-s',
    'lxc.mount.entry=tmpfs run tmpfs rw,nosuid,nodev,mode=755,create=dir 0 0',
    '-s',
    `lxc.mount.entry=${socket} run/host/notify none bind,create=file 0 0`,
  ];
}

/**
 * Shows the wormhole in the container, before its first process. What is mounted into it later
 * appears there too, and the guest can write into lockers only, not beside them. LXC's own mount
 * entries would wait for ever on a FIFO that the guest has left in the place.
 */
const wormholeStartArguments = ['-s', `lxc.hook.mount=${hookDirectory}/show-wormhole`] as const;

/** What show-wormhole has to know. */
function wormholeEnvironment({ path, insidePath, attachments }: Wormhole): string[] {
  return [
    `LOCKERD_WORMHOLE=${path}`,
    `LOCKERD_LOCKER_PATH=${insidePath}`,
    ...(attachments.some((a) => a.strict) ? ['LOCKERD_STRICT_LOCKERS=yes'] : []),
  ];
}

function command(program: string, args: readonly string[]): string {
  return [program, ...args].map(execArgument).join(' ');
}

/** ExecStart= of a container; empty where the packaged one says the same. */
function planExecStart(c: Container): string {
  const { settings } = c;
  const isPackaged =
    c.name === c.instance &&
    settings.logLevel === undefined &&
    settings.ready === 'running' &&
    c.memory.taken.length === 0 &&
    c.wormhole === undefined;
  if (isPackaged) return '';
  return command(startProgram, [
    '-F',
    '-n',
    c.name,
    ...startArguments,
    ...(c.wormhole === undefined ? [] : wormholeStartArguments),
    ...c.memory.taken.flatMap((key) => ['-s', `${key}=`]),
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
  if (wormhole === undefined || wormhole.attachments.length === 0 || problems.length > 0) return '';
  const strict = wormhole.attachments.filter((a) => a.strict);
  const others = wormhole.attachments.filter((a) => !a.strict);
  return command(`${hookDirectory}/check-lockers`, [
    ...strict.flatMap(({ target, source }) => [target, source]),
    ...(others.length === 0 ? [] : ['--', ...others.map((a) => `${wormhole.slots}/${a.locker}`)]),
  ]);
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
    ['Autostart', c.autostart ? 'yes' : 'no'],
    ['RebootSignal', String(c.rebootSignal ?? defaultRebootSignal)],
    ...c.groups.map((group): [string, string] => ['Group', unitWord(group)]),
    ...planAutoballoon(c),
    ...planLockerFacts(c),
    ...c.problems.map((problem): [string, string] => [
      'Problem',
      unitWord(printable(formatProblem(problem))),
    ]),
  ];
  return facts.map(([key, value]) => ({ key, value }));
}

function isHung({ problems }: Container): boolean {
  return problems.some((problem) => problem.isHung === true);
}

/** Plans the drop-in of one container. Pure: fixtures run it without a file system. */
function planContainerDropIn(c: Container, isForwarded: boolean): Planned {
  const broken = c.problems.length > 0;
  // A unit that refuses to start need not wait for anything first.
  const needs = broken ? { requiredPaths: [], requires: [], wants: [], startsAfter: [] } : c;
  const wormholeUnit = c.wormhole === undefined ? '' : mountUnit(c.wormhole.path);
  const wormhole = wormholeUnit === '' ? [] : [wormholeUnit];
  const attachments = c.wormhole?.attachments ?? [];
  const attachmentUnits = attachments.map(({ target }) => mountUnit(target));
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
      requires: [...needs.requires, ...(broken ? [] : wormhole)],
      wants: [
        ...needs.wants,
        ...(broken ? [] : attachmentUnits),
        ...delay,
        ...forward,
        ...autoballoon,
      ],
      after: [
        ...needs.requires,
        ...needs.wants,
        // Also of what runs while its configuration is broken: none is unmounted before the stop.
        ...wormhole,
        ...attachmentUnits,
        ...needs.startsAfter,
      ],
      wormhole: wormholeUnit,
      partOf: [...c.groups.map(groupTarget), ...forward],
      refuse: planRefusal(c),
      checkLockers: planLockerCheck(c),
      execStart: planExecStart(c),
      execStop: planExecStop(c),
      execStopPost:
        c.name === c.instance ? '' : command(`${hookDirectory}/container-gone`, [c.name]),
      killSignal: c.halt.signal,
      environment: [
        `LOCKERD_HALT_SIGNALS=${c.halt.heardBy.join(' ')}`,
        ...(c.settings.ready === 'booted' ? ['LOCKERD_READY=booted'] : []),
        ...(c.hasLogFile ? ['LOCKERD_LOG=own'] : []),
        ...(c.wormhole === undefined ? [] : wormholeEnvironment(c.wormhole)),
      ].map(unitWord),
      // Some four hundred lines tell of one start.
      logBurst: c.settings.logLevel === undefined ? '' : '5000',
      startTimeout: c.settings.startTimeout ?? '',
      stopTimeout: c.settings.stopTimeout ?? '',
      facts: planFacts(c),
    },
  };
}

function planWormhole(c: Container): Planned[] {
  const { wormhole } = c;
  if (wormhole === undefined) return [];
  // What runs while its configuration is broken keeps what it has until its stop, which systemd
  // passes on to what is mounted in the wormhole only where that has a unit file.
  const broken = c.problems.length > 0;
  const configFile = unitText(c.configFile);
  const attachments = broken ? [] : wormhole.attachments;
  const { slots } = wormhole;
  const slotUnits = new Map(
    attachments.map(({ locker }) => [locker, slotUnit(`${slots}/${locker}`)]),
  );
  return [
    {
      kind: 'file',
      path: mountUnit(slots),
      template: 'slots',
      view: {
        configFile,
        description: unitText(`Mount points for lockers of LXC container "${c.name}"`),
        where: unitText(slots),
      },
    },
    {
      kind: 'file',
      path: mountUnit(wormhole.path),
      template: 'wormhole',
      view: {
        configFile,
        description: unitText(`Wormhole of LXC container "${c.name}"`),
        where: unitText(wormhole.path),
        slots: unitText(slots),
        slotsUnit: mountUnit(slots),
        names:
          attachments.length === 0
            ? ''
            : escapePath(attachments.map(({ locker }) => locker).join('/')),
        slotUnits: [...slotUnits.values()].filter(unitNameFits),
        broken,
        hung: isHung(c),
      },
    },
    ...attachments.map((a: Attachment): Planned => ({
      kind: 'file',
      path: mountUnit(a.target),
      template: 'attachment',
      view: {
        configFile,
        unit: containerUnit(c.name),
        description: unitText(`Locker "${a.locker}" in LXC container "${c.name}"`),
        what: unitText(bindSource(a)),
        where: unitText(a.target),
        options: bindOptions(a, wormhole.idmap),
        slotUnit: [slotUnits.get(a.locker) ?? ''].filter(unitNameFits).join(''),
        mounts: [mountUnit(bindSource(a)), mountUnit(wormhole.path)],
        guards: guardUnits(a),
      },
    })),
  ];
}

/** A file of its own: see the template. */
function planLimits(c: Container): Planned[] {
  if (c.memory.limits.length === 0) return [];
  return [
    {
      kind: 'file',
      path: `${containerUnit(c.name)}.d/40-limits.conf`,
      template: 'limits',
      view: {
        configFile: unitText(c.configFile),
        autoballoon: c.settings.autoballoon !== undefined,
        limits: c.memory.limits.map(({ name, size }) => ({
          name,
          size: size === 'unlimited' ? 'infinity' : size.toString(),
        })),
      },
    },
  ];
}

/**
 * Where read-only attachments are bound from; systemd loads the unit of a locker only while there
 * is one. Each locker has it, as it may be attached read-only at any time.
 */
function planReadOnly(lockers: Lockers): Planned[] {
  return [...lockers.values()]
    .filter(({ name, path }) => [readOnlyPath(name), path].every((p) => !whyNoMountUnit(p)))
    .map(({ name, path }) => ({
      kind: 'file',
      path: mountUnit(readOnlyPath(name)),
      template: 'readOnly',
      view: {
        description: unitText(`Locker "${name}", read-only`),
        mount: mountUnit(path),
        what: unitText(path),
        where: unitText(readOnlyPath(name)),
      },
    }));
}

/** The unit that stands in for an init script `lxc.NAME`, escaped as an instance is. */
function forwardUnit(name: string): string {
  return `lxc.${escapeInstance(name)}.service`;
}

function planLink(directory: string, unit: string, template: string): PlannedLink {
  return { kind: 'link', path: `${directory}/${unit}`, target: `${unitDirectory}/${template}` };
}

function planAutostart(c: Container): PlannedLink[] {
  if (!c.autostart) return [];
  return [bootTarget, autostartTarget].map((target) =>
    planLink(`${target}.wants`, containerUnit(c.name), 'lxc@.service'),
  );
}

/**
 * The members of each group. Not links in `.wants/`: by those "systemctl is-enabled" would call
 * every member enabled, also one that no boot starts.
 */
function planGroups(containers: readonly Container[]): Planned[] {
  const members = new Map<string, string[]>();
  for (const c of containers) {
    for (const group of c.groups) {
      const target = groupTarget(group);
      members.set(target, [...(members.get(target) ?? []), containerUnit(c.name)]);
    }
  }
  return [...members].map(([target, wants]) => ({
    kind: 'file',
    path: `${target}.d/60-members.conf`,
    template: 'group',
    view: { wants: [...wants].sort(compareText) },
  }));
}

function planDelay(c: Container): Planned[] {
  if (!hasDelay(c)) return [];
  return [
    {
      kind: 'file',
      path: `${delayUnit(c.name)}.d/60-container.conf`,
      template: 'delay',
      view: {
        configFile: unitText(c.configFile),
        unit: containerUnit(c.name),
        seconds: c.startDelaySec,
      },
    },
  ];
}

function planForward(c: Container): Planned {
  const initScript = `/etc/init.d/lxc.${c.name}`;
  return {
    kind: 'file',
    path: forwardUnit(c.name),
    template: 'forward',
    view: {
      initScript,
      sourcePath: fitsRestOfLine(initScript) ? unitText(initScript) : '',
      unit: containerUnit(c.name),
      description: unitText(`LXC container ${c.name} (init script name)`),
      execStart: command('/usr/bin/systemctl', ['start', containerUnit(c.name)]),
      execStop: command(`${hookDirectory}/wait-stopped`, [containerUnit(c.name)]),
    },
  };
}

function planBridge(name: string, timeout: string): Planned {
  return {
    kind: 'file',
    path: `${netDeviceUnit(name)}.d/60-lockerd.conf`,
    template: 'bridge',
    view: { interface: name, timeout },
  };
}

/** The second look at boot, after local file systems are mounted. */
function planRescan(context: PlanContext): Planned[] {
  return [
    {
      kind: 'file',
      path: 'lockerd-rescan.service.d/60-paths.conf',
      template: 'rescan',
      view: {
        after: context.watchedMounts,
        execStart: command(
          `${hookDirectory}/rescan`,
          context.watched.map(({ path, identity }) => `${identity}=${path}`),
        ),
      },
    },
    planLink(`${bootTarget}.wants`, 'lockerd-rescan.service', 'lockerd-rescan.service'),
  ];
}

/** Where the path unit watches, if that is not where the packaged one does. */
function planWatch({ lxcpath }: PlanContext): Planned[] {
  if (lxcpath === defaultLxcpath || !fitsRestOfLine(lxcpath)) return [];
  return [
    {
      kind: 'file',
      path: 'lockerd-containers.path.d/60-lxcpath.conf',
      template: 'containers',
      view: { lxcpath: unitText(lxcpath) },
    },
  ];
}

/** What concerns no container in particular, beside the unit of the service that reads it. */
function planHost({ host, lockers }: PlanContext): Planned {
  const facts: [string, string][] = [
    ['LockerDirectory', unitWord(host.lockerDirectory)],
    ['WormholeDirectory', unitWord(host.wormholeDirectory)],
    ['RootWithoutPolkit', host.rootWithoutPolkit ? 'yes' : 'no'],
    ...[...lockers.values()]
      .filter(({ path }) => fitsUnitFile(path))
      .sort((a, b) => compareText(a.name, b.name))
      .map(({ name, path }): [string, string] => ['Locker', `${unitWord(name)} ${unitWord(path)}`]),
  ];
  return {
    kind: 'file',
    path: hostFactsFile,
    template: 'host',
    view: { facts: facts.map(([key, value]) => ({ key, value })) },
  };
}

/** Plans every file and link, sorted by path; pure. */
export function planUnits(containers: readonly Container[], context: PlanContext): Planned[] {
  const scripts = new Set(context.initScripts);
  const bridges = new Set(
    containers.filter((c) => c.problems.length === 0).flatMap((c) => c.bridges),
  );
  const planned = [
    ...containers.flatMap((c) => [
      planContainerDropIn(c, scripts.has(c.name)),
      ...planLimits(c),
      ...planWormhole(c),
      ...planDelay(c),
      ...planAutostart(c),
      ...(scripts.has(c.name) ? [planForward(c)] : []),
    ]),
    ...[...bridges].map((bridge) => planBridge(bridge, context.bridgeTimeout)),
    ...planGroups(containers),
    ...planReadOnly(context.lockers),
    ...planRescan(context),
    ...planWatch(context),
    planHost(context),
  ];
  return planned.sort((a, b) => compareText(a.path, b.path));
}

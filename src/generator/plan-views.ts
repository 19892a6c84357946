/** What a plan consists of: the templates in units/generated with what each is given, and links. */
import type { FstabEntry } from '../model/fstab.ts';
import type { WatchedPath } from '../model/sight.ts';
import type { UnitSetting } from '../model/unit-controls.ts';
import { execArgument } from '../model/unit-syntax.ts';
import type { Lockers } from '../host/lockers.ts';
import type { Container } from './container.ts';

/** The templates in units/, each with what it is given; every value is ready for a unit file. */
export interface TemplateViews {
  readonly container: ContainerView;
  readonly containers: { readonly lxcpath: string };
  readonly delay: { readonly configFile: string; readonly unit: string; readonly seconds: number };
  readonly needs: { readonly configFile: string; readonly paths: readonly string[] };
  readonly disk: DiskView;
  readonly bridge: { readonly interface: string; readonly timeout: string };
  readonly forward: ForwardView;
  readonly limits: LimitsView;
  readonly held: Pick<LimitsView, 'limits'>;
  readonly group: { readonly wants: readonly string[] };
  readonly wormholes: { readonly slots: string; readonly where: string };
  readonly attachment: AttachmentView;
  readonly readOnly: ReadOnlyView;
  readonly volume: { readonly mounts: readonly string[]; readonly environment: string };
  readonly returning: { readonly lockers: readonly string[] };
  readonly late: { readonly execStart: string };
  readonly clusterMount: { readonly where: string };
  readonly rescan: { readonly unit: readonly string[]; readonly execStart: string };
  readonly host: { readonly facts: readonly Fact[] };
  readonly journal: Readonly<Record<string, never>>;
}

/** A line of an `[X-Lockerd]` section; `src/model/facts.ts` reads it back. */
export interface Fact {
  readonly key: string;
  readonly value: string;
}

export interface ContainerView {
  readonly configFile: string;
  /** PID 1 looks at SourcePath=, and would wait for what does not answer. */
  readonly hung: boolean;
  /** Pacemaker alone starts it. */
  readonly managed: boolean;
  readonly requiresMountsFor: readonly string[];
  /** Containers whose stop stops this one. */
  readonly bindsTo: readonly string[];
  readonly wants: readonly string[];
  readonly after: readonly string[];
  /** The unit that waits where the start lacks something; empty where it cannot. */
  readonly late: string;
  readonly partOf: readonly string[];
  /** The command that refuses the start; empty for a sound container. */
  readonly refuse: string;
  /** The command that looks whether block devices are there; empty where it needs none. */
  readonly checkDevices: string;
  /** The command that looks whether lockers are there; empty where there are none. */
  readonly checkLockers: string;
  /** Empty where the packaged unit's value stands. */
  readonly execStart: string;
  readonly execStop: readonly string[];
  /** Empty where the packaged unit's value stands. */
  readonly execStopPost: string;
  /** Empty where the packaged unit's value stands. */
  readonly runtimeDirectory: string;
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
  readonly limits: readonly UnitSetting[];
}

interface DiskView {
  readonly configFile: string;
  readonly paths: readonly string[];
  /** Units of block devices. */
  readonly devices: readonly string[];
  readonly execStart: string;
}

interface AttachmentView {
  readonly configFile: string;
  readonly description: string;
  readonly where: string;
  readonly unit: string;
  readonly what: string;
  readonly options: string;
  /** The mount unit of what is bound. */
  readonly mount: string;
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
  readonly started: string;
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
  /** Whether systemd keeps lines out of the journal. */
  readonly filtersLog: boolean;
  readonly lockers: Lockers;
  readonly fstab: readonly FstabEntry[];
  /** Where containers live. */
  readonly lxcpath: string;
  /** Directories whose sight may change once local file systems are mounted, with what they are now. */
  readonly watched: readonly WatchedPath[];
  /** Mount units to wait for before looking again. */
  readonly watchedMounts: readonly string[];
  /** Mount points of fstab with containers, which may be mounted after that. */
  readonly lateMounts: readonly string[];
  /** What the service has to know of the host as a whole. */
  readonly host: HostFacts;
}

/** Settings of the host that the service reads from its unit. */
export interface HostFacts {
  readonly lockerDirectory: string;
  readonly wormholeDirectory: string;
  readonly rootWithoutPolkit: boolean;
}

export const hookDirectory = '/usr/lib/lockerd/hooks';
export const bootTarget = 'multi-user.target';

const unitDirectory = '/usr/lib/systemd/system';

/** A link that enables a packaged unit, or an instance of one. */
export function planLink(directory: string, unit: string, template: string): PlannedLink {
  return { kind: 'link', path: `${directory}/${unit}`, target: `${unitDirectory}/${template}` };
}

/** A line of Exec*=. */
export function command(program: string, args: readonly string[]): string {
  let line = execArgument(program);
  for (const arg of args) line += ` ${execArgument(arg)}`;
  return line;
}

/** Whether what the container needs lies on a file system that does not answer. */
export function isHung({ problems }: Container): boolean {
  return problems.some((problem) => problem.isHung === true);
}

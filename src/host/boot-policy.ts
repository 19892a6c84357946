import type { Problem } from '../model/problem.ts';

/** What Debian's lxc.service would pass to lxc-autostart at boot. */
export interface BootPolicy {
  /** LXC_AUTO=true; anything else turns autostart off. */
  readonly enabled: boolean;
  /** lxc.service, whose work autostart is, does not run at boot. */
  readonly isServiceOff?: boolean;
  /** BOOTGROUPS in order; the empty string is the NULL group, containers without lxc.group. */
  readonly groups: readonly string[];
  /** `-a` in OPTIONS: groups do not matter. */
  readonly allGroups: boolean;
  /** `-A` in OPTIONS: lxc.start.auto does not matter. */
  readonly ignoreAuto: boolean;
}

const assignment = /^\s*(?:export\s+)?(LXC_AUTO|BOOTGROUPS|OPTIONS)=(.*)$/;

/** The value of a plain shell assignment; undefined when only a shell could tell. */
function shellValue(raw: string): string | undefined {
  const text = raw.trimStart();
  const quoted = /^(?:"([^"$`\\]*)"|'([^']*)')\s*(?:[#;].*)?$/.exec(text);
  if (quoted !== null) return quoted[1] ?? quoted[2] ?? '';
  const bare = /^([^\s"'$`\\;#&|<>()]*)\s*(?:(?:\s#|;).*)?$/.exec(text);
  return bare?.[1];
}

/** Options of lxc-autostart with one letter that take an argument. */
const takesArgument = 'gtnolP';

interface AutostartOptions {
  groups: string[];
  all: boolean;
  ignoreAuto: boolean;
}

/** One word of short options, such as `-aA` or `-gweb`; answers whether it used the next word. */
function readShortOptions(
  word: string,
  next: string | undefined,
  found: AutostartOptions,
): boolean {
  for (let at = 1; at < word.length; at++) {
    const letter = word.charAt(at);
    if (takesArgument.includes(letter)) {
      const attached = word.slice(at + 1);
      const value = attached === '' ? next : attached;
      if (letter === 'g' && value !== undefined) found.groups.push(...value.split(','));
      return attached === '';
    }
    if (letter === 'a') found.all = true;
    if (letter === 'A') found.ignoreAuto = true;
  }
  return false;
}

/**
 * The words lxc-containers passes to lxc-autostart, as getopt_long(3) takes them: what is no
 * option is skipped. An empty place among the groups is the NULL group.
 */
function readOptions(words: readonly string[]): AutostartOptions {
  const found: AutostartOptions = { groups: [], all: false, ignoreAuto: false };
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    if (word === '--') break;
    if (word === '--all') found.all = true;
    else if (word === '--ignore-auto') found.ignoreAuto = true;
    else if (word === '--groups') found.groups.push(...(words[++at] ?? '').split(','));
    else if (word.startsWith('--groups=')) {
      found.groups.push(...word.slice('--groups='.length).split(','));
    } else if (/^-[^-]/.test(word) && readShortOptions(word, words[at + 1], found)) at++;
  }
  return found;
}

/**
 * The groups that lxc-autostart really goes through. It drops one that begins with an earlier one
 * (list_contains_entry() in lxc_autostart.c), so after the NULL group all of them.
 */
function keptGroups(groups: readonly string[]): string[] {
  const kept: string[] = [];
  for (const group of groups) {
    if (!kept.some((earlier) => group.startsWith(earlier))) kept.push(group);
  }
  return kept.length === 0 ? [''] : kept;
}

/** The shell's variables that count, with the lines that set them; what is no plain assignment is told. */
function readAssignments(
  text: string,
  file: string,
): {
  values: ReadonlyMap<string, string>;
  lines: ReadonlyMap<string, number>;
  problems: Problem[];
} {
  const values = new Map([
    ['LXC_AUTO', 'true'],
    ['BOOTGROUPS', 'onboot,'],
    ['OPTIONS', ''],
  ]);
  const lines = new Map<string, number>();
  const problems: Problem[] = [];
  text.split('\n').forEach((line, index) => {
    const match = assignment.exec(line);
    const [, key, raw] = match ?? [];
    if (key === undefined || raw === undefined) return;
    const value = shellValue(raw);
    if (value === undefined) {
      problems.push({
        file,
        line: index + 1,
        reason: `${key} is not a plain assignment, its value is not used`,
        remedy: `write ${key}="..." without variables or commands`,
      });
    } else {
      values.set(key, value);
      lines.set(key, index + 1);
    }
  });
  return { values, lines, problems };
}

/**
 * Reads /etc/default/lxc, a shell fragment, as far as plain assignments go. The defaults are
 * those of /usr/libexec/lxc/lxc-containers.
 */
export function parseBootPolicy(
  text: string,
  file: string,
): { policy: BootPolicy; problems: readonly Problem[] } {
  const { values, lines, problems } = readAssignments(text, file);
  const words = (key: string): string[] => (values.get(key) ?? '').split(/[ \t]+/).filter(Boolean);
  const bootGroups = words('BOOTGROUPS');
  // The shell splits BOOTGROUPS at blanks as well, so only its first word is the list of groups.
  const options = readOptions([
    ...words('OPTIONS'),
    ...(bootGroups.length === 0 ? [] : ['-g', ...bootGroups]),
  ]);
  if (bootGroups.length > 1) {
    problems.push({
      file,
      line: lines.get('BOOTGROUPS') ?? 0,
      reason: 'LXC takes BOOTGROUPS up to the first blank only',
      remedy: 'separate the groups by commas alone',
    });
  }
  const groups = keptGroups(options.groups);
  const dropped = new Set(options.groups.filter((group) => !groups.includes(group)));
  if (dropped.size > 0 && !options.all) {
    problems.push({
      file,
      line: lines.get('BOOTGROUPS') ?? lines.get('OPTIONS') ?? 0,
      reason: `LXC drops the boot group "${[...dropped].join('", "')}", as it begins like an earlier one`,
      remedy: 'name groups that are the beginning of others after them, and the empty one last',
    });
  }
  return {
    policy: {
      enabled: values.get('LXC_AUTO') === 'true',
      groups,
      allGroups: options.all,
      ignoreAuto: options.ignoreAuto,
    },
    problems,
  };
}

/** The same group test as lxc-autostart's, in which a container's group matches by its length. */
function inGroup(containerGroups: readonly string[], bootGroup: string): boolean {
  if (containerGroups.length === 0) return bootGroup === '';
  // strncmp(group, bootGroup, strlen(group)) in lxc_autostart.c: group "on" is in "onboot".
  return containerGroups.some((group) => bootGroup.startsWith(group));
}

/**
 * The pass of lxc-autostart in which a container is started: an index into the boot groups, or
 * their number when none takes it.
 */
export function bootPass(policy: BootPolicy, containerGroups: readonly string[]): number {
  if (policy.allGroups) return 0;
  const index = policy.groups.findIndex((group) => inGroup(containerGroups, group));
  return index < 0 ? policy.groups.length : index;
}

/** Whether Debian's lxc.service would have started the container at boot. */
export function startsAtBoot(
  policy: BootPolicy,
  container: { readonly startAuto: boolean; readonly groups: readonly string[] },
): boolean {
  if (!policy.enabled || !(container.startAuto || policy.ignoreAuto)) return false;
  return policy.allGroups || bootPass(policy, container.groups) < policy.groups.length;
}

/**
 * Who decides that a container starts at boot, or why it does not although its configuration says
 * so. Callers of the service see these words; org.lockerd1(5) explains them.
 */
export type BootReason =
  | 'setting'
  | 'needed'
  | 'config'
  | 'options'
  | 'runlevel'
  | 'enabled'
  | 'cluster'
  | 'masked'
  | 'other-unit'
  | 'lxc-auto'
  | 'lxc-service'
  | 'boot-groups';

export interface BootDecision {
  readonly starts: boolean;
  readonly reasons: readonly BootReason[];
  /** The container that needs or wants it, where the reason is `needed`. */
  readonly neededBy?: string;
}

/** What the unit directories say of one container's unit, by files that outlast a boot. */
export interface UnitLinks {
  /** Units that pull it in. */
  readonly wantedBy: readonly string[];
  readonly isMasked: boolean;
}

/** Targets that every boot reaches, but for rescue. */
const bootTargets: ReadonlySet<string> = new Set([
  'default.target',
  'graphical.target',
  'multi-user.target',
  'basic.target',
  'sysinit.target',
  'local-fs.target',
  'remote-fs.target',
]);

/**
 * What happens to a container at the next boot, and who decided it.
 * @param setting `autostart` of lockerd.conf(5), or `cluster` where `managed-by` leaves it to one
 */
export function decideBoot(
  policy: BootPolicy,
  container: { readonly startAuto: boolean; readonly groups: readonly string[] },
  { wantedBy, isMasked }: UnitLinks,
  hasRunlevelLink: boolean,
  setting?: boolean | 'cluster',
): BootDecision {
  if (isMasked) return { starts: false, reasons: ['masked'] };
  // Its unit refuses every other start, also that of a link.
  if (setting === 'cluster') return { starts: false, reasons: ['cluster'] };
  const reasons: BootReason[] = [];
  const byLxc = startsAtBoot(policy, container);
  if (setting === true) reasons.push('setting');
  else if (setting === undefined && byLxc) reasons.push(container.startAuto ? 'config' : 'options');
  if (hasRunlevelLink) reasons.push('runlevel');
  if (wantedBy.some((unit) => bootTargets.has(unit))) reasons.push('enabled');
  if (reasons.length > 0) return { starts: true, reasons };
  if (wantedBy.length > 0) reasons.push('other-unit');
  if (setting === false && byLxc) reasons.push('setting');
  else if (setting === undefined && container.startAuto) reasons.push(whyNotByLxc(policy));
  return { starts: false, reasons };
}

/** Why Debian's lxc.service would not have started a container with lxc.start.auto. */
function whyNotByLxc(policy: BootPolicy): BootReason {
  if (policy.isServiceOff === true) return 'lxc-service';
  return policy.enabled ? 'boot-groups' : 'lxc-auto';
}

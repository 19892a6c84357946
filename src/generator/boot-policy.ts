import type { Problem } from '../model/problem.ts';

/** What Debian's lxc.service would pass to lxc-autostart at boot. */
export interface BootPolicy {
  /** LXC_AUTO=true; anything else turns autostart off. */
  readonly enabled: boolean;
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

/** Groups as lxc-autostart gathers them: an empty place is the NULL group, repeats are dropped. */
function parseGroups(list: string): string[] {
  return [...new Set(list.split(','))];
}

/**
 * Reads /etc/default/lxc, a shell fragment, as far as plain assignments go. The defaults are
 * those of /usr/libexec/lxc/lxc-containers.
 */
export function parseBootPolicy(
  text: string,
  file: string,
): { policy: BootPolicy; problems: readonly Problem[] } {
  const values = new Map([
    ['LXC_AUTO', 'true'],
    ['BOOTGROUPS', 'onboot,'],
    ['OPTIONS', ''],
  ]);
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
    }
  });
  const words = (values.get('OPTIONS') ?? '').split(/\s+/);
  const has = (short: string, long: string): boolean =>
    words.some(
      (word) => word === long || (/^-[A-Za-z]+$/.test(word) && word.slice(1).includes(short)),
    );
  return {
    policy: {
      enabled: values.get('LXC_AUTO') === 'true',
      groups: parseGroups(values.get('BOOTGROUPS') ?? ''),
      allGroups: has('a', '--all'),
      ignoreAuto: has('A', '--ignore-auto'),
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

/**
 * Decides which lockers a container gets when lxc-start(1) starts it outside systemd; pure. It follows the
 * rules for the container's unit, so that a container has the same lockers however it is started.
 */

import type { Problem } from '../model/problem.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';
import type { Lockers } from '../host/lockers.ts';
import { ownLockerNames, wormholeConflict } from '../host/lockers.ts';
import type { ContainerSettings, HostSettings, LockerChoice } from '../host/settings.ts';

/** The reason for a locker: the container's settings, its name, or the settings of the host. */
type Kind = 'configured' | 'own' | 'shared';

/** A locker to mount for a start outside systemd. */
interface StartLocker {
  readonly mode: 'rw' | 'ro';
  readonly kind: Kind;
  /** Whether the container must not start without it. */
  readonly strict: boolean;
  readonly path: string;
}

/** The facts about a container that lxc-start(1) starts. */
export interface StartFacts {
  readonly name: string;
  readonly host: HostSettings;
  readonly settings: ContainerSettings;
  /** Problems in the container's own settings. */
  readonly problems: readonly Problem[];
  /** Lockers that fstab or a mount unit mounts. */
  readonly lockers: Lockers;
  /** Whether something is mounted at a path, for example by hand. */
  readonly isMounted: (path: string) => boolean;
  readonly isThere: (path: string) => boolean;
}

type Choice = Pick<LockerChoice, 'readOnly' | 'auto'>;

export interface StartDecision {
  /** Why the container must not start; if there are any, the rest is empty. */
  readonly problems: readonly Problem[];
  readonly says: readonly string[];
  /** Messages about lockers that the container requires and that cannot be mounted. */
  readonly missing: readonly string[];
  /** Where the container sees its lockers; undefined if it has no wormhole. */
  readonly insidePath?: string;
  /** The lockers in the order of mounting, each once. */
  readonly lockers: readonly StartLocker[];
}

/**
 * Decides which lockers the container gets: those of its unit, and also lockers that were mounted by
 * hand. Lockers in the container's settings take precedence over its own locker, and that takes
 * precedence over shared lockers.
 */
export function decideStart(facts: StartFacts): StartDecision {
  const { name, host, settings } = facts;
  const conflict = wormholeConflict(settings);
  const problems = [...facts.problems, ...(conflict === undefined ? [] : [conflict])];
  const none = { says: [], missing: [], lockers: [] };
  if (problems.length > 0) return { ...none, problems };
  if (settings.wormhole === false) return { ...none, problems };

  const says: string[] = [];
  const missing: string[] = [];
  const lockers = new Map<string, StartLocker>();
  const seen = new Set<string>();
  const pathOf = (locker: string): string =>
    facts.lockers.get(locker)?.path ?? `${host.lockerDirectory}/${locker}`;
  const isLocker = (locker: string): boolean =>
    facts.isMounted(pathOf(locker)) || facts.lockers.has(locker);

  const mayFail = (locker: string): boolean =>
    settings.strictLockers === false || facts.lockers.get(locker)?.mayFail === true;

  const attach = (locker: string, { readOnly, auto }: Choice, kind: Kind): void => {
    if (seen.has(locker)) return;
    seen.add(locker);
    const path = pathOf(locker);
    const strict = kind !== 'shared' && auto !== true && !mayFail(locker);
    const why = whyNotMountable(path, isLocker(locker));
    if (why === undefined) {
      lockers.set(locker, { mode: readOnly ? 'ro' : 'rw', kind, strict, path });
    } else if (kind === 'shared' || auto === true) {
      says.push(`goes without the ${kind} locker ${locker}: ${why}`);
    } else {
      missing.push(
        `is not started, because its ${kind} locker ${locker} cannot be mounted: ${why}`,
      );
    }
  };

  if (settings.idmapLockers === true) says.push('idmap-lockers has no effect outside the unit');
  for (const [locker, choice] of lastChoices(settings.lockers?.value ?? [])) {
    attach(locker, choice, 'configured');
  }
  for (const locker of ownLockerNames(name, host.ownLockerSuffixes)) {
    if (isLocker(locker)) {
      attach(locker, { readOnly: false }, 'own');
      break;
    }
    if (!seen.has(locker) && facts.isThere(pathOf(locker))) {
      says.push(`${pathOf(locker)} is no locker, for nothing mounts it; it is not bound`);
    }
  }
  for (const [locker, choice] of lastChoices(host.sharedLockers)) {
    // Not every host has the shared lockers.
    if (isLocker(locker) || facts.isThere(pathOf(locker))) attach(locker, choice, 'shared');
  }
  const { lockerPath: insidePath } = host;
  return { problems, says, missing, insidePath, lockers: [...lockers.values()] };
}

/** The choice of each locker; the last of several entries for one locker counts. */
function lastChoices(choices: readonly LockerChoice[]): ReadonlyMap<string, LockerChoice> {
  return new Map(choices.map((choice) => [choice.name, choice]));
}

/**
 * Why a path cannot be mounted as a locker; undefined if it can. A plain directory is no locker, because
 * the next mount would hide what is written there.
 */
function whyNotMountable(path: string, isLocker: boolean): string | undefined {
  if (path.includes('\ufffd')) return 'its name is not valid UTF-8';
  if (!fitsUnitFile(path)) return 'its name has control characters';
  if (isLocker) return undefined;
  return `${path} is not mounted, and nothing in /etc/fstab or a mount unit mounts it`;
}

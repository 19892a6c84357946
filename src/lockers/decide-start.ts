import type { Problem } from '../model/problem.ts';
import { fitsUnitFile } from '../model/unit-syntax.ts';
import type { Lockers } from '../host/lockers.ts';
import { ownLockerNames, wormholeConflict } from '../host/lockers.ts';
import type { ContainerSettings, HostSettings } from '../host/settings.ts';

/** Why a container has a locker: its settings, its name, or the settings of the host. */
type Kind = 'configured' | 'own' | 'shared';

/** A locker to be mounted for a start outside systemd. */
interface StartLocker {
  readonly mode: 'rw' | 'ro';
  readonly kind: Kind;
  /** Without it the container does not start. */
  readonly strict: boolean;
  readonly path: string;
}

/** What is known about a container that is started by lxc-start(1). */
export interface StartFacts {
  readonly name: string;
  readonly host: HostSettings;
  readonly settings: ContainerSettings;
  /** Those of the container's own settings. */
  readonly problems: readonly Problem[];
  /** Lockers that fstab or a mount unit mounts. */
  readonly lockers: Lockers;
  /** Whether something is mounted at a path, also by hand. */
  readonly isMounted: (path: string) => boolean;
  readonly isThere: (path: string) => boolean;
}

export interface StartDecision {
  /** Why the container must not start; then the rest is empty. */
  readonly problems: readonly Problem[];
  readonly says: readonly string[];
  /** Lockers that the container cannot do without and that do not exist. */
  readonly missing: readonly string[];
  /** Where the container sees its lockers; undefined where it has no wormhole. */
  readonly insidePath?: string;
  /** In the order in which they are mounted, each once. */
  readonly lockers: readonly StartLocker[];
}

/**
 * Decides which lockers a container gets that is started outside systemd; pure. They are those of
 * its unit, and lockers that were mounted by hand as well. What the container's settings name goes
 * before its own locker, and that goes before the shared ones.
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

  const attach = (locker: string, readOnly: boolean, kind: Kind): void => {
    if (seen.has(locker)) return;
    seen.add(locker);
    const path = pathOf(locker);
    const mayFail = settings.strictLockers === false || facts.lockers.get(locker)?.mayFail === true;
    const strict = kind !== 'shared' && !mayFail;
    const why = whyNotMountable(path, isLocker(locker));
    if (why === undefined) {
      lockers.set(locker, { mode: readOnly ? 'ro' : 'rw', kind, strict, path });
    } else if (kind === 'shared') {
      says.push(`goes without the shared locker ${locker}: ${why}`);
    } else {
      missing.push(
        `is not started, because its ${kind} locker ${locker} cannot be mounted: ${why}`,
      );
    }
  };

  if (settings.idmapLockers === true) says.push('idmap-lockers has no effect outside the unit');
  for (const [locker, readOnly] of lastModes(settings.lockers?.value ?? [])) {
    attach(locker, readOnly, 'configured');
  }
  for (const locker of ownLockerNames(name, host.ownLockerSuffixes)) {
    if (isLocker(locker)) {
      attach(locker, false, 'own');
      break;
    }
    if (!seen.has(locker) && facts.isThere(pathOf(locker))) {
      says.push(`${pathOf(locker)} is no locker, for nothing mounts it; it is not bound`);
    }
  }
  for (const [locker, readOnly] of lastModes(host.sharedLockers)) {
    // Not every host has the shared ones.
    if (isLocker(locker) || facts.isThere(pathOf(locker))) attach(locker, readOnly, 'shared');
  }
  const { lockerPath: insidePath } = host;
  return { problems, says, missing, insidePath, lockers: [...lockers.values()] };
}

/** Of several entries for one locker the last one has the mode. */
function lastModes(
  choices: readonly { readonly name: string; readonly readOnly: boolean }[],
): ReadonlyMap<string, boolean> {
  return new Map(choices.map(({ name, readOnly }) => [name, readOnly]));
}

/** A directory that nothing is mounted on is no locker: the next mount hides what is written there. */
function whyNotMountable(path: string, isLocker: boolean): string | undefined {
  if (path.includes('\ufffd')) return 'its name is not valid UTF-8';
  if (!fitsUnitFile(path)) return 'its name has control characters';
  if (isLocker) return undefined;
  return `${path} is not mounted, and nothing in /etc/fstab or a mount unit mounts it`;
}

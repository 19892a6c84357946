/** Containers of which no more is told than why they cannot start. */
import type { Problem } from '../model/problem.ts';
import { parseLxcConfig } from '../host/parse-lxc.ts';
import type { FoundContainer } from '../host/read.ts';
import type { ContainerSettings } from '../host/settings.ts';
import type { ContainerFacts } from './container.ts';

/** Facts of a container, with the paths that could not be seen yet. */
export interface GatheredFacts extends ContainerFacts {
  readonly uncertainPaths: readonly string[];
  /** Those of them that tell no more than what the guest's init is. */
  readonly uncertainTrees: readonly string[];
}

/** Facts of a container of which nothing can be told but why. */
export function refusedFacts(
  found: FoundContainer,
  defaults: ContainerSettings,
  problem: Problem,
): GatheredFacts {
  const text = { lines: [], markHidesKey: false };
  const file = { path: found.configFile, text, badLines: new Set<number>(), includes: [] };
  return {
    name: found.name,
    directory: found.directory,
    config: parseLxcConfig({ file, paths: [] }),
    init: 'unknown',
    settings: defaults,
    problems: [problem],
    hasRunlevelLink: false,
    unitLinks: { wantedBy: [], isMasked: false },
    uncertainPaths: [],
    uncertainTrees: [],
  };
}

/** A defect of ours, as the container sees it that brought it to light. */
export function defect(configFile: string, error: unknown): Problem {
  const what = error instanceof Error ? error.message : String(error);
  return {
    file: configFile,
    line: 0,
    reason: `the generator failed on it: ${what.slice(0, 200)}`,
    remedy: 'report this as a bug of lockerd, with the file',
  };
}

/**
 * Makes something of all containers. Where that fails, it is made without those that fail alone,
 * which are refused.
 */
export function withoutDefects<T>(
  facts: readonly GatheredFacts[],
  defaults: ContainerSettings,
  make: (facts: readonly GatheredFacts[]) => T,
): T {
  try {
    return make(facts);
  } catch {
    const sound = facts.map((container) => {
      try {
        make([container]);
        return container;
      } catch (error) {
        const { name, directory, config } = container;
        const found = { name, directory, configFile: config.file };
        return refusedFacts(found, defaults, defect(config.file, error));
      }
    });
    return make(sound);
  }
}

/**
 * Decisions about one container after the other, while they are read. One that fails on a container
 * is a defect of ours, and refuses that container alone.
 */
import { parentOf } from '../model/path.ts';
import type { Problem } from '../model/problem.ts';
import type { ContainerSettings } from '../host/settings.ts';
import type { Container, HostFacts } from './container.ts';
import type { Model } from './decide.ts';
import { modelContainer } from './decide.ts';
import type { RankedContainer } from './decide-order.ts';
import { decideCompanions } from './decide-companions.ts';
import { orderContainers } from './decide-order.ts';
import type { GatheredFacts } from './refused.ts';
import { defect, refusedFacts } from './refused.ts';

/** What is kept of the containers that were read. */
export class Decisions {
  readonly #ranked: RankedContainer[] = [];
  readonly #nameless: Problem[] = [];
  /** Of those of which not everything can be seen yet. */
  readonly uncertain: Pick<GatheredFacts, 'uncertainPaths' | 'uncertainTrees'>[] = [];

  add(facts: GatheredFacts, host: HostFacts, defaults: ContainerSettings): void {
    let decided: RankedContainer | Problem;
    try {
      decided = modelContainer(facts, host);
      const { uncertainPaths, uncertainTrees } = facts;
      if (uncertainPaths.length > 0) this.uncertain.push({ uncertainPaths, uncertainTrees });
    } catch (error) {
      const { name, directory, config } = facts;
      const found = { name, directory, configFile: config.file };
      decided = modelContainer(refusedFacts(found, defaults, defect(config.file, error)), host);
    }
    if ('rank' in decided) this.#ranked.push(decided);
    else this.#nameless.push(decided);
  }

  model(): Model {
    return {
      containers: orderContainers(decideCompanions(this.#ranked)),
      nameless: this.#nameless,
    };
  }
}

/**
 * Makes something of a container, or where that fails of the container that refuses to start.
 * @returns of which of the two
 */
export function withoutDefect(
  c: Container,
  defaults: ContainerSettings,
  host: HostFacts,
  make: (sound: Container) => void,
): Container {
  try {
    make(c);
    return c;
  } catch (error) {
    const { name, configFile } = c;
    const found = { name, directory: parentOf(configFile), configFile };
    const decided = modelContainer(refusedFacts(found, defaults, defect(configFile, error)), host);
    // It had a name when it was decided about.
    if (!('rank' in decided)) throw error;
    const refused = { ...decided.container, startsAfter: c.startsAfter };
    make(refused);
    return refused;
  }
}

import type { GeneratedDefinitions } from '../adapters/definitions.ts';
import type { SystemdManager } from '../adapters/systemd-manager.ts';
import { systemdIsAway } from '../adapters/systemd-manager.ts';
import type { Setting } from './autoballoon.ts';

/** Longer than any daemon-reload takes. */
const reloadMaxMs = 300_000;
const retryMs = 250;

/** Asks systemd, which answers nobody while it reads all unit files again. */
export async function askPatiently<T>(ask: () => Promise<T>): Promise<T> {
  const end = Date.now() + reloadMaxMs;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!systemdIsAway(error) || Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }
}

/**
 * What the generator has written about the containers, whole: a daemon-reload begins by deleting
 * it, and who has no setting any more loses its share. `definitions` waits for the generator's end
 * by itself, but not for ever, and on a slow host a reload takes longer.
 */
export function settingsBetweenReloads(
  definitions: Pick<GeneratedDefinitions, 'read'>,
  manager: Pick<SystemdManager, 'listen' | 'listLoaded'>,
): () => Promise<readonly Setting[]> {
  let reloads = 0;
  manager.listen({
    reloaded: () => {
      reloads++;
    },
  });
  return async () => {
    for (;;) {
      const before = reloads;
      const { containers } = await definitions.read();
      // From a reload's beginning on this waits for its end, which is told before the answer.
      await askPatiently(() => manager.listLoaded(['lockerd-autoballoon.service']));
      if (reloads === before) return containers;
    }
  };
}

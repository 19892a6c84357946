import { retryWhile, systemdIsAway } from './away.ts';
import type { SystemdManager } from './manager.ts';

/** Longer than any daemon-reload takes. */
const reloadMaxMs = 300_000;

/** Repeats a call until systemd answers, because it answers no calls during a daemon-reload. */
export function askPatiently<T>(ask: () => Promise<T>): Promise<T> {
  return retryWhile(systemdIsAway, reloadMaxMs, ask);
}

/**
 * Reads the generator's output so that no daemon-reload falls into the reading: a reload begins by
 * deleting it. `definitions` itself waits for the generator to end, but only for a limited time, which
 * a reload on a slow host exceeds.
 */
export function betweenReloads<T>(
  definitions: { read(): Promise<T> },
  manager: Pick<SystemdManager, 'listen' | 'listLoaded'>,
): { read(): Promise<T> } {
  let reloads = 0;
  manager.listen({
    reloaded: () => {
      reloads++;
    },
  });
  return {
    read: async () => {
      for (;;) {
        const before = reloads;
        const read = await definitions.read();
        // During a reload this call waits for its end, and the signal of the end comes before the answer.
        await askPatiently(() => manager.listLoaded(['lockerd.service']));
        if (reloads === before) return read;
      }
    },
  };
}

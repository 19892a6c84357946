import { retryWhile, systemdIsAway } from './away.ts';
import type { SystemdManager } from './manager.ts';

/** Longer than any daemon-reload takes. */
const reloadMaxMs = 300_000;

/** Asks systemd, which answers nobody while it reads all unit files again. */
export function askPatiently<T>(ask: () => Promise<T>): Promise<T> {
  return retryWhile(systemdIsAway, reloadMaxMs, ask);
}

/**
 * What the generator has written, whole: a daemon-reload begins by deleting it. `definitions` waits
 * for the generator's end by itself, but not for ever, and on a slow host a reload takes longer.
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
        // From a reload's beginning on this waits for its end, which is told before the answer.
        await askPatiently(() => manager.listLoaded(['lockerd.service']));
        if (reloads === before) return read;
      }
    },
  };
}

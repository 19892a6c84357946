/** How much of the service's work the journal has: systemctl service-log-level lockerd. */

import { logControl, logLevels, logTargets } from '../api/log-control.ts';
import type { Call, Interface, Property } from '../bus/interface-table.ts';
import { busError, DBusError, type Variant } from '../bus/values.ts';
import type { Logging } from '../core/ports.ts';
import type { Callers } from './callers.ts';

/** One of the words, or an error that lists them. */
function oneOf<const Word extends string>(words: readonly Word[], { value }: Variant): Word {
  const word = words.find((known) => known === value);
  if (word !== undefined) return word;
  throw new DBusError(busError.invalidArgs, `lockerd knows only: ${words.join(', ')}`);
}

async function onlyRoot(callers: Callers, call: Call): Promise<void> {
  if ((await callers.uidOf(call.sender)) === 0) return;
  throw new DBusError(busError.accessDenied, 'only root may change what lockerd logs');
}

/** The interface of systemd's org.freedesktop.LogControl1(5). Everybody may read, root may write. */
export function logControlInterface(logging: Logging, callers: Callers): Interface {
  const setting = <const Word extends string>(
    words: readonly Word[],
    get: () => Word,
    set: (word: Word) => void,
  ): Property => ({
    signature: 's',
    emits: 'false',
    get,
    set: async (call, value) => {
      await onlyRoot(callers, call);
      set(oneOf(words, value));
    },
  });
  return {
    name: logControl,
    properties: {
      LogLevel: setting(
        logLevels,
        () => logging.level,
        (level) => (logging.level = level),
      ),
      LogTarget: setting(
        logTargets,
        () => logging.target,
        (target) => (logging.target = target),
      ),
      SyslogIdentifier: { signature: 's', emits: 'const', get: () => 'lockerd' },
    },
  };
}

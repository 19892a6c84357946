/** Whether Cockpit has administrative access, which users turn on and off while the page is open. */

import { useSyncExternalStore } from 'react';
import { text, unwrap } from './values.ts';

const path = '/superuser';
const name = 'cockpit.Superuser';

/** How Cockpit calls the way to administrative access; `none` without, undefined until it is known. */
let current: string | undefined;
const listeners = new Set<() => void>();

/** Whether programs can be run as root. */
export function useRights(): boolean {
  const subscribe = (listener: () => void): (() => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  return useSyncExternalStore(subscribe, () => current !== undefined && current !== 'none');
}

/** Calls back whenever the access has changed. */
export function followRights(changed: () => void): void {
  const client = cockpit.dbus(null, { bus: 'internal' });
  const note = (now: unknown): void => {
    // A bridge that just begins has no rights yet, and says so later.
    if (typeof now !== 'string' || now === current || now === 'init') return;
    const isFirst = current === undefined;
    current = now;
    for (const listener of listeners) listener();
    if (!isFirst) changed();
  };
  client.subscribe({ path }, (_path, _interface, signal, args) => {
    if (signal === 'PropertiesChanged' && text(args[0]) === name) note(unwrap(args[1])['Current']);
  });
  client.call(path, 'org.freedesktop.DBus.Properties', 'GetAll', [name]).then(
    ([properties]) => {
      note(unwrap(properties)['Current']);
    },
    // An old bridge knows no administrative access that changes.
    () => undefined,
  );
}

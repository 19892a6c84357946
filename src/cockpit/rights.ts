/** Whether Cockpit has administrative access, which users turn on and off while the page is open. */

import { useSyncExternalStore } from 'react';

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
  // The bridge of Cockpit 287 tells of a change only those who have a proxy.
  const access = client.proxy(name, path);
  const look = (): void => {
    note(access['Current']);
  };
  access.addEventListener('changed', look);
  // An old bridge knows no administrative access that changes.
  access.wait(look);
}

/** Whether Cockpit has administrative access, which users turn on and off while the page is open. */

import { text, unwrap } from './values.ts';

const path = '/superuser';
const name = 'cockpit.Superuser';

/** Calls back whenever the access has changed. */
export function followRights(changed: () => void): void {
  const client = cockpit.dbus(null, { bus: 'internal' });
  let current: string | undefined;
  const note = (now: unknown): void => {
    if (typeof now !== 'string' || now === current) return;
    const isFirst = current === undefined;
    current = now;
    // A bridge that just begins has no rights yet, and says so later.
    if (!isFirst && now !== 'init') changed();
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

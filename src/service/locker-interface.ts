/** The interface org.lockerd1.Locker, whole and in the order of org.lockerd1.xml. */

import { interfaces } from '../api/names.ts';
import type { Interface } from '../bus/interface-table.ts';
import { busError, DBusError } from '../bus/values.ts';
import type { Locker } from '../core/host-objects.ts';
import type { ServiceContext } from './service-context.ts';
import { containerPath, parsePath } from '../api/paths.ts';

/** org.lockerd1.Locker, for all lockers: the path says which. */
export function lockerInterface({ core: { host } }: ServiceContext): Interface {
  const at = (path: string): Locker => {
    const parsed = parsePath(path);
    const locker = parsed?.kind === 'locker' ? host.locker(parsed.name) : undefined;
    if (locker) return locker;
    throw new DBusError(busError.unknownObject, `there is no object ${path} any more`);
  };
  const emitting = (signature: string, get: (locker: Locker) => unknown) => ({
    signature,
    emits: 'true' as const,
    get: (path: string) => get(at(path)),
  });
  return {
    name: interfaces.locker,
    properties: {
      Name: { signature: 's', emits: 'const', get: (path) => at(path).name },
      Description: emitting('s', description),
      Mounted: emitting('b', ({ isMounted }) => isMounted),
      Source: emitting('s', ({ source }) => source),
      AttachedTo: emitting('a(ob)', ({ attachedTo }) =>
        attachedTo.map(({ container, readOnly }) => [containerPath(container), readOnly]),
      ),
    },
  };
}

const namedAtMost = 5;

/** What the definitions say of a locker, in words for a list. */
function description({ comesWith }: Locker): string {
  if (comesWith.length === 0) return 'comes with no container';
  const more = comesWith.length - namedAtMost;
  const names = comesWith.slice(0, namedAtMost).join(', ');
  return `comes with ${names}${more > 0 ? ` and ${more} more` : ''}`;
}

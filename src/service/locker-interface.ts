/** The interface org.lockerd1.Locker, whole and in the order of org.lockerd1.xml. */

import { interfaces, unknownFigure, unknownId } from '../api/names.ts';
import type { Interface } from '../bus/interface-table.ts';
import { busError, DBusError } from '../bus/values.ts';
import type { Locker } from '../core/host-objects.ts';
import type { LockerLook } from '../core/locker-ports.ts';
import type { LockerMethods } from './locker-methods.ts';
import type { ServiceContext } from './service-context.ts';
import { containerPath, jobPath, parsePath } from '../api/paths.ts';

/** org.lockerd1.Locker, for all lockers: the path says which. */
export function lockerInterface(
  { core: { host, jobs, lockers } }: ServiceContext,
  methods: LockerMethods,
): Interface {
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
  const nameAt = (path: string) => at(path).name;
  /** What was seen last. */
  const seen = (signature: string, none: unknown, get: (look: LockerLook) => unknown) =>
    emitting(signature, ({ name }) => {
      const look = lockers.looks.of(name);
      return (look && get(look)) ?? none;
    });
  return {
    name: interfaces.locker,
    methods: {
      Grow: methods['grow-locker'](nameAt),
      Rename: methods['rename-locker'](nameAt),
      Snapshot: methods['snapshot-locker'](nameAt),
      ListSnapshots: methods['list-snapshots'](nameAt),
      Restore: methods['restore-locker'](nameAt),
      Forget: methods['forget-locker'](nameAt),
      Look: methods.look(nameAt),
    },
    properties: {
      Name: { signature: 's', emits: 'const', get: (path) => at(path).name },
      Description: emitting('s', description),
      Mounted: emitting('b', ({ isMounted }) => isMounted),
      Source: emitting('s', ({ source }) => source),
      AttachedTo: emitting('a(ob)', ({ attachedTo }) =>
        attachedTo.map(({ container, readOnly }) => [containerPath(container), readOnly]),
      ),
      Size: seen('t', unknownFigure, ({ size }) => size),
      Used: seen('t', unknownFigure, ({ used }) => used),
      Available: seen('t', unknownFigure, ({ available }) => available),
      FileSystem: seen('s', '', ({ fileSystem }) => fileSystem),
      Device: seen('s', '', ({ device }) => device),
      Store: seen('s', '', ({ store }) => store),
      Health: seen('s', 'unknown', ({ health }) => health),
      Creator: seen('u', unknownId, ({ creator }) => creator),
      Snapshots: seen('as', [], ({ snapshots }) => snapshots),
      Jobs: emitting('ao', ({ name }) =>
        jobs.unfinished
          .filter((job) => job.container === '' && job.locker === name)
          .map(({ id }) => jobPath(id)),
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

/** The interface org.lockerd1.Container, whole and in the order of org.lockerd1.xml. */

import { interfaces, unknownFigure } from '../api/names.ts';
import { unlimited } from '../model/memory-limit.ts';
import type { Interface } from '../bus/interface-table.ts';
import { busError, DBusError } from '../bus/values.ts';
import type { MemoryFigures } from '../core/ports.ts';
import type { Container } from '../core/host-objects.ts';
import { atPath, type ContainerMethods } from './container-methods.ts';
import { describeMethod } from './describe.ts';
import type { ServiceContext } from './service-context.ts';
import { usageProperties } from './usage-properties.ts';
import { jobPath, lockerPath, parsePath } from '../api/paths.ts';

/** org.lockerd1.Container, for all containers: the path says which. */
// eslint-disable-next-line max-lines-per-function -- The table of the interface, which is read as a whole.
export function containerInterface(context: ServiceContext, methods: ContainerMethods): Interface {
  const { host, jobs } = context.core;
  const at = (path: string): Container => {
    const parsed = parsePath(path);
    const container = parsed?.kind === 'container' ? host.container(parsed.name) : undefined;
    if (container) return container;
    throw new DBusError(busError.unknownObject, `there is no object ${path} any more`);
  };
  const nameAt = (path: string) => at(path).name;
  const constant = (get: (container: Container) => unknown) => ({
    signature: 's',
    emits: 'const' as const,
    get: (path: string) => get(at(path)),
  });
  const emitting = (signature: string, get: (container: Container) => unknown) => ({
    signature,
    emits: 'true' as const,
    get: (path: string) => get(at(path)),
  });
  /** Changes all the time, so that it is read on request. */
  const figure = (signature: string, none: unknown, get: (figures: MemoryFigures) => unknown) => ({
    signature,
    emits: 'false' as const,
    get: (path: string) => {
      const group = at(path).unit?.controlGroup ?? '';
      if (group === '') return none;
      return context.figures(group).then((figures) => (figures ? get(figures) : none));
    },
  });
  return {
    name: interfaces.container,
    methods: {
      Start: atPath(methods.start, nameAt),
      Stop: atPath(methods.stop, nameAt),
      Reboot: atPath(methods.reboot, nameAt),
      Freeze: atPath(methods.freeze, nameAt),
      Thaw: atPath(methods.thaw, nameAt),
      Balloon: atPath(methods.balloon, nameAt),
      SetLimits: atPath(methods['set-limits'], nameAt),
      MountLocker: atPath(methods['mount-locker'], nameAt),
      UnmountLocker: atPath(methods['unmount-locker'], nameAt),
      SetAutostart: atPath(methods['set-autostart'], nameAt),
      Describe: describeMethod(context),
    },
    properties: {
      Name: constant((container) => container.name),
      Unit: constant(({ definition }) => definition.unit),
      ConfigFile: constant(({ definition }) => definition.configFile),
      State: emitting('s', ({ state }) => state),
      Problem: emitting('s', ({ definition, obstacle }) =>
        [definition.problem, obstacle, host.helperProblem].filter((text) => text !== '').join('\n'),
      ),
      Autostart: emitting('b', ({ definition }) => definition.autostart),
      AutostartReasons: emitting('as', ({ definition }) => definition.autostartReasons),
      Groups: emitting('as', ({ definition }) => definition.groups),
      WaitsFor: emitting('as', ({ waitsFor }) => waitsFor),
      Leader: emitting('u', ({ leader }) => leader),
      StateChangeTimestamp: emitting('t', ({ stateChangeUsec }) => stateChangeUsec),
      Lockers: emitting('a(sob)', ({ attachments }) =>
        attachments.map(({ locker, readOnly }) => [locker, lockerPath(locker), readOnly]),
      ),
      MemoryLimit: emitting('t', ({ unit }) => unit?.memoryMax ?? unlimited),
      SwapLimit: emitting('t', ({ unit }) => unit?.memorySwapMax ?? unlimited),
      MemoryCurrent: figure('t', unknownFigure, ({ current }) => current),
      MemoryPeak: figure('t', unknownFigure, ({ peak }) => peak),
      SwapCurrent: figure('t', unknownFigure, ({ swap }) => swap),
      MemoryPressure: figure('d', 0, ({ pressure }) => pressure),
      OomKills: emitting('t', ({ oomKills }) => oomKills),
      ...usageProperties(context, (path) => at(path).unit?.controlGroup ?? ''),
      Jobs: emitting('ao', (container) =>
        jobs.unfinished
          .filter((job) => job.container === container.name)
          .map(({ id }) => jobPath(id)),
      ),
    },
  };
}

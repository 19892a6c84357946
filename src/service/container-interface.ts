import { interfaces, unknownFigure } from '../api/names.ts';
import { unlimited } from '../model/memory-limit.ts';
import { method, type Call, type Interface } from '../bus/interface-table.ts';
import { busError, DBusError } from '../bus/values.ts';
import type { MemoryFigures } from '../core/ports.ts';
import { optionsOf } from '../core/container-request.ts';
import type { Container } from '../core/host-objects.ts';
import {
  jobArgument,
  optionsArgument,
  onlyOptions,
  requestJob,
  type Options,
  type ServiceContext,
} from './requests.ts';
import { jobPath, lockerPath, parsePath } from '../api/paths.ts';

/** org.lockerd1.Container, for all containers: the path says which. */
export function containerTable(context: ServiceContext): Interface {
  const { host, jobs } = context.core;
  const at = (path: string): Container => {
    const parsed = parsePath(path);
    const container = parsed?.kind === 'container' ? host.container(parsed.name) : undefined;
    if (container) return container;
    throw new DBusError(busError.unknownObject, `there is no object ${path} any more`);
  };
  const name = ({ path }: Call) => at(path).name;
  const plain = (verb: 'start' | 'stop' | 'reboot' | 'freeze' | 'thaw') =>
    method({
      in: [optionsArgument],
      out: [jobArgument],
      checkEntry: onlyOptions(optionsOf[verb]),
      handler: (call, [options]) =>
        requestJob(context, call, { verb, container: name(call) }, options as Options),
    });
  const withLocker = (verb: 'mount-locker' | 'unmount-locker') =>
    method({
      in: [['locker', 's'], optionsArgument],
      out: [jobArgument],
      checkEntry: onlyOptions(optionsOf[verb]),
      handler: (call, [locker, options]) =>
        requestJob(context, call, { verb, container: name(call), locker }, options as Options),
    });
  const constant = (get: (container: Container) => unknown) => ({
    signature: 's',
    emits: 'const' as const,
    get: (path: string) => get(at(path)),
  });
  const told = (signature: string, get: (container: Container) => unknown) => ({
    signature,
    emits: 'true' as const,
    get: (path: string) => get(at(path)),
  });
  /** Changes all the time, so that it is read when it is asked for. */
  const figure = (signature: string, none: unknown, get: (figures: MemoryFigures) => unknown) => ({
    signature,
    emits: 'false' as const,
    get: async (path: string) => {
      const group = at(path).unit?.controlGroup ?? '';
      const figures = group === '' ? undefined : await context.figures(group);
      return figures ? get(figures) : none;
    },
  });
  return {
    name: interfaces.container,
    methods: {
      Start: plain('start'),
      Stop: plain('stop'),
      Reboot: plain('reboot'),
      Freeze: plain('freeze'),
      Thaw: plain('thaw'),
      Balloon: method({
        in: [['limit_bytes', 't'], optionsArgument],
        out: [jobArgument],
        checkEntry: onlyOptions(optionsOf.balloon),
        handler: (call, [limit, options]) => {
          const container = name(call);
          return requestJob(context, call, { verb: 'balloon', container, limit }, options);
        },
      }),
      MountLocker: withLocker('mount-locker'),
      UnmountLocker: withLocker('unmount-locker'),
    },
    properties: {
      Name: constant((container) => container.name),
      Unit: constant(({ definition }) => definition.unit),
      ConfigFile: constant(({ definition }) => definition.configFile),
      State: told('s', ({ state }) => state),
      Problem: told('s', ({ definition, obstacle }) =>
        [definition.problem, obstacle, host.helperProblem].filter((text) => text !== '').join('\n'),
      ),
      Autostart: told('b', ({ definition }) => definition.autostart),
      Leader: told('u', ({ leader }) => leader),
      StateChangeTimestamp: told('t', ({ stateChangeUsec }) => stateChangeUsec),
      Lockers: told('a(sob)', ({ attachments }) =>
        attachments.map(({ locker, readOnly }) => [locker, lockerPath(locker), readOnly]),
      ),
      MemoryLimit: told('t', ({ unit }) => unit?.memoryMax ?? unlimited),
      SwapLimit: told('t', ({ unit }) => unit?.memorySwapMax ?? unlimited),
      MemoryCurrent: figure('t', unknownFigure, ({ current }) => current),
      MemoryPeak: figure('t', unknownFigure, ({ peak }) => peak),
      SwapCurrent: figure('t', unknownFigure, ({ swap }) => swap),
      MemoryPressure: figure('d', 0, ({ pressure }) => pressure),
      OomKills: told('t', ({ oomKills }) => oomKills),
      Jobs: told('ao', (container) =>
        jobs.unfinished
          .filter((job) => job.container === container.name)
          .map(({ id }) => jobPath(id)),
      ),
    },
  };
}

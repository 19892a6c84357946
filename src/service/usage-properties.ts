/** The properties of org.lockerd1.Container that say what it uses, and what limits that. */

import { unknownFigure } from '../api/names.ts';
import type { Property } from '../bus/interface-table.ts';
import type { UsageFigures } from '../core/ports.ts';
import type { LimitName } from '../model/guest-limits.ts';
import { deviceLimits, noLimit } from '../model/guest-limits.ts';
import { unlimited } from '../model/memory-limit.ts';
import type { ServiceContext } from './service-context.ts';

const deviceNames = [
  'io-read-bytes',
  'io-write-bytes',
  'io-read-operations',
  'io-write-operations',
] as const;

function numberOf(text: string | undefined): bigint {
  return text === undefined || text === noLimit ? unlimited : BigInt(text);
}

/** Of each device its limits in the order of deviceNames. */
function ioLimits({ limits }: UsageFigures): unknown {
  const found = deviceNames.map(
    (name) => deviceLimits(limits[name] ?? '') ?? new Map<string, string>(),
  );
  const devices = new Set(found.flatMap((each) => [...each.keys()]));
  return [...devices]
    .sort()
    .map((device) => [device, ...found.map((each) => numberOf(each.get(device)))]);
}

/** In the order of org.lockerd1.xml. @param groupAt the control group of the container at a path */
export function usageProperties(
  context: ServiceContext,
  groupAt: (path: string) => string,
): Readonly<Record<string, Property>> {
  /** Changes all the time, so that it is read on request. */
  const figure = (
    signature: string,
    none: unknown,
    get: (figures: UsageFigures) => unknown,
  ): Property => ({
    signature,
    emits: 'false',
    get: (path) => {
      const group = groupAt(path);
      const figures = group === '' ? undefined : context.usage(group);
      return figures === undefined ? none : get(figures);
    },
  });
  const io = (get: (io: NonNullable<UsageFigures['io']>) => bigint): Property =>
    figure('t', unknownFigure, (figures) => (figures.io ? get(figures.io) : unknownFigure));
  const limit = (name: LimitName): Property =>
    figure('t', unlimited, ({ limits }) => numberOf(limits[name]));
  const list = (name: LimitName): Property =>
    figure('s', '', ({ limits }) => {
      const text = limits[name] ?? noLimit;
      return text === noLimit ? '' : text;
    });
  return {
    CpuTime: figure('t', unknownFigure, ({ cpuUsec }) => cpuUsec ?? unknownFigure),
    Tasks: figure('t', unknownFigure, ({ tasks }) => tasks ?? unknownFigure),
    IoReadBytes: io(({ readBytes }) => readBytes),
    IoWrittenBytes: io(({ writtenBytes }) => writtenBytes),
    IoReads: io(({ reads }) => reads),
    IoWrites: io(({ writes }) => writes),
    CpuQuota: limit('cpu-quota'),
    CpuWeight: limit('cpu-weight'),
    Cpus: list('cpus'),
    MemoryNodes: list('memory-nodes'),
    IoWeight: limit('io-weight'),
    IoLimits: figure('a(stttt)', [], ioLimits),
    TasksLimit: limit('tasks'),
  };
}

/** What a container uses beside memory, and the limits of that, as the service tells it. */

import { unknownFigure } from '../api/names.ts';
import { unlimited } from '../model/memory-limit.ts';

/** Undefined stands for what is not known, as of a container that does not run. */
export interface UsageInfo {
  /** Of all processors since the start, microseconds. */
  readonly cpuTime: bigint | undefined;
  readonly tasks: bigint | undefined;
  readonly readBytes: bigint | undefined;
  readonly writtenBytes: bigint | undefined;
  readonly reads: bigint | undefined;
  readonly writes: bigint | undefined;
  /** Microseconds a second; unlimited for no limit, as the next one. */
  readonly cpuQuota: bigint;
  readonly tasksLimit: bigint;
  readonly cpuWeight: bigint | undefined;
  readonly ioWeight: bigint | undefined;
  /** `0-3,8`; empty for all. */
  readonly cpus: string;
  readonly memoryNodes: string;
  readonly ioLimits: readonly IoLimit[];
}

/** Of one disk, a second; unlimited for no limit. */
export interface IoLimit {
  /** `MAJOR:MINOR` */
  readonly device: string;
  readonly readBytes: bigint;
  readonly writtenBytes: bigint;
  readonly reads: bigint;
  readonly writes: bigint;
}

/** Types of the values that the signatures stand for. */
export interface UsageTypes {
  s: string;
  t: bigint;
  'a(stttt)': readonly (readonly [string, bigint, bigint, bigint, bigint])[];
}

/** Reads them from the properties of org.lockerd1.Container. */
export function readUsage(
  get: <S extends keyof UsageTypes>(name: string, signature: S) => UsageTypes[S],
): UsageInfo {
  const known = (name: string, none: bigint): bigint | undefined => {
    const value = get(name, 't');
    return value === none ? undefined : value;
  };
  return {
    cpuTime: known('CpuTime', unknownFigure),
    tasks: known('Tasks', unknownFigure),
    readBytes: known('IoReadBytes', unknownFigure),
    writtenBytes: known('IoWrittenBytes', unknownFigure),
    reads: known('IoReads', unknownFigure),
    writes: known('IoWrites', unknownFigure),
    cpuQuota: get('CpuQuota', 't'),
    tasksLimit: get('TasksLimit', 't'),
    cpuWeight: known('CpuWeight', unlimited),
    ioWeight: known('IoWeight', unlimited),
    cpus: get('Cpus', 's'),
    memoryNodes: get('MemoryNodes', 's'),
    ioLimits: get('IoLimits', 'a(stttt)').map(
      ([device, readBytes, writtenBytes, reads, writes]) => ({
        device,
        readBytes,
        writtenBytes,
        reads,
        writes,
      }),
    ),
  };
}

/** What "status" and --json say of processors, disks and tasks. */

import { formatBytes, unlimited } from '../model/memory-limit.ts';
import type { JsonValue } from './json.ts';
import type { IoLimit, UsageInfo } from './usage-info.ts';

/** The usual weight, which is not told. */
const usualWeight = 100n;

/** `150%`: of one processor. */
export function formatQuota(usec: bigint): string {
  return `${Math.round(Number(usec) / 100) / 100}%`;
}

/** `5min 3s`, `1.234s`: systemd's notation. */
export function formatCpuTime(usec: bigint): string {
  const seconds = usec / 1_000_000n;
  if (seconds < 60n) return `${(Number(usec) / 1e6).toFixed(3)}s`;
  const minutes = seconds / 60n;
  const hours = minutes / 60n;
  const rest = hours > 0n ? `${minutes % 60n}min` : `${seconds % 60n}s`;
  return `${hours > 0n ? `${hours}h` : `${minutes}min`} ${rest}`;
}

function withFacts(text: string, facts: readonly string[]): string {
  return facts.length === 0 ? text : `${text} (${facts.join(', ')})`;
}

function weightFact(weight: bigint | undefined): string[] {
  return weight === undefined || weight === usualWeight ? [] : [`weight: ${weight}`];
}

function ioFacts({ device, readBytes, writtenBytes, reads, writes }: IoLimit): string[] {
  const facts = [
    ...(readBytes === unlimited ? [] : [`reads ${formatBytes(readBytes)}/s`]),
    ...(writtenBytes === unlimited ? [] : [`writes ${formatBytes(writtenBytes)}/s`]),
    ...(reads === unlimited ? [] : [`${reads} reads/s`]),
    ...(writes === unlimited ? [] : [`${writes} writes/s`]),
  ];
  return facts.length === 0 ? [] : [`limit of ${device}: ${facts.join(', ')}`];
}

/** Labels and lines of "status". */
export function usageFields(info: UsageInfo): [string, readonly string[]][] {
  const { cpuTime, tasks, readBytes, writtenBytes } = info;
  const cpu = [
    ...(info.cpuQuota === unlimited ? [] : [`limit: ${formatQuota(info.cpuQuota)}`]),
    ...weightFact(info.cpuWeight),
    ...(info.cpus === '' ? [] : [`processors: ${info.cpus}`]),
    ...(info.memoryNodes === '' ? [] : [`memory nodes: ${info.memoryNodes}`]),
  ];
  const limit = info.tasksLimit === unlimited ? [] : [`limit: ${info.tasksLimit}`];
  const io =
    readBytes === undefined || writtenBytes === undefined
      ? undefined
      : `${formatBytes(readBytes)} read, ${formatBytes(writtenBytes)} written`;
  return [
    ['CPU', cpuTime === undefined ? [] : [withFacts(formatCpuTime(cpuTime), cpu)]],
    ['Tasks', tasks === undefined ? [] : [withFacts(String(tasks), limit)]],
    [
      'Disks',
      io === undefined
        ? []
        : [withFacts(io, weightFact(info.ioWeight)), ...info.ioLimits.flatMap(ioFacts)],
    ],
  ];
}

function limitJson(limit: bigint): bigint | null {
  return limit === unlimited ? null : limit;
}

/** The same for --json: null for no limit or unknown. */
export function usageJson(info: UsageInfo): Readonly<Record<string, JsonValue>> {
  return {
    cpu_usec: info.cpuTime ?? null,
    cpu_quota: limitJson(info.cpuQuota),
    cpu_weight: info.cpuWeight ?? null,
    cpus: info.cpus === '' ? null : info.cpus,
    memory_nodes: info.memoryNodes === '' ? null : info.memoryNodes,
    tasks: info.tasks ?? null,
    tasks_limit: limitJson(info.tasksLimit),
    io_read_bytes: info.readBytes ?? null,
    io_written_bytes: info.writtenBytes ?? null,
    io_reads: info.reads ?? null,
    io_writes: info.writes ?? null,
    io_weight: info.ioWeight ?? null,
    io_limits: info.ioLimits.map(({ device, readBytes, writtenBytes, reads, writes }) => ({
      device,
      read_bytes: limitJson(readBytes),
      written_bytes: limitJson(writtenBytes),
      reads: limitJson(reads),
      writes: limitJson(writes),
    })),
  };
}

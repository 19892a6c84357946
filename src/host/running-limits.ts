import { isMonitor, isPivot, pivotsMax } from '../model/lxc-group.ts';
import { parseKernelLimit } from '../model/memory-limit.ts';
import type { HostReader } from './read.ts';

const root = '/sys/fs/cgroup';
/** Only the unified hierarchy has it. */
const markOfV2 = `${root}/cgroup.controllers`;

/** Whether control groups are those of cgroup v1; not where none are to be seen. */
export function isCgroup1(host: HostReader): boolean {
  return host.list(root).length > 0 && !host.isThere(markOfV2);
}

/** Limits by their names in units, in bytes; 2^64-1 for none. */
type KernelLimits = Readonly<Record<string, bigint>>;

/** The files of limits by their names in units. systemd knows no other limit on cgroup v1. */
const filesV1 = { MemoryMax: 'memory.limit_in_bytes' };
const filesV2 = {
  MemoryMax: 'memory.max',
  MemoryHigh: 'memory.high',
  MemorySwapMax: 'memory.swap.max',
};

/** The limits that the kernel has for containers which run as their units, without asking systemd. */
export class RunningLimits {
  private readonly host: HostReader;
  private known: { readonly isV2: boolean; readonly units: Map<string, string> } | undefined;

  constructor(host: HostReader) {
    this.host = host;
  }

  /** Those that systemd would change at once; none for a unit without a running container. */
  of(unit: string): KernelLimits {
    this.known ??= this.look();
    const { isV2, units } = this.known;
    const directory = units.get(unit);
    if (directory === undefined || !this.hasMonitor(directory, pivotsMax)) return {};
    const limits: Record<string, bigint> = {};
    for (const [name, file] of Object.entries(isV2 ? filesV2 : filesV1)) {
      const text = this.host.readText(`${directory}/${file}`).text;
      if (text !== undefined && text !== '') limits[name] = parseKernelLimit(text);
    }
    return limits;
  }

  /** The groups of all units of containers, in whatever slice; only root can make groups there. */
  private look(): NonNullable<RunningLimits['known']> {
    const isV2 = this.host.isThere(markOfV2);
    const units = new Map<string, string>();
    const slices = [isV2 ? root : `${root}/memory`];
    // The list grows during the loop.
    for (const slice of slices) {
      for (const name of this.host.list(slice)) {
        if (name.endsWith('.slice')) slices.push(`${slice}/${name}`);
        else if (name.startsWith('lxc@')) units.set(name, `${slice}/${name}`);
      }
    }
    return { isV2, units };
  }

  /** LXC's monitor is there as long as the container runs, also while the guest reboots. */
  private hasMonitor(directory: string, levels: number): boolean {
    const groups = this.host
      .list(directory)
      .filter((name) => isMonitor(name) || isPivot(name))
      .slice(0, pivotsMax);
    return groups.some((name) => {
      const group = `${directory}/${name}`;
      if ((this.host.readText(`${group}/cgroup.procs`).text ?? '') !== '') return true;
      return isPivot(name) && levels > 1 && this.hasMonitor(group, levels - 1);
    });
  }
}

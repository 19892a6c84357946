import type { KernelLimits, MemoryFigures, MemoryPort, Unwatch } from '../core/ports.ts';
import { watchFile } from '../cgroup/control-files.ts';
import { findMemoryGroup } from '../cgroup/find-group.ts';
import type { GroupV1 } from '../cgroup/group-v1.ts';
import type { GroupV2 } from '../cgroup/group-v2.ts';
import { cgroupRoot } from '../cgroup/hierarchy.ts';
import { OomKills } from '../cgroup/oom-kills.ts';

/** The figures, limits and OOM kills of containers for the core, from the control groups of units. */
export class CgroupMemory implements MemoryPort {
  readonly #mountPoint: string;
  readonly #oomKills: OomKills;

  /** `pollMs` is how often OOM kills are counted on cgroup v1. */
  constructor(mountPoint: string = cgroupRoot, options: { readonly pollMs?: number } = {}) {
    this.#mountPoint = mountPoint;
    this.#oomKills = new OomKills(options.pollMs);
  }

  /** Rejects if the control group does not exist. */
  async read(controlGroup: string): Promise<MemoryFigures> {
    const group = this.#require(controlGroup);
    const current = group.usage();
    return {
      current,
      peak: group.peak() ?? current,
      swap: group.swapUsage(),
      pressure: group.pressure()?.stallShare ?? 0,
      oomKills: await this.#oomKills.count(group),
    };
  }

  #find(controlGroup: string): GroupV1 | GroupV2 | undefined {
    return findMemoryGroup(controlGroup, this.#mountPoint);
  }

  #require(controlGroup: string): GroupV1 | GroupV2 {
    const group = this.#find(controlGroup);
    if (group === undefined) throw new Error(`no control group ${controlGroup}`);
    return group;
  }

  limits(controlGroup: string): Promise<KernelLimits | undefined> {
    return Promise.resolve(this.#limits(controlGroup));
  }

  #limits(controlGroup: string): KernelLimits | undefined {
    const group = this.#find(controlGroup);
    if (group === undefined) return undefined;
    try {
      const memory = group.limit();
      return { memory, swap: group.version === 2 ? group.swapLimit() : undefined };
    } catch {
      // The group has just gone.
      return undefined;
    }
  }

  /** Calls `changed` when a memory limit of the control group is written, even without systemd. */
  watchLimits(controlGroup: string, changed: () => void): Promise<Unwatch> {
    const stops = (this.#find(controlGroup)?.limitFiles ?? []).flatMap((file) => {
      try {
        return [watchFile(file, changed)];
      } catch {
        // Without swap accounting there is no such file.
        return [];
      }
    });
    return Promise.resolve(() => {
      for (const stop of stops) stop();
      return Promise.resolve();
    });
  }

  /** Rejects if the control group does not exist. */
  async watchOomKills(controlGroup: string, changed: (kills: bigint) => void): Promise<Unwatch> {
    const stop = await this.#oomKills.watch(this.#require(controlGroup), changed);
    return () => {
      stop();
      return Promise.resolve();
    };
  }

  expectOomKills(controlGroup: string): void {
    const group = this.#find(controlGroup);
    if (group !== undefined) this.#oomKills.expect(group.directory);
  }
}

import { findControls } from '../cgroup/controls.ts';
import { cgroupRoot } from '../cgroup/hierarchy.ts';
import type { UsageFigures, UsagePort } from '../core/ports.ts';

/** What containers use beside memory, for the core, from the control groups of units. */
export class CgroupUsage implements UsagePort {
  readonly #mountPoint: string;

  constructor(mountPoint: string = cgroupRoot) {
    this.#mountPoint = mountPoint;
  }

  read(controlGroup: string): UsageFigures | undefined {
    const controls = findControls(controlGroup, this.#mountPoint);
    return controls === undefined ? undefined : { ...controls.use(), limits: controls.limits() };
  }
}

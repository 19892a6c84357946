/**
 * Sees to it that the kernel has the limits that a running unit has. With systemd 257 those that a
 * daemon-reload changes, as "systemctl revert" does, wait for the next change of a unit nearby.
 */

import { wholePages } from '../model/memory-limit.ts';
import type { Clock } from './clock.ts';
import { LockerdError } from '../model/errors.ts';
import type { HelperPort, MemoryPort, UnitStatus } from './ports.ts';
import type { HostState } from './host-state.ts';
import type { ReportProblem } from './retried-watch.ts';

/** systemd brings a limit that it knows to the kernel within this time, or not by itself. */
const settleMs = 2_000;
/** What did not work is tried again after this time, then after twice of it, ... */
const retryMs = 2_000;
const retryMaxMs = 60_000;
/** A container that is about to start or stop, or whose limit is about to change. */
const transientErrors: readonly LockerdError['code'][] = [
  'NotRunning',
  'JobConflict',
  'NoSuchContainer',
];

export class LimitReconciler {
  readonly #host: HostState;
  readonly #ports: { readonly helper: HelperPort; readonly memory: MemoryPort };
  readonly #clock: Clock;
  readonly #reportProblem: ReportProblem;
  /** By container: the limits and the run of its unit that were looked at last. */
  readonly #known = new Map<string, string>();

  constructor(
    host: HostState,
    ports: { readonly helper: HelperPort; readonly memory: MemoryPort },
    clock: Clock,
    reportProblem: ReportProblem,
  ) {
    this.#host = host;
    this.#ports = ports;
    this.#clock = clock;
    this.#reportProblem = reportProblem;
    host.changed.add(({ kind, type, name }) => {
      if (type !== 'container') return;
      if (kind === 'removed') this.#known.delete(name);
      else this.#noteLimits(name);
    });
  }

  #unit(name: string): UnitStatus | undefined {
    const unit = this.#host.container(name)?.unit;
    return unit?.activeState === 'active' && unit.controlGroup !== '' ? unit : undefined;
  }

  #noteLimits(name: string): void {
    const unit = this.#unit(name);
    const now = unit === undefined ? '' : limitsOf(unit);
    if (now === (this.#known.get(name) ?? '')) return;
    this.#known.set(name, now);
    if (now === '') return;
    this.#compareAfter(settleMs, name, now);
  }

  /** Until it has worked, or there is something else to compare. */
  #compareAfter(ms: number, name: string, wanted: string, tries = 0): void {
    this.#clock.after(ms, () => {
      if (this.#known.get(name) !== wanted) return;
      this.#compare(name).catch((error: unknown) => {
        const code = error instanceof LockerdError ? error.code : undefined;
        const isTransient = code !== undefined && transientErrors.includes(code);
        if (!isTransient && tries === 0) {
          const what = `the kernel cannot be given the memory limit of container "${name}"`;
          this.#reportProblem(what, error);
        }
        // Each attempt slows the guest down, so the limit waits for a change or for the next start.
        if (code === 'LimitBelowUsage') return;
        const again = Math.min(retryMs * 2 ** tries, retryMaxMs);
        this.#compareAfter(again, name, wanted, tries + 1);
      });
    });
  }

  async #compare(name: string): Promise<void> {
    const unit = this.#unit(name);
    if (unit === undefined) return;
    const kernel = await this.#ports.memory.limits(unit.controlGroup);
    const isSame =
      wholePages(unit.memoryMax) === kernel?.memory &&
      (kernel.swap === undefined || wholePages(unit.memorySwapMax) === kernel.swap);
    if (kernel === undefined || isSame) return;
    await this.#ports.helper.applyLimits(name);
  }
}

function limitsOf({ memoryMax, memorySwapMax, controlGroup }: UnitStatus): string {
  return `${memoryMax} ${memorySwapMax} ${controlGroup}`;
}

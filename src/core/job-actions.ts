/**
 * What a job does: one action a verb, on systemd's units or through the helper. An action ends when
 * its effect can be seen in the container's properties.
 */

import { LockerdError } from '../model/errors.ts';
import type { LimitTexts } from '../model/guest-limits.ts';
import { wholePages } from '../model/memory-limit.ts';
import type { ContainerRequest, RequestOptions } from './request.ts';
import { isUp } from './container-state.ts';
import {
  bootRemarks,
  quotedName,
  runsOutside,
  seeJournal,
  startsLater,
} from './container-words.ts';
import type { Container } from './host-objects.ts';
import type { HostState } from './host-state.ts';
import type { AbortReason, JobContext } from './job-queue.ts';
import type { HelperPort, UnitsPort } from './ports.ts';

const sigkill = 9;

/** How long systemd's, LXC's and the kernel's news may take to arrive after the work is done. */
const settleMs = 5_000;

export interface JobPorts {
  readonly units: UnitsPort;
  readonly helper: HelperPort;
}

export class JobActions {
  readonly #host: HostState;
  readonly #ports: JobPorts;

  constructor(host: HostState, ports: JobPorts) {
    this.#host = host;
    this.#ports = ports;
  }

  run(
    request: ContainerRequest,
    container: Container,
    options: RequestOptions,
    job: JobContext,
  ): Promise<void> {
    switch (request.verb) {
      case 'start':
        return this.#start(container, job);
      case 'stop':
        return this.#stop(container, options.force, job);
      case 'reboot':
        return options.force ? this.#restart(container, job) : this.#reboot(container, job);
      case 'freeze':
        return this.#freeze(container, job);
      case 'thaw':
        return this.#thaw(container, job);
      case 'balloon':
        return this.#balloon(container, request.limit, options, job);
      case 'set-limits':
        return this.#setLimits(container, request.limits, options, job);
      case 'mount-locker':
        return this.#attach(container, request.locker, options, job);
      case 'unmount-locker':
        return this.#detach(container, request.locker, options, job);
      case 'set-autostart':
        return this.#setAutostart(container, request.autostart, job);
    }
  }

  async #start(container: Container, job: JobContext): Promise<void> {
    const { unit } = container.definition;
    job.report('starting');
    try {
      const result = await this.#ports.units.start(unit, job.signal);
      job.throwIfAborted();
      if (result !== 'done') throw await this.#unitFailure(container, 'did not start', result);
    } finally {
      const reason: AbortReason | undefined = job.abortReason();
      // Without its job, systemd goes on starting a unit. A stop job does better what is to be done.
      if (reason === 'cancelled' || reason === 'timeout') {
        job.report('stopping');
        await this.#ports.units.stop(unit, new AbortController().signal);
        await this.#host.until(container, ({ state }) => !isUp(state), settleMs);
      }
    }
    await this.#settle(
      container,
      job,
      (now) =>
        !['stopped', 'waiting', 'unmet', 'starting'].includes(now.state) &&
        this.#hasItsLockers(now),
    );
  }

  /** Those that it comes with, where the host has them. */
  #hasItsLockers({ definition, attachments }: Container): boolean {
    return definition.lockers.every(
      ({ name }) =>
        this.#host.locker(name)?.isMounted !== true ||
        attachments.some(({ locker }) => locker === name),
    );
  }

  async #stop(container: Container, force: boolean, job: JobContext): Promise<void> {
    const { unit } = container.definition;
    if (force && (container.state === 'frozen' || container.state === 'freezing')) {
      // A frozen process is not even killed on cgroup v1.
      job.report('thawing');
      await this.#ports.helper.thaw(container.name);
    }
    job.report('stopping');
    const stopping = this.#ports.units.stop(unit, job.signal);
    if (force) {
      // First systemd must know that the unit is wanted to end. Its answer is awaited below.
      stopping.catch(() => undefined);
      await this.#settle(container, job, ({ state }) => state === 'stopping' || !isUp(state));
      job.report('killing');
      if (isUp(container.state)) await this.#kill(unit);
    }
    const result = await stopping;
    if (result !== 'done') {
      job.throwIfAborted();
      throw await this.#unitFailure(container, 'did not stop', result);
    }
    await this.#settle(
      container,
      job,
      ({ state, attachments }) => !isUp(state) && state !== 'unmet' && attachments.length === 0,
    );
    if (isUp(container.state) && container.isOutsideUnit) throw runsOutside(container);
  }

  async #kill(unit: string): Promise<void> {
    try {
      await this.#ports.units.kill(unit, 'all', sigkill);
    } catch {
      // Nothing is left to kill, or systemd's own time-out will kill it; the stop's result tells.
    }
  }

  async #restart(container: Container, job: JobContext): Promise<void> {
    job.report('restarting');
    const result = await this.#ports.units.restart(container.definition.unit, job.signal);
    if (result !== 'done') {
      job.throwIfAborted();
      throw await this.#unitFailure(container, 'did not restart', result);
    }
    await this.#settle(
      container,
      job,
      (now) => now.state === 'running' && this.#hasItsLockers(now),
    );
  }

  async #reboot(container: Container, job: JobContext): Promise<void> {
    const { leader, definition } = container;
    if (leader === 0) {
      throw new LockerdError(
        'Failed',
        `nothing is known of the guest of ${quotedName(container)}; ` +
          (this.#host.helperProblem || 'try again in a moment'),
      );
    }
    job.report('rebooting');
    await this.#ports.units.kill(definition.unit, 'main', definition.rebootSignal);
    const rebooted = (now: Container) =>
      now.state === 'running' && now.leader !== 0 && now.leader !== leader;
    await this.#host.until(
      container,
      (now) => rebooted(now) || !isUp(now.state),
      undefined,
      job.signal,
    );
    if (rebooted(container)) return;
    job.throwIfAborted();
    throw new LockerdError(
      'Failed',
      `${quotedName(container)} shut down instead of rebooting; ${seeJournal(container)}`,
    );
  }

  async #freeze(container: Container, job: JobContext): Promise<void> {
    if (container.state === 'frozen') return;
    job.report('freezing');
    await this.#ports.helper.freeze(container.name);
    await this.#settle(container, job, ({ state }) => state === 'frozen' || !isUp(state));
  }

  async #thaw(container: Container, job: JobContext): Promise<void> {
    job.report('thawing');
    await this.#ports.helper.thaw(container.name);
    await this.#settle(container, job, ({ state }) => state !== 'frozen' && state !== 'freezing');
  }

  async #balloon(
    container: Container,
    limit: bigint,
    { force, persist, swap }: RequestOptions,
    job: JobContext,
  ): Promise<void> {
    job.report('checking');
    const { warnings, stallUsec } = await this.#ports.helper.balloon(
      { container: container.name, limit, swap, force, persist },
      (phase, fraction) => {
        job.report(fixedWord(phase), Math.min(1, Math.max(-1, fraction)));
      },
      job.signal,
    );
    warnings.forEach(job.warn);
    if (stallUsec !== undefined) job.stalled(stallUsec);
    // A stopped container has no control group whose limits could be watched.
    await this.#ports.units.look(container.definition.unit);
    await this.#settle(
      container,
      job,
      ({ unit }) =>
        unit?.memoryMax === wholePages(limit) &&
        (swap === undefined || unit.memorySwapMax === wholePages(swap)),
    );
  }

  async #setLimits(
    container: Container,
    limits: LimitTexts,
    { persist }: RequestOptions,
    job: JobContext,
  ): Promise<void> {
    job.report('setting');
    const request = { container: container.name, limits, persist };
    const { warnings } = await this.#ports.helper.setLimits(request);
    warnings.forEach(job.warn);
  }

  async #attach(
    container: Container,
    locker: string,
    { readOnly, persist }: RequestOptions,
    job: JobContext,
  ): Promise<void> {
    job.report('attaching');
    await this.#ports.helper.attach({ container: container.name, locker, readOnly, persist });
    await this.#settle(container, job, (now) =>
      now.attachments.some((attached) => attached.locker === locker),
    );
  }

  async #detach(
    container: Container,
    locker: string,
    { force, persist }: RequestOptions,
    job: JobContext,
  ): Promise<void> {
    job.report('detaching');
    const request = { container: container.name, locker, force, persist };
    const { lazy } = await this.#ports.helper.detach(request);
    if (lazy) {
      job.warn(
        `locker "${locker}" is out of sight in ${quotedName(container)}, but what used it there ` +
          'goes on using it until it lets go',
      );
    }
    await this.#settle(
      container,
      job,
      (now) => !now.attachments.some((attached) => attached.locker === locker),
    );
  }

  async #setAutostart(container: Container, autostart: boolean, job: JobContext): Promise<void> {
    job.report('recording');
    const request = { container: container.name, autostart };
    const { warnings } = await this.#ports.helper.setAutostart(request);
    warnings.forEach(job.warn);
    // systemd has reloaded, so that the generator's word about the next boot is there to be read.
    await this.#host.reload();
    for (const text of bootRemarks(container, autostart)) job.warn(text);
  }

  /**
   * Properties must have changed before the caller learns of the end. It is no failure when they do
   * not: another program may have changed things already.
   */
  async #settle(
    container: Container,
    job: JobContext,
    condition: (now: Container) => boolean,
  ): Promise<void> {
    await this.#host.until(container, condition, settleMs, job.signal);
  }

  async #unitFailure(container: Container, what: string, result: string): Promise<LockerdError> {
    // What is known of what looks for it may be from before the failure.
    await this.#ports.units.look(container.definition.unit);
    // What looks for what the start lacked takes a moment to name it, or to find nothing and end.
    // LXC's word may still be that of the guest before.
    const isNamed = ({ unit, state }: Container) =>
      unit?.isAwaited !== true || (state === 'unmet' && unit.heldBy !== '');
    await this.#host.until(container, isNamed, settleMs);
    if (container.state === 'unmet' && container.unit?.isAwaited === true) {
      return startsLater(container, what);
    }
    const unitResult = container.unit?.result ?? 'success';
    const why = unitResult === 'success' ? result : unitResult;
    return new LockerdError(
      'Failed',
      `${quotedName(container)} ${what} (${fixedWord(why)}); ${container.obstacle || seeJournal(container)}`,
    );
  }
}

/** Systemd's and the helper's words are short; anything else is not for callers. */
export function fixedWord(word: string): string {
  return /^[a-z][a-z0-9-]{0,31}$/.test(word) ? word : 'other';
}

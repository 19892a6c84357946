/**
 * Sets limits of processors, disks and tasks of one container, all of them or none. What is set here kills
 * nobody, so that nothing has to be tried first.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { undo, withBalloonLock } from '../balloon/balloon-state.ts';
import { restoreSnapshot, setLastingLimits, takeSnapshot } from '../balloon/lasting.ts';
import { lastingLimit, settingNames } from './limit-properties.ts';
import { writeFile } from '../cgroup/control-files.ts';
import type { Controls, ControlText } from '../cgroup/controls.ts';
import { findControls, isDeviceLimit } from '../cgroup/controls.ts';
import { controlGroups } from '../cgroup/hierarchy.ts';
import { Files } from '../host/files.ts';
import { laterLines } from '../host/later-drop-ins.ts';
import { HostReader } from '../host/read.ts';
import { LockerdError } from '../model/errors.ts';
import type { LimitName, LimitTexts } from '../model/guest-limits.ts';
import {
  deviceLimits,
  isLimitName,
  listedNumbers,
  listText,
  noLimit,
} from '../model/guest-limits.ts';
import { shellWord } from '../model/shell-quote.ts';
import { containerUnit } from '../model/unit-name.ts';
import { worksOnV1 } from '../model/unit-controls.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import { isDown } from '../systemd/properties.ts';
import { forMemory, withSystemd } from './context.ts';
import type { LimitsRequest } from './request.ts';

/** How long systemd may take to give the kernel what it has accepted. */
const kernelMaxMs = 5_000;
const lookEveryMs = 20;

type Wanted = readonly (readonly [LimitName, string])[];

/** The answer has `warnings`. Throws LockerdErrors: InvalidArgs, NotRunning, JobConflict, Failed. */
export async function changeLimits({
  container,
  limits,
  persist,
}: LimitsRequest): Promise<Record<string, unknown>> {
  const wanted = Object.entries(limits).flatMap(([name, text]) =>
    isLimitName(name) ? [[name, allOfHost(name, text)] as const] : [],
  );
  const unit = containerUnit(container);
  checkHost(wanted);
  checkDropIns(container, unit, wanted);
  return withSystemd(forMemory, (systemd) =>
    withBalloonLock(container, unit, async () => {
      await undo(unit, systemd);
      const { activeState, controlGroup } = await stateOf(systemd, unit);
      const isUp = activeState === 'active';
      if (!isUp && !isDown(activeState)) {
        throw new LockerdError(
          'JobConflict',
          `container "${container}" is ${activeState}; try again when that has ended`,
        );
      }
      if (!isUp && !persist) {
        throw new LockerdError(
          'NotRunning',
          `container "${container}" is not running; a limit for its next start needs "persist"`,
        );
      }
      const controls = isUp ? findControls(controlGroup) : undefined;
      if (isUp && controls === undefined) {
        throw new LockerdError('NotRunning', `container "${container}" stops just now`);
      }
      const outside = wanted.find(([name]) => controls?.hasGuest(name) === false);
      if (outside !== undefined) throw isOutside(container, unit, outside[0]);
      const change = new Change(systemd, unit, container, wanted, controls);
      await change.run(persist);
      return { warnings: controls === undefined ? [] : warningsFor(controls, wanted) };
    }),
  );
}

/** As of a container that runs since before the installation. */
function isOutside(container: string, unit: string, name: LimitName): LockerdError {
  return new LockerdError(
    'NotRunning',
    `the guest of container "${container}" is not in the control group of its unit ${unit}, where ` +
      `"${name}" would hold, because it runs since before lockerd was installed, or stops just now; ` +
      `put it there with: systemctl restart ${shellWord(unit)}`,
  );
}

async function stateOf(
  systemd: SystemdManager,
  unit: string,
): Promise<{ readonly activeState: string; readonly controlGroup: string }> {
  const [activeState, service] = await Promise.all([
    systemd.activeState(unit),
    systemd.get(unit, 'Service', ['ControlGroup']),
  ]);
  return { activeState, controlGroup: service.string('ControlGroup') };
}

function hostNumbers(path: string): readonly number[] {
  try {
    return listedNumbers(readFileSync(path, 'utf8').trim());
  } catch {
    // A kernel without NUMA has no nodes but the first.
    return [0];
  }
}

const nodes = '/sys/devices/system/node/has_memory';

/** Where the host lists those that there are, and those that can be used now. */
const numbered: Readonly<
  Partial<Record<LimitName, { readonly file: string; readonly usable: string; what: string }>>
> = {
  cpus: {
    file: '/sys/devices/system/cpu/present',
    usable: '/sys/devices/system/cpu/online',
    what: 'processor',
  },
  'memory-nodes': { file: nodes, usable: nodes, what: 'memory node' },
};

/** The kernel takes no empty list where processes run, so that no limit is a list of all. */
function allOfHost(name: LimitName, text: string): string {
  const { usable } = numbered[name] ?? {};
  return usable === undefined || text !== noLimit ? text : listText(hostNumbers(usable));
}

/** Refuses what the host does not have. */
function checkHost(wanted: Wanted): void {
  const { version } = controlGroups();
  for (const [name, text] of wanted) {
    const setting = settingNames[name];
    if (version === 1 && !worksOnV1({ name: setting, value: '' })) {
      throw new LockerdError(
        'Failed',
        `"${name}" cannot be set on this host: units have no ${setting}= on cgroup v1`,
      );
    }
    const { file, what } = numbered[name] ?? {};
    if (file !== undefined) {
      const known = hostNumbers(file);
      const missing = listedNumbers(text).find((number) => !known.includes(number));
      if (missing !== undefined) {
        throw new LockerdError('InvalidArgs', `the host has no ${what ?? ''} ${missing}`);
      }
    }
    if (isDeviceLimit(name))
      for (const device of deviceLimits(text)?.keys() ?? []) checkDisk(device);
  }
}

/** The name is digits and a colon. */
function checkDisk(device: string): void {
  const path = `/sys/dev/block/${device}`;
  // Without a device of its own, access(2) is denied this process, while stat(2) is not.
  const status = statSync(`/dev/block/${device}`, { throwIfNoEntry: false });
  if (status?.isBlockDevice() !== true || !existsSync(path)) {
    throw new LockerdError('InvalidArgs', `the host has no block device ${device}`);
  }
  if (existsSync(`${path}/partition`)) {
    throw new LockerdError(
      'InvalidArgs',
      `block device ${device} is a partition, and only whole disks can be limited`,
    );
  }
}

/** What somebody has written into a later drop-in would come back with the next reload. */
function checkDropIns(container: string, unit: string, wanted: Wanted): void {
  const settings = wanted.map(([name]) => settingNames[name]);
  const [later] = laterLines(new HostReader('', new Files()), unit, settings);
  if (later === undefined) return;
  throw new LockerdError(
    'Failed',
    `${later.file}:${later.line} sets ${later.setting}= of container "${container}" and has the last word; ` +
      'change it there, or remove the line',
  );
}

function warningsFor(controls: Controls, wanted: Wanted): string[] {
  const { tasks = 0n } = controls.use();
  return wanted.flatMap(([name, text]) =>
    name === 'tasks' && text !== noLimit && tasks > BigInt(text)
      ? [`it has ${tasks} tasks, and can start none before it has fewer than ${text}`]
      : [],
  );
}

/** Whether the kernel has what was asked for; undefined where it has no such limit at all. */
function holds(name: LimitName, text: string, now: LimitTexts): boolean | undefined {
  const kernel = now[name];
  if (kernel === undefined) return undefined;
  if (isDeviceLimit(name)) {
    const has = deviceLimits(kernel) ?? new Map<string, string>();
    return [...(deviceLimits(text) ?? [])].every(
      ([device, limit]) => (has.get(device) ?? noLimit) === limit,
    );
  }
  if (name === 'cpu-quota' && kernel !== noLimit && text !== noLimit) {
    // A period of the configuration's own may not divide.
    return Math.abs(Number(kernel) - Number(text)) * 100 <= Number(text);
  }
  return kernel === text;
}

class Change {
  readonly #systemd: SystemdManager;
  readonly #unit: string;
  readonly #container: string;
  readonly #wanted: Wanted;
  readonly #controls: Controls | undefined;

  constructor(
    systemd: SystemdManager,
    unit: string,
    container: string,
    wanted: Wanted,
    controls: Controls | undefined,
  ) {
    this.#systemd = systemd;
    this.#unit = unit;
    this.#container = container;
    this.#wanted = wanted;
    this.#controls = controls;
  }

  async run(persist: boolean): Promise<void> {
    const limits = this.#wanted.map(([name, text]) => lastingLimit(name, text));
    const settings = limits.map(({ setting }) => setting);
    const before = this.#texts();
    const snapshot = takeSnapshot(this.#unit, settings);
    try {
      await setLastingLimits(this.#systemd, this.#unit, limits, persist);
      await this.#verify();
    } catch (error) {
      await restoreSnapshot(this.#systemd, snapshot);
      // systemd gives the kernel only what it believes to have changed.
      for (const { path, text } of before)
        await writeFile(path, `${text}\n`).catch(() => undefined);
      throw error;
    }
  }

  /** What the kernel has now of all that is going to change. */
  #texts(): readonly ControlText[] {
    const controls = this.#controls;
    if (controls === undefined) return [];
    const now = controls.limits();
    return this.#wanted.flatMap(([name, text]) => {
      if (!isDeviceLimit(name)) return controls.texts(name);
      const has = deviceLimits(now[name] ?? '') ?? new Map<string, string>();
      return [...(deviceLimits(text)?.keys() ?? [])].map((device) =>
        controls.deviceLine(name, device, has.get(device) ?? noLimit),
      );
    });
  }

  async #verify(): Promise<void> {
    const controls = this.#controls;
    if (controls === undefined) return;
    const end = Date.now() + kernelMaxMs;
    for (;;) {
      const now = controls.limits();
      const failed = this.#wanted.find(([name, text]) => holds(name, text, now) !== true);
      if (failed === undefined) return;
      const [name] = failed;
      // cgroup v1 has weights of disks that cannot be read back as they were written.
      if (now[name] === undefined && controls.texts(name).length > 0) return;
      if (Date.now() >= end) throw this.#notKept(name, now[name]);
      await sleep(lookEveryMs);
    }
  }

  #notKept(name: LimitName, has: string | undefined): LockerdError {
    const what =
      has === undefined
        ? `has no ${settingNames[name]}= for its control group`
        : `does not take it, and has ${has === '' ? 'none' : has}`;
    return new LockerdError(
      'Failed',
      `"${name}" of container "${this.#container}" stays as it was, and so do the others: the kernel ${what}`,
    );
  }
}

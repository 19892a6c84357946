/**
 * Sets MemoryHigh= of units in two steps: apply() writes the kernel's file at once, settle() tells systemd
 * later. A note lists every value that is ours, so that neither this program nor hooks/autoballoon-gone
 * touches a limit that somebody else has set.
 */

import { execFile } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { askPatiently } from '../systemd/reload.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import { bytesProperty } from '../systemd/properties.ts';
import { GroupV2 } from '../cgroup/group-v2.ts';
import { cgroupRoot } from '../cgroup/hierarchy.ts';
import type { ControlDirectories } from '../balloon/lasting.ts';
import { controlDirectories } from '../balloon/lasting.ts';
import { stateDirectory } from '../balloon/balloon-state.ts';
import { codeOf } from '../model/errno.ts';

const dropIn = '50-MemoryHigh.conf';
const takeOffHook = '/usr/lib/lockerd/hooks/autoballoon-gone';

/**
 * MemoryHigh= of units, as far as it is ours. hooks/balloon-gone removes it when a unit stops, and
 * hooks/autoballoon-gone removes it from all units when this process ends.
 */
export interface HighLimits {
  /** Whether somebody else has set MemoryHigh= of the unit. */
  isForeign(unit: string): boolean;
  /** Sets it in the kernel at once; until settle(), any write by systemd undoes this. */
  apply(unit: string, controlGroup: string, bytes: bigint): Promise<void>;
  /** Tells systemd, which may take a while. */
  settle(unit: string, bytes: bigint): Promise<void>;
  /** Restores the values that the units have without us. */
  takeOff(units: readonly string[]): Promise<void>;
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return '';
    throw error;
  }
}

/** Sets MemoryHigh= as "systemctl set-property --runtime" does. */
export class SystemdHighLimits implements HighLimits {
  readonly #manager: Pick<SystemdManager, 'setProperties'>;
  readonly #directories: ControlDirectories;

  constructor(
    manager: Pick<SystemdManager, 'setProperties'>,
    directories: ControlDirectories = controlDirectories,
  ) {
    this.#manager = manager;
    this.#directories = directories;
  }

  /** File with the values that we may have set, one per line; hooks/autoballoon-gone reads it. */
  #note(unit: string): string {
    return join(stateDirectory(unit), 'autoballoon');
  }

  #runtime(unit: string): string {
    return join(this.#directories.runtime, `${unit}.d`, dropIn);
  }

  isForeign(unit: string): boolean {
    if (existsSync(join(this.#directories.persistent, `${unit}.d`, dropIn))) return true;
    const [, value] = /^MemoryHigh=(.*)$/m.exec(textOf(this.#runtime(unit))) ?? [];
    return value !== undefined && !textOf(this.#note(unit)).split('\n').includes(value);
  }

  #write(unit: string, text: string): void {
    const note = this.#note(unit);
    mkdirSync(stateDirectory(unit), { recursive: true, mode: 0o700 });
    writeFileSync(`${note}.new`, text, { mode: 0o600 });
    renameSync(`${note}.new`, note);
  }

  async apply(unit: string, controlGroup: string, bytes: bigint): Promise<void> {
    // Note the value first, so that the note always covers the drop-in, whenever this process ends.
    this.#write(unit, `${textOf(this.#note(unit))}${bytes}\n`);
    await new GroupV2(join(cgroupRoot, controlGroup)).setHigh(bytes);
  }

  async settle(unit: string, bytes: bigint): Promise<void> {
    const properties = [bytesProperty('MemoryHigh', bytes)];
    await askPatiently(() => this.#manager.setProperties(unit, true, properties));
    this.#write(unit, `${bytes}\n`);
    // hooks/balloon-gone compares this copy with the drop-in.
    copyFileSync(this.#runtime(unit), join(stateDirectory(unit), dropIn));
  }

  async takeOff(units: readonly string[]): Promise<void> {
    await promisify(execFile)(takeOffHook, [...units], { env: {} });
  }
}

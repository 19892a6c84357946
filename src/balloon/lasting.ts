/**
 * Sets limits so that they outlast a daemon-reload, as drop-ins of systemd's own: for good, or until the
 * container stops. A limit that ends with the container must hide a persistent one until then, and leaves
 * notes for hooks/balloon-gone, which takes it back.
 */

import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unlimited } from '../model/memory-limit.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import type { UnitProperty } from '../systemd/properties.ts';
import { bytesProperty } from '../systemd/properties.ts';
import { stateDirectory } from './balloon-state.ts';
import type { Limits } from './unit-memory.ts';

/**
 * Where systemd keeps the drop-ins of "systemctl set-property". Of two files with the same name the
 * persistent one counts, and the files of all directories are read in the order of their names.
 */
export interface ControlDirectories {
  readonly persistent: string;
  readonly runtime: string;
}

export const controlDirectories: ControlDirectories = {
  persistent: '/etc/systemd/system.control',
  runtime: '/run/systemd/system.control',
};

/** A limit as it is to last. */
export interface LastingLimit {
  /** Its name in a unit file, after which systemd names the drop-in. */
  readonly setting: string;
  /** A line that systemd writes into the drop-in. */
  readonly line: string;
  readonly property: UnitProperty;
}

/** Limits of memory, in bytes; 2^64-1 for none. */
export function memoryLimits(limits: Limits): LastingLimit[] {
  return Object.entries<bigint>({ ...limits }).map(([setting, bytes]) => ({
    setting,
    line: `${setting}=${bytes === unlimited ? 'infinity' : bytes}`,
    property: bytesProperty(setting, bytes),
  }));
}

/** The name that systemd gives the drop-in of a setting. */
export function dropIn(setting: string): string {
  return `50-${setting}.conf`;
}

/** Under this name a persistent limit is read before a runtime one, which then overrides it. */
function shelved(property: string): string {
  return `45-${property}.conf`;
}

/**
 * Sets limits of a unit so that they outlast a daemon-reload. With `persist` they outlast the host's
 * reboot as well; otherwise they end when the container stops, when hooks/balloon-gone takes back what
 * is noted here.
 */
export async function setLastingLimits(
  systemd: SystemdManager,
  unit: string,
  limits: readonly LastingLimit[],
  persist: boolean,
  directories: ControlDirectories = controlDirectories,
): Promise<void> {
  const persistent = join(directories.persistent, `${unit}.d`);
  const runtime = join(directories.runtime, `${unit}.d`);
  const notes = stateDirectory(unit);
  let changedFiles = false;
  if (!persist) {
    for (const { setting, line } of limits) {
      // If this process is killed from here on, hooks/balloon-gone knows the drop-in by this note.
      writeFileSync(join(notes, `${dropIn(setting)}.wanted`), `${line}\n`);
      // The persistent limit would return with the next daemon-reload; shelved, with the next start.
      const file = join(persistent, dropIn(setting));
      if (!existsSync(file)) continue;
      renameSync(file, join(persistent, shelved(setting)));
      changedFiles = true;
    }
  }
  await systemd.setProperties(
    unit,
    !persist,
    limits.map(({ property }) => property),
  );
  for (const { setting } of limits) {
    const note = join(notes, dropIn(setting));
    if (!persist) {
      copyFileSync(join(runtime, dropIn(setting)), note);
      rmSync(`${note}.wanted`);
      continue;
    }
    for (const old of [
      join(persistent, shelved(setting)),
      note,
      `${note}.wanted`,
      join(runtime, dropIn(setting)),
    ]) {
      if (!existsSync(old)) continue;
      rmSync(old);
      changedFiles = true;
    }
  }
  if (changedFiles) await systemd.reload();
}

/** The files that setLastingLimits() changes, by path, to restore them if setting a limit fails. */
export interface LastingSnapshot {
  readonly files: ReadonlyMap<string, string | undefined>;
}

export function takeSnapshot(
  unit: string,
  settings: readonly string[],
  directories: ControlDirectories = controlDirectories,
): LastingSnapshot {
  const paths = settings.flatMap((setting) => [
    join(directories.persistent, `${unit}.d`, dropIn(setting)),
    join(directories.persistent, `${unit}.d`, shelved(setting)),
    join(directories.runtime, `${unit}.d`, dropIn(setting)),
    join(stateDirectory(unit), dropIn(setting)),
    join(stateDirectory(unit), `${dropIn(setting)}.wanted`),
  ]);
  return {
    files: new Map(
      paths.map((path) => [path, existsSync(path) ? readFileSync(path, 'utf8') : undefined]),
    ),
  };
}

/** Restores the files and reloads systemd. */
export async function restoreSnapshot(
  systemd: SystemdManager,
  snapshot: LastingSnapshot,
): Promise<void> {
  for (const [path, text] of snapshot.files) {
    if (text === undefined) rmSync(path, { force: true });
    else writeFileSync(path, text);
  }
  await systemd.reload();
}

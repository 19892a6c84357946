/**
 * Sets limits so that they outlast a daemon-reload, as drop-ins of systemd's own: for good, or until the
 * container stops. A limit that ends with the container must hide a persistent one until then, and leaves
 * notes for hooks/balloon-gone, which takes it back.
 */

import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unlimited } from '../model/memory-limit.ts';
import type { SystemdManager } from '../systemd/manager.ts';
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

/** The name that systemd gives the drop-in of a property. */
function dropIn(property: string): string {
  return `50-${property}.conf`;
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
  limits: Limits,
  persist: boolean,
  directories: ControlDirectories = controlDirectories,
): Promise<void> {
  const persistent = join(directories.persistent, `${unit}.d`);
  const runtime = join(directories.runtime, `${unit}.d`);
  const notes = stateDirectory(unit);
  const properties = Object.keys(limits);
  let changedFiles = false;
  if (!persist) {
    for (const [property, bytes] of Object.entries<bigint>({ ...limits })) {
      // If this process is killed from here on, hooks/balloon-gone knows the drop-in by this note.
      const word = bytes === unlimited ? 'infinity' : bytes.toString();
      writeFileSync(join(notes, `${dropIn(property)}.wanted`), `${property}=${word}\n`);
      // The persistent limit would return with the next daemon-reload; shelved, with the next start.
      const file = join(persistent, dropIn(property));
      if (!existsSync(file)) continue;
      renameSync(file, join(persistent, shelved(property)));
      changedFiles = true;
    }
  }
  await systemd.setProperties(
    unit,
    !persist,
    Object.entries<bigint>({ ...limits }).map(([name, bytes]) => bytesProperty(name, bytes)),
  );
  for (const property of properties) {
    const note = join(notes, dropIn(property));
    if (!persist) {
      copyFileSync(join(runtime, dropIn(property)), note);
      rmSync(`${note}.wanted`);
      continue;
    }
    for (const old of [
      join(persistent, shelved(property)),
      note,
      `${note}.wanted`,
      join(runtime, dropIn(property)),
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
  properties: readonly string[],
  directories: ControlDirectories = controlDirectories,
): LastingSnapshot {
  const paths = properties.flatMap((property) => [
    join(directories.persistent, `${unit}.d`, dropIn(property)),
    join(directories.persistent, `${unit}.d`, shelved(property)),
    join(directories.runtime, `${unit}.d`, dropIn(property)),
    join(stateDirectory(unit), dropIn(property)),
    join(stateDirectory(unit), `${dropIn(property)}.wanted`),
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

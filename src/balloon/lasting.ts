import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unlimited } from '../model/memory-limit.ts';
import type { SystemdManager } from '../systemd/manager.ts';
import { bytesProperty } from '../systemd/properties.ts';
import { stateDirectory } from './balloon-state.ts';
import type { Limits } from './unit-memory.ts';

/**
 * Where systemd keeps what was set by property. Of two files with one name the persistent one
 * counts, and files of all directories are read in the order of their names.
 */
export interface ControlDirectories {
  readonly persistent: string;
  readonly runtime: string;
}

export const controlDirectories: ControlDirectories = {
  persistent: '/etc/systemd/system.control',
  runtime: '/run/systemd/system.control',
};

/** The name that systemd gives to the drop-in of a property. */
function dropIn(property: string): string {
  return `50-${property}.conf`;
}

/** A persistent limit steps back behind a runtime one under this name. */
function shelved(property: string): string {
  return `45-${property}.conf`;
}

/**
 * Sets limits of a unit so that they outlast daemon-reload: with `persist` also the host's reboot,
 * else until the container stops, when hooks/balloon-gone takes back what is noted here.
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
      // Who is killed from here on has said what the drop-in will be; see hooks/balloon-gone.
      const word = bytes === unlimited ? 'infinity' : bytes.toString();
      writeFileSync(join(notes, `${dropIn(property)}.wanted`), `${property}=${word}\n`);
      // It would come back with the next daemon-reload; shelved, it comes back with the next start.
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

/** The files that setLastingLimits() changes, to put them back when the limit must not last. */
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

/** Puts the files back and lets systemd read them. */
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

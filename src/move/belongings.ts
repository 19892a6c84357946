/**
 * What a container has outside its directory: its settings, what "systemctl edit" has written for its unit, and
 * limits that last. It goes where the container goes.
 */
import { lstatSync, readFileSync, rmdirSync } from 'node:fs';
import { removeFile, replaceFile } from '../host/replace-file.ts';
import { namesIn } from '../host/names-in.ts';
import { LockerdError } from '../model/errors.ts';
import { containerUnit } from '../model/unit-name.ts';
import type { Fields } from './fields.ts';

/** Texts of drop-ins by the names of their files. */
export type DropIns = Readonly<Record<string, string>>;

export interface Belongings {
  /** Its settings file; undefined where it has none. */
  readonly settings: string | undefined;
  /** Of "systemctl edit". */
  readonly dropIns: DropIns;
  /** Of "systemctl set-property", and of lockerctl with --persist. */
  readonly limits: DropIns;
}

export const settingsPath = (container: string): string =>
  `/etc/lockerd/containers/${container}.conf`;

/** Where systemd has drop-ins of a container's unit that last. */
function dropInDirectories(container: string): { dropIns: string; limits: string } {
  const directory = `${containerUnit(container)}.d`;
  return {
    dropIns: `/etc/systemd/system/${directory}`,
    limits: `/etc/systemd/system.control/${directory}`,
  };
}

const filesMax = 64;
const bytesMax = 64 * 1024;

/** Whether systemd reads a file of this name as a drop-in, and it is no more than a name. */
function isDropIn(name: string): boolean {
  return /^[^./][^/\n]{0,200}\.conf$/.test(name);
}

function readDropIns(directory: string): { files: DropIns; warnings: string[] } {
  const files: Record<string, string> = {};
  const warnings: string[] = [];
  for (const name of namesIn(directory).filter(isDropIn)) {
    const path = `${directory}/${name}`;
    const stat = lstatSync(path);
    if (stat.isFile() && stat.size <= bytesMax && Object.keys(files).length < filesMax) {
      files[name] = readFileSync(path, 'utf8');
    } else warnings.push(`${path} stays behind: it is no small file`);
  }
  return { files, warnings };
}

/** What names a disk by its numbers, which another host gives to another one. */
const ofDisks = /^IO(?:Read|Write)(?:Bandwidth|IOPS)Max=\S+\s/m;

/** @param settings text of its settings file */
export function readBelongings(
  container: string,
  settings: string | undefined,
): { belongings: Belongings; warnings: string[] } {
  const directories = dropInDirectories(container);
  const dropIns = readDropIns(directories.dropIns);
  const limits = readDropIns(directories.limits);
  const ofHost = Object.entries({ ...dropIns.files, ...limits.files })
    .filter(([, text]) => ofDisks.test(text))
    .map(([name]) => `${name} limits a disk of this host, which is another one there`);
  return {
    belongings: { settings, dropIns: dropIns.files, limits: limits.files },
    warnings: [...dropIns.warnings, ...limits.warnings, ...ofHost],
  };
}

/** Reads what toFields() has written. Throws Failed for what is none. */
export function parseBelongings(fields: Fields): Belongings {
  const dropIns = (name: string): DropIns => {
    const files = fields.record(name);
    const entries = Object.entries(files);
    const isFine = ([file, text]: [string, string]): boolean =>
      isDropIn(file) && Buffer.byteLength(text) <= bytesMax;
    if (entries.length <= filesMax && entries.every(isFine)) return files;
    throw new LockerdError('Failed', `${name} cannot be drop-ins of a unit`);
  };
  return {
    settings: fields.optionalText('settings'),
    dropIns: dropIns('dropIns'),
    limits: dropIns('limits'),
  };
}

/** Every file that belongings become here, by its path. */
function filesOf(
  container: string,
  { settings, dropIns, limits }: Belongings,
): Map<string, string> {
  const directories = dropInDirectories(container);
  const files = new Map<string, string>();
  if (settings !== undefined && settings !== '') files.set(settingsPath(container), settings);
  for (const [name, text] of Object.entries(dropIns)) {
    files.set(`${directories.dropIns}/${name}`, text);
  }
  for (const [name, text] of Object.entries(limits)) {
    files.set(`${directories.limits}/${name}`, text);
  }
  return files;
}

/** Paths of the files that belongings become, in the order in which they are written. */
export function pathsOf(container: string, belongings: Belongings): string[] {
  return [...filesOf(container, belongings).keys()];
}

/** What of such a container is here already, though the container itself is not. */
export function strayBelongings(container: string): string[] {
  const { dropIns, limits } = dropInDirectories(container);
  const isThere = lstatSync(settingsPath(container), { throwIfNoEntry: false }) !== undefined;
  return [
    ...(isThere ? [`there are settings of this name already, ${settingsPath(container)}`] : []),
    ...[dropIns, limits].flatMap((directory) =>
      namesIn(directory)
        .filter(isDropIn)
        .map((name) => `there is a drop-in of this name's unit already, ${directory}/${name}`),
    ),
  ];
}

/** Writes what belongs to a container that has come here. It has an effect after the next daemon-reload. */
export function placeBelongings(container: string, belongings: Belongings): void {
  for (const [path, text] of filesOf(container, belongings)) {
    replaceFile(path, text);
  }
}

/** Removes files that placeBelongings() has written, and directories of drop-ins that are empty then. */
export function removeBelongings(container: string, paths: readonly string[]): void {
  for (const path of paths) removeFile(path);
  for (const directory of Object.values(dropInDirectories(container))) {
    try {
      rmdirSync(directory);
    } catch {
      // It is not there, or somebody has something in it.
    }
  }
}

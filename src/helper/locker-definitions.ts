/** Writes and removes definitions of lockers: mount units in /etc/systemd/system, or lines of /etc/fstab. */

import { lstatSync, mkdirSync, readlinkSync, rmdirSync, rmSync, symlinkSync } from 'node:fs';
import { Files } from '../host/files.ts';
import { HostReader } from '../host/read.ts';
import { syncDirectory } from '../host/write-file.ts';
import type { StoreSettings } from '../host/store-settings.ts';
import { codeOf } from '../model/errno.ts';
import { LockerdError } from '../model/errors.ts';
import { shellWord } from '../model/shell-quote.ts';
import { mountUnit } from '../model/unit-name.ts';
import type { Definition } from '../stores/definition.ts';
import { addToFstab, fstabLineOf, removeFromFstab, unitOf } from '../stores/definition.ts';
import type { KnownLocker } from './locker-view.ts';
import { fstab } from './locker-view.ts';
import {
  readSettingsFile,
  removeFile,
  replaceFile,
  removeTemporary,
} from '../host/replace-file.ts';

const unitDirectory = '/etc/systemd/system';
const wantsDirectory = `${unitDirectory}/local-fs.target.wants`;

function unitPath(mountPoint: string): string {
  return `${unitDirectory}/${mountUnit(mountPoint)}`;
}

/** The file that has a definition. */
export function fileOf(
  { mountPoint }: Pick<Definition, 'mountPoint'>,
  how: StoreSettings['definition'],
): string {
  return how === 'fstab' ? fstab : unitPath(mountPoint);
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Has the boot mount a locker that has a unit; can be repeated. */
export function enable({ mountPoint }: Pick<Definition, 'mountPoint'>): void {
  const target = unitPath(mountPoint);
  if (!isThere(target)) return;
  const link = `${wantsDirectory}/${mountUnit(mountPoint)}`;
  mkdirSync(wantsDirectory, { recursive: true, mode: 0o755 });
  if (isThere(link)) return;
  symlinkSync(target, link);
  syncDirectory(wantsDirectory);
}

/** Writes a definition. From then on there is the locker. Throws Failed. */
export function define(definition: Definition, how: StoreSettings['definition']): void {
  if (how === 'fstab') {
    replaceFile(fstab, addToFstab(readSettingsFile(fstab), fstabLineOf(definition)));
    return;
  }
  const path = unitPath(definition.mountPoint);
  if (isThere(path)) {
    throw new LockerdError(
      'LockerExists',
      `${path} is in the way; remove it, or run: systemctl revert ${shellWord(mountUnit(definition.mountPoint))}`,
    );
  }
  replaceFile(path, unitOf(definition));
  enable(definition);
}

function removeEnabling(unit: string): void {
  const link = `${wantsDirectory}/${unit}`;
  try {
    readlinkSync(link);
  } catch {
    // There is none, or an admin has put something else there.
    return;
  }
  rmSync(link);
  syncDirectory(wantsDirectory);
}

/**
 * Removes the definition of a locker, if it is a unit file of admins' or a line of fstab. What else there is
 * is in words for who has to do it. Can be repeated. Throws Failed.
 * @returns the file that was removed or changed
 */
export function undefine({ unit, mountPoint, file, name }: Omit<KnownLocker, 'origin'>): string {
  if (file === fstab) {
    // The line may name the mount point by way of a link.
    const host = new HostReader('', new Files());
    const text = readSettingsFile(fstab);
    const isHere = (target: string): boolean =>
      target.startsWith('/') && host.realPath(target) === mountPoint;
    const after = removeFromFstab(text, isHere);
    if (after !== text) replaceFile(fstab, after);
    return fstab;
  }
  const path = `${unitDirectory}/${unit}`;
  if (file !== path) {
    throw new LockerdError(
      'InvalidArgs',
      `locker "${name}" is not defined in ${unitDirectory} or ${fstab}, but by ${file}; ` +
        'remove that yourself',
    );
  }
  removeEnabling(unit);
  removeFile(path);
  return path;
}

/** Removes what a change that was killed has left of a definition that it did not come to write. */
export function removeUnfinished({ mountPoint }: Pick<Definition, 'mountPoint'>): void {
  const path = unitPath(mountPoint);
  if (!isThere(path)) removeFile(path);
  removeTemporary(fstab);
}

/** Removes the directory that a locker was mounted on; one with something in it stays. */
export function removeMountPoint(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    const code = codeOf(error) ?? '';
    if (!['ENOENT', 'ENOTEMPTY', 'EBUSY', 'ENOTDIR', 'EEXIST'].includes(code)) throw error;
  }
}

/** The one place where a container's own settings file is changed: one helper at a time, then a reload. */

import { mkdirSync } from 'node:fs';
import type { SystemdManager } from '../systemd/manager.ts';
import { withLock } from './lock.ts';
import { readSettingsFile, writeSettingsFile } from '../host/replace-file.ts';

/** Only one helper at a time changes settings. */
const settingsLock = { directory: '/run/lockerd/helper', waitSec: 60 } as const;

/** A program of root's may come before the first helper, whose unit makes the directory. */
async function withSettingsLock<T>(use: () => Promise<T>): Promise<T> {
  mkdirSync(settingsLock.directory, { recursive: true, mode: 0o700 });
  return withLock(settingsLock.directory, settingsLock.waitSec, use);
}

/**
 * Changes a settings file and reloads systemd, so that the change holds. Takes it back if systemd does not
 * reload. Throws what `edit` throws, and Failed.
 * @param edit gets the file's text, which is empty if there is no file
 * @returns how to take the change back
 */
export async function changeSettings(
  systemd: Pick<SystemdManager, 'reload'>,
  path: string,
  edit: (text: string) => string,
): Promise<() => Promise<void>> {
  const replace = async (text: string): Promise<void> => {
    writeSettingsFile(path, text);
    await systemd.reload();
  };
  return withSettingsLock(async () => {
    const before = readSettingsFile(path);
    const after = edit(before);
    try {
      await replace(after);
    } catch (error) {
      if (readSettingsFile(path) !== before) await replace(before);
      throw error;
    }
    return async (): Promise<void> =>
      withSettingsLock(async () => {
        // An admin's edit meanwhile is not ours to undo.
        if (readSettingsFile(path) === after) await replace(before);
      });
  });
}

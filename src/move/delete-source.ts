/** Deletes what a move has left at its source, where somebody has said so. */
import { writeSettingsFile } from '../helper/settings-file.ts';
import { viewContainer } from '../helper/view.ts';
import { LockerdError } from '../model/errors.ts';
import { release } from './guard.ts';
import { readRecord, removeRecord } from './record.ts';
import { reload, run } from './run.ts';

/** Has LXC destroy the container, whose move has succeeded. Throws Failed. */
export async function deleteSource(name: string): Promise<void> {
  const record = readRecord(name);
  if (record?.phase !== 'moved') throw new LockerdError('Failed', `"${name}" was not moved`);
  const { own } = viewContainer(name);
  await run('lxc-destroy', ['-n', name]);
  writeSettingsFile(own.path, '');
  removeRecord(name);
  release(name);
  await reload();
}

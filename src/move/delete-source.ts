/** Deletes what a move has left at its source, where somebody has said so. */
import { viewContainer } from '../helper/view.ts';
import { LockerdError } from '../model/errors.ts';
import { pathsOf, readBelongings, removeBelongings } from './belongings.ts';
import { release } from './guard.ts';
import { readRecord, removeRecord } from './record.ts';
import { reload, run } from './run.ts';

/** Has LXC destroy the container, whose move has succeeded, and what belongs to it. Throws Failed. */
export async function deleteSource(name: string): Promise<void> {
  const record = readRecord(name);
  if (record?.phase !== 'moved') throw new LockerdError('Failed', `"${name}" was not moved`);
  const { belongings } = readBelongings(name, viewContainer(name).own.text);
  await run('lxc-destroy', ['-n', name]);
  removeBelongings(name, pathsOf(name, belongings));
  removeRecord(name);
  release(name);
  await reload();
}

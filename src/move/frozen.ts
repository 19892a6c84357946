/** Has a guest stand still for as long as a process of this host lives. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { freeze, statusOf, thaw } from '../helper/lxc.ts';
import { viewContainer, type ContainerView } from '../helper/view.ts';
import { removeFile, replaceFile } from '../host/replace-file.ts';
import { escapeInstance } from '../model/unit-name.ts';
import { makeRunDirectory } from './guard.ts';
import { programPath } from './protocol.ts';
import { runDirectory } from './record.ts';
import { run } from './run.ts';

/** Says that lockerd has frozen the guest, and nobody else. */
const markOf = (container: string): string => `${runDirectory}/${escapeInstance(container)}.frozen`;

/** Has a process of its own end what this one has begun with a container, once this one has ended or was killed. */
export async function startWatch(container: string): Promise<void> {
  const unit = `--unit=lockerd-move-${randomBytes(8).toString('hex')}`;
  const command = [programPath, 'watch', '--', container];
  await run('systemd-run', ['--quiet', '--collect', unit, '--', ...command]);
}

/** Freezes a guest until thawMarked(); one that stood still before stays so. The caller has the lock of moves. */
export async function freezeWatched(view: ContainerView): Promise<void> {
  const { state } = await statusOf(view);
  if (state === 'FROZEN') return;
  await startWatch(view.name);
  makeRunDirectory();
  replaceFile(markOf(view.name), '');
  await freeze(view);
}

/** Lets a guest go on that freezeWatched() has frozen. Throws Failed. */
export async function thawMarked(container: string): Promise<void> {
  if (!existsSync(markOf(container))) return;
  const view = viewContainer(container);
  const { state } = await statusOf(view);
  if (state === 'FROZEN' || state === 'FREEZING') await thaw(view);
  removeFile(markOf(container));
}

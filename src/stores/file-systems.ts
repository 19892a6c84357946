/** File systems on devices: making them, growing them, and telling a copy from its original. */

import type { VolumeFileSystem } from '../host/store-settings.ts';
import { LockerdError } from '../model/errors.ts';
import { formatBytes } from '../model/memory-limit.ts';
import { PrivateMounts, privatePlace } from './private-mounts.ts';
import type { Tools } from './tools.ts';

const mebibyte = 1024n * 1024n;

/** Less than this and mkfs refuses, or leaves no room for data. */
const smallest: Readonly<Record<VolumeFileSystem, bigint>> = {
  ext4: 8n * mebibyte,
  xfs: 300n * mebibyte,
};

/** mkfs and a check read and write a part of the device, which may be slow and large. */
const longMs = 1_800_000;

/** Throws InvalidArgs for a size that the file system cannot have. */
export function checkFileSystemSize(type: VolumeFileSystem, size: bigint): void {
  if (size >= smallest[type]) return;
  throw new LockerdError(
    'InvalidArgs',
    `${formatBytes(size)} are too few for ${type}, which needs ${formatBytes(smallest[type])}`,
  );
}

/** Who has the root directory of a new locker, and its mode. */
export interface RootOwner {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits. */
  readonly mode: number;
}

/** Makes a file system on a device that has none, with the root directory's owner and mode. */
export async function makeFileSystem(
  tools: Tools,
  type: VolumeFileSystem,
  device: string,
  { uid, gid, mode }: RootOwner,
  signal?: AbortSignal,
): Promise<void> {
  const options = { timeoutMs: longMs, signal };
  // Blocks are not discarded: that can take minutes, and a new volume of a thin pool has none. Nothing is
  // kept back for root, for whom a locker is no place.
  if (type === 'ext4') {
    await tools.run('mkfs.ext4', ['-q', '-m', '0', '-E', 'nodiscard', device], options);
  } else {
    await tools.run('mkfs.xfs', ['-q', '-K', device], options);
  }
  await PrivateMounts.with(tools, (mounts) =>
    mounts.mounted(device, type, async () => {
      await mounts.run('chown', ['--no-dereference', `${uid}:${gid}`, '--', privatePlace]);
      await mounts.run('chmod', [mode.toString(8).padStart(4, '0'), '--', privatePlace]);
    }),
  );
}

/**
 * Lets a file system take all of its device, also while it is used.
 * @param mountPoint where it is mounted; undefined: nowhere, and then it is mounted for this where nobody sees
 * it, because ext4 wants a whole check before it is resized otherwise, and xfs is resized only so
 */
export async function growFileSystem(
  tools: Tools,
  type: VolumeFileSystem,
  device: string,
  mountPoint: string | undefined,
): Promise<void> {
  const options = { timeoutMs: longMs };
  const program = type === 'ext4' ? 'resize2fs' : 'xfs_growfs';
  const argument = (place: string): string => (type === 'ext4' ? device : place);
  if (mountPoint !== undefined) {
    await tools.run(program, [argument(mountPoint)], options);
    return;
  }
  await PrivateMounts.with(tools, (mounts) =>
    mounts.mounted(device, type, async () => {
      await mounts.run(program, [argument(privatePlace)], options);
    }),
  );
}

/**
 * Makes of a copied file system one of its own: its journal is played back and it gets another UUID, because
 * xfs refuses to mount a second one with the same, and whoever mounts by UUID would take either.
 */
export async function renewFileSystem(
  tools: Tools,
  type: VolumeFileSystem,
  device: string,
): Promise<void> {
  const options = { timeoutMs: longMs };
  if (type === 'ext4') {
    // 1: mistakes were mended, of which the journal's playback is none.
    await tools.run('e2fsck', ['-f', '-p', device], { ...options, fine: [1] });
    await tools.run('tune2fs', ['-U', 'random', device], options);
    return;
  }
  await PrivateMounts.with(tools, (mounts) =>
    mounts.mounted(device, type, () => Promise.resolve(), ['nouuid']),
  );
  await tools.run('xfs_admin', ['-U', 'generate', device], options);
}
